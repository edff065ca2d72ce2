"""Questions that several kinds of document share: about things with prices, and about lines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

from vitrail.data.drawn.documents.draft import Draft
from vitrail.data.drawn.documents.money import Money
from vitrail.data.drawn.documents.vocabulary import written
from vitrail.data.drawn.held_out import split_of


def ask_items(draft: Draft, items: Sequence[tuple[str, int]], money: Money) -> None:
    """Asks about things in a column with their prices in cents: price, sum, dearest, order."""
    said = {name: name.lower() if draft.talk.chance(0.5) else name for name, _ in items}
    for name, cents in items:
        draft.ask("field", "price", money.of(cents), name=said[name])
    for (one, first), (two, second) in combinations(items, 2):
        if split_of(written(first + second)) == draft.job.split:
            draft.ask("sum", "price sum", money.of(first + second), one=said[one], two=said[two])
    prices = [cents for _, cents in items]
    draft.ask("compare", "dearest", items[prices.index(max(prices))][0])
    draft.ask("compare", "cheapest", items[prices.index(min(prices))][0])
    draft.ask("compare", "first item", items[0][0])
    draft.ask("compare", "last item", items[-1][0])
    ask_order(draft, [name for name, _ in items], said)
    for number, (name, _) in enumerate(items, 1):
        draft.ask("position", "item number", name, number=str(number))


def ask_order(
    draft: Draft,
    names: Sequence[str],
    said: dict[str, str] | None = None,
    topics: tuple[str, str] = ("below", "above"),
) -> None:
    """Asks what stands below and above each of several things in a column. said: how a question names them."""
    said = said or {}
    for upper, lower in pairwise(names):
        draft.ask("position", topics[0], lower, name=said.get(upper, upper))
        draft.ask("position", topics[1], upper, name=said.get(lower, lower))

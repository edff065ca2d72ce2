"""Amounts of money: how one document writes them, and prices whose sums belong to the split too."""

from __future__ import annotations

from functools import lru_cache

from vitrail.media.dice import Dice
from vitrail.synthetic.config import split_of
from vitrail.synthetic.documents.page import UnfitError
from vitrail.synthetic.documents.vocabulary import Vocabulary, written

SIGNS = ("", "", "", "$", "€", "£")
_TRIES = 400


class Money:
    """How a document writes amounts: with a point or a comma, with a sign before all, before the total, or none."""

    def __init__(self, dice: Dice, script: str = "latin") -> None:
        """dice: decides the way."""
        self._sign = dice.pick(("", "¥") if script == "chinese" else SIGNS)
        self._only_total = dice.chance(0.5)
        self._comma = script == "latin" and dice.chance(0.12)

    def of(self, cents: int) -> str:
        """An amount as it stands in a line."""
        text = written(cents)
        return ("" if self._only_total else self._sign) + (text.replace(".", ",") if self._comma else text)

    def total(self, cents: int) -> str:
        """An amount as it stands beside a total."""
        text = written(cents)
        return self._sign + (text.replace(".", ",") if self._comma else text)


def prices_with_total(words: Vocabulary, count: int, extra: str) -> tuple[list[int], dict[str, int]]:
    """Prices, and what they come to, in cents; each amount belongs to the split.

    extra: "tax", "tip" or "discount", which comes with a subtotal; "" for a total alone.
    """
    prices = [_drawn(words) for _ in range(count)]
    for _ in range(_TRIES):
        prices[words.dice.below(count)] = _drawn(words)
        sums = {"total": sum(prices)}
        if extra:
            more = max(1, sum(prices) * words.dice.between(3, 25) // 100)
            sums = {"subtotal": sum(prices), extra: more}
            sums["total"] = sum(prices) + (-more if extra == "discount" else more)
        amounts = [*sums.values(), *prices]
        if len(set(amounts)) == len(amounts) and all(_ours(words, cents) for cents in sums.values()):
            words.values += map(written, amounts)
            return prices, sums
    raise UnfitError("no such sums of this split")


def paid(words: Vocabulary, total: int) -> tuple[int, int]:
    """What is given in cash for a total, and the change, in cents; both belong to the split."""
    for _ in range(_TRIES):
        given = (total // 50 + words.dice.between(1, 60)) * 50
        amounts = [written(given), written(given - total)]
        if all(split_of(amount) == words.split for amount in amounts) and not {*amounts} & {*words.values}:
            words.values += amounts
            return given, given - total
    raise UnfitError("no such change of this split")


def _drawn(words: Vocabulary) -> int:
    """An amount in cents; one digit before the point is as likely as two."""
    return words.dice.pick(_amounts(words.split)[words.dice.below(2)])


def _ours(words: Vocabulary, cents: int) -> bool:
    return split_of(written(cents)) == words.split


@lru_cache(maxsize=2)
def _amounts(split: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The amounts of a split with one digit before the point, and with two."""
    bands = (range(50, 1000), range(1000, 10_000))
    short, long = (tuple(cents for cents in band if split_of(written(cents)) == split) for band in bands)
    return short, long

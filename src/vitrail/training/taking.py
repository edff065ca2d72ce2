"""The packs of one step, and what every rank must know of them: its own, those of the others, and where an epoch ends.

The last step of an epoch takes what is left. Ranks run equally many passes all the same: one that has no pack left
reads a word, of which nothing is learnt.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from vitrail.contracts.samples import Batch
from vitrail.data.encode import Encode
from vitrail.data.ledger import Event
from vitrail.data.loader import Cursor, End, Item
from vitrail.training.parallel.blank import nothing
from vitrail.training.parallel.single import Parallel


@dataclass(frozen=True)
class Handed:
    """What a rank tells the others of an item: all of it but the batch, of which the tokens by kind.

    taken: tokens of the pack, which is what stages are counted in; media beside the text take none of it. replaced:
    worker processes that were lost and made again.
    """

    after: Cursor
    epochs: float
    events: tuple[Event, ...]
    tokens: dict[str, int]
    taken: int
    replaced: int


@dataclass(frozen=True)
class Taken:
    """batches: this rank's, as many as any rank has. handed: of all ranks, in the order of the stream.

    after, epochs: where the stream stands then. events: of rows that were lost after the last pack of an epoch.
    """

    batches: Sequence[Batch]
    handed: Sequence[Handed]
    after: Cursor
    epochs: float
    events: Sequence[Event] = ()


def take(items: Generator[Item | End], share: int, parallel: Parallel, encode: Encode) -> Taken:
    """The packs of the next step; share: of this rank. Without any packs where an epoch ends and has none left."""
    own, end = parallel.agreed(lambda: _own(items, share))
    told = parallel.exchanged(lambda: ([_handed(item) for item in own], end is not None))
    if end is None and any(ended for _, ended in told):
        # This rank has its share, another one has not: the end is the next thing here too.
        _, end = _own(items, 1)
        assert end is not None, "every rank comes to an epoch's end at the same step"
    batches = [item.batch for item in own]
    most = max(len(of_rank) for of_rank, _ in told)
    batches += [nothing(encode) for _ in range(most - len(batches))]
    # Ranks take packs in turn.
    handed = [one for turn in zip_longest(*(of_rank for of_rank, _ in told)) for one in turn if one is not None]
    if not any(ended for _, ended in told):
        return Taken(batches, handed, handed[-1].after, handed[-1].epochs)
    assert end is not None, "as above"
    events = [event for events in parallel.exchanged(lambda: end.events) for event in events]
    return Taken(batches, handed, end.after, end.epochs, events)


def _own(items: Generator[Item | End], share: int) -> tuple[list[Item], End | None]:
    """As many as the share, or those before the end of an epoch, and that."""
    taken: list[Item] = []
    while len(taken) < share:
        one = next(items)
        if isinstance(one, End):
            return taken, one
        taken.append(one)
    return taken, None


def _handed(item: Item) -> Handed:
    batch = item.batch
    # Media tokens stand in the text, or beside it, where cross-attention sees them.
    spliced = sum(len(stream.token_index) for stream in batch.media.values())
    tokens = {
        "text": batch.tokens - spliced,
        "media": sum(view.tokens for stream in batch.media.values() for view in stream.views),
        "labelled": int(batch.learnt.weights.count_nonzero()),
        "padding": batch.padding,
    }
    return Handed(item.after, item.epochs, item.events, tokens, batch.tokens + batch.withheld, item.replaced)

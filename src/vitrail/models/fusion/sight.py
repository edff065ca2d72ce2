"""Which text of a batch sees which media tokens: spans of text whose positions see the same, and what each sees.

Made once a batch, of the links of its views, in plain Python: no mask and nothing per token but two lists of indices.
Costs: where text stands between views and sees all that came before (`before`), the tokens of a view are listed once
for every span that sees them, n views about n / 2 times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vitrail.contracts.samples import Batch, Segments

Sees = Literal["sample", "before", "tag"]


@dataclass(frozen=True)
class Sight:
    """Media tokens are numbered stream after stream, as `Batch.media` has them, and view after view.

    rows: int64[R], the text positions that see any; None for all. queries: the spans of these R, in order.
    seen: int64[S], the media tokens that each span sees, span after span; None for all of them as they lie.
    keys: one segment of these a span. last, last_keys: the same for the last position of every text segment; of one
    that sees none the segment is empty.
    """

    rows: Tensor | None
    queries: Segments
    seen: Tensor | None
    keys: Segments
    last: Tensor | None
    last_keys: Segments


class _Seen(NamedTuple):
    """A view: where in the text it stands, and which media tokens are its own."""

    start: int
    tokens: range


class _Span(NamedTuple):
    """Text positions that see the same views."""

    positions: range
    views: Sequence[_Seen]


def sight(batch: Batch, sees: Sees) -> Sight | None:
    """What text sees of the views that are not spliced; None where it sees none.

    sees: see `models.config.GatedCrossAttentionConfig`.
    """
    views, total = _views(batch)
    segments = batch.text.segments
    ends = [0, *accumulate(segments.lengths)]
    spans: list[_Span] = []
    last: list[Sequence[_Seen]] = []
    for number, (start, end) in enumerate(pairwise(ends)):
        found = _spans(range(start, end), views.get(number, []), sees)
        spans += [span for span in found if span.views]
        last.append(found[-1].views if found else ())
    if not spans:
        return None
    device = batch.text.ids.device
    return Sight(
        rows=_index([span.positions for span in spans], segments.total, device),
        queries=Segments(tuple(len(span.positions) for span in spans)),
        seen=_index([view.tokens for span in spans for view in span.views], total, device),
        keys=_lengths([span.views for span in spans]),
        last=_index([view.tokens for some in last for view in some], total, device),
        last_keys=_lengths(last),
    )


def _views(batch: Batch) -> tuple[dict[int, list[_Seen]], int]:
    """Those of each text segment, as they stand in it, and the number of all media tokens."""
    found: dict[int, list[_Seen]] = {}
    total = 0
    for stream in batch.media.values():
        for view, link in zip(stream.views, stream.links, strict=True):
            if not view.spliced:
                seen = _Seen(link.start, range(total, total + view.tokens))
                found.setdefault(link.segment, []).append(seen)
            total += view.tokens
    return {segment: sorted(views, key=lambda view: view.start) for segment, views in found.items()}, total


def _spans(segment: range, views: Sequence[_Seen], sees: Sees) -> list[_Span]:
    """A text segment cut where what is seen changes. Views that stand at the same index are seen together."""
    if sees == "sample" or not views:
        return [_Span(segment, views)]
    starts = sorted({view.start for view in views})
    spans = [_Span(range(segment.start, starts[0]), ())]
    for start, end in pairwise((*starts, segment.stop)):
        seen = [view for view in views if (view.start <= start if sees == "before" else view.start == start)]
        spans.append(_Span(range(start, end), seen))
    return [span for span in spans if span.positions]


def _lengths(seen: Sequence[Sequence[_Seen]]) -> Segments:
    return Segments(tuple(sum(len(view.tokens) for view in views) for views in seen))


def _index(ranges: Sequence[range], total: int, device: torch.device) -> Tensor | None:
    """int64, the ranges one after the other; None where they are 0 to `total`."""
    if sum(map(len, ranges)) == total and all(one.stop == two.start for one, two in pairwise(ranges)):
        return None
    return torch.cat([torch.arange(one.start, one.stop) for one in ranges]).to(device)

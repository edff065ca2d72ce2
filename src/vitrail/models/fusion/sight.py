"""Which text of a batch sees which media tokens: spans of text whose positions see the same, and what each sees.

Made once a batch, of the links of its views, in plain Python: no mask and nothing per token but lists of indices.
Costs: where text stands between views and sees all that came before (`before`), the tokens of a view are listed once
for every span that sees them, n views about n / 2 times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.contracts.samples import Batch, Segments
from vitrail.models.config import Blind, Sees


@dataclass(frozen=True)
class Sight:
    """Media tokens are numbered as `crossing` lays them: those of views that are not spliced.

    rows: int64[R], the text positions that attend to any; None for all. queries: the spans of these R, in order.
    seen: int64[S], the media tokens that each span sees, span after span; None for all of them as they lie.
    keys: one segment of these a span. last, last_keys: the same for the last position of every text segment; of one
    that sees none the segment is empty. mlp: int64, the positions that a block's MLP acts on; None for all, and `rows`
    itself where they are those that attend.
    """

    rows: Tensor | None
    queries: Segments
    seen: Tensor | None
    keys: Segments
    last: Tensor | None
    last_keys: Segments
    mlp: Tensor | None


class _Seen(NamedTuple):
    """A view: where in the text it stands, how many positions from there on are its tag, and which media tokens are its
    own, those of its padding last."""

    start: int
    tag: int
    tokens: range
    padding: int

    @property
    def shown(self) -> range:
        """Without its padding."""
        return self.tokens[: len(self.tokens) - self.padding]


class _Span(NamedTuple):
    """Text positions, and the media tokens that they attend to. blind: whether that is for want of any they see."""

    positions: range
    tokens: Sequence[range]
    blind: bool = False


def sight(batch: Batch, sees: Sees, blind: Blind = "untouched", *, added: bool = False) -> Sight | None:
    """What text sees of the views that are not spliced; None where nothing is done to any of it.

    sees, blind: see `models.config.CrossAttentionConfig`. added: as in `crossing`.
    """
    views, total = _views(batch, added=added)
    segments = batch.text.segments
    ends = [0, *accumulate(segments.lengths)]
    spans: list[_Span] = []
    last: list[Sequence[range]] = []
    for number, (start, end) in enumerate(pairwise(ends)):
        found = list(_attending(range(start, end), views.get(number, []), sees, blind))
        spans += found
        last.append(found[-1].tokens if found and found[-1].positions.stop == end else ())
    if not spans and blind != "mlp":
        return None
    device = batch.text.ids.device
    rows = _index([span.positions for span in spans], segments.total, device)
    sighted = [span.positions for span in spans if not span.blind]
    return Sight(
        rows=rows,
        queries=Segments(tuple(len(span.positions) for span in spans)),
        seen=_index([tokens for span in spans for tokens in span.tokens], total, device),
        keys=_lengths([span.tokens for span in spans]),
        last=_index([tokens for some in last for tokens in some], total, device),
        last_keys=_lengths(last),
        mlp=None if blind == "mlp" else rows if len(sighted) == len(spans) else _index(sighted, segments.total, device),
    )


def crossing(media: Mapping[str, Tensor], batch: Batch, tags: Mapping[str, Tensor], *, added: bool = False) -> Tensor:
    """The tokens of the views that are not spliced, float[M, D].

    tags: by stream, the embeddings of tags that are read beside their views, view after view. They stand before the
    view's tokens; added: their mean is added to each of them instead.
    """
    pieces: list[Tensor] = []
    for name, stream in batch.media.items():
        tokens, start = media[name], 0
        expected = sum(view.tokens for view in stream.views)
        assert len(tokens) == expected, f"{name}: {len(tokens)} tokens, its views have {expected}"
        if not any(view.spliced or view.tag_beside for view in stream.views):
            pieces.append(tokens)
            continue
        parts = tokens.split([view.tokens for view in stream.views])
        for view, link, part in zip(stream.views, stream.links, parts, strict=True):
            if view.tag_beside and link.tag:
                tag = tags[name][start : start + link.tag].to(tokens.dtype)
                start += link.tag
                part = part + tag.mean(0) if added else torch.cat([tag, part])
            if not view.spliced:
                pieces.append(part)
    return torch.cat(pieces)


def _views(batch: Batch, *, added: bool) -> tuple[dict[int, list[_Seen]], int]:
    """Those of each text segment, as they stand in it, and the number of all media tokens."""
    found: dict[int, list[_Seen]] = {}
    total = 0
    for stream in batch.media.values():
        for view, link in zip(stream.views, stream.links, strict=True):
            if view.spliced:
                continue
            beside = link.tag if view.tag_beside and not added else 0
            tokens = range(total, total + beside + view.tokens)
            seen = _Seen(link.start, 0 if view.tag_beside else link.tag, tokens, view.padding)
            found.setdefault(link.segment, []).append(seen)
            total = tokens.stop
    return {segment: sorted(views, key=lambda view: view.start) for segment, views in found.items()}, total


def _attending(segment: range, views: Sequence[_Seen], sees: Sees, blind: Blind) -> Iterator[_Span]:
    """The spans of a text segment that attend to anything."""
    for positions, seen in _spans(segment, views, sees):
        if seen:
            yield _Span(positions, [view.shown for view in seen])
        elif views and blind == "attends":
            yield _Span(positions, [view.tokens for view in views], blind=True)


def _spans(segment: range, views: Sequence[_Seen], sees: Sees) -> Iterator[tuple[range, Sequence[_Seen]]]:
    """A text segment cut where what is seen changes. Views that stand at the same index are seen together."""
    if sees == "sample" or not views:
        yield segment, views
        return
    cuts = {segment.start, segment.stop, *(view.start for view in views)}
    if sees == "tag":
        # A sample that was cut may end within a tag.
        cuts |= {min(view.start + view.tag, segment.stop) for view in views}
    latest = segment.start
    starts = {view.start for view in views}
    for start, end in pairwise(sorted(cuts)):
        latest = start if start in starts else latest
        if sees == "last":
            yield range(start, end), [view for view in views if view.start == latest]
            continue
        own = [view for view in views if view.start <= start < view.start + view.tag] if sees == "tag" else []
        yield range(start, end), own or [view for view in views if view.start <= start]


def _lengths(seen: Sequence[Sequence[range]]) -> Segments:
    return Segments(tuple(sum(map(len, ranges)) for ranges in seen))


def _index(ranges: Sequence[range], total: int, device: torch.device) -> Tensor | None:
    """int64, the ranges one after the other; None where they are 0 to `total`."""
    if sum(map(len, ranges)) == total and all(one.stop == two.start for one, two in pairwise(ranges)):
        return None
    return torch.cat([torch.arange(0), *(torch.arange(one.start, one.stop) for one in ranges)]).to(device)

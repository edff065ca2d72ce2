"""What is written for a picture: around it, between its views, between the rows of a view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitrail.contracts.samples import View
from vitrail.prompts.config import PictureConfig
from vitrail.prompts.turns import Piece, Slot, Special


def laid_out(slot: Slot, views: Sequence[View], style: PictureConfig) -> Iterator[Piece | View]:
    """Pieces and views in reading order; a view stands for its own tokens and row breaks.

    A view that is not spliced stands before what is written for it alone, its tag above all: the tag sees it then.
    """
    around = not style.each_view
    if not slot.opened:
        if style.label:
            yield style.label.replace("{number}", str(slot.number + 1))
        if around:
            yield from _opening(style)
    for number, view in enumerate(views):
        if number == 1 and style.tiles_start:
            yield Special(style.tiles_start)
        own = (*_tag(view, style), *(() if around else _opening(style)))
        yield from (*own, view) if view.spliced else (view, *own)
        if not around:
            yield from _special(style.end)
    if len(views) > 1 and style.tiles_end:
        yield Special(style.tiles_end)
    if not slot.closed:
        if around:
            yield from _special(style.end)
        if style.after:
            yield style.after


def _tag(view: View, style: PictureConfig) -> tuple[Piece, ...]:
    tag = (view.tag,) if style.tags == "text" else _special(view.tag)
    return tag if view.tag else ()


def _opening(style: PictureConfig) -> tuple[Piece, ...]:
    return (*_special(style.start), *filter(None, (style.inside,)), *_special(style.content))


def _special(name: str) -> tuple[Special, ...]:
    return (Special(name),) if name else ()


def spelled(style: PictureConfig, slot: Slot | None = None) -> str:
    """A picture as it stands in a prompt that nobody has expanded yet, with one token for all of its own.

    Without a slot its number is left as `{number}`. A reader that knows of rows writes their breaks, and what ends the
    last, itself.
    """
    label = style.label.replace("{number}", str(slot.number + 1)) if slot else style.label
    before = "" if slot and slot.opened else label + style.start + style.inside + style.content
    end = "" if style.row_break else style.end
    return before + style.token + ("" if slot and slot.closed else end + style.after)

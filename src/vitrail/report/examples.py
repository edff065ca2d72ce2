"""The example cards of the run report: picture or sound, question, and what each model answered."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from vitrail.metrics.boxes import Box, parse_box
from vitrail.report.contents import Example
from vitrail.report.text import clipped, escape, name_of_kind, percent

_NAMES = {
    "after": "answer",
    "truth": "truth",
    "swapped": "another picture",
    "blind": "eyes closed",
    "pasted": "text pasted",
    "before": "before",
}
"""What a card shows, in its order, with the names on it."""
_MARKS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
_PIXELATED_BELOW = 200  # pixels of the longer side; a smaller picture is enlarged, and its pixels shown as squares
_TALLEST = 230  # CSS pixels of a picture in a card


def examples(cards: Sequence[Example]) -> str:
    """All the given examples as cards, in the given order."""
    if not cards:
        return ""
    return f'<div class="examples">{"".join(_card(card) for card in cards)}</div>'


def _card(example: Example) -> str:
    said = {**example.answers, "truth": example.truth}
    lines = "".join(
        f'<dt>{name}</dt><dd class="{run}">{clipped(said[run]) or "<i>nothing</i>"}</dd>'
        for run, name in _NAMES.items()
        if run in said
    )
    kind = f'<span class="kind">{escape(name_of_kind(example.kind))}</span>'
    return (
        f'<article class="card example">{_medium(example)}<div class="body">'
        f'<p class="top">{kind}{_verdict(example.score)}</p>'
        f'<p class="question">{clipped(example.question)}</p><dl>{lines}</dl>{_box_note(example)}</div></article>'
    )


def _box_note(example: Example) -> str:
    """What the two rectangles over the picture are, if there are any."""
    if parse_box(example.truth, whole=True) is None or _png_size(example.picture_png) is None:
        return ""
    return '<p class="note">On the picture: dashed the truth, solid the answer.</p>'


def _verdict(score: float) -> str:
    """A mark that is read without its colour: sign and word, or the score itself when it is neither 0 nor 1."""
    if score >= 1:
        return '<span class="mark right"><b aria-hidden="true">\u2713</b> right</span>'
    if score <= 0:
        return '<span class="mark wrong"><b aria-hidden="true">\u2717</b> wrong</span>'
    return f'<span class="mark partly">{percent(score, 0)}</span>'


def player(sound_wav: bytes) -> str:
    """A sound inside the page as a data address, to be played; "" for none."""
    if not sound_wav:
        return ""
    address = f"data:audio/wav;base64,{base64.b64encode(sound_wav).decode('ascii')}"
    return f'<audio controls preload="none" src="{address}" aria-label="sound of the question"></audio>'


def _medium(example: Example) -> str:
    """What the question is about."""
    sound = player(example.sound_wav)
    if _media_type(example.picture_png) is None:
        return f'<div class="frame heard">{sound}</div>' if sound else _picture(example)
    return _picture(example) + (f'<div class="frame heard">{sound}</div>' if sound else "")


def _picture(example: Example) -> str:
    """The picture inside the page as a data address, with the boxes of truth and answer drawn over it."""
    kind = _media_type(example.picture_png)
    if kind is None:
        return '<div class="frame"><p class="soft">no picture</p></div>'
    address = f"data:{kind};base64,{base64.b64encode(example.picture_png).decode('ascii')}"
    size = _png_size(example.picture_png)
    if size is None:
        return f'<div class="frame"><img src="{address}" alt="picture of the question"></div>'
    width, height = size
    crisp = ' class="pixelated"' if max(size) < _PIXELATED_BELOW else ""
    # As large as the card allows, at most `_TALLEST` high: the ratio is stated so that boxes lie where they belong.
    shape = f"aspect-ratio:{width}/{height};max-width:{_TALLEST * width / height:.0f}px"
    return (
        f'<div class="frame"><div class="fit" style="{shape}"><img{crisp} src="{address}" width="{width}" '
        f'height="{height}" alt="picture of the question">{_boxes(example)}</div></div>'
    )


def _boxes(example: Example) -> str:
    truth = parse_box(example.truth, whole=True)
    if truth is None:
        return ""
    given = parse_box(example.answers.get("after", ""))
    drawn = _box(truth, "truth") + (_box(given, "given") if given else "")
    label = "dashed: the true box, solid: the answer"
    return (
        f'<svg class="boxes" viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f"<title>{label}</title>{drawn}</svg>"
    )


def _box(box: Box, style: str) -> str:
    """Twice the same rectangle: a light rim under the coloured line, so that it shows on any picture."""
    attributes = f'x="{box[0]:.0f}" y="{box[1]:.0f}" width="{box[2] - box[0]:.0f}" height="{box[3] - box[1]:.0f}"'
    return f'<rect class="rim" {attributes}/><rect class="{style}" {attributes}/>'


def _media_type(picture: bytes) -> str | None:
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _MARKS if picture.startswith(start)), None)


def _png_size(picture: bytes) -> tuple[int, int] | None:
    """Width and height in pixels from the PNG header; None for other formats and for broken files."""
    if not picture.startswith(_MARKS[0][0]) or len(picture) < 24:
        return None
    width, height = struct.unpack(">II", picture[16:24])
    return (width, height) if width and height else None

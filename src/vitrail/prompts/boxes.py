"""Boxes and the words that name them, in the text conventions of published systems: written, and read back.

plain      the dog [12, 34, 560, 780]                                           no special token
compact    the dog [01035678]                                                   two digits an edge; half the tokens
qwen_vl    <ref>the dog</ref><box>(12,34),(560,780)</box>
qwen2_vl   <|object_ref_start|>the dog<|object_ref_end|><|box_start|>(12,34),(560,780)<|box_end|>
internvl   <ref>the dog</ref><box>[[12, 34, 560, 780]]</box>
nvlm       <ref>the dog</ref><box>(12,34),(560,780)</box>                       ordinary text
minigptv2  <p>the dog</p> {<1><3><56><78>}                                      a grid of 100, ordinary text

Coordinates are x1, y1, x2, y2 in whole steps of a grid over the original picture. Qwen's grids end before 1000, the
others' with it; that the nearest step is taken is a default of ours, the official code only ever reads boxes.
Source: the hub's Qwen-VL-Chat, tokenization_qwen.py; Qwen2-VL, arXiv 2409.12191, section 2.2; OpenGVLab/InternVL,
evaluate_grounding.py; Vision-CAIR/MiniGPT-4, MiniGPTv2.md; NVLM, arXiv 2409.11402, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Box, BoxPart, RefPart, TextPart
from vitrail.prompts.config import BOX_SPECIALS, BoxStyle
from vitrail.prompts.turns import Piece, Special

_N = r"(\d{1,4})"
_COMMA = r"\s{0,8},\s{0,8}"
_CORNERS = rf"\({_N}{_COMMA}{_N}\){_COMMA}\({_N}{_COMMA}{_N}\)"
_LIST = rf"\[{_N}{_COMMA}{_N}{_COMMA}{_N}{_COMMA}{_N}\]"


@dataclass(frozen=True)
class _Style:
    """grid: steps from edge to edge. top: the largest step written. box: one box as text. join: between two boxes.

    around: text around all boxes of a part. ref: text around words. each: whether the special tokens of a box stand
    around every one of them. One box is read by `pattern`, several of them by `several`.
    """

    grid: int
    top: int
    box: str
    pattern: str
    join: str = ""
    around: tuple[str, str] = ("", "")
    ref: tuple[str, str] = ("", "")
    each: bool = False


_STYLES: Mapping[BoxStyle, _Style] = {
    "plain": _Style(1000, 1000, "[{}, {}, {}, {}]", _LIST, join=", "),
    "compact": _Style(100, 99, "[{:02}{:02}{:02}{:02}]", r"\[(\d\d)(\d\d)(\d\d)(\d\d)\]", join=", "),
    "qwen_vl": _Style(1000, 999, "({},{}),({},{})", _CORNERS, each=True),
    "qwen2_vl": _Style(1000, 999, "({},{}),({},{})", _CORNERS, each=True),
    "internvl": _Style(1000, 1000, "[{}, {}, {}, {}]", _LIST, join=", ", around=("[", "]")),
    "nvlm": _Style(1000, 999, "<box>({},{}),({},{})</box>", f"<box>{_CORNERS}</box>", ref=("<ref>", "</ref>")),
    "minigptv2": _Style(
        100, 100, "{{<{}><{}><{}><{}>}}", rf"\{{<{_N}><{_N}><{_N}><{_N}>\}}", join="<delim>", ref=("<p>", "</p> ")
    ),
}


def written(part: RefPart | BoxPart, style: BoxStyle) -> tuple[Piece, ...]:
    """A part as pieces of a prompt; special tokens are special. Raises DataError for a box that leaves its picture."""
    how, specials = _STYLES[style], tuple(map(Special, BOX_SPECIALS[style]))
    if isinstance(part, RefPart):
        opened, closed = specials[:2] or how.ref
        return (opened, part.text, closed)
    for x1, y1, x2, y2 in part.boxes:
        if not (0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1):
            raise DataError(
                f"a box is x1, y1, x2, y2 in shares of the picture, from 0 to 1, got {[x1, y1, x2, y2]}: outside, or "
                "with its corners in the wrong order"
            )
    texts = [how.box.format(*(_step(edge, how) for edge in box)) for box in part.boxes]
    if how.each:
        return tuple(piece for text in texts for piece in (specials[2], text, specials[3]))
    text = how.around[0] + how.join.join(texts) + how.around[1]
    return (specials[2], text, specials[3]) if specials else (text,)


def _step(edge: float, how: _Style) -> int:
    return min(round(edge * how.grid), how.top)


def parse(text: str, style: BoxStyle) -> tuple[TextPart | RefPart | BoxPart, ...]:
    """Text that is written in a style, in parts. What is not well formed stays text, and nothing is repaired.

    Boxes are found with or without the special tokens around them: decoding leaves those out.
    """
    parts: list[TextPart | RefPart | BoxPart] = []
    start = 0
    for found in _pattern(style).finditer(text):
        boxes = _boxes(found["boxes"], style) if found["boxes"] else ()
        if found["boxes"] and not boxes:
            continue
        if found.start() > start:
            parts.append(TextPart(text[start : found.start()]))
        parts.append(BoxPart(boxes) if boxes else RefPart(found["ref"]))
        start = found.end()
    if start < len(text):
        parts.append(TextPart(text[start:]))
    return tuple(parts)


def parse_boxes(text: str, style: BoxStyle) -> tuple[Box, ...]:
    """Every box in a text that is written in a style, in shares of the picture."""
    return tuple(box for part in parse(text, style) if isinstance(part, BoxPart) for box in part.boxes)


def _pattern(style: BoxStyle) -> re.Pattern[str]:
    """Either the words that name a thing, or boxes that belong together."""
    how, names = _STYLES[style], BOX_SPECIALS[style]
    opened, closed = map(re.escape, names[:2] or how.ref)
    one = re.sub(r"\((?=\\d)", "(?:", how.pattern)
    join = re.escape(how.join).replace(r"\ ", r"\s{0,8}")
    several = rf"{re.escape(how.around[0])}{one}(?:{join}{one})*{re.escape(how.around[1])}"
    if names:
        begin, end = map(re.escape, names[2:])
        tagged = rf"{begin}{several}{end}"
        several = rf"(?:{tagged})+|{several}" if how.each else rf"{tagged}|{several}"
    ref = rf"{opened}(?P<ref>[^<]*?){closed}" if opened else r"(?P<ref>(?!))"
    return re.compile(rf"{ref}|(?P<boxes>{several})")


def _boxes(text: str, style: BoxStyle) -> tuple[Box, ...]:
    """The boxes of one part; none when a corner leaves the grid or the corners are in the wrong order."""
    how = _STYLES[style]
    boxes = []
    for found in re.finditer(how.pattern, text):
        x1, y1, x2, y2 = (int(step) / how.grid for step in found.groups())
        if max(x2, y2) > 1 or x1 > x2 or y1 > y2:
            return ()
        boxes.append((x1, y1, x2, y2))
    return tuple(boxes)


def scaled(numbers: Sequence[float], scale: float | Sequence[float]) -> Box:
    """Four numbers to shares of the picture. scale: what 1 is written as, or the picture's width and height."""
    width, height = scale if isinstance(scale, Sequence) else (scale, scale)
    x1, y1, x2, y2 = numbers
    return (x1 / width, y1 / height, x2 / width, y2 / height)

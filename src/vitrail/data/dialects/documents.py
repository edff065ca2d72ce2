"""Documents of text with pictures between, all of which is to be learnt: one assistant's turn without a question.

{"images": [null, "a.png", null], "texts": ["Before.", null, "After."]}                       OBELICS
{"interleaved": ["Before.", {"image": "a.png"}, "After."]}
{"text_list": ["One.", "Two."], "image_info": [{"image_name": "a.png", "matched_text_index": 1}]}    MMC4
{"text": "Text alone."}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Message, Part, Row, TextPart
from vitrail.data.dialects.keys import inside
from vitrail.data.dialects.media import image, part
from vitrail.data.dialects.values import Read, shown_row, text, where

PARAGRAPH = "\n\n"
SENTENCE = " "


def interleaved(row: Row) -> Read:
    """Reads a document in any of its forms."""
    fields = row.fields
    if fields.get("interleaved") is not None:
        parts = [_item(item, row) for item in _list(row, "interleaved") if item is not None]
    elif fields.get("text_list") is not None:
        parts = _matched(row)
    elif fields.get("texts") is not None:
        parts = _parallel(row)
    elif fields.get("text") is not None:
        parts = [TextPart(text(fields["text"], row, "'text'"))]
    else:
        raise DataError(f"{where(row)}: no document in the row {shown_row(fields)}")
    kept = tuple(one for one in parts if not (isinstance(one, TextPart) and not one.text))
    return Read((Message("assistant", kept),))


def _parallel(row: Row) -> list[Part]:
    """Two lists with holes: at each position either a text or a picture."""
    texts, images = _list(row, "texts"), _list(row, "images")
    if len(texts) != len(images):
        raise DataError(f"{where(row)}: {len(texts)} texts but {len(images)} images, holes counted")
    parts: list[Part] = []
    for number, (said, shown) in enumerate(zip(texts, images, strict=True)):
        if (said is None) == (shown is None):
            raise DataError(f"{where(row)}: position {number} needs either a text or a picture")
        parts.append(_text(said, row) if shown is None else image(shown, row))
    return _apart(parts, PARAGRAPH)


def _matched(row: Row) -> list[Part]:
    """Sentences, with each picture before the one that it was matched with."""
    texts = [_text(said, row) for said in _list(row, "text_list")]
    before: dict[int, list[Part]] = {}
    for info in _list(row, "image_info") if row.fields.get("image_info") is not None else ():
        info = inside(info, row, "'image_info'") if isinstance(info, Mapping) else {}
        index = info.get("matched_text_index")
        if not isinstance(index, int) or not 0 <= index < len(texts):
            raise DataError(f"{where(row)}: 'matched_text_index' must be from 0 to {len(texts) - 1}, got {index!r:.60}")
        given = next(filter(None, [info.get(name) for name in ("image", "image_name", "raw_url")]), None)
        before.setdefault(index, []).append(image(given, row))
    return _apart([one for number, said in enumerate(texts) for one in (*before.get(number, ()), said)], SENTENCE)


def _item(item: Any, row: Row) -> Part:
    if isinstance(item, str):
        return _text(item, row)
    if isinstance(item, Mapping) and item.get("type") is None:
        inner = inside(item, row, "an item of 'interleaved'")
        if "text" in inner:
            return _text(inner["text"], row)
        return image(inner.get("image", item if "bytes" in inner or "path" in inner else None), row)
    return part(item, row, {})


def _text(said: Any, row: Row) -> TextPart:
    return TextPart(text(said, row, "a document's text"))


def _apart(parts: Sequence[Part], gap: str) -> list[Part]:
    """With a gap between texts that follow each other; their authors cut them there."""
    laid: list[Part] = []
    for one in parts:
        if laid and isinstance(one, TextPart) and isinstance(laid[-1], TextPart):
            laid.append(TextPart(gap))
        laid.append(one)
    return laid


def _list(row: Row, name: str) -> list[Any]:
    found = row.fields.get(name)
    if not isinstance(found, list | tuple) or not found:
        raise DataError(f"{where(row)}: '{name}' must be a list that is not empty")
    return list(found)

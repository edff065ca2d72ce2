"""A row to a conversation, by the dialect that was named or that its keys show; `docs/your-own-data.md` has examples.

openai       messages made of parts, as in OpenAI's chat API
sharegpt     `conversations` of `from` and `value` (LLaVA)
tags         `messages` with `<image>` in their text (LLaMA-Factory, ms-swift)
turns        `texts` of `user` and `assistant` (FineVision, the Cauldron)
preference   `chosen` and `rejected` (TRL, LLaMA-Factory, RLAIF-V), or `rejected_response` (ms-swift)
interleaved  documents of text and pictures (OBELICS, MMC4), or of text alone
caption      a picture, video or sound and its `text` or `caption`
vqa          `question` and `answer`; short_vqa asks for a short answer, as LLaVA-1.5 was taught

Pictures without any `<image>` tag open the first user turn, as TRL and ms-swift have it; a number of tags that is
neither zero nor the number of pictures is an error; so it is with `<video>` and `<audio>` in rows that have such.
Reading a row costs some microseconds; media stay closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, cast

from vitrail.contracts.errors import DataError, nearest
from vitrail.contracts.messages import Conversation, Message, Row
from vitrail.contracts.protocols import Source, StreamedSource
from vitrail.data.dialects.chats import exchanges, openai, sharegpt, tags, tools
from vitrail.data.dialects.columns import ANSWERS, CAPTIONS, caption, short_vqa, vqa
from vitrail.data.dialects.documents import interleaved
from vitrail.data.dialects.media import KINDS, MEDIA
from vitrail.data.dialects.pairs import preference
from vitrail.data.dialects.values import Read, shown_row, where
from vitrail.data.sources.config import DialectName

READERS: Mapping[str, Callable[[Row], Read]] = {
    "openai": openai,
    "sharegpt": sharegpt,
    "tags": tags,
    "turns": exchanges,
    "preference": preference,
    "interleaved": interleaved,
    "caption": caption,
    "vqa": vqa,
    "short_vqa": short_vqa,
}

KEYS: Mapping[str, str] = {
    "messages": "openai, tags",
    "conversations": "sharegpt",
    "texts": "turns, interleaved",
    "chosen": "preference",
    "interleaved": "interleaved",
    "question": "vqa, with 'answer'",
    "caption": "caption, with 'image'",
}
"""What shows a dialect, for the message to those whose rows show none."""

CARRIED = frozenset(
    (
        *("id", "kind", "messages", "conversations", "texts", "chosen", "rejected", "rejected_response", "prompt"),
        *("interleaved", "text_list", "image_info", "tools", *MEDIA),
    )
)
"""Fields that are in the conversation itself; all others go with it as `extra`."""


def to_conversation(row: Row, dialect: DialectName = "auto") -> Conversation:
    """Reads a row. Raises DataError, naming the row's location, when it does not fit its dialect."""
    read = _read(row, dialect)
    if not any(message.role == "assistant" for message in read.messages):
        raise DataError(f"{where(row)}: no assistant turn")
    extra = {name: value for name, value in row.fields.items() if name not in CARRIED}
    if read.answers is not None:
        extra["answers"] = list(read.answers)
    kind = row.fields.get("kind")
    said = "" if kind is None else str(kind)
    made = Conversation(row.id, read.messages, said, row.location, extra, tools=tools(row))
    return replace(made, rejected=read.rejected, shared=read.shared)


def to_messages(row: Row, dialect: DialectName = "auto") -> tuple[Message, ...]:
    """The turns of a row alone; they need not hold an answer."""
    return _read(row, dialect).messages


def recognise(row: Row) -> DialectName:
    """The dialect that the row's keys show. Raises DataError, which shows the row, when they show none."""
    fields = row.fields
    if "rejected" in fields and "chosen" in fields:
        return "preference"
    if "conversations" in fields:
        return "sharegpt"
    messages = fields.get("messages")
    if isinstance(messages, list):
        if "rejected_response" in fields:
            return "preference"
        parts = any(isinstance(message, dict) and isinstance(message.get("content"), list) for message in messages)
        return "openai" if parts and not any(f"{kind}s" in fields for kind in KINDS) else "tags"
    texts = fields.get("texts")
    if isinstance(texts, list):
        return "turns" if any(isinstance(text, dict) for text in texts) else "interleaved"
    if any(isinstance(fields.get(name), list) for name in ("interleaved", "text_list")):
        return "interleaved"
    if "question" in fields and any(name in fields for name in ANSWERS):
        return "vqa"
    if any(isinstance(fields.get(name), str) for name in CAPTIONS):
        pictured = any(fields.get(name) is not None for name in MEDIA)
        if pictured or "text" in fields:
            return "caption" if pictured else "interleaved"
    raise DataError(f"{where(row)}: no dialect fits the row {shown_row(fields)}{_hint(fields)}")


def dialect_of(source: Source | StreamedSource, rows: int = 5) -> DialectName:
    """The dialect of a source's first rows. Raises DataError when they disagree, or when none can be read.

    A bad row among good ones is the ledger's business, here as anywhere else in the source.
    """
    seen: dict[str, tuple[int, Row]] = {}
    bad: list[DataError] = []
    for index, row in enumerate(_first(source, rows)):
        try:
            if isinstance(row, DataError):
                raise row
            name: str = recognise(row)
        except DataError as error:
            bad.append(error)
            continue
        text_alone = name == "tags" and all(row.fields.get(one) is None for one in MEDIA)
        seen.setdefault("text" if text_alone else name, (index, row))
    if not seen:
        raise bad[0] if bad else DataError(f"{source.name}: has no rows")
    # Rows of text alone look alike in `openai` and `tags`: one with picture parts decides.
    text = seen.pop("text", None)
    if text is not None and "openai" not in seen:
        seen.setdefault("tags", text)
    if len(seen) > 1:
        found = sorted(seen.items(), key=lambda item: item[1][0])
        found_in = ", ".join(f"row {index} is {name}" for name, (index, _) in found)
        last = shown_row(found[-1][1][1].fields)
        raise DataError(
            f"{source.name}: rows are written in different dialects ({found_in}); name one with `dialect:`; "
            f"the row that differs: {last}"
        )
    return cast(DialectName, next(iter(seen)))


def _read(row: Row, dialect: DialectName) -> Read:
    return READERS[recognise(row) if dialect == "auto" else dialect](row)


def _first(source: Source | StreamedSource, rows: int) -> Iterator[Row | DataError]:
    if hasattr(source, "rows"):
        yield from (row for row, _ in islice(source.rows(0, None), rows))
        return
    for index in range(min(rows, len(source))):
        try:
            yield source.row(index)
        except DataError as error:
            yield error


def _hint(fields: Mapping[str, Any]) -> str:
    close = next(filter(None, (nearest(str(name), KEYS) for name in fields if name not in KEYS)), "")
    known = ", ".join(f"'{name}' ({dialects})" for name, dialects in KEYS.items())
    return f"{close}; a row has {known}"

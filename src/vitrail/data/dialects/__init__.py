"""A row to a conversation, by the dialect that was named or that its keys show; `docs/your-own-data.md` has examples.

openai       messages made of parts, as in OpenAI's chat API
sharegpt     `conversations` of `from` and `value` (LLaVA), or of `role` and `content` (MiniCPM-V)
tags         `messages` with `<image>` in their text (LLaMA-Factory, ms-swift)
turns        `texts` of `user` and `assistant` (FineVision, the Cauldron)
alpaca       `instruction`, `input` and `output`
completion   `prompt` and `completion` (TRL), `query` and `response` (ms-swift), `prefix` and `suffix` (PaliGemma)
preference   `chosen` and `rejected` (TRL, LLaMA-Factory, RLAIF-V), or `rejected_response` (ms-swift)
interleaved  documents of text and pictures (OBELICS, MMC4), or of text alone
caption      a picture, video or sound and its `text` or `caption`
vqa          `question` and `answer`; short_vqa asks for a short answer, as LLaVA-1.5 was taught

Pictures without any `<image>` tag open the first user turn, as TRL and ms-swift have it; a number of tags that is
neither zero nor the number of pictures is an error; so it is with `<video>` and `<audio>` in rows that have such.
Nothing that a row says is dropped without a word: see `keys`. Reading a row costs about 100 us; media stay
closed, but for the sizes of pictures with boxes in pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from vitrail.contracts.errors import DataError, nearest
from vitrail.contracts.messages import Conversation, MediaPart, Message, Row
from vitrail.contracts.protocols import Source, StreamedSource
from vitrail.data.dialects.boxes import placed
from vitrail.data.dialects.chats import exchanges, openai, sharegpt, tags, tools, with_system
from vitrail.data.dialects.columns import ANSWERS, CAPTIONS, COMPLETIONS, alpaca, caption, completion, short_vqa, vqa
from vitrail.data.dialects.documents import interleaved
from vitrail.data.dialects.fields import FIELDS, fields
from vitrail.data.dialects.keys import Keys, check_read, opened
from vitrail.data.dialects.media import KINDS, MEDIA, has_media
from vitrail.data.dialects.pairs import preference
from vitrail.data.dialects.values import Read, shown_row, where
from vitrail.data.sources.config import DialectName, Reading

READERS: Mapping[str, Callable[[Row], Read]] = {
    "openai": openai,
    "sharegpt": sharegpt,
    "tags": tags,
    "turns": exchanges,
    "alpaca": alpaca,
    "completion": completion,
    "preference": preference,
    "interleaved": interleaved,
    "fields": fields,
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
    "fields": "fields",
    "instruction": "alpaca, with 'output'",
    "prompt": "completion, with 'completion'",
    "query": "completion, with 'response'",
    "question": "vqa, with 'answer'",
    "caption": "caption, with 'image'",
}
"""What shows a dialect, for the message to those whose rows show none."""

CARRIED = frozenset(
    (
        *("id", "kind", "messages", "conversations", "texts", "chosen", "rejected", "rejected_response", "prompt"),
        *("interleaved", "text_list", "image_info", "tools", "system", "objects", "history", FIELDS, *MEDIA),
    )
)
"""Fields that are in the conversation itself; all others go with it as `extra`."""

KNOWN = (*KEYS, *CARRIED, *CAPTIONS, *ANSWERS, *COMPLETIONS.values(), "choices", "options", "input", "output")
"""Names that a misspelled key is compared with."""


def to_conversation(row: Row, reading: Reading | DialectName = "auto") -> Conversation:
    """Reads a row. reading: as its source says; a dialect's name stands for one that says nothing else.

    Raises DataError, naming the row's location, when it does not fit its dialect, or for a key that is not understood.
    """
    read = _read(row, reading)
    if not any(message.role == "assistant" for message in read.messages):
        raise DataError(f"{where(row)}: no assistant turn")
    extra = {name: value for name, value in row.fields.items() if name not in CARRIED}
    if read.answers is not None:
        extra["answers"] = list(read.answers)
    kind = row.fields.get("kind")
    said = "" if kind is None else str(kind)
    made = Conversation(row.id, read.messages, said, row.location, extra, tools=read.tools)
    return replace(made, rejected=read.rejected, shared=read.shared)


def to_messages(row: Row, reading: Reading | DialectName = "auto") -> tuple[Message, ...]:
    """The turns of a row alone; they need not hold an answer."""
    return _read(row, reading).messages


def recognise(row: Row) -> DialectName:
    """The dialect that the row's keys show. Raises DataError, which shows the row, when they show none."""
    given = opened(row, Reading()).fields
    assert isinstance(given, Keys), "opened"
    peek = given.peek
    if "rejected" in given and "chosen" in given:
        return "preference"
    if "conversations" in given:
        return "sharegpt"
    messages = peek("messages")
    if isinstance(messages, list):
        if "rejected_response" in given:
            return "preference"
        parts = any(isinstance(one, Mapping) and isinstance(one.get("content"), list) for one in messages)
        return "openai" if parts and not any(f"{kind}s" in given for kind in KINDS) else "tags"
    texts = peek("texts")
    if isinstance(texts, list):
        return "turns" if any(isinstance(text, Mapping) for text in texts) else "interleaved"
    if any(isinstance(peek(name), list) for name in ("interleaved", "text_list")):
        return "interleaved"
    if isinstance(peek(FIELDS), Mapping):
        return "fields"
    if "instruction" in given and "output" in given:
        return "alpaca"
    if any(name in given and other in given for name, other in COMPLETIONS.items()):
        return "completion"
    if "question" in given and any(name in given for name in ANSWERS):
        return "vqa"
    if "question" in given:
        raise DataError(f"{where(row)}: a question without an answer ({', '.join(ANSWERS)}): {shown_row(given.given)}")
    if any(isinstance(peek(name), str) for name in CAPTIONS):
        pictured = has_media(given.given)
        if pictured or "text" in given:
            return "caption" if pictured else "interleaved"
    raise DataError(f"{where(row)}: no dialect fits the row {shown_row(given.given)}{_hint(given.given)}")


def dialects_of(source: Source | StreamedSource, rows: int = 5) -> Counter[str]:
    """The dialects of a source's first rows. Raises DataError when none of them can be read.

    A bad row among good ones is the ledger's business, here as anywhere else in the source.
    """
    seen: Counter[str] = Counter()
    bad: list[DataError] = []
    for row in _first(source, rows):
        try:
            if isinstance(row, DataError):
                raise row
            seen[recognise(row)] += 1
        except DataError as error:
            bad.append(error)
    if not seen:
        raise bad[0] if bad else DataError(f"{source.name}: has no rows")
    return seen


def _read(row: Row, reading: Reading | DialectName) -> Read:
    """The one reader of rows: everything that looks at what a row says comes through here."""
    how = reading if isinstance(reading, Reading) else Reading(reading)
    row = opened(row, how)
    dialect = recognise(row) if how.dialect == "auto" else how.dialect
    read = READERS[dialect](row)
    read = with_system(replace(read, messages=placed(read.messages, row), tools=tools(row)), row)
    messages = (*read.messages, *read.rejected)
    media = any(isinstance(part, MediaPart) for message in messages for part in message.parts)
    check_read(row, KNOWN, media=media)
    return read


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

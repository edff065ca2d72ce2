"""Preference pairs: a prompt with the better and the worse way to go on.

{"prompt": "...", "chosen": "...", "rejected": "..."}        texts; RLAIF-V calls its prompt `question`
{"prompt": [...], "chosen": [...], "rejected": [...]}        messages (TRL)
{"chosen": [...], "rejected": [...]}                         whole conversations, whose common beginning is the prompt
{"conversations": [...], "chosen": {...}, "rejected": {...}} LLaMA-Factory
{"messages": [...], "rejected_response": "..."}              ms-swift

The conversation ends with the chosen answer; what was rejected in its stead goes with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, Role, Row
from vitrail.data.dialects.chats import chat, in_parts
from vitrail.data.dialects.keys import Keys, inside
from vitrail.data.dialects.values import ROLES, Read, shown_row, text, turns, where

Turn = Mapping[str, Any]

PROMPTS = ("prompt", "conversations", "question", "instruction")


def preference(row: Row) -> Read:
    """Reads a pair in any of its forms."""
    prompt, chosen, rejected = _swift(row) if "rejected_response" in row.fields else _pair(row)
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer or _whose(answer[0]) != "assistant":
            raise DataError(f"{where(row)}: '{name}' must go on with an assistant's turn")
    good = chat([inside(turn, row, "a turn") for turn in prompt + chosen], row)
    bad = in_parts([inside(turn, row, "a turn of 'rejected'") for turn in rejected], row, left={})
    if good.messages[len(prompt) :] == bad.messages:
        raise DataError(f"{where(row)}: 'chosen' and 'rejected' are the same")
    return Read(good.messages, rejected=bad.messages, shared=len(prompt))


def chosen_and_rejected(conversation: Conversation) -> tuple[Conversation, Conversation]:
    """The two ways a preference row may go on, each a whole conversation. Raises DataError for any other row."""
    if not conversation.rejected:
        where = conversation.location or conversation.id
        raise DataError(f"{where}: no preference pair; a row needs 'chosen' and 'rejected' answers")
    prompt = conversation.messages[: conversation.shared]
    chosen = replace(conversation, rejected=())
    return chosen, replace(chosen, messages=(*prompt, *conversation.rejected))


def _swift(row: Row) -> tuple[list[Turn], list[Turn], list[Turn]]:
    *prompt, last = turns(row, "messages")
    return [*prompt], [last], [{"role": "assistant", "content": text(row.fields["rejected_response"], row)}]


def _pair(row: Row) -> tuple[list[Turn], list[Turn], list[Turn]]:
    chosen, rejected = (_as_turns(row, name, "assistant") for name in ("chosen", "rejected"))
    if _opens(chosen) and _opens(rejected):
        same = 0
        while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
            same += 1
        _same_prompt(row, chosen[:same])
        return chosen[:same], chosen[same:], rejected[same:]
    name = next((name for name in PROMPTS if name in row.fields), None)
    if name is None:
        raise DataError(f"{where(row)}: a pair needs its 'prompt'; the row: {shown_row(row.fields)}")
    prompt = _as_turns(row, name, "user")
    if name == "instruction" and row.fields.get("input"):
        asked = text(prompt[0].get("content"), row, "'instruction'")
        about = text(row.fields["input"], row, "'input'")
        prompt[0] = {"role": "user", "content": f"{asked}\n{about}"}
    return prompt, chosen, rejected


def _same_prompt(row: Row, shared: list[Turn]) -> None:
    """Reads a prompt that stands in a column too, where the turns that both answers share say the same."""
    assert isinstance(row.fields, Keys), "a row is opened before it is read"
    said = [turn.get("content", turn.get("value")) for turn in shared]
    for name in PROMPTS:
        given = row.fields.peek(name)
        if given == shared or (isinstance(given, str) and given in said):
            row.fields.get(name)


def _opens(found: list[Turn]) -> bool:
    """Whether these turns begin a conversation."""
    return bool(found) and _whose(found[0]) in ("user", "system")


def _whose(turn: Turn) -> Role | None:
    return ROLES.get(str(turn.get("from") or turn.get("role")))


def _as_turns(row: Row, name: str, whose: str) -> list[Turn]:
    """A text, a turn or a list of turns, with the keys `role` and `content`."""
    if name not in row.fields:
        raise DataError(f"{where(row)}: no '{name}' in the row {shown_row(row.fields)}")
    given = row.fields[name]
    if isinstance(given, str):
        return [{"role": whose, "content": text(given, row, f"'{name}'")}]
    given = [given] if isinstance(given, Mapping) else given
    if not isinstance(given, list) or not given or not all(isinstance(turn, Mapping) for turn in given):
        raise DataError(f"{where(row)}: '{name}' must be a text or a list of turns")
    return list(given)

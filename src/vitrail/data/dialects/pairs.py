"""Preference pairs: a prompt with the better and the worse way to go on.

{"prompt": "...", "chosen": "...", "rejected": "..."}        texts; RLAIF-V calls its prompt `question`
{"prompt": [...], "chosen": [...], "rejected": [...]}        messages (TRL)
{"chosen": [...], "rejected": [...]}                         whole conversations, whose common beginning is the prompt
{"conversations": [...], "chosen": {...}, "rejected": {...}} LLaMA-Factory
{"messages": [...], "rejected_response": "..."}              ms-swift

The conversation ends with the chosen answer; what was rejected in its stead goes with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, Row
from vitrail.data.dialects.chats import openai, tags
from vitrail.data.dialects.values import ROLES, Read, shown_row, text, turns, where

Turn = dict[str, Any]

PROMPTS = ("prompt", "conversations", "question", "instruction")


def preference(row: Row) -> Read:
    """Reads a pair in any of its forms."""
    prompt, chosen, rejected = _swift(row) if "rejected_response" in row.fields else _pair(row)
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer or ROLES.get(str(answer[0].get("role"))) != "assistant":
            raise DataError(f"{where(row)}: '{name}' must go on with an assistant's turn")
    if chosen == rejected:
        raise DataError(f"{where(row)}: 'chosen' and 'rejected' are the same")
    good = tags(replace(row, fields={**row.fields, "messages": prompt + chosen}))
    bad = openai(replace(row, fields={"messages": rejected}))
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
    return prompt, [last], [{"role": "assistant", "content": text(row.fields["rejected_response"], row)}]


def _pair(row: Row) -> tuple[list[Turn], list[Turn], list[Turn]]:
    chosen, rejected = (_as_turns(row, name, "assistant") for name in ("chosen", "rejected"))
    name = next((name for name in PROMPTS if row.fields.get(name) is not None), None)
    if _opens(chosen) and _opens(rejected):
        # Both hold the prompt themselves, whatever else the row says of it.
        same = 0
        while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
            same += 1
        return chosen[:same], chosen[same:], rejected[same:]
    if name is None:
        raise DataError(f"{where(row)}: a pair needs its 'prompt'; the row: {shown_row(row.fields)}")
    prompt = _as_turns(row, name, "user")
    if name == "instruction" and row.fields.get("input"):
        prompt[0]["content"] += "\n" + text(row.fields["input"], row, "'input'")
    return prompt, chosen, rejected


def _opens(found: list[Turn]) -> bool:
    """Whether these turns begin a conversation."""
    return bool(found) and ROLES.get(str(found[0].get("role"))) in ("user", "system")


def _as_turns(row: Row, name: str, whose: str) -> list[Turn]:
    """A text, a turn or a list of turns, with the keys `role` and `content`."""
    if name not in row.fields:
        raise DataError(f"{where(row)}: no '{name}' in the row {shown_row(row.fields)}")
    given = row.fields[name]
    if isinstance(given, str):
        return [{"role": whose, "content": text(given, row, f"'{name}'")}]
    given = [given] if isinstance(given, dict) else given
    if not isinstance(given, list) or not given or not all(isinstance(turn, dict) for turn in given):
        raise DataError(f"{where(row)}: '{name}' must be a text or a list of turns")
    return [{"role": turn["from"], "content": turn.get("value")} if "from" in turn else {**turn} for turn in given]

"""Characters by script, and reasons by sort: what many texts have in common."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from functools import lru_cache

_BLOCKS = (
    (0x0041, "Latin"),
    (0x0370, "Greek"),
    (0x0400, "Cyrillic"),
    (0x0530, "Armenian"),
    (0x0590, "Hebrew"),
    (0x0600, "Arabic"),
    (0x0700, "other"),
    (0x0900, "Devanagari"),
    (0x0980, "other Indic"),
    (0x0E00, "Thai"),
    (0x0E80, "other"),
    (0x10A0, "Georgian"),
    (0x1100, "Hangul"),
    (0x1200, "other"),
    (0x1E00, "Latin"),
    (0x1F00, "Greek"),
    (0x2000, "other"),
    (0x3040, "Kana"),
    (0x3100, "other"),
    (0x3400, "Han"),
    (0xA000, "other"),
    (0xAC00, "Hangul"),
    (0xD800, "other"),
    (0xF900, "Han"),
    (0xFB00, "other"),
    (0xFB50, "Arabic"),
    (0xFE00, "other"),
    (0xFF21, "Latin"),
    (0xFF66, "Kana"),
    (0xFFA0, "other"),
    (0x20000, "Han"),
    (0x32000, "other"),
)
"""Where blocks of Unicode begin whose letters are of one script. Source: Blocks.txt of Unicode 16."""
_STARTS = [start for start, _ in _BLOCKS]


@lru_cache(maxsize=1 << 16)
def script(character: str) -> str:
    """Of a letter its script, else `digits`, `signs`, or "" for white space."""
    if character.isspace():
        return ""
    if character.isdigit():
        return "digits"
    if not character.isalpha():
        return "signs"
    return _BLOCKS[bisect_right(_STARTS, ord(character)) - 1][1]


def scripts(text: str) -> Counter[str]:
    """How many characters of each script a text has."""
    found: Counter[str] = Counter()
    for character, times in Counter(text).items():
        found[script(character)] += times
    del found[""]
    return found


def sort_of(reason: str, location: str) -> str:
    """A reason without the row's location, names and numbers, so that many rows share one."""
    reason = re.sub(r"^\S+(?::\d+|\[\d+\]): ", "", reason.removeprefix(f"{location}: "))
    reason = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", reason)
    reason = re.sub(r"\{.*", "{...}", reason)
    return re.sub(r"\d+(?:[,.]\d+)*", "N", reason)[:160]

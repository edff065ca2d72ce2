"""Which split a number, a word or a layout belongs to: about one in five is kept for the test split."""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeAlias

Value: TypeAlias = "str | int | tuple[Value, ...]"

TEST_ONE_IN = 5


def split_of(value: Value) -> str:
    """The split ("train" or "test") that alone may draw `value`; the same for every seed, platform and version.

    value: a word, a number, or a layout (nested tuples of whole numbers and strings).
    """
    digest = blake2b(repr(value).encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") % TEST_ONE_IN == 0 else "train"

"""The dialect of fields: what is to be read off a picture, as JSON.

fields      {"images": ["a.png"], "fields": {"total": "12.50", "date": null}}: the picture is asked for them by name, or
            as "prompt" says; the answer is the object as it stands, null where the picture does not say

A field of nothing but blanks is not written yet, and then the row has no answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.data.dialects.tags import tagged
from vitrail.data.dialects.values import Read, shown_row, text, where

FIELDS = "fields"


def fields(row: Row) -> Read:
    """A question for the fields, and the object as its answer."""
    given = row.fields.get(FIELDS)
    if not isinstance(given, Mapping) or not given:
        raise DataError(f"{where(row)}: '{FIELDS}' must be an object with names and values: {shown_row(row.fields)}")
    asked = request(given) if row.fields.get("prompt") is None else text(row.fields["prompt"], row, "'prompt'")
    written = not any(isinstance(value, str) and not value.strip() for value in _values(given))
    return Read(tagged([("user", asked), ("assistant", json.dumps(given, ensure_ascii=False) if written else "")], row))


def request(names: Mapping[str, Any]) -> str:
    """What asks for fields of these names."""
    return f"Give {', '.join(names)} as JSON."


def _values(given: Any) -> Iterator[Any]:
    """What stands at the ends, however deep."""
    inner = given.values() if isinstance(given, Mapping) else given if isinstance(given, list) else None
    if inner is None:
        yield given
        return
    for value in inner:
        yield from _values(value)

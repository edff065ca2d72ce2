"""SigLIP's vision tower against transformers: hidden states, features, and the vector that its head pools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from towers import Tower

SYSTEM = "siglip_vision"


def test_every_output_is_the_references(case: Any) -> None:
    Tower().check(case)


def test_what_is_written_is_bit_for_bit_what_was_read(golden: Path) -> None:
    Tower().check_written(golden)

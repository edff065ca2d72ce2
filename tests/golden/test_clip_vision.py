"""CLIP's vision tower against transformers: hidden states, features, the pooled vector and its projection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from towers import Tower

SYSTEM = "clip_vision"


def test_every_output_is_the_references(case: Any) -> None:
    Tower().check(case)


def test_what_is_written_is_bit_for_bit_what_was_read(golden: Path) -> None:
    Tower().check_written(golden)


def test_llavas_features_are_those_before_the_last_block(case: Any) -> None:
    """Without the class token: what a picture-and-text model of this tower reads."""
    Tower().check_penultimate(case)

"""Real files for the data tests: pictures, rows, and the encoder that reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrail.contracts.samples import IGNORE, MediaSlot, Sample, View
from vitrail.data.config import JsonlConfig
from vitrail.data.encode import Encode
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.media.config import NativeResolutionConfig
from vitrail.media.rule import media_rule
from vitrail.models.backbones.tokenizer import byte_tokenizer
from vitrail.prompts.templates import template


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Bytes, the short chat format, and one token for 8 x 8 px."""
    chat = template("terse")
    media = NativeResolutionConfig(patch=4, merge=2, min_tokens=1, max_tokens=64)
    return Encode({"vision": media_rule(media)}, chat, byte_tokenizer(chat.specials))


@pytest.fixture(scope="session")
def paint() -> Callable[[Path, int, int], Path]:
    """Writes a picture of noise, another one for every name."""

    def write(path: Path, width: int, height: int) -> Path:
        noise = np.random.default_rng(list(path.name.encode())).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def write_rows() -> Callable[[Path, Sequence[Any]], JsonlSource]:
    """Writes rows, one a line, and opens them; a string is a line as it stands."""

    def write(path: Path, rows: Sequence[Any]) -> JsonlSource:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return JsonlSource(JsonlConfig(path))

    return write


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """A sample by its measures alone: ids are 0, 1, 2 ..., and of every three positions two are learnt."""

    def make(name: str, tokens: int, views: Sequence[tuple[int, View]] = ()) -> Sample:
        ids = np.arange(tokens, dtype=np.int64)
        labels = np.where((ids % 3 > 0) & (ids + 1 < tokens), ids + 1, IGNORE)
        slots = tuple(MediaSlot(start, number, view) for number, (start, view) in enumerate(views))
        weights = (labels != IGNORE).astype(np.float32)
        return Sample(name, "made", ids, labels, weights, slots, location=f"made.jsonl:{name}")

    return make

"""What adapting costs the language: the loss of the language model on plain text, before training and after.

The text that comes with the package (24 kB, plain_text.txt) is prose on many subjects, written for this measurement so
that no model has learnt it; its licence is the package's own. Measuring costs one pass over some 5,000 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.contracts.errors import DataError
from vitrail.contracts.samples import IGNORE, Pack, Sample
from vitrail.data.collate import collate
from vitrail.inference.chat_model import ChatModel
from vitrail.metrics.intervals import bootstrap
from vitrail.synthetic.config import ProseConfig
from vitrail.synthetic.prose import ProseSource

WINDOW = 512
"""Most tokens a window has: the model sees this much of the text at a time."""
TOGETHER = 4
"""Windows in a pack; bounds memory, not the result."""
SEED = 0


def read_text(chosen: bool | Path | ProseConfig) -> str:
    """The text that `evaluate.text` names: a UTF-8 file, or with true the one that comes with the package, or drawn
    stories; else "".

    Raises DataError for a file that is not there, is no text, or is empty.
    """
    if chosen is False:
        return ""
    if isinstance(chosen, ProseConfig):
        source = ProseSource(chosen)
        text = "\n".join(source.row(index).fields["text"] for index in range(len(source)))
        if not text:
            raise DataError("evaluate.text: rows must be 1 or more")
        return text
    if chosen is True:
        return files("vitrail.evaluation").joinpath("plain_text.txt").read_bytes().decode("utf-8")
    try:
        text = chosen.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"evaluate.text: cannot read '{chosen}': {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"evaluate.text: '{chosen}' is not UTF-8 text") from error
    if not text.strip():
        raise DataError(f"evaluate.text: '{chosen}' is empty")
    return text


@torch.inference_mode()
def text_loss(model: ChatModel, text: str) -> dict[str, Any]:
    """Mean next-token loss, nats, as `Score.to_json` over windows, with `bits_per_byte` and the mean of each window.

    Windows are of nearly equal length, so the mean of their means is that of the tokens. The first token of a window is
    predicted by nothing and not counted. bits_per_byte: the loss by the text's bytes, which compares tokenizers.
    Raises DataError for a text with nothing to predict.
    """
    ids = np.asarray(model.encode.tokenizer.encode(text), dtype=np.int64)
    if len(ids) < 2:
        raise DataError("evaluate.text: the text has less than two tokens, so there is nothing to predict")
    windows = np.array_split(ids, math.ceil(len(ids) / WINDOW))
    losses: list[float] = []
    for start in range(0, len(windows), TOGETHER):
        losses += _losses(model, windows[start : start + TOGETHER])
    score = bootstrap(losses, SEED)
    assert score.value is not None, "there is at least one window"
    bits = score.value / math.log(2) * len(ids) / len(text.encode("utf-8"))
    return {**score.to_json(), "bits_per_byte": bits, "windows": losses}


def _losses(model: ChatModel, windows: Sequence[NDArray[np.int64]]) -> list[float]:
    """Mean loss of each window, nats; packed, each its own segment."""
    samples = []
    for ids in windows:
        labels = np.append(ids[1:], IGNORE)
        samples.append(Sample("text", "text", ids, labels, (labels != IGNORE).astype(np.float32)))
    batch, _ = collate(Pack(tuple(samples)), model.encode.media)
    assert batch is not None, "text without pictures can always be read"
    moved = batch.to(model.device)
    hidden = model.model(moved)
    losses, start = [], 0
    for ids in windows:
        part = slice(start, start + len(ids))
        total, _ = model.model.token_losses(hidden[part], moved.text.labels[part], moved.text.weights[part])
        losses.append(float(total) / (len(ids) - 1))
        start += len(ids)
    return losses


def text_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """By how much the loss of a window rose, nats a token, as `Score.to_json`; of two results of `text_loss`.

    Window by window, because texts differ among each other far more than training changes any of them.
    Raises DataError when the two are not of the same text.
    """
    if len(before["windows"]) != len(after["windows"]):
        raise DataError("evaluate.text: the text is not the one that was measured before training")
    pairs = zip(before["windows"], after["windows"], strict=True)
    return bootstrap([later - earlier for earlier, later in pairs], SEED).to_json()

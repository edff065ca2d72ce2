"""Loss on plain text: transformers' own number, and what the report makes of two of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from vitrail.contracts.errors import DataError
from vitrail.data.encode import Encode
from vitrail.evaluation.plain_text import WINDOW, read_text, text_change, text_loss
from vitrail.inference.chat_model import ChatModel
from vitrail.metrics.intervals import bootstrap
from vitrail.models.assembled import MultimodalModel
from vitrail.report.language import language
from vitrail.report.page import Report, render

TEXT = "A short text of many letters, \u00e9 among them. " * 60 + "The end."


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., MultimodalModel], tiny_encode: Encode) -> ChatModel:
    return ChatModel(tiny_model().eval(), tiny_encode)


@torch.no_grad()
def test_the_loss_is_transformers_own(model: ChatModel, tmp_path: Path) -> None:
    """On the same windows, one by one: of unequal lengths, and more of them than go together."""
    model.model.backbone.lm.save_pretrained(tmp_path)
    official = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor(model.encode.tokenizer.encode(TEXT))
    measured = text_loss(model, TEXT)
    windows = torch.tensor_split(ids, math.ceil(len(ids) / WINDOW))
    assert len(windows) == measured["n"] == len(measured["windows"]) == 6
    assert {len(window) for window in windows} == {451, 452}
    expected = [float(official(window[None], labels=window[None]).loss) for window in windows]
    assert measured["windows"] == pytest.approx(expected, abs=1e-5)
    assert measured["value"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert measured["low"] <= measured["value"] <= measured["high"]
    assert measured["bits_per_byte"] == pytest.approx(measured["value"] / math.log(2)), "a token of these is a byte"
    assert set(measured) == {"value", "low", "high", "n", "bits_per_byte", "windows"}


def test_windows_do_not_see_each_other(model: ChatModel) -> None:
    """What stands in one changes no other."""
    first, second = "a" * WINDOW, "b" * WINDOW
    together = text_loss(model, first + second)["windows"]
    assert together == pytest.approx([*text_loss(model, first)["windows"], *text_loss(model, second)["windows"]])


def test_the_text_that_comes_with_the_package() -> None:
    text = read_text(True)
    assert 20_000 < len(text.encode("utf-8")) < 40_000
    assert text.isascii()
    paragraphs = text.strip().split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs) > 50
    assert read_text(False) == ""


def test_a_text_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("eins\r\nzwei \u00e4".encode())
    assert read_text(path) == "eins\r\nzwei \u00e4"


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot read"), (b"\xff\xfe\x00", "is not UTF-8 text"), (b" \n", "is empty")]
)
def test_a_text_that_is_none(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"^evaluate\.text: .*{message}"):
        read_text(path)


def test_nothing_to_predict(model: ChatModel) -> None:
    with pytest.raises(DataError, match="less than two tokens"):
        text_loss(model, "a")


def result(*windows: float) -> dict[str, Any]:
    return {**bootstrap(windows, 0).to_json(), "bits_per_byte": 1.0, "windows": list(windows)}


def test_the_change_is_told_window_by_window() -> None:
    """Texts differ far more than training changes them: both intervals overlap, that of the change is clear."""
    before, after = result(1.0, 3.0, 5.0, 7.0), result(1.1, 3.12, 5.09, 7.11)
    change = text_change(before, after)
    assert change["value"] == pytest.approx(0.105)
    assert before["high"] > after["low"]
    assert 0.08 < change["low"] < change["high"] < 0.13
    with pytest.raises(DataError, match="not the one that was measured before"):
        text_change(before, result(1.0, 2.0))


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ((1.1, 3.12, 5.09, 7.11), "rose by 0.105 nats a token"),
        ((0.9, 2.9, 4.9, 6.8), "the language did not suffer"),
        ((1.1, 2.9, 5.1, 6.9), "no clear change"),
    ],
)
def test_the_report_says_what_it_means(after: tuple[float, ...], said: str) -> None:
    before, later = result(1.0, 3.0, 5.0, 7.0), result(*after)
    shown = language({"before": before, "after": later, "change": text_change(before, later)})
    assert said in shown.replace("\u00a0", " ")
    assert "After training" in shown
    assert "paid for with its language" in shown


def test_without_it_there_is_no_section() -> None:
    report = Report("run", {}, [], [], {}, [], "", {}, {}, {})
    assert 'id="language"' not in render(report)
    assert 'id="language"' in render(dataclasses.replace(report, text={"before": result(1.0)}))
    assert language(None) == language({}) == ""

"""The benchmark of the data path: both sides do the same work. Its speeds are no test's business."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import data_path as benchmark
import numpy as np
import pytest

from vitrail.data.config import PackConfig
from vitrail.recipe.read import read_recipe

# transformers warns of its own ways.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

TINY = [
    "model.weights={}",
    "model.encoder={width: 32, depth: 1, heads: 2, mlp_width: 32}",
    "model.backbone={tokenizer: small, lora: {rank: 16, alpha: 32}, config: {model_type: llama, hidden_size: 32, "
    "intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, "
    "rms_norm_eps: 1.0e-5, tie_word_embeddings: true}}",
]
SAMPLES = 16


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> benchmark.Work:
    folder = tmp_path_factory.mktemp("work")
    return benchmark.prepare(read_recipe(str(benchmark.RECIPE), [*benchmark.SETTINGS, *TINY]).value, SAMPLES, folder)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "WINDOW", 8)


def test_both_sides_have_the_same_ids_sizes_and_pixels(work: benchmark.Work, tmp_path: Path) -> None:
    assert benchmark.pixel_difference(work, tmp_path) < 1e-6


def test_other_pixels_are_seen(work: benchmark.Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    normalised = benchmark.normalised
    monkeypatch.setattr(benchmark, "normalised", lambda *given: normalised(*given) + np.float32(0.5))
    assert benchmark.pixel_difference(work, tmp_path) == pytest.approx(0.5, abs=1e-5)


def test_a_pass_takes_every_sample_once_after_the_first_window(
    work: benchmark.Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for make in (lambda: benchmark.ours(work, 0), lambda: benchmark.theirs(work, tmp_path, 0)):
        once = make()
        for _ in range(2):
            # A clock that is read twice, a second apart: samples a second are samples.
            ticks = iter((1.0, 2.0))
            monkeypatch.setattr(benchmark, "time", SimpleNamespace(perf_counter=lambda ticks=ticks: next(ticks)))
            assert once() == SAMPLES
            assert next(ticks, None) is None


def test_rows_have_pictures_as_often_as_asked(tmp_path: Path) -> None:
    path = benchmark.write_rows(tmp_path / "rows.jsonl", 25, ["a.jpg", "b.jpg"], every=10)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {row["id"]: row["images"] for row in rows if row["images"]} == {
        "0": ["a.jpg"],
        "10": ["b.jpg"],
        "20": ["a.jpg"],
    }
    assert all(row["messages"][0]["content"].startswith("<image>") == bool(row["images"]) for row in rows)
    assert len({len(row["messages"][0]["content"].split()) for row in rows}) > 10


def test_the_mix_has_every_kind_and_fits(work: benchmark.Work) -> None:
    config, chance = PackConfig(), np.random.default_rng(0)
    samples = [benchmark.measures(work, chance, config) for _ in range(200)]
    assert {len(sample.slots) for sample in samples} >= {0, 1, 2, 3}
    assert all(len(sample) <= config.length and sample.patches <= config.patches for sample in samples)
    assert max(map(len, samples)) > 10 * min(map(len, samples))
    found = benchmark.packing(work, windows=2)
    assert 0.97 <= found["packing"] <= 1


def test_memory_and_the_middle_are_measured(work: benchmark.Work) -> None:
    pack = work.recipe.data.pack
    assert benchmark.after_middle(work.rows, work.encode, pack) > 0
    if Path("/proc/self/status").exists():
        assert benchmark.anonymous(work.rows, work.encode, work.recipe, SAMPLES) > 1


def test_a_process_of_its_own_gives_one_number(work: benchmark.Work) -> None:
    assert benchmark.seek(work.rows, [f"--recipe={benchmark.RECIPE}", *TINY])["seek_seconds"] > 0


def test_growth_is_against_the_small_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "child", lambda what, path, *_: {"small": 200.0, "large": 210.0}[path.stem])
    found = benchmark.memory(Path("small"), Path("large"), 5, [])
    assert found["memory_growth"] in (0.05, None)


def test_training_takes_the_same_tokens_from_memory_and_from_the_stream(
    work: benchmark.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "time", SimpleNamespace(perf_counter=iter(np.arange(1.0, 99.0)).__next__))
    found = benchmark.waiting(work, workers=0, steps=2, rounds=1, device_name="cpu")
    assert found["preloaded_tokens_per_second"] == found["loaded_tokens_per_second"] > 0
    assert found["wait_share"] == 0


def test_what_was_not_asked_for_is_null(work: benchmark.Work, tmp_path: Path) -> None:
    asked = argparse.Namespace(only=["packing"], workers=0, samples=SAMPLES, recipe="", overrides=[])
    found = benchmark.measured(asked, work.recipe, tmp_path)
    assert found["packing"] > 0.9
    assert [name for name in benchmark.NAMES if found[name] is None] == [
        name for name in benchmark.NAMES if name != "packing"
    ]

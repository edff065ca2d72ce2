"""The benchmark against transformers' classes: both do the same work. Its speeds are no test's business."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import systems as benchmark
from vitrail.contracts.samples import IGNORE
from vitrail.media.config import PaddedConfig
from vitrail.training.config import TrainingConfig
from vitrail.training.device import choose

# The libraries warn of themselves to each other.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

SAMPLES = 5
DEVICE = choose(TrainingConfig(device="cpu", threads=1))


@pytest.fixture(scope="module", params=benchmark.SYSTEMS)
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> benchmark.Work:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    device = replace(DEVICE, dtype="float32")
    return benchmark.prepare(request.param, benchmark.TINY, SAMPLES, folder, device)


def test_samples_are_a_picture_and_a_text_of_96_to_512(work: benchmark.Work) -> None:
    picture = work.encode.prompt.picture
    around = bool(picture.start) + bool(picture.end)
    texts = [len(sample) - sum(len(slot.indices) for slot in sample.slots) - around for sample in work.samples]
    assert min(texts) >= 96
    assert max(texts) <= 512
    # A padded square is as many patches for every picture.
    assert (len({sample.patches for sample in work.samples}) > 1) != isinstance(work.config.media, PaddedConfig)
    for sample, text in zip(work.samples, texts, strict=True):
        assert (sample.labels != IGNORE).sum() == text // 6
        assert sample.labels[-2] == sample.ids[-1]


def test_both_do_the_same_work(work: benchmark.Work) -> None:
    ours, theirs = benchmark.compare(work)
    assert ours == pytest.approx(theirs, abs=1e-5)


@torch.no_grad()
def test_other_work_is_refused(work: benchmark.Work, monkeypatch: pytest.MonkeyPatch) -> None:
    right = benchmark.Work.their_model(work)
    right.get_input_embeddings().weight *= 3
    monkeypatch.setattr(benchmark.Work, "their_model", lambda _: right)
    with pytest.raises(AssertionError, match="our loss is"):
        benchmark.compare(work)
    for name, part in right.named_parameters():
        if "visual" in name or "vision_tower" in name or "vision_model" in name or "aligner" in name:
            part *= 3
    with pytest.raises(AssertionError, match="tokens lie"):
        benchmark.compare(work)


@pytest.mark.parametrize("what", benchmark.CONTESTS)
def test_a_pass_takes_everything_once(what: str, work: benchmark.Work) -> None:
    expected = SAMPLES if what == "encode" else sum(map(len, work.samples))
    for name, make in benchmark.CONTESTS[what].items():
        assert make(work, False)(False).tokens == expected, name


def test_full_size_is_about_100_million_parameters() -> None:
    from vitrail import build

    for name, system in benchmark.SYSTEMS.items():
        config = system.model(benchmark.FULL)
        tokenizer = build.build_tokenizer(config.backbone, benchmark.prompt_of(name))
        with torch.device("meta"):
            model = build.build_model(config, tokenizer.vocabulary, seed=0)
        assert 90e6 < sum(part.numel() for part in model.parameters()) < 115e6, name


def test_ratios_are_of_medians_and_of_each_sides_fastest() -> None:
    speeds = {
        "encode": {"ours": [9.0, 10.0, 30.0], "theirs": [5.0]},
        "train": {"ours": [10.0], "ours_compiled": [20.0], "theirs": [8.0], "theirs_compiled": [4.0]},
    }
    found = benchmark.summary(speeds)
    assert (found["ratio_encode"], found["ratio_train"]) == (2.0, 2.5)
    assert found["encode_ours_images_per_second"] == 10.0


def test_a_profile_names_operations(work: benchmark.Work) -> None:
    passed, table = benchmark.profiled(benchmark.our_encoding(work, False), work.device)
    assert passed.tokens == SAMPLES
    assert "aten::" in table

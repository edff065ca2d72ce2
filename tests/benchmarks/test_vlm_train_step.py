"""The benchmark against TRL and transformers: everyone does the same work. Its speeds are no test's business."""

from __future__ import annotations

from typing import Any

import numpy as np
import peers
import pytest
import torch
import vlm_train_step as benchmark
from PIL import Image
from rounds import Pass, measure

from vitrail.contracts.samples import IGNORE
from vitrail.data.collate import decode
from vitrail.media.rule import normalised, picture_rule
from vitrail.recipe.read import read_recipe
from vitrail.training.config import TrainingConfig
from vitrail.training.device import choose
from vitrail.training.optimizer import freeze_all_but

# The libraries warn of themselves to each other.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

TINY = [
    "model.weights={}",
    "model.encoder={width: 32, depth: 1, heads: 2, mlp_width: 32}",
    "model.backbone={tokenizer: small, lora: {rank: 16, alpha: 32}, config: {model_type: llama, hidden_size: 32, "
    "intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, "
    "rms_norm_eps: 1.0e-5, tie_word_embeddings: true}}",
    # The small tokenizer needs more tokens for the same text.
    "data.pack={length: 1024, patches: 4096, window: 256}",
]
SAMPLES = 8
INSTALLED = [peer for peer in peers.PEERS if not peers.missing(peer)]
DEVICE = choose(TrainingConfig(device="cpu", threads=1))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> benchmark.Work:
    folder = tmp_path_factory.mktemp("work")
    return benchmark.prepare(read_recipe(str(benchmark.RECIPE), TINY).value, SAMPLES, folder, "cpu")


@pytest.fixture(scope="module")
def theirs(work: benchmark.Work, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return benchmark.trainers(work, tmp_path_factory.mktemp("theirs"), compiled=False)


def each_peer(names: list[str]) -> Any:
    """One case a peer; those that are not installed are skipped by name."""
    install = "pip install 'vitrail[bench]'"
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=pytest.mark.skipif(name.split("_")[0] not in INSTALLED, reason=install))
            for name in names
        ],
    )


every_trainer = each_peer([f"{peer}_{setting}" for peer in peers.PEERS for setting in ("default", "best")])


def opened(work: benchmark.Work) -> list[dict[str, Any]]:
    return [{**row, "images": [Image.open(path) for path in row["images"]]} for row in work.exported.rows]


def check(batch: Any, work: benchmark.Work) -> None:
    """That a batch of all rows has our ids, our labels and our number of tokens."""
    assert batch["attention_mask"].sum(1).tolist() == work.exported.lengths == list(map(len, work.samples))
    for ids, labels, sample in zip(batch["input_ids"], batch["labels"], work.samples, strict=True):
        assert ids[: len(sample)].tolist() == sample.ids.tolist()
        # Ours is what to predict at a position, theirs what stands there.
        assert labels[1 : len(sample)].tolist() == sample.labels[:-1].tolist()
        assert labels[0] == IGNORE
        assert (labels[len(sample) :] == IGNORE).all()


def test_samples_differ_in_length_and_have_one_to_four_questions(work: benchmark.Work) -> None:
    answers = [len(row["messages"]) // 2 for row in work.exported.rows]
    assert min(answers) >= 1
    assert len(set(answers)) > 2
    assert len(set(map(len, work.samples))) > SAMPLES // 2
    assert all(len(sample.slots) == 1 for sample in work.samples)


def test_the_plain_collator_makes_our_ids_labels_and_pixels(work: benchmark.Work) -> None:
    batch = peers.Collator(peers.processor(work.exported))(opened(work))
    check(batch, work)
    for pixels, size, sample in zip(batch["pixel_values"], batch["image_sizes"].tolist(), work.samples, strict=True):
        (view,) = decode(sample, work.encode.media)
        mine = normalised(picture_rule(work.recipe.model.media), view)
        assert mine.shape[:2] == tuple(size)
        seen = pixels[:, : size[0], : size[1]].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(seen, mine, atol=1e-5)


def test_the_template_writes_what_the_exported_one_does(work: benchmark.Work) -> None:
    processor = peers.processor(work.exported)
    exported = (work.exported.model / "chat_template.jinja").read_text(encoding="utf-8")
    for row in work.exported.rows:
        messages = row["messages"]
        assert processor.apply_chat_template(messages) == processor.apply_chat_template(
            messages, chat_template=exported
        )


@each_peer(["trl"])
def test_trls_collator_makes_our_ids_and_labels(name: str, work: benchmark.Work, theirs: dict[str, Any]) -> None:
    check(theirs[f"{name}_default"].data_collator(opened(work)), work)


@every_trainer
def test_losses_begin_equal(name: str, work: benchmark.Work, theirs: dict[str, Any]) -> None:
    mine = benchmark.our_loss(work, DEVICE, work.samples)
    assert peers.loss_of(theirs[name], opened(work)) == pytest.approx(mine, abs=1e-4)


@pytest.mark.skipif(not INSTALLED, reason="pip install 'vitrail[bench]'")
def test_other_work_is_refused(work: benchmark.Work, theirs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    losses = benchmark.compare_losses(work, DEVICE, theirs)
    assert list(losses) == ["ours", *theirs]
    monkeypatch.setattr(benchmark, "our_loss", lambda *_: losses["ours"] + 0.01)
    with pytest.raises(AssertionError, match=r"begins with a loss of"):
        benchmark.compare_losses(work, DEVICE, theirs)


@every_trainer
def test_the_same_is_trained_and_all_of_it_moves(name: str, work: benchmark.Work, theirs: dict[str, Any]) -> None:
    mine = benchmark.our_model(work, DEVICE)
    stage = work.recipe.stages[-1]
    freeze_all_but(mine, stage.train, stage.name)
    trained = {key: part for key, part in theirs[name].model.named_parameters() if part.requires_grad}
    assert size(trained.values()) == size(part for part in mine.parameters() if part.requires_grad)
    before = {key: part.detach().clone() for key, part in trained.items()}
    once = peers.contestant(theirs[name], sum(work.exported.lengths))
    once(True)
    for _ in range(2):  # adapters begin at zero: of a pair the first moves from the second step on
        assert once(False).tokens == sum(map(len, work.samples))
    assert not [key for key, part in trained.items() if torch.equal(part, before[key])]


def size(parameters: Any) -> int:
    return sum(part.numel() for part in parameters)


def test_our_pass_takes_every_token_once(work: benchmark.Work) -> None:
    once = benchmark.ours(work, DEVICE, compiled=False)
    assert once(True).tokens <= work.recipe.data.pack.length
    assert [once(False).tokens for _ in range(2)] == [sum(map(len, work.samples))] * 2


def test_ratios_are_to_the_fastest_peer() -> None:
    speeds = {
        "ours_eager": [9.0, 10.0, 30.0],
        "ours_compiled": [20.0],
        "trl_default": [4.0],
        "trainer_default": [5.0],
        "trl_best": [8.0],
        "trainer_best_compiled": [7.0],
    }
    found = benchmark.summary(speeds, everyone=True)
    assert (found["ratio_default"], found["ratio_best"]) == (4.0, 2.5)
    assert found["ours_eager_tokens_per_second"] == 10.0
    # A ratio to some of them would flatter.
    del speeds["trl_default"], speeds["trl_best"]
    found = benchmark.summary(speeds, everyone=False)
    assert found["ratio_default"] is found["ratio_best"] is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "trl" else object())
    assert peers.missing("trl") == "trl"
    assert peers.missing("trainer") == ""


def test_only_who_may_fail_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(warming: bool) -> Pass:
        raise RuntimeError("no such kernel\nand much more")

    speeds = measure({"good": lambda warming: Pass(60 if warming else 6, 2.0), "bad": fails}, 2, may_fail=["bad"])
    assert speeds == {"good": [3.0, 3.0]}
    assert capsys.readouterr().out == "bad does not work here: no such kernel\n"
    with pytest.raises(RuntimeError, match="no such kernel"):
        measure({"bad": fails}, 2)

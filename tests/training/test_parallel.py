"""Two processes train as one does: the same losses, weights, ledger and checkpoints, whoever began and whoever ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from parallel_ranks import TESTS, Job, run, together
from PIL import Image
from safetensors.torch import load_file

from vitrail import build
from vitrail.contracts.samples import VISION, Batch
from vitrail.data.ledger import Ledger
from vitrail.data.loader import Cursor, End
from vitrail.models.weights import unshared
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.training import checkpoint, runlog
from vitrail.training.device import Device
from vitrail.training.parallel.blank import with_blanks
from vitrail.training.parallel.single import Parallel
from vitrail.training.stopping import stop_request

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo, signals")

STAGES = """
stages:
  - {name: align, train: {projector: 1.0e-2}, steps: 3, accumulate: 2}
  - {name: instruct, train: {encoder: 1.0e-3, projector: 1.0e-3, backbone: 1.0e-3}, steps: 5, accumulate: 4}
"""
GATED = ("model.fusion={kind: 'gated_fusion:Gated', spliced: false}",)
ALIGNED = (
    "data.train={kind: lines, rows: 16}",
    "stages=[{name: align, train: {encoder: 1.0e-3, projector: 1.0e-3}, steps: 3, accumulate: 2,"
    " objective: {kind: embedding_alignment}},"
    " {name: listen, train: {backbone: 1.0e-3}, steps: 2, accumulate: 2, objective: {kind: ideal_features}}]",
)
CASES: dict[str, tuple[str, ...]] = {
    "mixed": (),
    "untied": ("model.backbone.config.tie_word_embeddings=false", "model.backbone.recompute=true"),
    "lora": ("model.backbone.lora={rank: 4, alpha: 8, targets: [q_proj, v_proj]}",),
    "gated": (*GATED, "stages.1.train.fusion=1.0e-3"),
    "crossing": (
        "model.fusion={kind: gated_cross_attention, every: 1}",
        *(f"stages.{n}.train.fusion=1.0e-2" for n in (0, 1)),
    ),
    "bfloat16": ("training.dtype=bfloat16",),
    "epochs": ("stages.1.steps=null", "stages.1.epochs=2"),
    "aligned": ALIGNED,
}
CLOSE = 1e-5
ROUNDED = {"bfloat16": 2e-2}
"""Weights of 8 bits, where the order of a sum shows."""


@pytest.fixture(scope="module")
def recipe_file(tiny_recipe_text: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows of which half have no picture and one is broken, a few to a pack."""
    folder = tmp_path_factory.mktemp("recipes")
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    rows: list[dict[str, Any]] = []
    for number in range(1, 24):
        said = "Red. " * (number % 3 + 1) * (1 if number % 4 > 1 else 4)
        turns = [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": said}]
        rows.append({"messages": turns, **({"images": ["red.png"]} if number % 4 > 1 else {})})
    rows[7] = {"messages": []}
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    head = tiny_recipe_text.partition("data:")[0]
    data = f"data:\n  train: {{kind: jsonl, path: {folder / 'rows.jsonl'}}}\n"
    data += "  pack: {length: 70, patches: 256, window: 5}\n  max_lost: 1.0\n"
    tail = "training: {device: cpu, dtype: float32, compile: 'off', threads: 1, checkpoint_every: 3}\n"
    file = folder / "mixed.yaml"
    file.write_text(head + data + STAGES + tail, encoding="utf-8")
    return str(file)


@dataclass(frozen=True)
class Trained:
    """What one process and two have left, and what they said of each job."""

    root: Path
    said: dict[str, list[dict[str, Any]]]

    def folder(self, case: str, ranks: str) -> Path:
        return self.root / case / ranks


@pytest.fixture(scope="module")
def trained(recipe_file: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Everything that needs two processes, in one pair of them: to start is most of what they cost."""
    sys.path.append(str(TESTS))
    root = tmp_path_factory.mktemp("trained")

    def job(name: str, ranks: str, *overrides: str, stop_at: int = 0, stop_rank: int = 0) -> Job:
        return Job(recipe_file, str(root / name / ranks), overrides, stop_at, stop_rank)

    with_room = job("full", "two")
    Path(with_room.folder).mkdir(parents=True)
    (Path(with_room.folder) / "checkpoints").touch()
    assert run(job("one, then two", "both", stop_at=5), Parallel())["ended"] == "Stopped"
    contrastive = "stages=[{name: c, train: {encoder: 1.0}, steps: 1, objective: {kind: contrastive_caption}}]"
    jobs = {
        **{case: job(case, "two", *overrides) for case, overrides in CASES.items()},
        "stopped": job("two, then one", "both", stop_at=4, stop_rank=1),
        "stopped too": job("two, then two", "both", stop_at=5, stop_rank=0),
        "two again": job("two, then two", "both"),
        "two after one": job("one, then two", "both"),
        "uneven": job("uneven", "two", "stages.1.accumulate=3"),
        "contrastive": job("contrastive", "two", contrastive),
        "unknown": job(
            "unknown",
            "two",
            "stages=[{name: a, train: {encoder: 1.0}, steps: 1, accumulate: 2,"
            " objective: {kind: embedding_alignment}}]",
        ),
        "full": with_room,
    }
    said = dict(zip(jobs, together(root, list(jobs.values())), strict=True))
    for case, overrides in CASES.items():
        assert "state" in run(job(case, "one", *overrides), Parallel()), case
    assert "state" in run(job("two, then one", "both"), Parallel())
    return Trained(root, said)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case: str, trained: Trained) -> None:
    assert ["state" in said for said in trained.said[case]] == [True, True], trained.said[case]
    same(trained.folder(case, "one"), trained.folder(case, "two"), ROUNDED.get(case, CLOSE))


@pytest.mark.parametrize("name", ["two, then two", "two, then one", "one, then two"])
def test_a_run_goes_on_with_another_number_of_processes(name: str, trained: Trained) -> None:
    same(trained.folder("mixed", "one"), trained.folder(name, "both"), CLOSE)


def test_a_signal_at_any_rank_ends_all_with_one_checkpoint(trained: Trained) -> None:
    for name, step in (("stopped", 1), ("stopped too", 2)):
        first, second = trained.said[name]
        assert first == second
        assert first["ended"] == "Stopped"
        assert f"stage instruct, step {step}; checkpoint" in first["message"]


def test_what_cannot_be_dealt_is_one_line_of_one_rank(trained: Trained) -> None:
    expected = {
        "uneven": ("RecipeError", "stages.instruct.accumulate is 3; it is the packs of a step over all 2 processes"),
        "contrastive": ("RecipeError", "stages.c.objective compares the samples of one pack: train it in one process"),
        "unknown": ("RecipeError", "needs pictures whose characters are known"),
        "full": ("WeightsError", "cannot write the checkpoint"),
    }
    for name, (error, message) in expected.items():
        first, second = trained.said[name]
        assert (first["ended"], second["ended"]) == (error, "ElsewhereError"), name
        assert message in first["message"] == second["message"], name
        assert "\n" not in first["message"]


def same(one: Path, other: Path, close: float) -> None:
    """The same log, ledger, counters, cursor, weights and moments, step by step and stage by stage."""
    logs = [runlog.read(folder / "log.jsonl") for folder in (one, other)]
    assert [record["total_steps"] for record in logs[1]] == list(range(1, len(logs[0]) + 1))
    for ours, theirs in zip(*logs, strict=True):
        for name in ("loss", "gradient_norm"):
            assert theirs[name] == pytest.approx(ours[name], rel=close, abs=close), (ours["total_steps"], name)
        for name in ("step", "lr", "tokens", "rows", "progress"):
            assert theirs[name] == ours[name], (ours["total_steps"], name)
    ends = [checkpoint.by_age(folder / "checkpoints") for folder in (one, other)]
    assert [path.name for path in ends[0]] == [path.name for path in ends[1]]
    for ours, theirs in zip(*ends, strict=True):
        states = [facts(checkpoint.load_state(path)) for path in (ours, theirs)]
        assert states[0] == states[1]
        left, right = load_file(ours / checkpoint.MODEL), load_file(theirs / checkpoint.MODEL)
        assert left.keys() == right.keys()
        for name, tensor in left.items():
            torch.testing.assert_close(right[name], tensor, rtol=0, atol=10 * close, msg=lambda m, n=name: f"{n}: {m}")


def facts(state: checkpoint.State) -> dict[str, Any]:
    """A state without its seconds."""
    counters = {name: value for name, value in state.counters.items() if not name.startswith("seconds")}
    return {**vars(state), "counters": counters}


def batches(recipe: Recipe, stage: int, count: int) -> list[Batch]:
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    stream = build.build_stages(recipe, encode, Device("cpu", "float32", 1, compiled=False))[stage].stream
    items = stream.items(Cursor(), Ledger())
    found = [next(items) for _ in range(count)]
    items.close()
    return [item.batch for item in found]


def test_the_cases_have_every_kind_of_pass(recipe_file: str, trained: Trained) -> None:
    """Pictures on one rank alone, on either, on both and on none; and rows that are lost."""
    recipe = read_recipe(recipe_file).value
    pictured = [bool(batch.media) for stage, count in ((0, 6), (1, 20)) for batch in batches(recipe, stage, count)]
    assert set(zip(pictured[::2], pictured[1::2], strict=True)) == {
        (a, b) for a in (True, False) for b in (True, False)
    }
    # Where an epoch ends, one rank has a pack more than the other, in one epoch at least.
    recipe = read_recipe(recipe_file, CASES["epochs"]).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    stream = build.build_stages(recipe, encode, Device("cpu", "float32", 1, compiled=False))[1].stream
    ends, packs = [], 0
    with closing(stream.marked(Cursor(), Ledger())) as marked:
        while len(ends) < 2:
            ended = isinstance(next(marked), End)
            ends, packs = ([*ends, packs], 0) if ended else (ends, packs + 1)
    assert any(count % 4 % 2 for count in ends), ends
    end = checkpoint.latest(trained.folder("mixed", "two") / "checkpoints")
    assert end is not None
    assert checkpoint.load_state(end).ledger["bytes"]


PLAIN = "model.fusion={kind: splice}"


@pytest.mark.parametrize(
    "overrides",
    [
        (PLAIN,),
        GATED,
        ("model.positions={kind: mrope, sections: [1, 1, 2]}",),
        ("model.media={kind: tiles, patch: 8, merge: 2, tile: 32, max_tiles: 4}",),
    ],
)
def test_a_blank_adds_exactly_nothing(overrides: Sequence[str], recipe_file: str) -> None:
    """The loss of a pack without pictures and the gradients of the language model stay; the encoder's are zeros."""
    sys.path.append(str(TESTS))
    alone = "data.pack={length: 200, patches: 1024, window: 1}"
    recipe = read_recipe(recipe_file, [alone, *overrides]).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    model = build.build_model(recipe.model, tokenizer.vocabulary, seed=0)
    batch = next(batch for batch in batches(recipe, 1, 10) if not batch.media)
    assert with_blanks(batch, (), encode) is batch
    filled = with_blanks(batch, {VISION}, encode)
    assert with_blanks(filled, {VISION}, encode) is filled
    assert (filled.tokens, filled.label_weight, filled.sample_ids) == (
        batch.tokens,
        batch.label_weight,
        batch.sample_ids,
    )
    gradients = []
    for one in (batch, filled):
        model.zero_grad()
        loss = model.loss_sum(one)
        loss.backward()
        gradients.append(
            (loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        )
    torch.testing.assert_close(gradients[1][0], gradients[0][0], rtol=1e-6, atol=0)
    assert set(gradients[1][1]) > set(gradients[0][1])
    for name, gradient in gradients[1][1].items():
        if name in gradients[0][1]:
            torch.testing.assert_close(gradient, gradients[0][1][name], rtol=1e-4, atol=1e-5)
        else:
            assert not gradient.any(), name
    # Whatever a picture moves, a blank runs through.
    pictured = next(batch for batch in batches(recipe, 1, 10) if batch.media)
    model.zero_grad()
    model.loss_sum(pictured).backward()
    assert set(gradients[1][1]) == {name for name, one in model.named_parameters() if one.grad is not None}


def test_tied_tensors_are_told_without_their_storage(tiny_model: Callable[..., Any]) -> None:
    with torch.device("meta"):
        empty = tiny_model()
    assert unshared(empty).keys() == unshared(tiny_model()).keys()
    assert "backbone.lm.lm_head.weight" not in unshared(empty)


@pytest.mark.parametrize("repeated", [True, False])
def test_one_request_may_arrive_twice(repeated: bool) -> None:
    """From the terminal and from torchrun; one process alone ends at the second."""
    with stop_request(repeated=repeated) as request:
        signal.raise_signal(signal.SIGINT)
        if repeated:
            signal.raise_signal(signal.SIGINT)
        else:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    assert request.number == signal.SIGINT


@pytest.mark.long
def test_a_whole_run_by_torchrun(tiny_recipe_text: str, tmp_path: Path) -> None:
    """Rank 0 measures, reports and holds the folder; the results are those of one process."""
    file = tmp_path / "run.yaml"
    text = tiny_recipe_text.replace("accumulate: 2", "accumulate: 4").replace("steps: 5", "steps: 5\n    accumulate: 2")
    text = text.replace("  pack:", "  held_out: {kind: drawn, split: test, rows: 4, size: [64, 128]}\n  pack:")
    file.write_text(text.partition("evaluate:")[0] + "evaluate: {max_tokens: 4, losses: true}\n", encoding="utf-8")
    plain = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    plain |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    folders = {"one": tmp_path / "one", "two": tmp_path / "two"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in {"one": [], "two": torchrun}.items():
        command = [sys.executable, *launcher, "-m", "vitrail", "train", str(file), f"run={folders[name]}"]
        done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("report:") == 1
    same(folders["one"], folders["two"], CLOSE)
    same(folders["one"] / "blind", folders["two"] / "blind", CLOSE)
    results = [json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in folders.values()]
    assert results[0].keys() == results[1].keys() >= {"before", "after", "blind", "losses"}
    for name, found in results[0]["losses"].items():
        assert results[1]["losses"][name]["value"] == pytest.approx(found["value"], abs=1e-4)
    weights = [load_file(folder / "weights" / "model.safetensors") for folder in folders.values()]
    for key, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][key], tensor, rtol=0, atol=1e-4)
    left = [{path.name for path in folder.iterdir()} for folder in folders.values()]
    assert left[0] == left[1]

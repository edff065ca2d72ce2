"""Gated cross-attention on the whole road: plan, show, verify, a run and its measures, weights that begin another."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from vitrail import build
from vitrail.cli.main import app
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import Message, TextPart
from vitrail.contracts.samples import Batch, Pack, Segments
from vitrail.data.collate import collate
from vitrail.data.dialects import to_conversation
from vitrail.inference.chat_model import ChatModel
from vitrail.inference.config import GenerationConfig
from vitrail.models.fusion import gated_cross_attention
from vitrail.models.fusion.sight import Sight, sight
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.run import plan, plan_cost, verify
from vitrail.run.train import train
from vitrail.training.device import Device
from vitrail.training.loop import Trainer

CPU = Device("cpu", "float32", 1, compiled=False)
CROSSING = (
    "model.fusion={kind: gated_cross_attention, every: 2, sees: tag}",
    "model.media={kind: tiles, patch: 8, merge: 2, tile: 32, max_tiles: 4, tags: number}",
    "stages.align.train={projector: 1e-2, fusion: 1e-2}",
    "stages.instruct.train.fusion=1e-3",
)
"""Over the tiny recipe."""


def crossing(path: Path, *overrides: str) -> Recipe:
    return read_recipe(str(path), [*CROSSING, *overrides]).value


@pytest.mark.parametrize("change", ["sample", "before", "last", "tag"])
def test_verify_passes(change: str, tiny_recipe_file: Path) -> None:
    found = verify.verify(crossing(tiny_recipe_file, f"model.fusion.sees={change}"))
    assert found.finding == ""
    (pack,) = found.packs
    assert pack.pictured >= 2
    assert list(pack.components) == ["encoder", "projector", "fusion", "backbone"]
    assert all(one.gradient is not None for one in pack.components.values())


def test_a_leak_is_found_and_named(tiny_recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All text of the pack sees all of its media: the fusion is named, not the language model around it."""

    def everywhere(batch: Batch, sees: Any, blind: Any, **rest: Any) -> Sight | None:
        right = sight(batch, sees, blind, **rest)
        if right is None:
            return None
        text = Segments((batch.text.segments.total,))
        media = Segments((sum(view.tokens for stream in batch.media.values() for view in stream.views),))
        return dataclasses.replace(right, rows=None, queries=text, seen=None, keys=media, mlp=None)

    monkeypatch.setattr(gated_cross_attention, "sight", everywhere)
    found = verify.verify(crossing(tiny_recipe_file))
    assert found.finding.startswith("fusion: what it makes of sample drawn-train-")
    assert found.packs[0].components["fusion"].output == 0.0, "it returns the embeddings as they are"


def test_a_leak_in_the_language_model_is_still_its_own(tiny_recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.models.backbones.decoder import Decoder

    right = Decoder.forward

    def whole(self: Decoder, x: torch.Tensor, positions: torch.Tensor, segments: Segments, **rest: Any) -> torch.Tensor:
        return right(self, x, positions, Segments((segments.total,)), **rest)

    monkeypatch.setattr(Decoder, "forward", whole)
    assert verify.verify(crossing(tiny_recipe_file)).finding.startswith("backbone: what it makes of sample")


@pytest.mark.parametrize("placed", ["every: 1", "every: 3, first: 0", "every: 5", "at: [2, 5, 5]"])
def test_plan_counts_layers_and_blocks(placed: str, tiny_recipe_file: Path) -> None:
    """Of five layers and their blocks, extrapolated from two of each: the work and the memory of the whole model."""
    recipe = crossing(
        tiny_recipe_file,
        f"model.fusion={{kind: gated_cross_attention, {placed}}}",
        "model.backbone.config.num_hidden_layers=5",
    )
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer := tokenizer_of(recipe))
    batch = build.build_stages(recipe, encode, CPU)[1].stream.first_window().packs[0]
    made, _ = collate(batch, encode.media)
    assert made is not None
    device = plan_cost.UNTIMED
    cost = plan_cost.cost_of_pack(recipe, recipe.stages[1], tokenizer.vocabulary, made, device)
    with torch.device("meta"):
        model = build.build_model(recipe.model, tokenizer.vocabulary, 0).to(device.torch_dtype)
    whole = plan_cost._counted(model, made.to("meta"))
    assert cost.flop == whole.flop > 0
    assert cost.kept == pytest.approx(whole.kept, rel=0.01)


@pytest.mark.usefixtures("quick_plan")
def test_plan_counts_what_learns(tiny_recipe_file: Path) -> None:
    recipe = crossing(tiny_recipe_file)
    planned = plan.make_plan(recipe, CPU)
    block = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 48 + 2 * 32 + 2
    assert planned.parameters["fusion"] == block, "of two layers one has a block before it"
    assert planned.stages[0].trainable == planned.parameters["projector"] + block
    assert all(stage.seconds is not None for stage in planned.stages)


def tokenizer_of(recipe: Recipe) -> Any:
    return build.build_tokenizer(recipe.model.backbone, recipe.prompt)


def test_show_at_batch(tiny_recipe_file: Path) -> None:
    """No placeholders; each view with the text segment that sees it, and from where."""
    done = CliRunner().invoke(app, ["show", str(tiny_recipe_file), "--at", "batch", *CROSSING])
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "vision.token_index: int64[0]" in text
    assert "view 0 by segment 0 from 0, view 1 by segment 0 from 8, view 2 by segment 0 from 16" in text


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_recipe_text: str) -> Path:
    """A run with everything that can be measured, adapters in the language model, and layers computed again."""
    base = tmp_path_factory.mktemp("crossing")
    (base / "tiny.yaml").write_text(tiny_recipe_text, encoding="utf-8")
    overrides = [
        *CROSSING,
        f"run={base / 'run'}",
        "model.backbone.lora={rank: 2, alpha: 4}",
        "model.backbone.recompute=true",
        "data.held_out={kind: drawn, split: test, rows: 4}",
        "evaluate.max_tokens=3",
        "stages.align.train={fusion: 1e-2}",
        *(f"evaluate.{name}=true" for name in ("answers", "before", "blind", "losses")),
    ]
    train(read_recipe(str(base / "tiny.yaml"), overrides))
    return base / "run"


def test_a_run_goes_its_whole_way(done: Path) -> None:
    results = json.loads((done / "results.json").read_text(encoding="utf-8"))
    assert {"before", "after", "blind", "losses"} <= results.keys()
    assert results["losses"]["right"]["value"] != results["losses"]["withheld"]["value"]
    tensors = load_file(done / "weights" / "model.safetensors")
    names = {name for name in tensors if name.startswith("fusion.")}
    assert "fusion.blocks.0.attention_gate" in names
    assert all(float(tensors[name]) != 0 for name in names if name.endswith("_gate"))


def test_a_stage_of_fusion_moves_nothing_else(done: Path, tiny_recipe_file: Path) -> None:
    """The language model is frozen, and so is all that sees."""
    recipe = crossing(tiny_recipe_file, "stages.align.train={fusion: 1e-2}")
    fresh = build.build_model(recipe.model, tokenizer_of(recipe).vocabulary, recipe.seed).state_dict()
    (first,) = (done / "checkpoints").glob("*-align")
    ended = load_file(first / "model.safetensors")
    same = {name for name, tensor in fresh.items() if name in ended and torch.equal(tensor, ended[name])}
    moved = {name.partition(".")[0] for name in fresh if name in ended and name not in same}
    assert moved == {"fusion"}
    assert {name.partition(".")[0] for name in same} >= {"encoder", "projector", "backbone"}


def test_it_is_opened_and_asked(done: Path) -> None:
    picture = np.full((64, 64, 3), 200, np.uint8)
    chat = build.load(done, "cpu")
    assert type(chat.model.fusion).__name__ == "GatedCrossAttention"
    assert chat.chat(picture, "What?").tokens > 0
    assert chat.chat("And without?").tokens > 0


def test_its_blocks_begin_another(done: Path, tiny_recipe_file: Path) -> None:
    """As a component, and as part of the whole; only where a model without blocks is named there are none to take."""
    weights = load_file(done / "weights" / "model.safetensors")

    def started(*overrides: str) -> dict[str, torch.Tensor]:
        recipe = crossing(tiny_recipe_file, *overrides)
        return build.starting_model(recipe.model, tokenizer_of(recipe).vocabulary, recipe.seed).state_dict()

    taken = started(f"model.weights={{fusion: {done}}}")
    assert all(torch.equal(taken[name], weights[name]) == name.startswith("fusion.") for name in blocks(weights))
    path = tiny_recipe_file.parent / "from.yaml"
    path.write_text(
        f"model: {{from: {done}}}\nrun: {done.parent / 'other'}\ndata: {{train: {{kind: drawn, rows: 8}}}}\n"
        "stages: [{name: on, train: {fusion: 1e-3}, steps: 1}]\n",
        encoding="utf-8",
    )
    recipe = read_recipe(str(path)).value
    assert recipe.model.weights["fusion"] == str(done)
    whole = build.starting_model(recipe.model, tokenizer_of(recipe).vocabulary, 0).state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights.items())


def blocks(tensors: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in tensors if name.startswith(("fusion.blocks", "projector"))]


def test_what_is_behind_closed_gates_learns_nothing(tiny_recipe_file: Path) -> None:
    """A stage that trains the projector, and no stage yet that has opened the gates."""
    with pytest.raises(RecipeError, match=r"^stages.align.train: projector learns nothing .* add fusion") as caught:
        crossing(tiny_recipe_file, "stages.align.train={projector: 1e-2}")
    assert "\n" not in str(caught.value)
    crossing(tiny_recipe_file, "stages.align.train={backbone: 1e-2}")
    crossing(tiny_recipe_file, "stages.align.train={projector: 1e-2}", "model.weights={fusion: somewhere}")


LEARNS = """
run: {base}/run
model:
  media: {{patch: 16, merge: 1, max_tokens: 4}}
  encoder: {{width: 32, depth: 1, heads: 2, mlp_width: 48}}
  fusion: {{kind: gated_cross_attention, every: 2}}
  backbone:
    tokenizer: small
    config:
      model_type: llama
      hidden_size: 32
      intermediate_size: 48
      num_hidden_layers: 2
      num_attention_heads: 4
      num_key_value_heads: 2
      initializer_range: 0.15
      tie_word_embeddings: true
prompt: {{template: terse}}
data:
  train: {base}/train.jsonl
  held_out: {base}/held_out.jsonl
  pack: {{length: 256, patches: 256, window: 64}}
stages:
  - {{name: learn, train: {{encoder: 1e-2, projector: 1e-2, fusion: 2e-2, backbone: 4e-3}}, steps: 50}}
training: {{dtype: float32, device: cpu, threads: 1, compile: 'off'}}
"""
COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220), "yellow": (230, 210, 50)}


def coloured(folder: Path) -> None:
    """Grainy pictures of one colour each, and the question which."""
    chance = np.random.default_rng(0)
    for split, count in (("train", 160), ("held_out", 40)):
        rows = []
        for number in range(count):
            name = list(COLOURS)[int(chance.integers(len(COLOURS)))]
            grain = chance.integers(-30, 31, (32, 32, 3))
            picture = np.clip(np.array(COLOURS[name]) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{split}-{number}.png")
            said = [{"role": "user", "content": "<image>Colour?"}, {"role": "assistant", "content": name}]
            rows.append({"id": f"{split} {number}", "images": [f"{split}-{number}.png"], "messages": said})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_it_learns_to_look(tmp_path: Path) -> None:
    """Of four colours in unseen pictures: with pictures the loss falls below half of what words alone come to."""
    coloured(tmp_path)
    path = tmp_path / "learns.yaml"
    path.write_text(LEARNS.format(base=tmp_path), encoding="utf-8")
    recipe = read_recipe(str(path)).value
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer := tokenizer_of(recipe))
    assert recipe.data.held_out is not None
    source, dialect = build.build_source(recipe.data.held_out)
    rows = [to_conversation(source.row(index), dialect) for index in range(len(source))]
    losses = {}
    for sees in (True, False):
        asking = dataclasses.replace(encode, shown="media" if sees else "nothing")
        model = build.build_model(recipe.model, tokenizer.vocabulary, recipe.seed)
        stages = build.build_stages(recipe, asking, CPU)
        if not sees:
            only = dataclasses.replace(stages[0].config, train={"backbone": 4e-3})
            stages = [dataclasses.replace(stages[0], config=only)]
        Trainer(model.train(), stages, tmp_path / f"run-{sees}", CPU, checkpoint_every=1000).run()
        batch, _ = collate(Pack(tuple(asking(row) for row in rows)), asking.media)
        assert batch is not None
        with torch.no_grad():
            losses[sees] = float(model.loss_sum(batch)) / batch.label_weight
    assert losses[True] < losses[False] / 2, losses


def test_the_fusion_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/fusion.md's own fusion: it leaks nothing, and answers many at once as one by one."""
    text = (Path(__file__).parents[2] / "docs" / "fusion.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    written = [
        block for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if "mine:" in block
    ]
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    (tmp_path / "hint.yaml").write_text(written[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    small = [
        "data.train.rows=24",
        "data.pack.length=256",
        "model.encoder.depth=1",
        "training={device: cpu, threads: 1}",
    ]
    recipe = read_recipe("hint.yaml", small).value
    found = verify.verify(recipe, stage=1)
    assert found.finding == ""
    assert found.packs[0].components["fusion"].gradient is not None
    tokenizer = tokenizer_of(recipe)
    model = build.build_model(recipe.model, tokenizer.vocabulary, 0).eval()
    torch.nn.init.normal_(model.get_submodule("fusion.linear").weight)
    chat = ChatModel(model, build.build_encode(recipe.model, recipe.prompt, tokenizer))
    source, dialect = build.build_source(recipe.data.train)
    rows = [to_conversation(source.row(index), dialect) for index in range(3)]
    asked = [dataclasses.replace(row, messages=row.messages[:1]) for row in rows]
    asked.append(dataclasses.replace(asked[0], messages=(Message("user", (TextPart("Nothing?"),)),)))
    generation = GenerationConfig(max_tokens=5)
    together = [str(reply) for reply in chat.replies(asked, generation)]
    assert together == [str(chat.reply(one, generation)) for one in asked]
    assert together[0] != str(chat.without_media().reply(asked[0], generation))
    sys.modules.pop("mine", None)

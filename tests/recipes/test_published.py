"""Published systems: the laptop's recipe has the stages, freezing and objectives of the paper's; only sizes differ."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from vitrail import build
from vitrail.cli.main import app
from vitrail.media.config import NativeResolutionConfig
from vitrail.models.config import CrossAttentionConfig
from vitrail.models.weights import unshared
from vitrail.recipe import bundled
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.training.device import Device

SYSTEMS = sorted(name.removesuffix("/paper") for name in bundled.names() if name.endswith("/paper"))
SIZES = {
    "encoder": (
        "width",
        "depth",
        "heads",
        "mlp_width",
        "position_table",
        "window",
        "full_blocks",
        "dummy_heads",
        "pooled_width",
        "neck",
    ),
    "media": ("patch", "tile", "min_tokens", "max_tokens", "max_tiles", "max_side", "side", "larger", "least"),
    "projector": ("hidden", "grid", "channels", "early"),
    "positions": ("sections",),
    "fusion": ("every",),
}
"""What may be smaller on a laptop, component by component."""


def both(system: str) -> tuple[Recipe, Recipe]:
    return read_recipe(f"{system}/paper").value, read_recipe(f"{system}/laptop").value


def without(settings: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in names}


def test_there_are_published_systems() -> None:
    known = {"deepseek_vl", "deepseek_vl_hybrid", "internvl_1_5", "nvlm_d", "nvlm_h", "nvlm_x", "qwen2_vl"}
    assert known <= set(SYSTEMS)
    assert all(f"{system}/laptop" in bundled.names() for system in SYSTEMS)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_laptop_extends_the_paper(system: str) -> None:
    text = bundled.names()[f"{system}/laptop"].read_text(encoding="utf-8")
    assert "extends: paper.yaml" in text.splitlines()


@pytest.mark.parametrize("system", SYSTEMS)
def test_stages_freezing_and_objectives_are_the_same(system: str) -> None:
    paper, laptop = both(system)
    assert [stage.name for stage in paper.stages] == [stage.name for stage in laptop.stages]
    for published, ours in zip(paper.stages, laptop.stages, strict=True):
        assert published.train.keys() == ours.train.keys(), published.name
        assert published.objective == ours.objective, published.name
        assert published.replay.keys() == ours.replay.keys(), published.name


@pytest.mark.parametrize("system", SYSTEMS)
def test_only_sizes_differ(system: str) -> None:
    paper, laptop = both(system)
    for component, names in SIZES.items():
        published, ours = (getattr(recipe.model, component) for recipe in (paper, laptop))
        assert without(published, names) == without(ours, names), component
    assert paper.model.streams.keys() == laptop.model.streams.keys()
    for name, stream in paper.model.streams.items():
        for component in ("encoder", "media", "projector"):
            published, ours = (getattr(one, component) for one in (stream, laptop.model.streams[name]))
            assert without(published, SIZES[component]) == without(ours, SIZES[component]), (name, component)
    # Small pictures have short questions, beside which a system text is long.
    assert dataclasses.replace(paper.prompt, system=laptop.prompt.system) == laptop.prompt
    families = [recipe.model.backbone.config.get("model_type") for recipe in (paper, laptop)]
    assert families[0] == families[1]


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_laptops_model_is_small(system: str) -> None:
    recipe = read_recipe(f"{system}/laptop").value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    with torch.device("meta"):
        model = build.build_model(recipe.model, tokenizer.vocabulary, 0)
    assert sum(parameter.numel() for parameter in model.parameters()) < 10e6


PLANNED: dict[str, tuple[int, dict[str, int]]] = {
    "deepseek_vl": (1_962_640_384, {"448x448": 576, "800x1300": 576}),
    # Both encoders see a picture; it becomes no more tokens by that.
    "deepseek_vl_hybrid": (7_331_390_721, {"448x448": 576, "800x1300": 576}),
    # The encoder of 5,536,496,000, projectors of 116,429,824 and 620,717,056, the language models.
    "internvl_1_5": (25_514_186_112, {"448x448": 256, "800x1300": 1792, "1000x1000": 2560}),
    # As released, the encoder has seven heads of zeros besides.
    "nvlm_d": (78_863_416_704, {"448x448": 256, "634x634": 1280, "640x480": 1792}),
    # With ten blocks of 877,674,498, and a projector of 104,883,200.
    "nvlm_x": (87_124_327_828, {"448x448": 256, "640x480": 1792}),
    "nvlm_h": (87_640_161_684, {"448x448": 256, "640x480": 1792}),
    "qwen2_vl": (8_291_375_616, {"224x224": 64, "448x448": 256}),
}
"""Parameters of the published model, and tokens of pictures."""


@pytest.mark.parametrize("system", PLANNED)
def test_the_papers_recipe_can_be_planned(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its data is not, on a machine that could not hold it: parameters and tokens are counted all the same."""
    path = bundled.names()[f"{system}/paper"].resolve()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitrail.run.plan.LONGEST_CALIBRATION", 0.0)
    # No more pictures than a pack must be able to hold: each of them is resized.
    length = 17_000 if system == "qwen2_vl" else 4096
    pack = [f"data.pack.length={length}", f"data.pack.patches={4 * length + 1000}"]
    parameters, tokens = PLANNED[system]
    sizes = [argument for size in tokens for argument in ("--size", size)]
    done = CliRunner().invoke(app, ["plan", str(path), *pack, "--json", *sizes])
    assert done.exit_code == 0, done.output
    planned = json.loads(done.stdout)
    assert sum(planned["parameters"].values()) == parameters
    assert planned["tokens_of_picture"] == tokens
    assert all(stage["seconds"] is None for stage in planned["stages"])
    assert all("does not exist" in stage["missing"] for stage in planned["stages"])
    for stage, published in zip(planned["stages"], read_recipe(str(path)).value.stages, strict=True):
        # How many steps an epoch has, only the data knows.
        assert (stage["steps"] is None) == (published.epochs is not None)


@pytest.mark.usefixtures("quick_plan")
def test_a_plan_without_data_says_what_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of several tiles, measured on a made-up pack."""
    path = bundled.names()["internvl_1_5/laptop"].resolve()
    monkeypatch.chdir(tmp_path)
    missing = ["data.train={path: gone.jsonl}", "stages.finetune.data=null"]
    done = CliRunner().invoke(app, ["plan", str(path), *missing, "training={threads: 1, device: cpu, dtype: float32}"])
    assert done.exit_code == 0, done.output
    assert "as many steps as its data makes, about 0." in done.stdout
    assert "how long is not known without the data" in done.stdout


@pytest.mark.parametrize(("system", "tiles"), [("nvlm_d", [{1}, {5}]), ("nvlm_x", [{1}, {5}]), ("nvlm_h", [{5}, {5}])])
def test_nvlms_d_and_x_begin_with_one_tile_a_picture(system: str, tiles: list[set[int]]) -> None:
    """And go on with four and the thumbnail, in samples and not only on paper; H has these from the beginning."""
    recipe = read_recipe(f"{system}/laptop", ["data.pack={length: 512, patches: 1024, window: 8}"]).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    stages = build.build_stages(recipe, encode, Device("cpu", "float32", 1, compiled=False))
    views = [
        {len(sample.slots) for pack in stage.stream.first_window().packs for sample in pack.samples} for stage in stages
    ]
    assert views == tiles


TINY = [
    "model.encoder.depth=1",
    "model.backbone.config.num_hidden_layers=1",
    "data.held_out=null",
    "data.pack={length: 256, patches: 512, window: 8}",
    "training={threads: 1, device: cpu, dtype: float32}",
    "evaluate={answers: false, losses: false, before: false, blind: false, swapped: false, text: false}",
]


LAYOUTS = {
    "deepseek_vl": "multi_modality",
    "deepseek_vl_hybrid": "multi_modality",
    "internvl_1_5": "internvl_chat",
    "nvlm_d": "NVLM_D",
    "qwen2_vl": "qwen2_vl",
}
"""model_type of the folders that the systems were published in; NVLM-X and NVLM-H were in none."""


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_laptops_stages_run(system: str, tmp_path: Path) -> None:
    """Every stage for two steps, one layer each."""
    recipe = read_recipe(f"{system}/laptop").value
    short = [
        change
        for number in range(len(recipe.stages))
        for change in (
            *(f"stages.{number}.{unit}=null" for unit in ("epochs", "tokens")),
            f"stages.{number}.steps=2",
        )
    ]
    native = ["model.media.max_tokens=4"] if isinstance(recipe.model.media, NativeResolutionConfig) else []
    crossed = ["model.fusion.every=1"] if isinstance(recipe.model.fusion, CrossAttentionConfig) else []
    overrides = [*TINY, *native, *crossed, *short, f"run={tmp_path / 'run'}"]
    done = CliRunner().invoke(app, ["train", f"{system}/laptop", *overrides])
    assert done.exit_code == 0, done.output
    steps = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {step["stage"] for step in steps if "stage" in step} == {stage.name for stage in recipe.stages}
    model = build.load(tmp_path / "run", "cpu")
    assert model.encode.positions == recipe.model.positions
    if system not in LAYOUTS:
        return
    # What was trained is written in the layout that the system was published in.
    out = tmp_path / "official"
    done = CliRunner().invoke(app, ["export", str(tmp_path / "run"), str(out), "--layout", LAYOUTS[system]])
    assert done.exit_code == 0, done.output
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["model_type"] == LAYOUTS[system]
    read, written = (unshared(one.model) for one in (build.load(out, "cpu"), model))
    assert all(torch.equal(tensor, written[name]) for name, tensor in read.items())

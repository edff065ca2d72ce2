"""Finished models of layout 1, written before streams had names: they open, and say what they said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

import vitrail
from vitrail import build
from vitrail.contracts.errors import WeightsError
from vitrail.inference.chat_model import ChatModel, conversation
from vitrail.recipe.read import read_recipe

Write = Callable[..., Path]
CONTRASTIVE = "stages.align.objective={kind: contrastive_caption, characters: 1.0, width: 8}"
TABLE = ["model.encoder.absolute=learnt", "model.encoder.position_table=[4, 4]"]
SINES = ["model.encoder.absolute=sinusoidal"]


def as_before(weights: Path) -> None:
    """Rewrites a finished model as layout 1 had it: its description and the names of its tensors."""
    path = weights / "vitrail.yaml"
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    heads = said.pop("objectives")
    width = heads[0]["width"] if heads and heads[0]["contrastive"] else None
    spotter = bool(heads) and heads[0]["characters"] > 0
    del said["model"]["streams"], said["prompt"]["audio"]
    said["model"] |= {"contrast": width and {"width": width}, "spotter": spotter}
    encoder = said["model"]["encoder"]
    encoder["table"] = encoder.pop("position_table")
    encoder["absolute"] = encoder["absolute"].replace("sinusoidal", "sines")
    path.write_text(yaml.safe_dump({**said, "layout": 1}), encoding="utf-8")
    names = {"encoder.position_table": "encoder.table", "char_head.weight": "spotter.weight"}
    tensors = load_file(weights / "model.safetensors")
    save_file({names.get(name, name): tensor for name, tensor in tensors.items()}, weights / "model.safetensors")


@pytest.fixture
def twins(finished_run: Write, tiny_recipe_text: str, tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """A finished model of today and the same as layout 1 wrote it."""

    def write(*overrides: str) -> tuple[Path, Path]:
        today, before = finished_run(tiny_recipe_text, *overrides), tmp_path / "before"
        shutil.copytree(today, before)
        as_before(before / "weights")
        return today, before

    return write


@torch.inference_mode()
def logits(chat: ChatModel) -> Tensor:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return chat.model.logits(chat.model(chat.prompt(conversation((picture, "What is it?")))))


@pytest.mark.parametrize(
    "overrides",
    [[*TABLE, CONTRASTIVE], [*SINES, CONTRASTIVE], TABLE, [*SINES, CONTRASTIVE.replace("characters: 1.0, ", "")]],
    ids=["table and both modules", "sines and both modules", "table alone", "sines and one module"],
)
def test_it_opens_and_gives_the_logits_of_its_twin(
    overrides: list[str], twins: Callable[..., tuple[Path, Path]]
) -> None:
    today, before = (vitrail.load(folder, device="cpu") for folder in twins(*overrides))
    assert torch.equal(logits(before), logits(today))
    theirs = today.model.state_dict()
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    heads = {name for name, _ in before.model.named_children()} & {"contrast", "char_head"}
    assert heads == ({"contrast", "char_head"} if "characters: 1.0" in overrides[-1] else {"contrast"} & {*heads})
    assert ("contrast" in heads) == any("contrastive" in override for override in overrides)


def test_a_recipe_starts_from_its_components(twins: Callable[..., tuple[Path, Path]], tiny_recipe_file: Path) -> None:
    """By `model.weights`, and by `model.from`, which takes its settings too."""
    today, before = twins(*TABLE, CONTRASTIVE)
    expected = load_file(today / "weights" / "model.safetensors")
    taken = f"model.weights={{encoder: {before}, projector: {before}, backbone: {before}}}"
    for asked in ([*TABLE, taken], [f"model.from={before}"]):
        recipe = read_recipe(str(tiny_recipe_file), asked).value
        assert recipe.model.encoder.position_table == (4, 4)
        vocabulary = build.build_tokenizer(recipe.model.backbone, recipe.prompt).vocabulary
        model = build.starting_model(recipe.model, vocabulary, seed=9)
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, expected[name]), name


def test_a_tensor_of_a_users_own_encoder_keeps_its_name(
    finished_run: Write, tiny_recipe_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that happens to be called what ours was called before."""
    (tmp_path / "vitrail_own_table.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Own(nn.Module):\n"
        "    def __init__(self, patch_values):\n        super().__init__()\n"
        "        self.width, self.table = patch_values, nn.Parameter(torch.randn(patch_values))\n\n"
        "    def forward(self, stream):\n        return stream.values * self.table\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = finished_run(tiny_recipe_text, "model.encoder={kind: 'vitrail_own_table:Own'}")
    model = vitrail.load(run, device="cpu", trust_code=True).model
    written = load_file(run / "weights" / "model.safetensors")
    assert torch.equal(model.get_parameter("encoder.table"), written["encoder.table"])


def test_another_tensor_is_still_refused(twins: Callable[..., tuple[Path, Path]]) -> None:
    _, before = twins(*TABLE, CONTRASTIVE)
    path = before / "weights" / "model.safetensors"
    tensors = load_file(path)
    tensors["spotter.bias"] = tensors.pop("spotter.weight")
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"is of another model: it lacks 'char_head\.weight'"):
        vitrail.load(before, device="cpu")

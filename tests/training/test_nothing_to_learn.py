"""Packs that have nothing for an objective add nothing; a stage that has nothing at all for it is one clear line."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vitrail import build
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.samples import IGNORE, Pack
from vitrail.data.collate import collate
from vitrail.data.config import JsonlConfig, MixtureConfig, PackConfig, PartConfig
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.schema import Recipe
from vitrail.synthetic.config import LinesConfig
from vitrail.training import runlog
from vitrail.training.config import StageConfig
from vitrail.training.device import Device
from vitrail.training.loop import Trainer
from vitrail.training.objectives import ContrastiveCaption, EmbeddingAlignment
from vitrail.training.objectives.objective import Objective

Make = Callable[..., MultimodalModel]
CPU = Device("cpu", "float32", 1, compiled=False)
ALIGN = EmbeddingAlignment(tokens=2)
CONTRAST = ContrastiveCaption(caption=0, width=8)


def rows(folder: Path, pictures: list[bool]) -> JsonlConfig:
    """A row a pack, with a picture where it says so."""
    Image.new("RGB", (32, 32), "red").save(folder / "red.png")
    lines = []
    for number, pictured in enumerate(pictures):
        row = {"messages": [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": "Red."}]}
        lines.append(json.dumps({**row, **({"images": ["red.png"]} if pictured else {})}))
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return JsonlConfig(folder / "rows.jsonl", shuffle=False)


def trained(
    recipe: Recipe, encode: Encode, folder: Path, objective: Any, data: Any, train: dict[str, float], **length: Any
) -> list[dict[str, Any]]:
    stage = StageConfig("only", train, objective=objective, data=data, **length)
    pack = PackConfig(length=280, patches=256, window=1)
    recipe = dataclasses.replace(recipe, stages=(stage,), data=dataclasses.replace(recipe.data, pack=pack))
    objectives = build.objectives_of(recipe.stages).values()
    model = build.build_model(recipe.model, encode.tokenizer.vocabulary, 0, objectives=objectives)
    Trainer(model.train(), build.build_stages(recipe, encode, CPU), folder, CPU, checkpoint_every=100).run()
    return runlog.read(folder / "log.jsonl")


def test_a_contrastive_stage_passes_over_packs_without_pictures(
    tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    data = rows(tmp_path, [True, False, True, False])
    train = {"encoder": 1e-3, "contrast": 1e-3}
    records = trained(tiny_recipe, tiny_encode, tmp_path / "run", CONTRAST, data, train, epochs=1)
    assert [list(record["terms"]) for record in records] == [["contrastive"], [], ["contrastive"], []]
    # A loss of 0 would be a dip in the curve that no model has earned.
    assert [record["loss"] is None for record in records] == [False, True, False, True]
    assert [record["gradient_norm"] > 0 for record in records] == [True, False, True, False]


def test_a_stage_of_embeddings_passes_over_packs_without_known_pictures(
    tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    known = PartConfig("known", LinesConfig(rows=4, split="train", unit=8), share=1)
    both = MixtureConfig((known, PartConfig("plain", rows(tmp_path, [True, False]), share=1)))
    train = {"encoder": 1e-3, "projector": 1e-3}
    records = trained(tiny_recipe, tiny_encode, tmp_path / "run", ALIGN, both, train, steps=8)
    taught = [bool(record["terms"]) for record in records]
    assert {True, False} == set(taught)
    assert [record["gradient_norm"] > 0 for record in records] == taught
    assert [record["loss"] is not None for record in records] == taught


@pytest.mark.parametrize("length", [{"steps": 3}, {"steps": 50}, {"epochs": 1}, {"tokens": 90}])
@pytest.mark.parametrize(
    ("objective", "pictures", "said"),
    [
        (CONTRAST, False, "'contrastive_caption' needs pictures that something is said about; this data has none"),
        (ALIGN, False, "'embedding_alignment' needs pictures whose characters are known; this data has none"),
        (ALIGN, True, "'embedding_alignment' needs pictures whose characters are known; this data has none"),
    ],
)
def test_a_stage_that_never_has_any_is_one_line(
    objective: Objective,
    pictures: bool,
    said: str,
    length: dict[str, Any],
    tiny_recipe: Recipe,
    tiny_encode: Encode,
    tmp_path: Path,
) -> None:
    data = rows(tmp_path, [pictures] * 4)
    with pytest.raises(RecipeError) as caught:
        trained(tiny_recipe, tiny_encode, tmp_path / "run", objective, data, {"encoder": 1e-3}, **length)
    assert str(caught.value) == f"stages.only.objective: {said}"


def test_a_picture_of_which_nothing_is_known_is_encoded_for_nothing(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode
) -> None:
    """Ranks run the same passes, though one of them has only a blank: gradients that are all zero, and no loss."""
    import numpy as np

    encode = dataclasses.replace(tiny_encode, needs=ALIGN.needs)
    shown = ImagePart(np.full((16, 16, 3), 255, np.uint8))
    row = Conversation("blank", (Message("user", (shown,)), Message("assistant", (TextPart("White."),))))
    batch, _ = collate(Pack((encode(row),)), encode.media)
    assert batch is not None
    assert (batch.targets["token_targets"] == IGNORE).all()
    model = tiny_model()
    terms = ALIGN(model, batch)
    assert {name: term.count for name, term in terms.items()} == {"embedding_alignment": 0, "length": 0}
    loss = sum((term.loss_sum for term in terms.values()), torch.zeros(()))
    loss.backward()
    assert float(loss.detach()) == 0
    gradients = [p.grad for p in model.encoder_of("vision").parameters()]  # type: ignore[attr-defined]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_a_picture_that_nothing_is_said_about_is_compared_with_nothing(
    tiny_recipe: Recipe, tiny_encode: Encode
) -> None:
    import numpy as np

    shown = ImagePart(np.full((16, 16, 3), 255, np.uint8))
    sample = tiny_encode(Conversation("a", (Message("user", (shown,)), Message("assistant", (TextPart("White."),)))))
    sample = dataclasses.replace(
        sample, labels=np.full_like(sample.labels, IGNORE), weights=np.zeros_like(sample.weights)
    )
    batch, _ = collate(Pack((sample,)), tiny_encode.media)
    assert batch is not None
    model = build.build_model(tiny_recipe.model, tiny_encode.tokenizer.vocabulary, 0, objectives=[CONTRAST])
    assert CONTRAST.counts(batch)["contrastive"] == 0
    assert CONTRAST(model, batch) == {}
    assert not math.isnan(sum(CONTRAST.counts(batch).values()))

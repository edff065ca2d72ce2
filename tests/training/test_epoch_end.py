"""The last step of an epoch takes what is left: a short set never goes round to fill a step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.samples import Batch
from vitrail.data.config import JsonlConfig, PackConfig
from vitrail.data.encode import Encode
from vitrail.data.ledger import Ledger
from vitrail.data.loader import Cursor, End, Item, Stream
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.schema import Recipe
from vitrail.training import runlog
from vitrail.training.checkpoint import State
from vitrail.training.config import StageConfig
from vitrail.training.device import Device
from vitrail.training.loop import Trainer
from vitrail.training.objectives import NextToken

Make = Callable[..., MultimodalModel]
CPU = Device("cpu", "float32", 1, compiled=False)


def talks(folder: Path, texts: Sequence[str]) -> JsonlConfig:
    """A row for each text; "" for one that cannot be read."""
    rows = [{"messages": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": one}]} for one in texts]
    lines = [json.dumps(row) if text else "{broken" for row, text in zip(rows, texts, strict=True)]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return JsonlConfig(folder / "rows.jsonl", dialect="openai")


def recipe_of(recipe: Recipe, data: JsonlConfig, window: int = 4, length: int = 64, **settings: Any) -> Recipe:
    stage = StageConfig("only", {"backbone": 1e-3}, **settings)
    of = dataclasses.replace(recipe.data, train=data, pack=PackConfig(length, 64, window), max_lost=1.0)
    return dataclasses.replace(recipe, stages=(stage,), data=of)


def stream_of(recipe: Recipe, encode: Encode) -> Stream:
    return build.build_stages(recipe, encode, CPU)[0].stream


def trained(recipe: Recipe, encode: Encode, model: MultimodalModel, folder: Path) -> tuple[State, list[dict[str, Any]]]:
    state = Trainer(model.train(), build.build_stages(recipe, encode, CPU), folder, CPU, checkpoint_every=100).run()
    return state, runlog.read(folder / "log.jsonl")


@pytest.mark.parametrize(
    ("rows", "accumulate", "epochs", "steps"), [(1, 32, 1, 1), (9, 4, 1, 3), (9, 4, 2, 6), (8, 4, 1, 2), (9, 4, 0.5, 2)]
)
def test_a_short_set_is_gone_through_as_often_as_it_says(
    rows: int,
    accumulate: int,
    epochs: float,
    steps: int,
    tiny_recipe: Recipe,
    tiny_encode: Encode,
    tiny_model: Make,
    tmp_path: Path,
) -> None:
    """A row a pack. With 32 packs to a step, one row used to be learnt 32 times where one epoch was asked for."""
    data = talks(tmp_path, [f"Number {number} it is." for number in range(rows)])
    recipe = recipe_of(tiny_recipe, data, window=4, length=30, epochs=epochs, accumulate=accumulate)
    state, records = trained(recipe, tiny_encode, tiny_model(), tmp_path / "run")
    assert len(records) == state.total_steps == steps
    assert state.ledger["counts"] == {"rows": {"used": -(-rows * epochs // 1)}}
    assert records[-1]["progress"] >= 1


def test_the_terms_of_the_last_step_are_divided_by_what_it_has(
    tiny_recipe: Recipe, tiny_encode: Encode, tiny_model: Make, tmp_path: Path
) -> None:
    """Its gradient is that of the mean over the packs that are left, not a part of one over a full step."""
    data = talks(tmp_path, ["One.", "Number two it is.", "And then the third one."])
    recipe = recipe_of(tiny_recipe, data, length=30, epochs=1, accumulate=8)
    batches: list[Batch] = []
    for one in stream_of(recipe, tiny_encode).marked(Cursor(), Ledger()):
        if isinstance(one, End):
            break
        batches.append(one.batch)
    assert len({batch.label_weight for batch in batches}) == len(batches) == 3
    model = tiny_model().train()
    model.requires_grad_(False)
    model.backbone.requires_grad_(True)  # type: ignore[attr-defined]
    sums = torch.stack([NextToken()(model, batch)["next_token"].loss_sum for batch in batches])
    loss = sums.sum() / sum(batch.label_weight for batch in batches)
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    _, (record,) = trained(recipe, tiny_encode, tiny_model(), tmp_path / "run")
    assert record["loss"] == pytest.approx(float(loss.detach()), rel=1e-6)
    assert record["gradient_norm"] == pytest.approx(float(norm), rel=1e-5)


def test_rows_lost_behind_the_last_pack_of_an_epoch_are_in_the_ledger(
    tiny_recipe: Recipe, tiny_encode: Encode, tiny_model: Make, tmp_path: Path
) -> None:
    """The last window has no pack at all: the epoch ends all the same, and what was lost in it is told."""
    shuffled = talks(tmp_path, ["Number one it is."] * 4 + ["", ""])
    data = dataclasses.replace(shuffled, shuffle=False)
    recipe = recipe_of(tiny_recipe, data, window=2, length=30, epochs=1, accumulate=3)
    state, records = trained(recipe, tiny_encode, tiny_model(), tmp_path / "run")
    assert [record["rows"] for record in records] == [{"used": 3}, {"used": 4, "unreadable": 2}]
    assert state.ledger["counts"] == {"rows": {"used": 4, "unreadable": 2}}


def test_a_set_without_a_usable_row_is_said(
    tiny_recipe: Recipe, tiny_encode: Encode, tiny_model: Make, tmp_path: Path
) -> None:
    recipe = recipe_of(tiny_recipe, talks(tmp_path, [""] * 5), window=2, epochs=1)
    with pytest.raises(DataError, match=r"^rows: no usable row; the last: .*not JSON"):
        trained(recipe, tiny_encode, tiny_model(), tmp_path / "run")


@pytest.mark.parametrize("ranks", [2, 3])
def test_every_rank_comes_to_the_end_and_begins_anew(
    ranks: int, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    """Packs are dealt in turn within an epoch, and its first one is the first rank's; lost rows are told once."""
    data = talks(tmp_path, [f"Number {number} it is." for number in range(6)] + [""])
    stream = stream_of(recipe_of(tiny_recipe, data, window=3, length=30, epochs=3), tiny_encode)
    one = _until(stream, 3)
    dealt = [_until(dataclasses.replace(stream, rank=rank, ranks=ranks), 3) for rank in range(ranks)]
    for epoch in range(3):
        packs = [item.batch.sample_ids for item in one[epoch][0]]
        assert len(packs) == 6
        assert [[item.batch.sample_ids for item in own[epoch][0]] for own in dealt] == [
            packs[rank::ranks] for rank in range(ranks)
        ]
        ends = {(own[epoch][1].after, own[epoch][1].epochs) for own in dealt}
        assert ends == {(one[epoch][1].after, epoch + 1.0)}
        lost = [
            event.outcome
            for items, end in (own[epoch] for own in dealt)
            for events in (*(item.events for item in items), end.events)
            for event in events
        ]
        assert lost.count("unreadable") == 1
    again = _until(dataclasses.replace(stream, rank=1, ranks=ranks), 1, one[0][1].after)
    assert [item.batch.sample_ids for item in again[0][0]] == [item.batch.sample_ids for item in dealt[1][1][0]]


def _until(stream: Stream, epochs: int, start: Cursor | None = None) -> list[tuple[list[Item], End]]:
    found: list[tuple[list[Item], End]] = []
    items: list[Item] = []
    for one in stream.marked(start or Cursor(), Ledger()):
        if isinstance(one, Item):
            items.append(one)
            continue
        found.append((items, one))
        items = []
        if len(found) == epochs:
            break
    return found


def test_other_stages_have_no_ends(tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path) -> None:
    """Steps and tokens are counted through: a step takes its packs from two epochs."""
    data = talks(tmp_path, ["One.", "Two.", "Three."])
    stream = stream_of(recipe_of(tiny_recipe, data, length=30, steps=9), tiny_encode)
    marked = stream.marked(Cursor(), Ledger())
    assert all(isinstance(next(marked), Item) for _ in range(20))

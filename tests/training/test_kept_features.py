"""Features of frozen encoders: encoded once, the same numbers kept or made, and none of an encoder that learns."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.samples import MediaStream
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.schema import Recipe
from vitrail.training import kept_features, runlog
from vitrail.training.device import Device
from vitrail.training.kept_features import KeptFeatures, is_frozen, signature, views_of
from vitrail.training.loop import Trainer

Make = Callable[..., MultimodalModel]
FROZEN = {"projector": 1e-2, "backbone": 1e-3}
ROWS = 15
"""Of the tiny recipe that fit a pack, a picture each."""


class Unplugged(Exception):  # noqa: N818
    """Ends a run where it is."""


def trained(
    make: Make,
    recipe: Recipe,
    encode: Encode,
    folder: Path,
    kept: KeptFeatures | None,
    *,
    train: Mapping[str, float] = FROZEN,
    epochs: float = 3.0,
    stop_at: int = 0,
) -> list[float]:
    """The losses of one stage, from wherever the folder stands."""

    def on_step(record: dict[str, Any]) -> None:
        if record["total_steps"] == stop_at:
            raise Unplugged

    stage = dataclasses.replace(recipe.stages[0], train=train, steps=None, epochs=epochs)
    device = Device("cpu", "float32", 1, compiled=False)
    stages = build.build_stages(dataclasses.replace(recipe, stages=(stage,)), encode, device)
    model = make().train()
    trainer = Trainer(model, stages, folder, device, 2, on_step, kept=kept)
    trainer.resume()
    trainer.run()
    assert model.kept is None, "what is measured afterwards asks the encoder itself"
    return [record["loss"] for record in runlog.read(folder / "log.jsonl")]


def test_views_are_encoded_once_and_the_losses_stay(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    """To rounding those without, to the bit those of a run that found all of them, or that was stopped."""
    parts = tiny_model, tiny_recipe, tiny_encode
    plain = trained(*parts, tmp_path / "plain", None)
    cold, warm, again = (KeptFeatures(tmp_path / "kept", {}) for _ in range(3))
    made = trained(*parts, tmp_path / "cold", cold)
    assert (cold.made, cold.seen) == (ROWS, 2 * ROWS)
    torch.testing.assert_close(torch.tensor(made), torch.tensor(plain), rtol=1e-4, atol=1e-5)
    assert trained(*parts, tmp_path / "warm", warm) == made
    assert (warm.made, warm.seen) == (0, 3 * ROWS)
    with pytest.raises(Unplugged):
        trained(*parts, tmp_path / "stopped", KeptFeatures(tmp_path / "other", {}), stop_at=3)
    assert trained(*parts, tmp_path / "stopped", again) == made


def test_what_learns_is_never_kept_and_what_is_seen_once_only_where_asked(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path
) -> None:
    parts = tiny_model, tiny_recipe, tiny_encode
    for folder, settings in (
        ("learns", {"train": {**FROZEN, "encoder": 1e-3}, "epochs": 2.0}),
        ("once", {"train": FROZEN, "epochs": 1.0}),
    ):
        kept = KeptFeatures(tmp_path / "kept", {})
        plain = trained(*parts, tmp_path / f"{folder}-plain", None, **settings)  # type: ignore[arg-type]
        assert trained(*parts, tmp_path / folder, kept, **settings) == plain  # type: ignore[arg-type]
        assert (kept.made, kept.seen) == (0, 0)
    always = KeptFeatures(tmp_path / "kept", {}, always=True)
    trained(*parts, tmp_path / "always", always, epochs=1.0)
    assert always.made == ROWS
    drops = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.1)).requires_grad_(False)
    assert not is_frozen(drops)


def streams(model: MultimodalModel, encode: Encode) -> MediaStream:
    from vitrail.contracts.samples import Pack
    from vitrail.data.collate import collate
    from vitrail.data.dialects import to_conversation
    from vitrail.synthetic.config import DrawnConfig
    from vitrail.synthetic.source import DrawnSource

    source = DrawnSource(DrawnConfig(rows=3, size=(64, 128)))
    pack = Pack(tuple(encode(to_conversation(source.row(index))) for index in range(3)))
    batch, _ = collate(pack, encode.media)
    assert batch is not None
    assert batch.vision is not None
    return batch.vision


def test_other_weights_and_settings_are_another_encoder(tiny_model: Make) -> None:
    one, other = (tiny_model(seed).get_submodule("encoder") for seed in (0, 1))
    names = {signature(one, "a"), signature(other, "a"), signature(one, "b"), signature(one.bfloat16(), "a")}
    assert len(names) == 4


def test_a_damaged_file_is_made_again_and_a_full_disk_keeps_none(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stage = tiny_model().requires_grad_(False), tiny_recipe.stages[0]
    stream = streams(model, tiny_encode)
    kept = KeptFeatures(tmp_path, {}, always=True)
    kept.begin(model, stage)
    with torch.no_grad():
        whole = model.encoder_of("vision")(stream)
    first = model.features("vision", stream)
    torch.testing.assert_close(first, whole, rtol=1e-4, atol=1e-5)
    files = sorted(tmp_path.glob("*/*/*"))
    assert len(files) == len(views_of(stream)) == 3
    files[0].write_bytes(files[0].read_bytes()[:-7])
    assert torch.equal(model.features("vision", stream), first)
    assert (kept.made, kept.seen) == (4, 2)

    def refuse(error: int) -> None:
        def failing(path: Path, content: bytes) -> None:
            raise OSError(error, "no")

        monkeypatch.setattr(kept_features, "write_whole", failing)

    files[1].unlink()
    refuse(errno.ENOSPC)
    assert torch.equal(model.features("vision", stream), first)
    refuse(errno.EACCES)
    with pytest.raises(DataError, match=r"^cannot keep features in "):
        model.features("vision", stream)
    assert not files[1].exists()


def test_there_is_a_most_that_is_kept(
    tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model().requires_grad_(False)
    stream = streams(model, tiny_encode)
    said: list[str] = []
    for most, there in ((1, 0), (2**15, None)):
        monkeypatch.setattr(kept_features, "MOST_BYTES", most)
        kept = KeptFeatures(tmp_path, {}, always=True, say=said.append)
        kept.begin(model, tiny_recipe.stages[0])
        model.features("vision", stream)
        held = sum(file.stat().st_size for file in tmp_path.glob("*/*/*"))
        assert held <= most
        assert there is None or held == there
    assert len(said) <= 1

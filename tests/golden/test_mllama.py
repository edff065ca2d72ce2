"""Llama 3.2 Vision: both encoders, what text reads of them, its layers and blocks, greedy tokens, and the way back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_text import Tiles, greedy, settings
from round_trip import check_settings, check_tensors, written
from torch import Tensor

import vitrail
from vitrail.contracts.samples import Batch, Link, MediaStream, Segments
from vitrail.media.canvas import Canvas
from vitrail.media.config import CanvasConfig
from vitrail.media.native import patchify
from vitrail.models.assembled import MultimodalModel
from vitrail.prompts.config import PICTURES
from vitrail.systems import mllama

SYSTEM = "mllama"


class Canvases(Tiles):
    """A case's padded rows, and its pictures, each put together of its tiles as one view."""

    def __init__(self, case: Any) -> None:
        config = settings(case)
        vision = config["vision_config"]
        super().__init__(case, config["image_token_index"], 0, vision["patch_size"], 1)
        self.media = CanvasConfig(
            patch=vision["patch_size"], tile=vision["image_size"], max_tiles=vision["max_num_tiles"]
        )
        self.ratios = case.inputs.get("aspect_ratio_ids")
        self.mask = case.inputs.get("cross_attention_mask")

    def vision(self, rows: Any, ids: Tensor) -> MediaStream | None:
        if self.pictures is None:
            return None
        values, positions, views, links, offset = [], [], [], [], 0
        for segment, row in enumerate(rows):
            starts = self.ids[row].eq(self.picture_id).nonzero().flatten().tolist()
            assert len(starts) == int((self.ratios[row] > 0).sum())
            self.check_mask(row, starts)
            for number, start in enumerate(starts):
                grid = self.media.grids[int(self.ratios[row, number]) - 1]
                patches, where = patchify(self.canvas(self.pictures[row, number], grid), self.patch, 1)
                values.append(torch.from_numpy(patches))
                positions.append(torch.from_numpy(where))
                (view,) = Canvas(self.media).views(grid[1] * self.media.tile, grid[0] * self.media.tile)
                views.append(replace(view, spliced=False))
                links.append(Link(segment, offset + start))
            offset += int(self.real[row].sum())
        lengths = Segments(tuple(map(len, values)))
        nothing = torch.zeros(0, dtype=torch.long)
        return MediaStream(torch.cat(values), torch.cat(positions), lengths, nothing, tuple(views), tuple(links))

    def canvas(self, tiles: Tensor, grid: tuple[int, int]) -> Any:
        rows, columns = grid
        assert not tiles[rows * columns :].any(), "tiles that are not there are zeros"
        whole = tiles[: rows * columns].unflatten(0, grid).permute(0, 3, 1, 4, 2)
        return np.ascontiguousarray(whole.flatten(0, 1).flatten(1, 2).numpy())

    def check_mask(self, row: int, starts: list[int]) -> None:
        """The reference is told what its processor says: from a picture's token to the next, that picture's tiles."""
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], int(self.real[row].sum())], strict=True)):
            expected = torch.zeros_like(self.mask[row, :, number])
            tiles = int(np.prod(self.media.grids[int(self.ratios[row, number]) - 1]))
            expected[start:end, :tiles] = 1
            assert torch.equal(self.mask[row, :, number], expected)


@torch.inference_mode()
def outputs(model: MultimodalModel, rows: Canvases) -> dict[str, Tensor]:
    batch: Batch = rows.batch(rows.rows)
    found: dict[str, Tensor] = {}
    media = {}
    if batch.vision is not None:
        features = model.encoder_of("vision")(batch.vision)
        shape = (*rows.pictures.shape[:3], rows.media.tile_tokens)
        found["vision_last_hidden"] = features.unflatten(0, shape)
        media["vision"] = model.projector_of("vision")(features, batch.vision)
        found["cross_attention_states"] = media["vision"].unflatten(0, (-1, rows.media.tile_tokens))
    embeddings, context = model.fused(batch, media)
    states = [embeddings]
    backbone = model.language_model
    hooks = [layer.register_forward_hook(lambda *given: states.append(given[2][0])) for layer in backbone.layers]
    if context is not None:
        right = context

        class Recorded:
            def before(self, layer: int, hidden: Tensor) -> Tensor:
                out = right.before(layer, hidden)
                if model.fusion.before(layer):
                    states.append(out)
                return out

        context = Recorded()
    last = model.backbone(embeddings, batch.text.positions, batch.text.segments, context=context)
    for hook in hooks:
        hook.remove()
    states[-1] = last
    found |= {f"llm_hidden.{number}": rows.padded(state) for number, state in enumerate(states)}
    found["logits"] = rows.padded(model.logits(last))
    if batch.label_weight:
        found["loss"] = (model.loss_sum(batch, media) / batch.label_weight)[None]
    return found


@torch.inference_mode()
def test_every_output_is_the_references(case: Any) -> None:
    model, rows = vitrail.load(case.folder, device="cpu").model, Canvases(case)
    found = outputs(model, rows)
    for name in case.outputs.keys() - {"generated"}:
        case.compare(name, found[name], rows.real if name.startswith(("logits", "llm_hidden")) else None)
    if "generated" in case.outputs:
        case.compare("generated", greedy(model, rows, case.outputs["generated"].shape[1]))
    case.nothing_is_left()


@torch.inference_mode()
@pytest.mark.parametrize("changes", [{"blind": "untouched"}, {"sees": "before"}], ids=str)
def test_other_sight_is_noticed(changes: dict[str, str], case: Any) -> None:
    """What the comparison above would see, where there is text before a picture, or a second picture."""
    model, rows = vitrail.load(case.folder, device="cpu").model, Canvases(case)
    starts = [row.eq(rows.picture_id).nonzero().flatten().tolist() for row in rows.ids]
    told = any(row and row[0] > 0 for row in starts) if "blind" in changes else any(len(row) > 1 for row in starts)
    if not told:
        pytest.skip("this case cannot tell")
    fusion: Any = model.fusion
    for name, value in changes.items():
        setattr(fusion, name, value)
    with pytest.raises(AssertionError, match="off by"):
        case.compare("logits", outputs(model, rows)["logits"], rows.real)


class Names:
    """As much of a tokenizer as a description asks for: the fixtures have none."""

    def __init__(self, folder: Path) -> None:
        config = mllama_config(folder)
        end = config["text_config"]["eos_token_id"]
        self.ids = {PICTURES["llama3_vision"].start: config["image_token_index"], "<|im_end|>": end}

    def special(self, name: str) -> int:
        return self.ids[name]


def mllama_config(folder: Path) -> Any:
    from vitrail.systems import folder as systems

    return systems.read_settings(folder).config


def test_what_is_written_is_bit_for_bit_what_was_read_and_means_the_same(golden: Path, tmp_path: Path) -> None:
    out = written(mllama, golden, tmp_path / "out", Names(golden))
    check_tensors(golden, out)
    check_settings(mllama, golden, out)


@torch.inference_mode()
def test_transformers_opens_what_is_written(case: Any, tmp_path: Path) -> None:
    """In its own class, with the reference's logits."""
    from transformers import MllamaForConditionalGeneration

    out = written(mllama, case.folder, tmp_path / "out", Names(case.folder))
    model, loading = MllamaForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not any(loading.values()), loading
    inputs = {name: tensor for name, tensor in case.inputs.items() if name != "labels"}
    case.compare("logits", model(**inputs).logits, case.inputs["attention_mask"].bool())


@torch.inference_mode()
def test_packed_is_one_by_one(case: Any) -> None:
    """Every row with the others beside it."""
    model, rows = vitrail.load(case.folder, device="cpu").model, Canvases(case)
    packed = model(rows.batch(rows.rows))
    alone = torch.cat([model(rows.batch([row])) for row in rows.rows])
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=2e-5)

"""Qwen2-VL and Qwen2.5-VL against transformers: positions, embeddings, hidden states, loss, greedy tokens; and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from picture_text import Spoken, batch_of, settings, shifted
from qwen_towers import stream_of
from safetensors.torch import load_file, save_file
from torch import Tensor

import vitrail
from vitrail.contracts.samples import IGNORE, Batch, MediaStream, Segments, TextStream
from vitrail.inference.config import GenerationConfig
from vitrail.inference.engine import generate
from vitrail.models.assembled import MultimodalModel
from vitrail.models.weights import unshared
from vitrail.prompts.config import PICTURES
from vitrail.prompts.render import Grid, grid_positions
from vitrail.systems import folder as systems
from vitrail.systems import qwen2_vl

SYSTEMS = ("qwen2_vl", "qwen2_5_vl")


class Reader:
    """A case's padded rows as our packed ones; pictures and videos in reading order."""

    def __init__(self, case: Any) -> None:
        self.inputs, config = case.inputs, settings(case)
        self.ids = self.inputs["input_ids"]
        self.real = self.inputs.get("attention_mask", torch.ones_like(self.ids)).bool()
        self.labels = self.inputs.get("labels", torch.full_like(self.ids, IGNORE))
        self.merge = config["vision_config"]["spatial_merge_size"]
        self.kinds = {config["image_token_id"]: "image", config["video_token_id"]: "video"}
        self.speed = config["vision_config"].get("tokens_per_second")

    @property
    def rows(self) -> range:
        return range(len(self.ids))

    def media(self, row: int) -> list[tuple[str, int, Grid]]:
        """(kind, its number among all of that kind, its tokens' grid) of a row, in reading order."""
        ids = self.ids[row][self.real[row]].tolist()
        number = dict.fromkeys(self.kinds.values(), 0)
        for earlier in range(row):
            for kind, _, _ in self.media(earlier):
                number[kind] += 1
        found, index = [], 0
        while index < len(ids):
            if ids[index] not in self.kinds:
                index += 1
                continue
            kind = self.kinds[ids[index]]
            times, rows, columns = self.inputs[f"{kind}_grid_thw"][number[kind]].tolist()
            grid = Grid(index, times, rows // self.merge, columns // self.merge, self.step(kind, number[kind]))
            found.append((kind, number[kind], grid))
            number[kind] += 1
            index += grid.tokens
        return found

    def step(self, kind: str, number: int) -> float:
        seconds = self.inputs.get("second_per_grid_ts")
        if kind == "image" or self.speed is None:
            return 1.0
        return (1.0 if seconds is None else float(seconds[number])) * float(self.speed)

    def positions(self, row: int) -> Tensor:
        length = int(self.real[row].sum())
        return torch.from_numpy(grid_positions(length, [grid for _, _, grid in self.media(row)]))

    def batch(self, rows: Sequence[int]) -> Batch:
        """Rows without their padding, laid end to end."""
        ids = [self.ids[row][self.real[row]] for row in rows]
        labels = [shifted(self.labels[row])[self.real[row]] for row in rows]
        text = TextStream(
            ids=torch.cat(ids),
            labels=torch.cat(labels),
            weights=torch.cat(labels).ne(IGNORE).float(),
            positions=torch.cat([self.positions(row) for row in rows], dim=1),
            segments=Segments(tuple(map(len, ids))),
        )
        return batch_of(text, self.vision(rows, text.ids))

    def vision(self, rows: Sequence[int], ids: Tensor) -> MediaStream | None:
        found = [(kind, number) for row in rows for kind, number, _ in self.media(row)]
        if not found:
            return None
        patches, grids = [], []
        for kind, number in found:
            every = self.inputs[f"{kind}_grid_thw"]
            name = "pixel_values" if kind == "image" else "pixel_values_videos"
            patches.append(self.inputs[name].split(every.prod(1).tolist())[number])
            grids.append(every[number])
        stream = stream_of(torch.cat(patches), torch.stack(grids), self.merge)
        index = torch.isin(ids, torch.tensor(list(self.kinds))).nonzero().squeeze(1)
        return replace(stream, token_index=index)

    def padded(self, stream: Tensor) -> Tensor:
        """The packed rows, float[T, D], where they stand among the padding, float[B, L, D]."""
        full = stream.new_zeros(*self.real.shape, stream.shape[1])
        full[self.real] = stream
        return full


@torch.inference_mode()
def test_every_output_of_text_is_the_references(case: Any) -> None:
    """Those of the towers are another test's."""
    model, reader = vitrail.load(case.folder, device="cpu").model, Reader(case)
    spoken, batch = Spoken(model), reader.batch(reader.rows)
    embeddings, context = model.fused(batch)
    last = model.backbone(embeddings, batch.text.positions, batch.text.segments, context=context)
    spoken.states[0] = embeddings
    for number, state in spoken.states.items():
        case.compare(f"llm_hidden.{number}", reader.padded(state), reader.real)
    case.compare("logits", reader.padded(model.logits(last)), reader.real)
    if "loss" in case.outputs:
        case.compare("loss", (model.loss_sum(batch) / batch.label_weight)[None])
    if "generated" in case.outputs:
        case.compare("generated", greedy(model, reader, case.outputs["generated"].shape[1]))
    check_positions(case, reader)
    left = case.outputs.keys() - case.differences.keys()
    assert not {name for name in left if "vision" not in name and "embeds" not in name}, left


def check_positions(case: Any, reader: Reader) -> None:
    if "position_ids" not in case.outputs:
        return
    found = torch.zeros_like(case.outputs["position_ids"])
    for row in reader.rows:
        found[:, row, reader.real[row]] = reader.positions(row)
    where = reader.real[None].expand_as(found)
    case.compare("position_ids", found, where)
    deltas = [int(reader.positions(row).max()) + 1 - int(reader.real[row].sum()) for row in reader.rows]
    case.compare("rope_deltas", torch.tensor(deltas)[:, None])


def greedy(model: MultimodalModel, reader: Reader, count: int) -> Tensor:
    """Row by row over our cache."""
    config = GenerationConfig(max_tokens=count)
    rows = [list(generate(model, reader.batch([row]), frozenset(), config)) for row in reader.rows]
    return torch.tensor(rows)


class Names:
    """As much of a tokenizer as a description asks for: the fixtures have none."""

    def __init__(self, config: dict[str, Any], end: int) -> None:
        picture = PICTURES["qwen2_vl"]
        self.ids = {
            picture.token: config["image_token_id"],
            picture.start: config["vision_start_token_id"],
            picture.end: config["vision_end_token_id"],
            "<|video_pad|>": config["video_token_id"],
            "<|im_end|>": end,
        }

    def special(self, name: str) -> int:
        return self.ids[name]


def written(golden: Path, out: Path) -> tuple[Path, Any]:
    """The folder opened, and written anew in the official layout; with its description."""
    system, official = systems.system_of(golden), systems.read_folder(golden)
    described = systems.describe(system, official, golden)
    chat = vitrail.load(golden, device="cpu")
    described = replace(described, backbone=chat.model.backbone.lm.config.to_dict())
    assert system.obstacles(described) == []
    names: Any = Names(dict(official.config), described.backbone["eos_token_id"])
    out.mkdir()
    for name, content in system.write(described, names, "float32").items():
        (out / name).write_text(json.dumps(content), encoding="utf-8")
    tensors = systems.to_official(system, described, unshared(chat.model))
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out, described


def test_what_is_written_is_bit_for_bit_what_was_read(golden: Path, tmp_path: Path) -> None:
    out, described = written(golden, tmp_path / "out")
    back = load_file(out / "model.safetensors")
    read = {qwen2_vl.canonical(name): tensor for name, tensor in load_file(golden / "model.safetensors").items()}
    original = {name: tensor for name, tensor in read.items() if name not in described.redundant}
    assert back.keys() == original.keys()
    for name, tensor in original.items():
        assert torch.equal(back[name], tensor.float()), name


def test_the_settings_that_are_written_mean_the_same(golden: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig

    def meaning(folder: Path) -> dict[str, Any]:
        found = AutoConfig.from_pretrained(folder).to_dict()
        # Number formats are the writer's choice. Whether the head is the embeddings is read from the outer settings
        # alone. How weights were drawn before training is no part of a trained model.
        ignored = (
            *("_name_or_path", "dtype", "text_config.dtype"),
            *("vision_config.initializer_range", "text_config.tie_word_embeddings"),
        )
        for key in ignored:
            *outer, name = key.split(".")
            (found[outer[0]] if outer else found).pop(name, None)
        # Names of the kinds of rotary positions have changed; those that there are without a choice are the same.
        for part in ("text_config", "vision_config"):
            found[part]["rope_parameters"].pop("rope_type", None)
            found[part]["rope_parameters"].pop("type", None)
        return found

    assert meaning(written(golden, tmp_path / "out")[0]) == meaning(golden)


@torch.inference_mode()
def test_transformers_opens_what_is_written(case: Any, tmp_path: Path) -> None:
    """In its own class, with the reference's logits."""
    from transformers import AutoModelForImageTextToText

    out, _ = written(case.folder, tmp_path / "out")
    model, loading = AutoModelForImageTextToText.from_pretrained(out, output_loading_info=True)
    assert not any(loading.values()), loading
    inputs = {name: tensor for name, tensor in case.inputs.items() if name != "labels"}
    case.compare("logits", model(**inputs).logits, case.inputs["attention_mask"].bool())


@torch.inference_mode()
def test_positions_on_a_line_would_be_noticed(case: Any) -> None:
    reader = Reader(case)
    if not any(reader.media(row) for row in reader.rows):
        pytest.skip("text alone has no other positions")
    model = vitrail.load(case.folder, device="cpu").model
    batch = reader.batch(reader.rows)
    line = torch.cat([torch.arange(length) for length in batch.text.segments.lengths])
    embeddings, context = model.fused(batch)
    logits = model.logits(model.backbone(embeddings, line, batch.text.segments, context=context))
    with pytest.raises(AssertionError, match="off by"):
        case.compare("logits", reader.padded(logits), reader.real)

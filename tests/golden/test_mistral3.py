"""Mistral3 against transformers: what each part makes, loss, greedy tokens, and the way back to the official folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_text import batch_of, shifted
from safetensors.torch import load_file, save_file
from torch import Tensor

import vitrail
from vitrail.contracts.samples import IGNORE, Batch, MediaStream, Segments, TextStream
from vitrail.inference.config import GenerationConfig
from vitrail.inference.engine import generate
from vitrail.media.native import patchify
from vitrail.models.assembled import MultimodalModel
from vitrail.models.weights import unshared
from vitrail.systems import composite, mistral3
from vitrail.systems import folder as systems

SYSTEM = "mistral3"


class Reader:
    """A case's padded tensors as our packed ones."""

    def __init__(self, case: Any) -> None:
        self.inputs = case.inputs
        config = json.loads((case.folder / "config.json").read_text(encoding="utf-8"))
        self.picture_id = config["image_token_index"]
        self.patch, self.merge = config["vision_config"]["patch_size"], config["spatial_merge_size"]
        self.real = self.inputs["attention_mask"].bool()
        self.sizes = [tuple(size) for size in self.inputs.get("image_sizes", torch.empty(0, 2)).tolist()]

    @property
    def rows(self) -> range:
        return range(len(self.real))

    def grid(self, number: int) -> tuple[int, int]:
        height, width = self.sizes[number]
        return height // self.patch, width // self.patch

    def tokens(self, number: int) -> int:
        rows, columns = self.grid(number)
        return rows * columns // self.merge**2

    def pictures_of(self, row: int) -> list[int]:
        """Numbers of a row's pictures: they come in reading order, each with as many placeholders as it has tokens."""
        numbers, taken = [], 0
        counts = (self.inputs["input_ids"] == self.picture_id).sum(1).tolist()
        first, last = sum(counts[:row]), sum(counts[: row + 1])
        for number in range(len(self.sizes)):
            if first <= taken < last:
                numbers.append(number)
            taken += self.tokens(number)
        return numbers

    def batch(self, rows: Sequence[int]) -> Batch:
        """Rows without their padding, laid end to end."""
        ids = [self.inputs["input_ids"][row][self.real[row]] for row in rows]
        given = self.inputs.get("labels", torch.full_like(self.inputs["input_ids"], IGNORE))
        labels = [shifted(given[row])[self.real[row]] for row in rows]
        text = TextStream(
            ids=torch.cat(ids),
            labels=torch.cat(labels),
            weights=torch.cat(labels).ne(IGNORE).float(),
            positions=torch.cat([torch.arange(len(one)) for one in ids]),
            segments=Segments(tuple(map(len, ids))),
        )
        numbers = [number for row in rows for number in self.pictures_of(row)]
        vision = self.vision(numbers, text.ids) if numbers else None
        return batch_of(text, vision)

    def vision(self, numbers: Sequence[int], ids: Tensor) -> MediaStream:
        patches, positions = [], []
        for number in numbers:
            height, width = self.sizes[number]
            pixels = self.inputs["pixel_values"][number, :, :height, :width].permute(1, 2, 0)
            one, at = patchify(np.ascontiguousarray(pixels.numpy()), self.patch, self.merge)
            patches.append(torch.from_numpy(one))
            positions.append(torch.from_numpy(at))
        return MediaStream(
            values=torch.cat(patches),
            positions=torch.cat(positions),
            segments=Segments(tuple(map(len, patches))),
            token_index=ids.eq(self.picture_id).nonzero().squeeze(1),
        )

    def by_row(self, stream: Tensor, vision: MediaStream) -> Tensor:
        """Patches of all pictures in merge order, float[P, D], to the reference's: row after row, float[1, P, D]."""
        pieces = zip(
            stream.split(vision.segments.lengths),
            vision.positions.split(vision.segments.lengths),
            map(self.grid, range(len(self.sizes))),
            strict=True,
        )
        ordered = []
        for piece, positions, (_, columns) in pieces:
            order = torch.argsort(positions[:, 0] * columns + positions[:, 1])
            ordered.append(piece[order])
        return torch.cat(ordered)[None]

    def padded(self, stream: Tensor) -> Tensor:
        """The packed rows, float[T, D], where they stand among the padding, float[B, L, D]."""
        full = stream.new_zeros(*self.real.shape, stream.shape[1])
        full[self.real] = stream
        return full


class Taps:
    """What modules make on the way, by name."""

    def __init__(self, model: MultimodalModel) -> None:
        self.seen: dict[str, Tensor] = {}
        lm = model.backbone.lm.model
        vision = [model.encoder.stem_norm, *model.encoder.blocks]
        # The last state is the one after the norm: that of the last layer alone is not among the outputs.
        text = [*lm.layers[:-1], lm.norm]
        for start, first, modules in (("vision_hidden", 0, vision), ("llm_hidden", 1, text)):
            for number, module in enumerate(modules, start=first):
                module.register_forward_hook(self._keep(f"{start}.{number}"))

    def _keep(self, name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            self.seen[name] = output.flatten(0, -2)

        return hook


@torch.inference_mode()
def test_every_output_is_the_references(case: Any) -> None:
    reader = Reader(case)
    model = vitrail.load(case.folder, device="cpu").model
    taps = Taps(model)
    batch = reader.batch(reader.rows)
    media = {}
    if batch.vision is not None:
        features = model.encoder(batch.vision)
        media["vision"] = model.projector(features, batch.vision)
        case.compare("vision_last_hidden", reader.by_row(features, batch.vision))
        made = media["vision"].split([reader.tokens(number) for number in range(len(reader.sizes))])
        for number, one in enumerate(made):
            case.compare(f"image_embeds.{number}", one)
    embeddings, context = model.fused(batch, media)
    hidden = model.backbone(embeddings, batch.text.positions, batch.text.segments, context=context)
    taps.seen["llm_hidden.0"] = embeddings
    for name in sorted(taps.seen.keys() & case.outputs.keys()):
        if name.startswith("vision"):
            assert batch.vision is not None
            case.compare(name, reader.by_row(taps.seen[name], batch.vision))
        else:
            case.compare(name, reader.padded(taps.seen[name]), reader.real)
    case.compare("logits", reader.padded(model.logits(hidden)), reader.real)
    if "loss" in case.outputs:
        case.compare("loss", (model.loss_sum(batch) / batch.label_weight)[None])
    if "generated" in case.outputs:
        case.compare("generated", greedy(model, reader, case.outputs["generated"].shape[1]))
    case.nothing_is_left()


def greedy(model: MultimodalModel, reader: Reader, count: int) -> Tensor:
    """Row by row over our cache."""
    config = GenerationConfig(max_tokens=count)
    rows = [list(generate(model, reader.batch([row]), frozenset(), config)) for row in reader.rows]
    return torch.tensor(rows)


class Names:
    """As much of a tokenizer as a description asks for: the fixtures have none."""

    def __init__(self, picture_id: int, end: int) -> None:
        self.ids = {"[IMG]": picture_id, "<|im_end|>": end}

    def special(self, name: str) -> int:
        return self.ids[name]


def written(golden: Path, out: Path) -> Path:
    """The folder opened, and written anew in the official layout."""
    official = systems.read_folder(golden)
    described = systems.describe(mistral3, official, golden)
    chat = vitrail.load(golden, device="cpu")
    settings = chat.model.backbone.lm.config.to_dict()
    described = type(described)(described.model, described.prompt, settings)
    names: Any = Names(official.config["image_token_index"], settings["eos_token_id"])
    out.mkdir()
    for name, content in mistral3.write(described, names, "float32").items():
        (out / name).write_text(json.dumps(content), encoding="utf-8")
    tensors = systems.to_official(mistral3, described, unshared(chat.model))
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out


def test_what_is_written_is_bit_for_bit_what_was_read(golden: Path, tmp_path: Path) -> None:
    back = load_file(written(golden, tmp_path / "out") / "model.safetensors")
    redundant = mistral3.read(systems.read_folder(golden)).redundant
    original = {k: tensor for k, tensor in load_file(golden / "model.safetensors").items() if k not in redundant}
    assert back.keys() == original.keys()
    for name, tensor in original.items():
        assert torch.equal(back[name], tensor.float()), name


def test_the_settings_that_are_written_mean_the_same(golden: Path, tmp_path: Path) -> None:
    from transformers import Mistral3Config

    def meaning(folder: Path) -> dict[str, Any]:
        settings = Mistral3Config.from_pretrained(folder).to_dict()
        # Number formats are the writer's choice. The limit of a picture's size is the processor's business, the model
        # takes any. Whether the head is the embeddings is read from the outer settings alone.
        for key in ("dtype", "text_config.dtype", "text_config.tie_word_embeddings", "vision_config.image_size"):
            *outer, name = key.split(".")
            (settings[outer[0]] if outer else settings).pop(name, None)
        return settings

    assert meaning(written(golden, tmp_path / "out")) == meaning(golden)


@torch.inference_mode()
def test_transformers_opens_what_is_written(case: Any, tmp_path: Path) -> None:
    """In its own class, with the reference's logits."""
    from transformers import Mistral3ForConditionalGeneration

    out = written(case.folder, tmp_path / "out")
    model, loading = Mistral3ForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not any(loading.values()), loading
    inputs = {name: tensor for name, tensor in case.inputs.items() if name != "labels"}
    case.compare("logits", model.eval()(**inputs).logits, case.inputs["attention_mask"].bool())


def test_the_names_of_modules_are_read_too(golden: Path, tmp_path: Path) -> None:
    """Some versions of transformers wrote them to disk."""
    (tmp_path / "config.json").write_bytes((golden / "config.json").read_bytes())
    modules = {disk: module for module, disk in composite.MODULES.items()}
    tensors = {}
    for name, tensor in load_file(golden / "model.safetensors").items():
        start = next(start for start in modules if name.startswith(start))
        tensors[modules[start] + name.removeprefix(start)] = tensor
    assert not any(name.startswith("language_model") for name in tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    expected = unshared(vitrail.load(golden, device="cpu").model)
    found = unshared(vitrail.load(tmp_path, device="cpu").model)
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_a_folder_without_a_tokenizer_says_so_when_asked(golden: Path) -> None:
    if (golden / "tokenizer.json").exists():
        pytest.skip("this folder has one")
    with pytest.raises(vitrail.WeightsError, match="holds no tokenizer"):
        vitrail.load(golden, device="cpu").chat("What?")

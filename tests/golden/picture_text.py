"""A case of a whole system, padded, as our packed batches, and every output of ours that it may be compared with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from towers import Hidden, in_reading_order, stream_of

from vitrail.contracts.samples import IGNORE, Batch, MediaStream, Segments, TextStream
from vitrail.inference.config import GenerationConfig
from vitrail.inference.engine import generate
from vitrail.models.assembled import MultimodalModel


def batch_of(text: TextStream, vision: MediaStream | None) -> Batch:
    """Rows without names, as packs of one medium."""
    names = ("",) * len(text.segments.lengths)
    streams = {"text": text, **({} if vision is None else {"vision": vision})}
    return Batch(streams, names, names, float(text.weights.sum()))


class Tiles:
    """A case's padded rows, and its tiles: each fills the next run of its row's picture tokens."""

    def __init__(self, case: Any, picture_id: int, tile_tokens: int, patch: int, merge: int) -> None:
        self.ids, self.picture_id, self.tile_tokens = case.inputs["input_ids"], picture_id, tile_tokens
        self.patch, self.merge = patch, merge
        self.real = case.inputs.get("attention_mask", torch.ones_like(self.ids)).bool()
        self.labels = case.inputs.get("labels", torch.full_like(self.ids, IGNORE))
        self.pictures = case.inputs.get("pixel_values")

    @property
    def rows(self) -> range:
        return range(len(self.ids))

    def batch(self, rows: Sequence[int]) -> Batch:
        """Rows without their padding, laid end to end."""
        ids = [self.ids[row][self.real[row]] for row in rows]
        labels = [shifted(self.labels[row])[self.real[row]] for row in rows]
        text = TextStream(
            ids=torch.cat(ids),
            labels=torch.cat(labels),
            weights=torch.cat(labels).ne(IGNORE).float(),
            positions=torch.cat([torch.arange(len(one)) for one in ids]),
            segments=Segments(tuple(map(len, ids))),
        )
        return batch_of(text, self.vision(rows, text.ids))

    def numbers(self, rows: Sequence[int]) -> list[int]:
        """Of the tiles that stand in these rows."""
        counts = ((self.ids == self.picture_id).sum(1) // self.tile_tokens).tolist()
        starts = [sum(counts[:row]) for row in self.rows]
        return [starts[row] + number for row in rows for number in range(counts[row])]

    def vision(self, rows: Sequence[int], ids: Tensor) -> MediaStream | None:
        numbers = self.numbers(rows)
        if not numbers:
            return None
        stream = stream_of(self.pictures[numbers], self.patch, self.merge)
        index = ids.eq(self.picture_id).nonzero().squeeze(1)
        return MediaStream(stream.values, stream.positions, stream.segments, index)

    def padded(self, stream: Tensor) -> Tensor:
        """The packed rows, float[T, D], where they stand among the padding, float[B, L, D]."""
        full = stream.new_zeros(*self.real.shape, stream.shape[1])
        full[self.real] = stream
        return full


def shifted(labels: Tensor) -> Tensor:
    return torch.cat([labels[1:], labels.new_full((1,), IGNORE)])


class Spoken:
    """What the language model's layers make, by number; 0 is what they read, the last is normed."""

    def __init__(self, model: MultimodalModel) -> None:
        self.states: dict[int, Tensor] = {}
        lm = model.backbone.lm.model
        for number, module in enumerate([*lm.layers[:-1], lm.norm], start=1):
            module.register_forward_hook(self._keep(number))

    def _keep(self, number: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            self.states[number] = output.flatten(0, -2)

        return hook


@torch.inference_mode()
def outputs(model: MultimodalModel, tiles: Tiles) -> dict[str, Tensor]:
    """Every output by a short name; those of text have the case's padding."""
    hidden, spoken = Hidden(model.encoder), Spoken(model)
    batch = tiles.batch(tiles.rows)
    found: dict[str, Tensor] = {}
    media = {}
    if batch.vision is not None:
        last, _ = model.encoder._run(batch.vision, len(model.encoder.blocks))
        classes = model.encoder.config.class_token != "none"
        for number, state in enumerate(hidden.states):
            found[f"vision_hidden.{number}"] = in_reading_order(state, batch.vision, classes=classes)
        found["vision_last"] = in_reading_order(last, batch.vision, classes=classes)
        features = model.encoder(batch.vision)
        media["vision"] = model.projected("vision", features, batch.media)
        found["shuffled"] = features.reshape(len(batch.vision.segments.lengths), tiles.tile_tokens, -1)
        found["image_embeds"] = media["vision"].unflatten(0, (-1, tiles.tile_tokens))
    embeddings, context = model.fused(batch, media)
    last = model.backbone(embeddings, batch.text.positions, batch.text.segments, context=context)
    found["llm_hidden.0"] = tiles.padded(embeddings)
    found.update({f"llm_hidden.{number}": tiles.padded(state) for number, state in spoken.states.items()})
    found["logits"] = tiles.padded(model.logits(last))
    if batch.label_weight:
        found["loss"] = (model.loss_sum(batch, media) / batch.label_weight)[None]
    return found


def greedy(model: MultimodalModel, tiles: Tiles, count: int) -> Tensor:
    """Row by row over our cache."""
    config = GenerationConfig(max_tokens=count)
    rows = [list(generate(model, tiles.batch([row]), frozenset(), config)) for row in tiles.rows]
    return torch.tensor(rows)


def settings(case: Any) -> dict[str, Any]:
    """config.json."""
    content: dict[str, Any] = json.loads((case.folder / "config.json").read_text(encoding="utf-8"))
    return content

"""A vision tower alone against the outputs of a case, and pictures as the encoder takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from vitrail.contracts.samples import MediaStream, Segments
from vitrail.media.native import patchify
from vitrail.models.config import VisionTransformerConfig
from vitrail.models.encoders.vision_transformer import VisionTransformer
from vitrail.models.weights import fill
from vitrail.systems import folder as systems


def stream_of(pictures: Sequence[Tensor], patch: int, merge: int = 1) -> MediaStream:
    """Pictures, float[3, h, w], in our order of patches."""
    patches, positions = zip(
        *(patchify(np.ascontiguousarray(one.permute(1, 2, 0).numpy()), patch, merge) for one in pictures), strict=True
    )
    count = sum(map(len, patches))
    return MediaStream(
        values=torch.from_numpy(np.concatenate(patches)),
        positions=torch.from_numpy(np.concatenate(positions)),
        segments=Segments(tuple(map(len, patches))),
        token_index=torch.arange(count // merge**2),
    )


def in_reading_order(stream: Tensor, vision: MediaStream, *, classes: bool) -> Tensor:
    """Packed views of one size, float[P, D], as float[V, P / V, D], row after row; class tokens first, if any."""
    count, length = len(vision.segments.lengths), vision.segments.lengths[0]
    whole = stream.unflatten(0, (count, length + classes))
    positions = vision.positions.unflatten(0, (count, length))
    order = (positions[..., 0] * (positions[..., 1].max() + 1) + positions[..., 1]).argsort(1)
    if classes:
        order = torch.cat([torch.zeros(count, 1, dtype=torch.long), order + 1], dim=1)
    return whole.gather(1, order[..., None].expand(-1, -1, whole.shape[2]))


class Hidden:
    """What enters the first block and what leaves each of them, packed."""

    def __init__(self, encoder: Any) -> None:
        self.states: list[Tensor] = []
        encoder.blocks[0].register_forward_pre_hook(self._before)
        for block in encoder.blocks:
            block.register_forward_hook(self._after)

    def _before(self, _module: Any, inputs: Any) -> None:
        self.states = [inputs[0]]

    def _after(self, _module: Any, _inputs: Any, output: Tensor) -> None:
        self.states.append(output)


class Tower:
    """The encoder of a folder that holds one alone, by the registry."""

    def open(self, place: Path, **changes: Any) -> tuple[VisionTransformer, Any]:
        """changes: of its settings. Returns it with its description."""
        layout, official = systems.encoder_of(place), systems.read_folder(place)
        described = systems.describe(layout, official, place)
        described = replace(described, encoder=replace(described.encoder, **changes))
        encoder = VisionTransformer(described.encoder, 3 * described.media.patch**2).eval()
        expected = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
        fill(expected, systems.from_official(layout, described, official.tensors, list(expected), place), place)
        return encoder, described

    @torch.inference_mode()
    def check(self, case: Any) -> None:
        """Everything that the case has."""
        encoder, described = self.open(case.folder)
        hidden = Hidden(encoder)
        vision = stream_of(case.inputs["pixel_values"], described.media.patch, described.media.merge)
        classes = described.encoder.class_token != "none"
        case.compare("last_hidden_state", in_reading_order(encoder(vision), vision, classes=classes))
        states = [in_reading_order(state, vision, classes=classes) for state in hidden.states]
        for number, state in enumerate(states):
            case.compare(f"hidden.{number}", state)
        case.compare("hidden.penultimate", states[-2])
        if described.encoder.pooling != "none":
            pooled, projected = encoder.pooled(vision)
            case.compare("pooler_output", pooled)
            case.compare("image_embeds", projected)
        case.nothing_is_left()

    def check_written(self, place: Path) -> None:
        """Our tensors under their official names are the ones that were read."""
        encoder, described = self.open(place)
        layout = systems.encoder_of(place)
        ours = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
        back = systems.to_official(layout, described, ours)
        original = {layout.canonical(name): tensor for name, tensor in load_file(place / "model.safetensors").items()}
        assert back.keys() == original.keys()
        for name, tensor in back.items():
            assert torch.equal(tensor, original[name].float()), name

    @torch.inference_mode()
    def check_penultimate(self, case: Any) -> None:
        """The features before the last block, without class tokens."""
        own: VisionTransformerConfig = self.open(case.folder)[1].encoder
        name = "hidden.penultimate" if "hidden.penultimate" in case.outputs else f"hidden.{own.depth - 1}"
        encoder, described = self.open(case.folder, layer=-2, class_token="dropped", pooling="class")
        vision = stream_of(case.inputs["pixel_values"], described.media.patch, described.media.merge)
        features = in_reading_order(encoder(vision), vision, classes=False)
        case.outputs[name] = case.outputs[name][:, 1:]
        case.compare(name, features)

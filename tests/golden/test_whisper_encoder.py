"""Whisper's encoder against transformers, and its features of sound against the official extractor's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from test_preprocess import File
from torch import Tensor
from towers import Hidden

from vitrail.contracts.samples import MediaStream, Segments
from vitrail.media.log_mel import HOP, log_mel
from vitrail.models.encoders.whisper import WhisperEncoder
from vitrail.models.weights import fill
from vitrail.systems import folder as systems

SYSTEM = "whisper_encoder"
DECODERS = ("logits",)
"""Outputs of the official decoder, which is no part of ours."""


def opened(place: Path) -> tuple[WhisperEncoder, Any]:
    """The encoder by the registry, with its description."""
    layout, official = systems.encoder_of(place), systems.read_folder(place)
    described = systems.describe(layout, official, place)
    encoder = WhisperEncoder(described.encoder, described.media.patch_values).eval()
    expected = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    fill(expected, systems.from_official(layout, described, official.tensors, list(expected), place), place)
    return encoder, described


def stream_of(features: Tensor) -> MediaStream:
    """float[B, bands, frames] as the official class takes them, packed."""
    count, _, frames = features.shape
    return MediaStream(
        values=features.transpose(1, 2).flatten(0, 1),
        positions=torch.arange(frames).repeat(count)[:, None],
        segments=Segments((frames,) * count),
        token_index=torch.arange(count * frames // 2),
    )


@torch.inference_mode()
def test_every_output_of_the_encoder_is_the_references(case: Any) -> None:
    encoder, described = opened(case.folder)
    features = case.inputs["input_features"]
    assert features.shape[1:] == (described.media.bands, described.media.view_frames)
    hidden = Hidden(encoder)

    def batched(states: Tensor) -> Tensor:
        return states.unflatten(0, (len(features), -1))

    last = encoder(stream_of(features))
    case.compare("encoder_last_hidden", batched(last))
    # The reference's list ends with what the last norm makes of the last block.
    for number, state in enumerate([*hidden.states[:-1], last]):
        case.compare(f"hidden.{number}", batched(state))
    for name in DECODERS:
        case.outputs.pop(name)
    case.nothing_is_left()


def test_what_is_written_is_bit_for_bit_what_was_read(golden: Path) -> None:
    encoder, described = opened(golden)
    layout = systems.encoder_of(golden)
    ours = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    back = systems.to_official(layout, described, ours)
    original = {layout.canonical(name): tensor for name, tensor in load_file(golden / "model.safetensors").items()}
    original.pop(None)
    assert back.keys() == original.keys()
    for name, tensor in back.items():
        assert torch.equal(tensor, original[name]), name


def test_frames_are_the_official_extractors(root: Path) -> None:
    """Its own two ways of working them out differ by 1e-5."""
    file = File(root, "audio")
    for key, expected in file.about["tensors"].items():
        if not key.startswith("out.whisper_logmel"):
            continue
        bands, frames = expected["shape"]
        samples = file.tensors["in.waveform"]
        found = log_mel(np.pad(samples, (0, frames * HOP - len(samples))), bands)
        assert found.shape == (frames, bands)
        assert np.abs(found.T - file.tensors[key]).max() <= 1e-5, key

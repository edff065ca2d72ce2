"""SAM's image encoder against transformers: hidden states of windowed and of full blocks, and what leaves the neck."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from towers import Hidden, Tower, stream_of

SYSTEM = "sam_vision"


def as_planes(stream: torch.Tensor, like: torch.Tensor, *, channels_first: bool) -> torch.Tensor:
    """Packed views in reading order in the shape of a case's output."""
    whole = stream.unflatten(0, (like.shape[0], -1))
    return whole.transpose(1, 2).reshape(like.shape) if channels_first else whole.reshape(like.shape)


@torch.inference_mode()
def test_every_output_is_the_references(case: Any) -> None:
    encoder, described = Tower().open(case.folder)
    hidden = Hidden(encoder)
    last = encoder(stream_of(case.inputs["pixel_values"], described.media.patch))
    case.compare("last_hidden_state", as_planes(last, case.outputs["last_hidden_state"], channels_first=True))
    states = {f"hidden.{number}": state for number, state in enumerate(hidden.states)}
    states["hidden.penultimate"] = hidden.states[-2]
    for name in case.outputs.keys() & states:
        case.compare(name, as_planes(states[name], case.outputs[name], channels_first=False))
    case.nothing_is_left()


def test_what_is_written_is_bit_for_bit_what_was_read(golden: Path) -> None:
    Tower().check_written(golden)


@torch.inference_mode()
def test_a_view_does_not_depend_on_the_order_of_its_patches(case: Any) -> None:
    encoder, described = Tower().open(case.folder)
    stream = stream_of(case.inputs["pixel_values"], described.media.patch)
    length = stream.segments.lengths[0]
    order = torch.cat([view * length + torch.randperm(length) for view in range(len(stream.segments.lengths))])
    mixed = replace(stream, values=stream.values[order], positions=stream.positions[order])
    assert torch.allclose(encoder(mixed), encoder(stream)[order], atol=1e-5)


@torch.inference_mode()
def test_windows_filled_with_zeros_are_told_from_windows_cut_short(case: Any) -> None:
    encoder, described = Tower().open(case.folder)
    table, window = described.encoder.position_table, described.encoder.window
    if table[0] % window == 0:
        pytest.skip("windows fit the view")
    stream = stream_of(case.inputs["pixel_values"], described.media.patch)
    found = encoder(stream)
    for number, block in enumerate(encoder.blocks):
        if number not in described.encoder.full_blocks:
            block.query_key_value.bias[described.encoder.width :] = 0.0
    assert not torch.allclose(encoder(stream), found, atol=1e-3)

"""Matrices in 4 bits: what they stand for, their gradients, what is kept, and a decoder with them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitrail.models.backbones.construct import build_backbone
from vitrail.models.backbones.decoder import Decoder
from vitrail.models.config import DecoderConfig, LoraConfig
from vitrail.models.ops import nf4
from vitrail.models.weights import finished

SETTINGS = {
    "model_type": "qwen2",
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
}


@pytest.mark.parametrize("shape", [(7, 128), (3, 48), (5, 2)])
def test_a_matrix_comes_back_at_the_nearest_places(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    codes, scales = nf4.packed(weight)
    assert codes.shape == (shape[0], shape[1] // 2)
    back = nf4.unpacked(codes, scales, torch.float32)
    blocks, kept = (one.reshape(*scales.shape, -1) for one in (weight, back))
    places = torch.tensor(nf4.LEVELS) * scales.float()[..., None, None]
    best = (blocks[..., None] - places).abs().amin(-1)
    torch.testing.assert_close((blocks - kept).abs(), best, atol=1e-6, rtol=1e-5)
    assert torch.equal(nf4.unpacked(*nf4.packed(back), torch.float32), back), "a second time changes nothing"


def test_zeros_stay_zeros() -> None:
    assert not nf4.unpacked(*nf4.packed(torch.zeros(2, 64)), torch.float32).any()


def test_products_and_gradients_are_those_of_the_matrix_it_stands_for() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 12)
    quantised = nf4.QuantisedLinear(linear)
    with torch.no_grad():
        linear.weight.copy_(nf4.unpacked(quantised.codes, quantised.scales, torch.float32))
    x, y = (torch.randn(5, 64, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    ours, theirs = quantised(x), linear(y)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_the_way_back_keeps_codes_and_no_matrix() -> None:
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    quantised = nf4.QuantisedLinear(nn.Linear(256, 256, bias=False))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        quantised(torch.randn(1, 256, requires_grad=True))
    assert 0 < sum(kept) < 256 * 256


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    made = build_backbone(DecoderConfig(config=SETTINGS, tokenizer="bytes"), 300)
    made.add_adapters(LoraConfig(rank=2, alpha=4))
    return made


def test_a_finished_decoder_has_the_matrices_it_learnt_beside(decoder: Decoder) -> None:
    plain = finished(nn.ModuleDict({"backbone": decoder}))
    count = sum(parameter.numel() for parameter in decoder.parameters())
    learning = len(decoder.trainable_parameters())
    decoder.quantise()
    assert len(decoder.trainable_parameters()) == learning
    assert sum(parameter.numel() for parameter in decoder.parameters()) + nf4.weights(decoder) == count
    found = finished(nn.ModuleDict({"backbone": decoder}))
    assert found.keys() == plain.keys()
    for name, tensor in found.items():
        assert tensor.shape == plain[name].shape, name
        # In the layers matrices alone are rounded; a bias, a norm and the embeddings are as they were.
        rounded = "_proj.weight" in name
        assert torch.equal(tensor, plain[name]) != rounded, name
        assert (tensor - plain[name]).abs().max() < 0.02, name


def test_recomputed_layers_give_the_same_gradients(decoder: Decoder) -> None:
    from vitrail.contracts.samples import Segments

    ids, positions, segments = torch.arange(6), torch.arange(6), Segments((6,))
    gradients = []
    for again in (False, True):
        decoder.recompute = again
        decoder.zero_grad()
        decoder(decoder.embed(ids), positions, segments).square().sum().backward()
        gradients.append(
            [parameter.grad.clone() for parameter in decoder.trainable_parameters() if parameter.grad is not None]
        )
    assert len(gradients[0]) == len(gradients[1]) > 0
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))

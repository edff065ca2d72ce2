"""Our loop over transformers' layers against transformers' own forward."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.samples import Segments
from vitrail.inference.cache import SlotCache
from vitrail.models.backbones.decoder import FAMILIES, Decoder, decoder_from_config, decoder_from_pretrained

WORDS = 64
OF_A_FAMILY: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "mistral": {"sliding_window": 5},
    "qwen2": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": {"head_dim": 16},
}
"""What each brings of its own, besides its biases and norms; windows are shorter than the texts here."""


def config_of(family: str, **more: Any) -> PretrainedConfig:
    sizes = {
        "vocab_size": WORDS,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return AutoConfig.for_model(family, **{**sizes, **OF_A_FAMILY[family], **more})


def pair(family: str, **more: Any) -> tuple[Decoder, Any]:
    """Ours and the official one, of the same weights."""
    torch.manual_seed(0)
    config = config_of(family, **more)
    official = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in official.parameters():  # biases start as zeros, norms as ones
            parameter.add_(0.2 * torch.randn_like(parameter))
    ours = decoder_from_config(config).eval()
    ours.lm.load_state_dict(official.state_dict())
    return ours, official


def ids(count: int = 17) -> Tensor:
    return torch.randint(WORDS, (count,), generator=torch.Generator().manual_seed(1))


def logits(decoder: Decoder, text: Tensor, *lengths: int) -> Tensor:
    positions = torch.cat([torch.arange(length) for length in lengths])
    hidden = decoder(decoder.embed(text), positions, Segments(lengths))
    return hidden @ decoder.head_weight().T


def test_every_family_is_tested() -> None:
    assert tuple(OF_A_FAMILY) == FAMILIES


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logits_are_the_official_ones(family: str, tied: bool) -> None:
    ours, official = pair(family, tie_word_embeddings=tied)
    torch.testing.assert_close(logits(ours, ids(), 17), official(ids()[None]).logits[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_packed_is_one_by_one(family: str) -> None:
    ours, official = pair(family)
    lengths = (3, 8, 1, 5)
    one_by_one = torch.cat([official(part[None]).logits[0] for part in ids().split(lengths)])
    torch.testing.assert_close(logits(ours, ids(), *lengths), one_by_one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [(7, *[1] * 10), (16, 1), (4, 3, 10), (1, 16)])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_cached_is_uncached(family: str, steps: tuple[int, ...]) -> None:
    ours, _ = pair(family)
    cache, seen, pieces = SlotCache(), 0, []
    slots = cache.open(1, 0)
    for part in ids().split(steps):
        positions = torch.arange(seen, seen + len(part))
        seen += len(part)
        with cache.covering(slots, (len(part),)):
            pieces.append(ours(ours.embed(part), positions, Segments((len(part),)), cache=cache))
        assert cache.lengths == [seen]
    whole = ours(ours.embed(ids()), torch.arange(17), Segments((17,)))
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_the_official_ones(family: str) -> None:
    ours, official = pair(family)
    ours.train()
    official.train()
    target = torch.randn(17, WORDS, generator=torch.Generator().manual_seed(2))
    (logits(ours, ids(), 17) * target).sum().backward()
    (official(ids()[None]).logits[0] * target).sum().backward()
    theirs = dict(official.named_parameters())
    compared = 0
    for name, parameter in ours.lm.named_parameters():
        expected = theirs[name].grad
        assert expected is not None, name
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max() + 1))
        compared += 1
    assert compared == len(theirs)


def test_a_family_that_is_not_tested_is_refused() -> None:
    config = AutoConfig.for_model("gpt2", n_layer=1, n_embd=8, n_head=1)
    with pytest.raises(RecipeError, match="'gpt2' is not one of llama, mistral, qwen2, qwen3"):
        decoder_from_config(config)


def test_dropout_inside_attention_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"attention_dropout is 0\.1, only 0 is supported"):
        decoder_from_config(config_of("llama", attention_dropout=0.1))


def test_a_layer_cannot_be_called_without_segments() -> None:
    ours, _ = pair("llama")
    hidden = ours.embed(ids())[None]
    turn = ours.lm.model.rotary_emb(hidden, position_ids=torch.arange(17)[None])
    with pytest.raises(TypeError, match="segments"):
        ours.lm.model.layers[0](hidden, attention_mask=None, position_embeddings=turn)


@torch.no_grad()
def test_a_folder_of_official_weights_is_opened(tmp_path: Any) -> None:
    _, official = pair("qwen2", tie_word_embeddings=False)
    official.save_pretrained(tmp_path)
    ours = decoder_from_pretrained(str(tmp_path)).eval()
    assert (ours.width, ours.vocabulary) == (32, WORDS)
    torch.testing.assert_close(logits(ours, ids(), 17), official(ids()[None]).logits[0], rtol=1e-5, atol=1e-5)


DYNAMIC = {
    "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 500.0},
    "max_position_embeddings": 8,
}


@torch.no_grad()
def test_rotary_positions_that_depend_on_the_length_are_transformers() -> None:
    ours, official = pair("llama", **DYNAMIC)
    text = ids()
    expected = official(text[None]).logits[0]
    torch.testing.assert_close(logits(ours, text, len(text)), expected, rtol=1e-4, atol=1e-5)
    plain, _ = pair("llama", rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    assert (logits(plain, text, len(text)) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_rotary_positions_that_depend_on_the_length_depend_on_ones_own() -> None:
    """Not on that of a longer text beside or before it."""
    ours, _ = pair("llama", **DYNAMIC)
    text = ids(26)
    alone = torch.cat([logits(ours, part, len(part)) for part in text.split([17, 9])])
    torch.testing.assert_close(logits(ours, text, 17, 9), alone, rtol=1e-4, atol=1e-5)
    again = logits(ours, text[17:], 9)
    torch.testing.assert_close(again, alone[17:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_equal_positions_on_three_axes_are_positions_on_a_line() -> None:
    ours, _ = pair("qwen2", use_sliding_window=False)
    ours.use_mrope((1, 1, 2))
    text = ids()
    line = torch.arange(len(text))
    hidden = ours(ours.embed(text), line.expand(3, -1), Segments((len(text),)))
    torch.testing.assert_close(hidden @ ours.head_weight().T, logits(ours, text, len(text)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_axis_of_a_grid_counts(axis: int) -> None:
    ours, _ = pair("qwen2", use_sliding_window=False)
    ours.use_mrope((1, 1, 2))
    text = ids()
    line = torch.arange(len(text)).repeat(3, 1)
    moved = line.clone()
    moved[axis, 5:] += 3
    first, second = (ours(ours.embed(text), positions, Segments((len(text),))) for positions in (line, moved))
    assert (first - second).abs().max() > 1e-3
    torch.testing.assert_close(first[:5], second[:5])


def test_a_grid_without_sections_is_our_own_mistake() -> None:
    ours, _ = pair("llama")
    text = ids()
    with pytest.raises(AssertionError, match="M-RoPE"):
        ours(ours.embed(text), torch.arange(len(text)).expand(3, -1), Segments((len(text),)))

"""Our loops over T5's layers against transformers' own forward: packed, cached, recomputed and adapted."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.protocols import EncoderDecoder
from vitrail.contracts.samples import Segments
from vitrail.inference.cache import SlotCache
from vitrail.models.backbones.construct import (
    backbone_depths,
    build_backbone,
    decoder_start,
    transformers_config,
    unset_backbone,
    untrained_backbone,
)
from vitrail.models.backbones.encoder_decoder import T5, t5_from_config, t5_from_pretrained
from vitrail.models.config import DecoderConfig, EncoderDecoderConfig, LoraConfig, ModelConfig
from vitrail.prompts.config import MRopePositionsConfig

WORDS = 64
SIZES = {
    "model_type": "t5",
    "vocab_size": WORDS,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 5,
}
STYLES: dict[str, dict[str, Any]] = {
    "t5": {"feed_forward_proj": "relu", "tie_word_embeddings": True},
    "flan-t5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "blip2": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": True, "scale_decoder_outputs": False},
}
"""The original; T5 1.1; and a tied head without a scale, as a re-saved checkpoint may have it."""


def pair(style: str) -> tuple[T5, Any]:
    """Ours, and the official class with the same weights, none of them at its start."""
    torch.manual_seed(0)
    ours = t5_from_config(transformers_config({**SIZES, **STYLES[style]})).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    config = copy.deepcopy(ours.lm.config)
    config.tie_word_embeddings = True
    official = AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager").eval()
    if not STYLES[style]["tie_word_embeddings"]:
        official.lm_head.weight = torch.nn.Parameter(official.lm_head.weight.clone())
    official.load_state_dict(ours.lm.state_dict())
    return ours, official


def assert_close(found: Tensor, expected: Tensor) -> None:
    """To 1e-5, of the largest where there are larger numbers than 1: a head without scale makes logits of 20."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.detach().abs().max())))


def ids(count: int, seed: int = 1) -> Tensor:
    return torch.randint(WORDS, (count,), generator=torch.Generator().manual_seed(seed))


def logits(model: T5, text: Tensor, said: Tensor, lengths: tuple[int, ...], said_lengths: tuple[int, ...]) -> Tensor:
    segments = Segments(lengths)
    states = model(model.embed(text), torch.arange(len(text)), segments)
    hidden = model.decode(model.embed(said), Segments(said_lengths), states, segments)
    return hidden @ model.head_weight().T


@pytest.mark.parametrize("style", STYLES)
def test_the_head_is_as_the_settings_say(style: str) -> None:
    ours, _ = pair(style)
    tied = STYLES[style]["tie_word_embeddings"]
    assert (ours.head_weight() is ours.lm.shared.weight) == tied
    assert ours.lm.encoder.embed_tokens.weight is ours.lm.shared.weight
    assert ours.settings["tie_word_embeddings"] is tied
    assert ours.lm.config.scale_decoder_outputs == (style == "t5")
    assert isinstance(ours, EncoderDecoder)
    assert (ours.start, ours.width, ours.vocabulary) == (5, 32, WORDS)


@pytest.mark.parametrize("style", STYLES)
@torch.no_grad()
def test_logits_are_the_official_ones(style: str) -> None:
    ours, official = pair(style)
    text, said = ids(37), ids(29, 2)
    expected = official(input_ids=text[None], decoder_input_ids=said[None]).logits[0]
    assert_close(logits(ours, text, said, (37,), (29,)), expected)


@pytest.mark.parametrize("style", STYLES)
@torch.no_grad()
def test_packed_is_one_by_one(style: str) -> None:
    ours, official = pair(style)
    lengths, said_lengths = (3, 8, 8, 8, 1, 5), (4, 2, 2, 9, 1, 4)
    text, said = ids(sum(lengths)), ids(sum(said_lengths), 2)
    parts = zip(text.split(lengths), said.split(said_lengths), strict=True)
    one_by_one = [official(input_ids=one[None], decoder_input_ids=other[None]).logits[0] for one, other in parts]
    packed = logits(ours, text, said, lengths, said_lengths)
    assert_close(packed, torch.cat(one_by_one))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_loss_and_gradients_are_the_official_ones(style: str, recompute: bool) -> None:
    """Of two samples in one pack, against the sum of the official ones, one by one."""
    ours, official = pair(style)
    ours.train()
    ours.recompute = recompute
    official.train()  # without dropout, which the settings leave out
    text, said, labels = ids(20), ids(11, 2), ids(11, 3)
    loss = cross_entropy(logits(ours, text, said, (12, 8), (4, 7)), labels, reduction="sum")
    loss.backward()
    expected = torch.tensor(0.0)
    for read, wrote, learnt in zip(text.split([12, 8]), said.split([4, 7]), labels.split([4, 7]), strict=True):
        found = official(input_ids=read[None], decoder_input_ids=wrote[None], labels=learnt[None])
        expected = expected + found.loss * len(learnt)
    expected.backward()
    assert_close(loss, expected)
    theirs = dict(official.named_parameters())
    assert {name for name, _ in ours.lm.named_parameters()} == theirs.keys()
    for name, parameter in ours.lm.named_parameters():
        gradient = theirs[name].grad
        assert parameter.grad is not None, name
        assert_close(parameter.grad, gradient)


def test_recomputing_keeps_less() -> None:
    ours, _ = pair("flan-t5")
    kept = []
    for recompute in (False, True):
        ours.recompute = recompute
        counted: dict[int, int] = {}

        def keep(tensor: Tensor, counted: dict[int, int] = counted) -> Tensor:
            counted[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits(ours, ids(40), ids(30, 2), (40,), (30,))
        kept.append(sum(counted.values()))
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("style", STYLES)
@torch.no_grad()
def test_cached_is_uncached(style: str) -> None:
    """Three sequences of different texts, which say three tokens at first, then one each; the middle one leaves."""
    ours, _ = pair(style)
    lengths = (6, 1, 9)
    texts = ids(sum(lengths)).split(lengths)
    said = [ids(12, seed) for seed in (2, 3, 4)]
    whole = [
        ours.decode(ours.embed(one), Segments((12,)), _states(ours, text), Segments((len(text),)))
        for one, text in zip(said, texts, strict=True)
    ]
    cache, here = SlotCache(), [0, 1, 2]
    slots, segments = cache.open(3, 12), Segments(lengths)
    states = ours(ours.embed(torch.cat(texts)), torch.arange(16), segments)
    with cache.covering(slots, (3, 1, 2)):
        first = torch.cat([said[0][:3], said[1][:1], said[2][:2]])
        found = ours.decode(ours.embed(first), Segments((3, 1, 2)), states, segments, cache=cache)
    expected = torch.cat([whole[0][:3], whole[1][:1], whole[2][:2]])
    assert_close(found, expected)
    at = [3, 1, 2]
    for step in range(6):
        if step == 3:
            cache.close(1)
            here, at = [0, 2], [at[0], at[2]]
        ones = (1,) * len(here)
        tokens = torch.stack([said[number][index] for number, index in zip(here, at, strict=True)])
        with cache.covering(range(len(here)), ones):
            found = ours.decode(ours.embed(tokens), Segments(ones), states[:0], Segments(()), cache=cache)
        expected = torch.stack([whole[number][index] for number, index in zip(here, at, strict=True)])
        assert_close(found, expected)
        at = [index + 1 for index in at]


def _states(model: T5, text: Tensor) -> Tensor:
    return model(model.embed(text), torch.arange(len(text)), Segments((len(text),)))


@torch.no_grad()
def test_a_folder_of_official_weights_is_opened(tmp_path: Path) -> None:
    """With a head of its own and with a tied one, whatever the re-saved settings say; and dropout is left out."""
    for style in STYLES:
        _, official = pair(style)
        official.config.dropout_rate = 0.1
        official.save_pretrained(tmp_path / style)
        opened = t5_from_pretrained(str(tmp_path / style)).train()
        assert opened.settings["tie_word_embeddings"] is STYLES[style]["tie_word_embeddings"]
        expected = official.eval()(input_ids=ids(9)[None], decoder_input_ids=ids(4, 2)[None]).logits[0]
        assert_close(logits(opened, ids(9), ids(4, 2), (9,), (4,)), expected)


def test_the_settings_of_a_finished_model_make_it_again() -> None:
    for style in STYLES:
        ours, _ = pair(style)
        again = unset_backbone(ours.settings)
        assert isinstance(again, T5)
        assert again.settings == ours.settings
        assert {name: one.shape for name, one in again.named_parameters()} == {
            name: one.shape for name, one in ours.named_parameters()
        }


def test_layers_of_both_stacks_are_counted_and_cut() -> None:
    config = EncoderDecoderConfig(config={**SIZES, **STYLES["t5"]}, tokenizer="bytes")
    assert backbone_depths(config, WORDS) == {"text": 2, "target": 3}
    cut = untrained_backbone(config, WORDS, {"text": 1, "target": 2})
    assert [len(stack) for stack in cut.stacks.values()] == [1, 2]
    assert decoder_start(config, WORDS) == 5
    plain = EncoderDecoderConfig(config={"model_type": "t5"}, tokenizer="bytes")
    assert decoder_start(plain, WORDS) == 0, "T5 begins with its padding token"
    assert decoder_start(DecoderConfig(config={"model_type": "llama"}, tokenizer="bytes"), WORDS) is None


def test_adapters_learn_alone_and_merge() -> None:
    ours, official = pair("flan-t5")
    ours.add_adapters(LoraConfig(rank=3, alpha=6, targets=("q", "k", "v", "o", "wi_0", "wi_1", "wo")))
    text, said = ids(9), ids(4, 2)
    with torch.no_grad():
        expected = official(input_ids=text[None], decoder_input_ids=said[None]).logits[0]
        found = logits(ours, text, said, (9,), (4,))
        assert_close(found, expected)
    pairs = ours.trainable_parameters()
    # Two matrices a pair; five layers, of one attention or two, and three matrices of the feed-forward layer.
    assert len(pairs) == 2 * (2 * (4 + 3) + 3 * (8 + 3))
    ours.requires_grad_(False)
    for parameter in pairs:
        parameter.requires_grad_(True)
    logits(ours, text, said, (9,), (4,)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in pairs)
    ours.quantise()
    assert torch.isfinite(logits(ours, text, said, (9,), (4,))).all()
    assert len(ours.trainable_parameters()) == len(pairs)


def test_targets_that_the_layers_have_not_are_named() -> None:
    ours, _ = pair("t5")
    with pytest.raises(RecipeError, match=r"have no 'q_proj'.*they have: q, k, v, o, wi, wo"):
        ours.add_adapters(LoraConfig())


def test_what_does_not_fit_is_refused() -> None:
    t5 = {**SIZES, **STYLES["t5"]}
    with pytest.raises(RecipeError, match="kind is decoder, t5 is of kind encoder_decoder"):
        build_backbone(DecoderConfig(config=t5, tokenizer="bytes"), WORDS)
    with pytest.raises(RecipeError, match="kind is encoder_decoder, llama is of kind decoder"):
        build_backbone(EncoderDecoderConfig(config={"model_type": "llama"}, tokenizer="bytes"), WORDS)
    with pytest.raises(RecipeError, match="'bart' is not one of t5"):
        t5_from_config(AutoConfig.for_model("bart"))
    with pytest.raises(ValueError, match=r"dropout_rate is 0\.1, only 0"):
        EncoderDecoderConfig(config={**t5, "dropout_rate": 0.1}, tokenizer="bytes")
    backbone = EncoderDecoderConfig(config=t5, tokenizer="bytes")
    with pytest.raises(ValueError, match="kind mrope rotates"):
        ModelConfig(backbone=backbone, positions=MRopePositionsConfig(sections=(1, 1, 2)))

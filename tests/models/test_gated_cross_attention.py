"""Gated cross-attention: who sees what, against a plain masked reference; packed, cached, recomputed; gates at 0."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from crossing import (
    FAMILIES,
    OPEN,
    SEES,
    asked,
    assert_gradients,
    batch_of,
    config,
    conversation,
    encode_of,
    loss_and_gradients,
    model_of,
    naive,
    samples_of,
    uncached,
    visible,
)
from torch import Tensor

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import ImagePart, TextPart
from vitrail.inference.chat_model import ChatModel
from vitrail.inference.config import GenerationConfig
from vitrail.media.config import NativeResolutionConfig
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import (
    GatedCrossAttentionConfig,
    LoraConfig,
    SpliceConfig,
    StreamConfig,
    VisionTransformerConfig,
)
from vitrail.models.fusion.sight import sight


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sees", SEES)
def test_each_family_sees_what_the_mask_says(sees: Any, family: str) -> None:
    settings = config(dataclasses.replace(OPEN, sees=sees), family)
    encode, model = encode_of(settings), model_of(settings)
    samples = samples_of(encode)
    batch = batch_of(samples, encode)
    found, expected = model(batch), naive(model, samples, batch, sees)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    others = [naive(model, samples, batch, other) for other in SEES if other != sees]
    assert all((found - other).abs().max() > 0.01 for other in others), "the options differ on these samples"


@torch.no_grad()
@pytest.mark.parametrize("at", [(0, 4), (1, 1, 3)])
@pytest.mark.parametrize("blind", ["untouched", "mlp", "attends"])
def test_blocks_stand_anywhere_and_blind_text_is_treated_as_said(blind: Any, at: tuple[int, ...]) -> None:
    """Two before one layer, one behind the last; rows without media, and text before the first view."""
    settings = config(GatedCrossAttentionConfig(at=at, blind=blind, sees="last"))
    encode, model = encode_of(settings), model_of(settings)
    samples = samples_of(encode)
    batch = batch_of(samples, encode)
    found, expected = model(batch), naive(model, samples, batch, "last")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    alone = torch.cat([model(batch_of([sample], encode)) for sample in samples])
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)
    text = model.backbone(model.backbone.embed(batch.text.ids), batch.text.positions, batch.text.segments)
    same = (found == text).all(1)
    rows = batch.text.segments.lengths[0]
    assert bool(same[:rows].all()) == (blind != "mlp"), "the first row has no media"
    sees = visible(samples, "last").any(1)
    assert not same[sees].any()
    assert bool(same[~sees].all()) == (blind == "untouched")


@pytest.mark.parametrize(
    "changes",
    [
        {
            "every": 1,
            "heads": 2,
            "head_width": 12,
            "norm": "layer",
            "mlp": "plain",
            "activation": "gelu",
            "blind": "mlp",
        },
        {
            "every": 3,
            "first": 0,
            "query_key_norm": True,
            "mlp_width": 20,
            "key_value_heads": 4,
            "sees": "last",
            "blind": "attends",
        },
    ],
    ids=["flamingo", "mllama"],
)
def test_packed_is_one_by_one(changes: dict[str, Any]) -> None:
    """Loss and every gradient, whatever the block is made of; padding changes nothing."""
    settings = config(dataclasses.replace(OPEN, **changes))
    encode, model = encode_of(settings), model_of(settings)
    samples = samples_of(encode)
    packed = batch_of(samples, encode)
    loss, gradients = loss_and_gradients(model, [packed])
    alone, expected = loss_and_gradients(model, [batch_of([sample], encode) for sample in samples])
    assert loss == pytest.approx(alone, rel=1e-5)
    assert gradients.keys() == {name for name, _ in model.named_parameters()}
    assert all(gradient.abs().max() > 0 for gradient in gradients.values())
    assert_gradients(gradients, expected)
    padded, of_padded = loss_and_gradients(model, [batch_of(samples, encode, packed.tokens + 50)])
    assert padded == pytest.approx(loss, rel=1e-5)
    assert_gradients(of_padded, gradients)


@torch.no_grad()
@pytest.mark.parametrize("sees", SEES)
def test_outputs_packed_are_those_one_by_one(sees: Any) -> None:
    settings = config(dataclasses.replace(OPEN, sees=sees))
    encode, model = encode_of(settings), model_of(settings)
    samples = samples_of(encode)
    alone = torch.cat([model(batch_of([sample], encode)) for sample in samples])
    torch.testing.assert_close(model(batch_of(samples, encode)), alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_sample_does_not_see_its_neighbours() -> None:
    """Bit for bit: with other pictures in one sample the others stay as they were."""
    encode, model = encode_of(config()), model_of(config())
    samples = samples_of(encode)
    changed = list(samples)
    other = [ImagePart(255 - part.image) for part in samples[2].media if isinstance(part, ImagePart)]
    changed[2] = dataclasses.replace(samples[2], media=tuple(other))
    before, after = model(batch_of(samples, encode)), model(batch_of(changed, encode))
    start = sum(map(len, samples[:2]))
    end = start + len(samples[2])
    assert torch.equal(before[:start], after[:start])
    assert torch.equal(before[end:], after[end:])
    first = samples[2].slots[0].start
    assert torch.equal(before[start : start + first], after[start : start + first]), "text before its first picture"
    assert not torch.equal(before[start + first : end], after[start + first : end])


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_with_its_gates_at_zero_it_is_the_text_model(family: str) -> None:
    settings = config(family=family)
    encode, model = encode_of(settings), model_of(settings, opened=False)
    batch = batch_of(samples_of(encode), encode)
    text = model.backbone(model.backbone.embed(batch.text.ids), batch.text.positions, batch.text.segments)
    assert torch.equal(model(batch), text)


@torch.no_grad()
@pytest.mark.parametrize("sees", SEES)
def test_what_sees_nothing_is_the_text_models(sees: Any) -> None:
    """Bit for bit with open gates: rows without media among others, and text before the first view."""
    settings = config(dataclasses.replace(OPEN, sees=sees))
    encode, model = encode_of(settings), model_of(settings)
    samples = samples_of(encode)
    batch = batch_of(samples, encode)
    text = model.backbone(model.backbone.embed(batch.text.ids), batch.text.positions, batch.text.segments)
    blind = ~visible(samples, sees).any(1)
    found = model(batch)
    assert blind.any()
    assert torch.equal(found[blind], text[blind])
    assert (found != text).any(1)[~blind].all()
    nothing = batch_of([encode(conversation(0)), encode(conversation(4))], encode)
    embeddings, context = model.fused(nothing)
    assert context is None
    assert torch.equal(embeddings, model.backbone.embed(nothing.text.ids))


def test_gates_open_as_they_learn() -> None:
    """Behind a closed gate nothing learns yet but the gate itself."""
    encode, model = encode_of(config()), model_of(config(), opened=False)
    _, gradients = loss_and_gradients(model, [batch_of(samples_of(encode), encode)])
    of_fusion = {name: float(one.abs().max()) for name, one in gradients.items() if name.startswith("fusion.")}
    assert of_fusion
    assert all((size > 0) == name.endswith("_gate") for name, size in of_fusion.items())


def test_text_has_no_placeholders_and_tags_stand_in_it() -> None:
    """A tile's slot stands where its tag begins, so that the tag sees it."""
    encode = encode_of(config())
    sample = encode(conversation(1))
    tokenizer = encode.tokenizer
    assert [slot.view.tag for slot in sample.slots][-1] == "<tile_global_thumbnail>"
    assert len(sample.slots) == 5
    for slot in sample.slots:
        tag = tokenizer.encode(slot.view.tag)
        assert sample.ids[slot.start : slot.start + len(tag)].tolist() == tag
        assert slot.end == slot.start
    spliced = encode_of(config(SpliceConfig()))(conversation(1))
    assert len(spliced) == len(sample) + sum(slot.view.tokens for slot in spliced.slots)
    assert tokenizer.decode(sample.ids.tolist()).startswith("<tile_1><tile_2>")


@pytest.mark.parametrize("sees", SEES)
def test_spans_are_the_segments(sees: Any) -> None:
    """Of the definition's mask: one segment for each run of positions that see the same, and no position besides."""
    encode = encode_of(config())
    samples = samples_of(encode)
    batch = batch_of(samples, encode, pad_to=1000)
    found = sight(batch, sees)
    assert found is not None
    seen = visible(samples, sees)
    mask = torch.cat([seen, seen.new_zeros(batch.padding, seen.shape[1])])
    rows = torch.arange(1000) if found.rows is None else found.rows
    tokens = torch.arange(mask.shape[1]) if found.seen is None else found.seen
    rebuilt = torch.zeros_like(mask)
    for positions, keys in zip(rows.split(found.queries.lengths), tokens.split(found.keys.lengths), strict=True):
        rebuilt[positions[:, None], keys] = True
    assert torch.equal(rebuilt, mask)
    last = torch.arange(mask.shape[1]) if found.last is None else found.last
    ends = torch.tensor(batch.text.segments.lengths).cumsum(0) - 1
    for end, keys in zip(ends, last.split(found.last_keys.lengths), strict=True):
        assert mask[end].nonzero().flatten().tolist() == keys.tolist()


@torch.no_grad()
def test_several_streams_are_seen_together() -> None:
    """A second encoder of the same pictures: its tokens lie beside the first one's, sample by sample."""
    first = config()
    second = StreamConfig(
        NativeResolutionConfig(patch=8, merge=2, max_tokens=16),
        VisionTransformerConfig(width=16, depth=1, heads=2, mlp_width=24),
        first.projector,
    )
    settings = dataclasses.replace(first, streams={"fine": second})
    encode, model = encode_of(settings), model_of(settings)
    samples = samples_of(encode)
    packed = batch_of(samples, encode)
    assert list(packed.media) == ["vision", "fine"]
    alone = torch.cat([model(batch_of([sample], encode)) for sample in samples])
    torch.testing.assert_close(model(packed), alone, rtol=1e-4, atol=1e-4)
    media = model.media(packed)
    other = model(packed, media={**media, "fine": -media["fine"]})
    changed = (other != model(packed)).any(1).split(packed.text.segments.lengths)
    assert [bool(one.any()) for one in changed] == [bool(sample.slots) for sample in samples]


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        *({"sees": sees} for sees in SEES),
        {"blind": "mlp", "at": (0, 4)},
        {"sees": "last", "blind": "attends", "at": (1, 1)},
    ],
    ids=str,
)
def test_cached_is_uncached(changes: dict[str, Any]) -> None:
    """Several prompts at once, those without media too: the tokens, and the logits of each step."""
    settings = config(dataclasses.replace(OPEN, **changes))
    encode, model = encode_of(settings), model_of(settings).eval()
    chat = ChatModel(model, encode)
    generation = GenerationConfig(max_tokens=6)
    numbers = [0, 1, 2, 3]
    replies = list(chat.replies([asked(number) for number in numbers], generation))
    for number, reply in zip(numbers, replies, strict=True):
        assert str(reply) == uncached(model, encode, number, 6)
        assert str(chat.reply(asked(number), generation)) == str(reply)
    # Two questions about one medium, which is read once.
    first = asked(1)
    other = dataclasses.replace(first.messages[-1], parts=(*first.messages[-1].parts, TextPart(" And which?")))
    pair = [first, dataclasses.replace(first, messages=(*first.messages[:-1], other))]
    assert list(chat.replies(pair, generation)) == [chat.reply(one, generation) for one in pair]


@torch.no_grad()
def test_logits_of_a_step_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token by token, of prompts with and without media side by side."""
    encode, model = encode_of(config()), model_of(config()).eval()
    kept: list[Tensor] = []
    logits = MultimodalModel.logits

    def keeping(self: MultimodalModel, hidden: Tensor) -> Tensor:
        kept.append(logits(self, hidden))
        return kept[-1]

    monkeypatch.setattr(MultimodalModel, "logits", keeping)
    numbers = (0, 1, 2)
    replies = list(ChatModel(model, encode).replies(map(asked, numbers), GenerationConfig(max_tokens=4)))
    monkeypatch.undo()
    assert [reply.tokens for reply in replies] == [4, 4, 4], "none ends early, so each step has a row of each"
    steps = torch.stack(kept)
    for row, number in enumerate(numbers):
        sample = encode.question(asked(number))
        ids = np.concatenate([sample.ids, steps[:-1, row].argmax(1).numpy()])
        nothing = np.full(len(ids), -100), np.zeros(len(ids), np.float32)
        longer = dataclasses.replace(sample, ids=ids, labels=nothing[0], weights=nothing[1])
        whole = model.logits(model(batch_of([longer], encode)))[-4:]
        torch.testing.assert_close(steps[:, row], whole, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_prompts_without_media_are_answered() -> None:
    """Nothing is kept of media then, and nothing asked for."""
    encode, model = encode_of(config()), model_of(config()).eval()
    chat = ChatModel(model, encode)
    generation = GenerationConfig(max_tokens=5)
    alone = [str(chat.reply(asked(number), generation)) for number in (0, 4)]
    assert [str(one) for one in chat.replies([asked(0), asked(4)], generation)] == alone
    assert str(chat.without_media().reply(asked(1), generation)) != ""


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2, alpha=4)])
def test_recomputed_is_kept(lora: LoraConfig | None) -> None:
    """Bit for bit, and with adapters in the language model too."""
    settings = config()
    settings = dataclasses.replace(settings, backbone=dataclasses.replace(settings.backbone, lora=lora))
    again = dataclasses.replace(settings, backbone=dataclasses.replace(settings.backbone, recompute=True))
    encode = encode_of(settings)
    batch = batch_of(samples_of(encode), encode)
    loss, gradients = loss_and_gradients(model_of(settings), [batch])
    other, of_other = loss_and_gradients(model_of(again), [batch])
    assert loss == other
    assert gradients.keys() == of_other.keys()
    assert all(torch.equal(gradients[name], of_other[name]) for name in gradients)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"^model.fusion: a block stands before layer 4, .* has 4$"):
        model_of(config(GatedCrossAttentionConfig(every=5)))
    with pytest.raises(RecipeError, match=r"^model.fusion: heads \(4\) must be a multiple of key_value_heads \(3\)$"):
        model_of(config(GatedCrossAttentionConfig(every=2, key_value_heads=3)))
    for wrong in ({"every": 0}, {"first": -1}, {"heads": -2}, {"heads": 4, "key_value_heads": 3}):
        with pytest.raises(ValueError, match="must be"):
            GatedCrossAttentionConfig(**wrong)


@pytest.mark.parametrize(
    ("settings", "layers"), [({"every": 2}, [1, 3, 5]), ({"every": 4}, [3]), ({"every": 3, "first": 0}, [0, 3, 6])]
)
def test_where_blocks_stand(settings: dict[str, int], layers: list[int]) -> None:
    assert list(GatedCrossAttentionConfig(**settings).layers(7)) == layers

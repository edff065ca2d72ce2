"""Hybrid fusion: whole pictures spliced, tiles behind their tags through cross-attention; NVLM-X's tags beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from crossing import (
    TILES,
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
)

from vitrail.contracts.samples import Batch, Sample
from vitrail.inference.chat_model import ChatModel
from vitrail.inference.config import GenerationConfig
from vitrail.media.config import NativeResolutionConfig
from vitrail.models.config import GatedCrossAttentionConfig, HybridConfig, SpliceConfig
from vitrail.prompts.config import PICTURES, PromptConfig

HYBRID = HybridConfig(every=2)
ADDED = dataclasses.replace(HYBRID, tags="added")
NVLM_X = GatedCrossAttentionConfig(every=2, sees="tag")


def test_the_thumbnail_stands_in_the_text_and_tags_of_tiles_in_none() -> None:
    encode = encode_of(config(HYBRID))
    sample = encode(conversation(1))
    *tiles, whole = sample.slots
    assert len(tiles) == 4
    assert whole.view.spliced
    assert [encode.tokenizer.decode(list(slot.tag)) for slot in tiles] == [f"<tile_{n}>" for n in range(1, 5)]
    assert len({slot.start for slot in tiles}) == 1
    text = encode.tokenizer.decode(np.delete(sample.ids, list(whole.indices)).tolist())
    assert text.startswith("<tile_global_thumbnail>What is")
    batch = batch_of([sample], encode)
    assert batch.vision is not None
    assert batch.vision.tags is not None
    assert batch.vision.tags.tolist() == [number for slot in tiles for number in slot.tag]
    assert len(batch.vision.token_index) == whole.view.tokens
    assert encode(conversation(2)).slots[0].view.spliced, "a picture of a single tile is its own thumbnail"


def test_what_stands_around_each_view_is_left_out_of_tiles_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A style that opens and closes every view does so for the ones in the text alone."""
    encode = dataclasses.replace(encode_of(config(HYBRID)), prompt=PromptConfig("terse", picture=PICTURES["minicpmv"]))
    specials = {"<image>": 900, "</image>": 901, "<slice>": 902, "</slice>": 903, "<unk>": 904}
    known = encode.tokenizer.special
    monkeypatch.setattr(encode.tokenizer, "special", lambda name: specials.get(name) or known(name))
    sample = encode(conversation(1))
    assert [int((sample.ids == specials[name]).sum()) for name in ("<image>", "</image>")] == [1, 1]


@torch.no_grad()
def test_it_sees_what_the_mask_says() -> None:
    settings = config(HYBRID)
    encode, model = encode_of(settings), model_of(settings)
    samples = samples_of(encode)
    batch = batch_of(samples, encode)
    torch.testing.assert_close(model(batch), naive(model, samples, batch, "before"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fusion", [HYBRID, ADDED], ids=["beside", "added"])
def test_packed_is_one_by_one(fusion: Any) -> None:
    """Loss and every gradient, those of the tags' embeddings among them; with a frozen language model the others."""
    settings = config(fusion)
    encode, model = encode_of(settings), model_of(settings)
    samples = samples_of(encode)
    loss, gradients = loss_and_gradients(model, [batch_of(samples, encode)])
    alone, expected = loss_and_gradients(model, [batch_of([sample], encode) for sample in samples])
    assert loss == pytest.approx(alone, rel=1e-5)
    assert_gradients(gradients, expected)
    frozen = model_of(settings)
    frozen.get_submodule("backbone").requires_grad_(False)
    _, of_frozen = loss_and_gradients(frozen, [batch_of(samples, encode)])
    assert_gradients(of_frozen, {name: one for name, one in gradients.items() if not name.startswith("backbone")})


@torch.no_grad()
def test_with_its_gates_at_zero_it_is_the_model_of_its_thumbnails() -> None:
    """That of spliced pictures of one tile each; and without pictures, to the last bit, the text model."""
    settings = config(HYBRID)
    encode, model = encode_of(settings), model_of(settings, opened=False)
    plain = config(SpliceConfig(), media=dataclasses.replace(TILES, max_tiles=1))
    one, spliced = encode_of(plain), model_of(plain)
    spliced.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if "fusion." not in name})
    numbers = (0, 1, 2, 3)
    found = model(batch_of(samples_of(encode, numbers), encode))
    torch.testing.assert_close(found, spliced(batch_of(samples_of(one, numbers), one)), rtol=1e-4, atol=1e-4)
    batch = batch_of(samples_of(encode, (0, 4)), encode)
    text = model.backbone(model.backbone.embed(batch.text.ids), batch.text.positions, batch.text.segments)
    assert torch.equal(model(batch), text)


@torch.no_grad()
def test_cached_is_uncached() -> None:
    settings = config(HYBRID)
    encode, model = encode_of(settings), model_of(settings).eval()
    chat, generation = ChatModel(model, encode), GenerationConfig(max_tokens=4)
    together = list(chat.replies([asked(number) for number in (0, 1, 2)], generation))
    for number, reply in zip((0, 1, 2), together, strict=True):
        assert str(reply) == uncached(model, encode, number, 4)


def shuffled(batch: Batch, order: Sequence[int]) -> Batch:
    """The views of a stream in another order, each with where it stands in the text; the last stays."""
    stream = batch.vision
    assert stream is not None
    assert len(set(stream.segments.lengths)) == 1, "views of one size"
    values, positions = (one.unflatten(0, (len(order), -1)) for one in (stream.values, stream.positions))
    tags = stream.tags
    if tags is not None:
        apart = tags.split([link.tag for link in stream.links if link.tag])
        tags = torch.cat([apart[number] for number in order[: len(apart)]])
    moved = dataclasses.replace(
        stream,
        values=values[list(order)].flatten(0, 1),
        positions=positions[list(order)].flatten(0, 1),
        views=tuple(stream.views[number] for number in order),
        links=tuple(stream.links[number] for number in order),
        tags=tags,
    )
    return batch.having("vision", moved)


@torch.no_grad()
@pytest.mark.parametrize("fusion", [HYBRID, ADDED, NVLM_X], ids=["hybrid", "added", "tag"])
def test_the_order_of_tiles_matters_only_through_their_tags(fusion: Any) -> None:
    """Tiles that lie in another order, each with its tag, say the same, and without tags their order says nothing.

    Under each other's tags they say something else; but not where tags stand among keys that have no positions, as
    NVLM-H's are published: there a tag belongs to no tile.
    """
    order = (2, 0, 3, 1, 4)
    for tags in ("number", "none"):
        settings = config(fusion, media=dataclasses.replace(TILES, tags=tags))
        encode, model = encode_of(settings), model_of(settings)
        batch = batch_of([encode(conversation(1))], encode)
        right = model(batch)
        torch.testing.assert_close(model(shuffled(batch, order)), right, rtol=1e-4, atol=1e-4)
        assert batch.vision is not None
        values = batch.vision.values.unflatten(0, (len(order), -1))[list(order)].flatten(0, 1)
        mixed = model(batch.having("vision", dataclasses.replace(batch.vision, values=values)))
        assert torch.allclose(mixed, right, rtol=1e-4, atol=1e-4) == (tags == "none" or fusion == HYBRID)


@torch.no_grad()
def test_a_tag_sees_its_own_tile_and_words_see_all() -> None:
    """NVLM-X: another tile 2 moves its own tag and all words behind the picture, and no other tag, to the last bit."""
    settings = config(dataclasses.replace(NVLM_X, at=(4,)))
    encode, model = encode_of(settings), model_of(settings)
    sample = encode(conversation(1))
    batch = batch_of([sample], encode)
    media = model.media(batch)["vision"].unflatten(0, (5, -1))
    other = media.clone()
    other[1] = -other[1]
    before, after = (model(batch, media={"vision": one.flatten(0, 1)}) for one in (media, other))
    moved = (before != after).any(1)
    tags = [range(slot.start, slot.start + len(slot.tag)) for slot in sample.slots]
    assert [bool(moved[list(tag)].any()) for tag in tags] == [False, True, False, False, False]
    assert moved[list(tags[1])].all()
    assert moved[tags[-1].stop :].all()


@pytest.mark.parametrize("fusion", [HYBRID, NVLM_X], ids=["hybrid", "tag"])
def test_pictures_without_tiles_fit_too(fusion: Any) -> None:
    """At native resolution every view is whole: spliced by hybrid fusion, whose blocks then see nothing."""
    settings = config(fusion, media=NativeResolutionConfig(patch=8, merge=2, max_tokens=16))
    encode, model = encode_of(settings), model_of(settings)
    samples: list[Sample] = samples_of(encode, (0, 1, 2))
    batch = batch_of(samples, encode)
    assert (model.fused(batch)[1] is None) == (fusion is HYBRID)
    loss, _ = loss_and_gradients(model, [batch])
    alone, _ = loss_and_gradients(model, [batch_of([sample], encode) for sample in samples])
    assert loss == pytest.approx(alone, rel=1e-5)

"""The objectives: their terms are the ones that the papers and the docstrings define, sample by sample."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vitrail import build
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.samples import Batch, Pack, Segments
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import ContrastConfig
from vitrail.recipe.schema import Recipe
from vitrail.training.config import ContrastiveCaptionConfig, StageConfig
from vitrail.training.objectives import ContrastiveCaption, NextToken, mean_by_sample


def sample_of(number: int, *, picture: bool = True) -> Conversation:
    shown = np.random.default_rng(number).integers(0, 256, (16 + 8 * number, 24, 3), np.uint8)
    asked = (ImagePart(shown),) if picture else (TextPart("what?"),)
    said = (TextPart(f"number {number} it is"),)
    return Conversation(str(number), (Message("user", asked), Message("assistant", said)))


def batch_of(encode: Encode, *conversations: Conversation) -> Batch:
    pack = Pack(tuple(encode(conversation) for conversation in conversations))
    batch, _ = collate(pack, encode.media)
    assert batch is not None
    return batch


@pytest.fixture
def model(tiny_recipe: Recipe, tiny_encode: Encode) -> MultimodalModel:
    config = dataclasses.replace(tiny_recipe.model, contrast=ContrastConfig(width=8))
    return build.build_model(config, tiny_encode.tokenizer.vocabulary, seed=3)


def test_the_caption_term_is_the_next_token_loss(model: MultimodalModel, tiny_encode: Encode) -> None:
    batch = batch_of(tiny_encode, *(sample_of(number) for number in range(3)))
    both = ContrastiveCaption(contrastive=0.5, caption=2.0)(model, batch)
    alone = NextToken()(model, batch)["next_token"]
    assert torch.allclose(both["caption"].loss_sum, alone.loss_sum)
    assert both["caption"].count == alone.count
    assert (both["caption"].weight, both["contrastive"].weight) == (2.0, 0.5)


def test_the_contrastive_term_is_siglips_pair_by_pair(model: MultimodalModel, tiny_encode: Encode) -> None:
    conversations = [sample_of(0), sample_of(1, picture=False), sample_of(2)]
    term = ContrastiveCaption(1.0, 1.0)(model, batch_of(tiny_encode, *conversations))["contrastive"]
    assert term.count == 2, "a sample without a picture has nothing to compare"
    assert model.contrast is not None
    pictures, texts = [], []
    for conversation in (conversations[0], conversations[2]):
        batch = batch_of(tiny_encode, conversation)
        assert batch.vision is not None
        pictures.append(model.pictures(batch.vision).mean(0))
        said = batch.text.labels[batch.text.labels >= 0]
        hidden = model.run(model.backbone.embed(said), torch.arange(len(said)), Segments((len(said),)))
        texts.append(hidden[-1])
    expected = torch.zeros(())
    for i, picture in enumerate(pictures):
        for j, text in enumerate(texts):
            logit = model.contrast.logits(picture[None], text[None])[0, 0]
            expected = expected - torch.nn.functional.logsigmoid(logit if i == j else -logit)
    assert torch.allclose(term.loss_sum, expected, rtol=1e-4)


def test_means_are_taken_sample_by_sample(tiny_encode: Encode) -> None:
    batch = batch_of(tiny_encode, *(sample_of(number) for number in range(2)))
    assert batch.vision is not None
    tokens = torch.randn(len(batch.vision.token_index), 5)
    first = sum(int(place) < batch.text.segments.lengths[0] for place in batch.vision.token_index)
    means = mean_by_sample(tokens, batch.vision, batch.text.segments)
    assert torch.allclose(means, torch.stack([tokens[:first].mean(0), tokens[first:].mean(0)]), atol=1e-6)


def test_a_term_of_weight_nought_is_not_computed(model: MultimodalModel, tiny_encode: Encode) -> None:
    batch = batch_of(tiny_encode, sample_of(0), sample_of(1))
    assert set(ContrastiveCaption(0.0, 1.0)(model, batch)) == {"caption"}
    assert set(ContrastiveCaption(1.0, 0.0)(model, batch)) == {"contrastive"}


def test_packs_of_a_contrastive_step_are_not_accumulated() -> None:
    with pytest.raises(ValueError, match="accumulate is 2; a contrastive objective"):
        StageConfig("s", {"encoder": 1.0}, steps=1, accumulate=2, objective=ContrastiveCaptionConfig())

"""The objectives: their terms are the ones that the papers and the docstrings define, sample by sample."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.samples import IGNORE, Batch, Pack, Segments
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import ContrastConfig
from vitrail.recipe.schema import Recipe
from vitrail.training.config import ContrastiveCaptionConfig, ReadingConfig, StageConfig
from vitrail.training.objectives import ContrastiveCaption, NextToken, Reading, mean_by_sample


def sample_of(number: int, *, picture: bool = True) -> Conversation:
    shown = np.random.default_rng(number).integers(0, 256, (16 + 8 * number, 24, 3), np.uint8)
    asked = (ImagePart(shown),) if picture else (TextPart("what?"),)
    said = (TextPart(f"number {number} it is"),)
    return Conversation(str(number), (Message("user", asked), Message("assistant", said)))


def batch_of(encode: Encode, *conversations: Conversation) -> Batch:
    pack = Pack(tuple(encode.conversation(conversation) for conversation in conversations))
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


def written_in(batch: Batch, tokens: list[list[int]]) -> Batch:
    """The batch with these tokens on its first places, and nothing on the others."""
    assert batch.vision is not None
    written = torch.full((len(batch.vision.token_index), len(tokens[0])), IGNORE)
    written[: len(tokens)] = torch.tensor(tokens)
    return dataclasses.replace(batch, vision=dataclasses.replace(batch.vision, written=written))


def test_reading_compares_places_with_embeddings_one_by_one(model: MultimodalModel, tiny_encode: Encode) -> None:
    batch = written_in(batch_of(tiny_encode, sample_of(3)), [[5, 9], [7, IGNORE]])
    found = Reading(ReadingConfig(tokens=2, sharpness=12.0, among=1, length=0.5))(model, batch)
    assert batch.vision is not None
    places, table = model.pictures(batch.vision), model.backbone.embed(torch.arange(model.backbone.vocabulary))
    step = places.shape[1] // 4
    expected = 0.0
    for place, turn, token in ((0, 0, 5), (0, 1, 9), (1, 0, 7)):
        cosines = torch.cosine_similarity(places[place].roll(-turn * step)[None], table)
        expected += torch.nn.functional.cross_entropy(12 * cosines[None], torch.tensor([token])).item()
    assert found["reading"].loss_sum.item() == pytest.approx(expected, rel=1e-5)
    assert (found["reading"].count, found["length"].count, found["length"].weight) == (3, 2, 0.5)
    lengths = (places[:2].norm(dim=1) / table.norm(dim=1).mean() - 1) ** 2
    assert found["length"].loss_sum.item() == pytest.approx(lengths.sum().item(), rel=1e-5)


def test_a_place_can_hold_several_tokens_in_their_order(model: MultimodalModel, tiny_encode: Encode) -> None:
    """The vector that the objective asks for exists: embeddings rolled and added are read back as they were."""
    batch = written_in(batch_of(tiny_encode, sample_of(3)), [[5, 9], [7, 11]])
    assert batch.vision is not None
    assert batch.vision.written is not None
    width, step = model.backbone.width, model.backbone.width // 4
    table = torch.nn.functional.normalize(torch.randn(model.backbone.vocabulary, width), dim=1)
    model.backbone.lm.get_input_embeddings().weight.data.copy_(table)
    places = torch.zeros(len(batch.vision.token_index), width)
    for row in (0, 1):
        first, second = batch.vision.written[row]
        places[row] = table[first] + table[second].roll(step)
    wrong = places[[1, 0, *range(2, len(places))]]
    losses = []
    for made in (places, wrong):
        model.pictures = lambda vision, made=made: made  # type: ignore[method-assign]
        losses.append(Reading(ReadingConfig(tokens=2))(model, batch)["reading"].loss_sum.item() / 4)
    assert losses[0] < losses[1] - 1


def test_reading_says_when_nothing_is_known_to_be_written(model: MultimodalModel, tiny_encode: Encode) -> None:
    for batch in (batch_of(tiny_encode, sample_of(3)), written_in(batch_of(tiny_encode, sample_of(3)), [[IGNORE]])):
        with pytest.raises(DataError, match="needs pictures with marks"):
            Reading(ReadingConfig()).counts(batch)


def test_a_part_of_the_vocabulary_is_compared_and_always_that_of_the_pack(
    model: MultimodalModel, tiny_encode: Encode
) -> None:
    batch = written_in(batch_of(tiny_encode, sample_of(3)), [[5, 9], [7, IGNORE]])
    losses = {
        among: Reading(ReadingConfig(tokens=2, among=among))(model, batch)["reading"].loss_sum.item()
        for among in (1, 4, 10**6)
    }
    # Fewer to be told apart from, down to the pack's own three tokens.
    assert losses[1] > losses[4] > losses[10**6] > 0

"""Media tokens as mixtures of embeddings: what each half of a model is asked for, against the same written out here."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.samples import IGNORE, Batch, Pack
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.schema import Recipe
from vitrail.training.objectives import EmbeddingAlignment, IdealFeatures, NextToken


@pytest.fixture
def model(tiny_recipe: Recipe, tiny_encode: Encode) -> MultimodalModel:
    return build.build_model(tiny_recipe.model, tiny_encode.tokenizer.vocabulary, seed=3)


@pytest.fixture
def plain(tiny_encode: Encode) -> Batch:
    """A picture of which nothing is known."""
    shown = np.random.default_rng(3).integers(0, 256, (40, 24, 3), np.uint8)
    said = (TextPart("number 3 it is"),)
    talk = Conversation("3", (Message("user", (ImagePart(shown),)), Message("assistant", said)))
    batch, _ = collate(Pack((tiny_encode(talk),)), tiny_encode.media)
    assert batch is not None
    return batch


def written_in(batch: Batch, tokens: list[list[int]]) -> Batch:
    """The batch with these tokens on its first media tokens, and nothing known of the others."""
    assert batch.vision is not None
    targets = torch.full((len(batch.vision.token_index), len(tokens[0])), IGNORE)
    targets[: len(tokens)] = torch.tensor(tokens)
    return dataclasses.replace(batch, targets={"token_targets": targets})


def directions(model: MultimodalModel) -> Tensor:
    table: Tensor = model.backbone.embed(torch.arange(model.backbone.vocabulary)).detach()
    return table / table.norm(dim=1, keepdim=True)


def test_media_tokens_are_compared_with_embeddings_after_what_stands_before_is_taken_away(
    model: MultimodalModel, plain: Batch
) -> None:
    batch = written_in(plain, [[5, 9], [7, IGNORE]])
    found = EmbeddingAlignment(tokens=2, fade=0.5, sharpness=12.0, among=1, length=0.5)(model, batch)
    assert batch.vision is not None
    made, units = model.tokens("vision", batch.media), directions(model)
    expected = 0.0
    for index, token, before, whole in (
        (0, 5, 0 * units[5], units[5] + 0.5 * units[9]),
        (0, 9, units[5], units[5] + 0.5 * units[9]),
        (1, 7, 0 * units[7], units[7]),
    ):
        rest = made[index] / made[index].norm() * whole.norm() - before
        cosines = torch.cosine_similarity(rest[None], units)
        expected += torch.nn.functional.cross_entropy(12 * cosines[None], torch.tensor([token])).item()
    assert found["embedding_alignment"].loss_sum.item() == pytest.approx(expected, rel=1e-5)
    assert (found["embedding_alignment"].count, found["length"].count, found["length"].weight) == (3, 2, 0.5)
    mean = model.backbone.embed(torch.arange(model.backbone.vocabulary)).norm(dim=1).mean()
    lengths = (made[:2].norm(dim=1) / mean - 1) ** 2
    assert found["length"].loss_sum.item() == pytest.approx(lengths.sum().item(), rel=1e-5)


def test_the_mixture_is_what_it_aims_at(model: MultimodalModel, plain: Batch) -> None:
    """Its tokens are read back, in their order: on no other media token would they be."""
    width = model.backbone.width
    table = torch.nn.functional.normalize(torch.randn(model.backbone.vocabulary, width), dim=1)
    model.backbone.lm.get_input_embeddings().weight.data.copy_(table)
    batch = written_in(plain, [[5, 9], [9, 5], [7, 11]])
    aimed = IdealFeatures(tokens=2, fade=0.6).mixtures(batch.targets["token_targets"], model)
    losses = []
    for made in (aimed, aimed[[1, 0, *range(2, len(aimed))]], aimed[[2, 0, 1, *range(3, len(aimed))]]):
        model.tokens = lambda name, stream, made=made: made  # type: ignore[method-assign]
        terms = EmbeddingAlignment(tokens=2)(model, batch)
        losses.append(terms["embedding_alignment"].loss_sum.item() / terms["embedding_alignment"].count)
        assert terms["length"].loss_sum.item() == pytest.approx(0, abs=1e-6)
    assert losses[0] < losses[1] - 1 < losses[2] - 1


def test_mixtures_fade_and_are_as_long_as_embeddings(model: MultimodalModel) -> None:
    units = directions(model)
    known = torch.tensor([[5, 9, 4], [7, IGNORE, IGNORE], [IGNORE] * 3])
    made = IdealFeatures(tokens=3, fade=0.5).mixtures(known, model)
    length = model.backbone.embed(torch.arange(model.backbone.vocabulary)).norm(dim=1).mean()
    assert torch.allclose(made.norm(dim=1), torch.tensor([1.0, 1.0, 0.0]) * length, atol=1e-5)
    expected = units[5] + 0.5 * units[9] + 0.25 * units[4]
    assert torch.cosine_similarity(made[0], expected, dim=0).item() == pytest.approx(1, abs=1e-5)
    assert torch.cosine_similarity(made[1], units[7], dim=0).item() == pytest.approx(1, abs=1e-5)


def test_ideal_features_are_the_next_token_loss_with_mixtures_for_pictures(
    model: MultimodalModel, plain: Batch
) -> None:
    batch = written_in(plain, [[5, 9], [7, IGNORE]])
    objective = IdealFeatures(tokens=2, fade=0.5)
    found = objective(model, batch)["next_token"]
    made = objective.mixtures(batch.targets["token_targets"], model)
    model.tokens = lambda name, stream: made  # type: ignore[method-assign]
    expected = NextToken()(model, batch)["next_token"]
    assert torch.allclose(found.loss_sum, expected.loss_sum)
    assert found.count == expected.count
    assert found.each is not None
    assert expected.each is not None
    assert torch.allclose(found.each, expected.each)


def test_text_without_pictures_is_learnt_as_it_is(model: MultimodalModel, tiny_encode: Encode) -> None:
    talk = Conversation("3", (Message("assistant", (TextPart("number 3 it is"),)),))
    batch, _ = collate(Pack((tiny_encode(talk),)), tiny_encode.media)
    assert batch is not None
    found = IdealFeatures()(model, batch)["next_token"]
    expected = NextToken()(model, batch)["next_token"]
    assert torch.allclose(found.loss_sum, expected.loss_sum)
    assert found.count == expected.count > 0


def test_each_half_learns_without_the_other(model: MultimodalModel, plain: Batch) -> None:
    batch = written_in(plain, [[5, 9], [7, IGNORE]])
    for objective, learns, rests in (
        (EmbeddingAlignment(tokens=2), (model.encoder, model.projector), (model.backbone,)),
        (IdealFeatures(tokens=2), (model.backbone,), (model.encoder, model.projector)),
    ):
        model.zero_grad()
        torch.stack([term.loss_sum for term in objective(model, batch).values()]).sum().backward()
        for component in learns:
            assert any(p.grad is not None and p.grad.any() for p in component.parameters())
        for component in rests:
            assert all(p.grad is None or not p.grad.any() for p in component.parameters())


def test_a_language_model_is_not_taught_that_pictures_say_nothing(model: MultimodalModel, plain: Batch) -> None:
    for batch in (plain, written_in(plain, [[IGNORE]])):
        with pytest.raises(DataError, match="'ideal_features' needs pictures whose characters are known"):
            IdealFeatures()(model, batch)


def test_a_part_of_the_vocabulary_is_compared_and_always_that_of_the_pack(model: MultimodalModel, plain: Batch) -> None:
    batch = written_in(plain, [[5, 9], [7, IGNORE]])
    losses = {
        among: EmbeddingAlignment(tokens=2, among=among)(model, batch)["embedding_alignment"].loss_sum.item()
        for among in (1, 4, 10**6)
    }
    # Fewer to be told apart from, down to the pack's own three tokens.
    assert losses[1] > losses[4] > losses[10**6] > 0

"""Contrastive captioning: its terms are the ones that the papers and the docstring define, sample by sample."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail import build
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import Character, Conversation, ImagePart, Message, TextPart
from vitrail.contracts.samples import IGNORE, Batch, Pack, Segments, View
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel, mean_tokens
from vitrail.models.contrast import Contrast
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.training.objectives import ContrastiveCaption, NextToken, Objective
from vitrail.training.objectives.contrastive_caption import characters_on


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
    return model_with(ContrastiveCaption(width=8), tiny_recipe, tiny_encode)


def model_with(objective: Objective, recipe: Recipe, encode: Encode) -> MultimodalModel:
    return build.build_model(recipe.model, encode.tokenizer.vocabulary, seed=3, objectives=[objective])


def test_the_caption_term_is_the_next_token_loss(model: MultimodalModel, tiny_encode: Encode) -> None:
    batch = batch_of(tiny_encode, *(sample_of(number) for number in range(3)))
    both = ContrastiveCaption(contrastive=0.5, caption=2.0)(model, batch)
    alone = NextToken()(model, batch)["next_token"]
    assert torch.allclose(both["caption"].loss_sum, alone.loss_sum)
    assert both["caption"].count == alone.count
    assert (both["caption"].weight, both["contrastive"].weight) == (2.0, 0.5)


def test_the_contrastive_term_is_siglips_pair_by_pair(model: MultimodalModel, tiny_encode: Encode) -> None:
    conversations = [sample_of(0), sample_of(1, picture=False), sample_of(2)]
    term = ContrastiveCaption()(model, batch_of(tiny_encode, *conversations))["contrastive"]
    assert term.count == 2, "a sample without a picture has nothing to compare"
    contrast = model.head("contrast")
    assert isinstance(contrast, Contrast)
    pictures, texts = [], []
    for conversation in (conversations[0], conversations[2]):
        batch = batch_of(tiny_encode, conversation)
        assert batch.vision is not None
        pictures.append(model.tokens("vision", batch.media).mean(0))
        said = batch.text.labels[batch.text.labels >= 0]
        hidden = model.read(said, torch.arange(len(said)), Segments((len(said),)))
        texts.append(hidden[-1])
    expected = torch.zeros(())
    for i, picture in enumerate(pictures):
        for j, text in enumerate(texts):
            logit = contrast.logits(picture[None], text[None])[0, 0]
            expected = expected - torch.nn.functional.logsigmoid(logit if i == j else -logit)
    assert torch.allclose(term.loss_sum, expected, rtol=1e-4)


def test_means_are_taken_sample_by_sample(tiny_encode: Encode) -> None:
    batch = batch_of(tiny_encode, *(sample_of(number) for number in range(2)))
    assert batch.vision is not None
    tokens = torch.randn(len(batch.vision.token_index), 5)
    first = sum(int(index) < batch.text.segments.lengths[0] for index in batch.vision.token_index)
    means = mean_tokens(tokens, batch.vision, 2)
    assert torch.allclose(means, torch.stack([tokens[:first].mean(0), tokens[first:].mean(0)]), atol=1e-6)


def test_a_term_of_weight_nought_is_not_computed(model: MultimodalModel, tiny_encode: Encode) -> None:
    batch = batch_of(tiny_encode, sample_of(0), sample_of(1))
    assert set(ContrastiveCaption(contrastive=0.0)(model, batch)) == {"caption"}
    assert set(ContrastiveCaption(caption=0.0)(model, batch)) == {"contrastive"}


def test_packs_of_a_contrastive_step_are_not_accumulated(tiny_recipe_file: Path) -> None:
    asked = ["stages.align.objective.kind=contrastive_caption"]
    read_recipe(str(tiny_recipe_file), asked)
    with pytest.raises(RecipeError, match=r"stages\.align\.accumulate is 2; a contrastive objective"):
        read_recipe(str(tiny_recipe_file), [*asked, "stages.align.accumulate=2"])


def test_a_model_has_the_modules_of_its_objectives(tiny_recipe: Recipe, tiny_encode: Encode) -> None:
    """Once each; two stages that want different ones under one name are refused."""
    plain = set(model_with(NextToken(), tiny_recipe, tiny_encode).state_dict())
    for objective, added in (
        (ContrastiveCaption(contrastive=0.0), set()),
        (ContrastiveCaption(), {"contrast"}),
        (ContrastiveCaption(contrastive=0.0, characters=1.0), {"char_head"}),
        (ContrastiveCaption(characters=1.0), {"contrast", "char_head"}),
    ):
        found = set(model_with(objective, tiny_recipe, tiny_encode).state_dict()) - plain
        assert {name.partition(".")[0] for name in found} == added == set(objective.head_names)
    twice = [ContrastiveCaption(width=8), ContrastiveCaption(width=8, caption=0.5)]
    build.build_model(tiny_recipe.model, 300, seed=0, objectives=twice)
    with pytest.raises(RecipeError, match="'contrast' is one module of the model, and its stages set it differently"):
        build.build_model(tiny_recipe.model, 300, seed=0, objectives=[*twice, ContrastiveCaption(width=9)])


# Characters on patches


def written(text: str, *, x: float, y: float) -> Character:
    return Character(text, x, y)


def test_the_character_nearest_to_the_middle_of_a_patch_counts(tiny_encode: Encode) -> None:
    view = View(16, 32, 2, 4, 1, 2)
    near, far, last = written("a", x=0.12, y=0.26), written("b", x=0.02, y=0.26), written("c", x=1.0, y=1.0)
    number = {letter: tiny_encode.tokenizer.encode(letter)[0] for letter in "abc"}
    for order in ((near, far, last), (far, near, last)):
        found = characters_on(order, view, tiny_encode.tokenizer)
        expected = np.full((2, 4), IGNORE)
        expected[0, 0], expected[1, 3] = number["a"], number["c"]
        assert np.array_equal(found, expected)
    assert (characters_on((), view, tiny_encode.tokenizer) == IGNORE).all()


def pictured(number: int, *characters: Character) -> Conversation:
    shown = np.random.default_rng(number).integers(0, 256, (32, 48, 3), np.uint8)
    said = Message("assistant", (TextPart("It is."),))
    return Conversation(str(number), (Message("user", (ImagePart(shown, characters),)), said))


def test_targets_lie_as_the_patches_do(tiny_encode: Encode) -> None:
    """Of every view one after the other, in merge order; made only where the objective asks for them."""
    objective = ContrastiveCaption(characters=1.0)
    asking = dataclasses.replace(tiny_encode, needs=objective.needs)
    # Patches are 8 px: the characters are on row 2, column 5 of the first picture, and row 0, column 1 of the third.
    talks = [pictured(0, written("x", x=0.9, y=0.7)), pictured(1), pictured(2, written("y", x=0.25, y=0.1))]
    batch = batch_of(asking, *talks)
    assert batch.vision is not None
    targets = batch.targets["character_targets"]
    assert len(targets) == len(batch.vision.values) == 3 * 24
    known = targets.ne(IGNORE).nonzero().flatten().tolist()
    assert [batch.vision.positions[index].tolist() for index in known] == [[2, 5], [0, 1]]
    assert [index // 24 for index in known] == [0, 2]
    assert targets[known].tolist() == [tiny_encode.tokenizer.encode(letter)[0] for letter in "xy"]
    assert objective.counts(batch)["characters"] == 2
    assert batch_of(tiny_encode, *talks).targets == {}


def test_the_third_term_names_the_character_on_each_patch(tiny_recipe: Recipe, tiny_encode: Encode) -> None:
    objective = ContrastiveCaption(contrastive=0.0, caption=0.0, characters=0.5)
    model = model_with(objective, tiny_recipe, tiny_encode)
    asking = dataclasses.replace(tiny_encode, needs=objective.needs)
    batch = batch_of(asking, pictured(0, written("x", x=0.9, y=0.7), written("y", x=0.1, y=0.1)), pictured(1))
    ((name, term),) = objective(model, batch).items()
    assert (name, term.count, term.weight) == ("characters", 2, 0.5)
    assert batch.vision is not None
    targets = batch.targets["character_targets"]
    logits = model.encoder_of("vision")(batch.vision) @ model.head("char_head").weight.T
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORE)
    torch.testing.assert_close(term.loss_sum, expected)
    assert set(objective(model, batch_of(asking, pictured(1)))) == set(), "of nothing known there is no term"

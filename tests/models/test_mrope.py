"""M-RoPE from the recipe to the answer, for any backbone: packed equals one by one, cached equals uncached."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import vitrail
from vitrail import build
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.samples import Batch, Pack, Sample, Segments
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.inference.config import GenerationConfig
from vitrail.inference.engine import generate
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import DecoderConfig, ModelConfig
from vitrail.prompts.config import MRopePositionsConfig
from vitrail.prompts.render import Grid, grid_positions
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe

SECTIONS = (1, 1, 2)
BACKBONES = {"llama": {}, "qwen2": {"tie_word_embeddings": False}, "qwen3": {"head_dim": 8}, "mistral": {}}


def config_of(recipe: Recipe, family: str = "llama") -> ModelConfig:
    settings = {**recipe.model.backbone.config, "model_type": family, **BACKBONES[family]}
    backbone = DecoderConfig(config=settings, tokenizer="bytes")
    return dataclasses.replace(recipe.model, backbone=backbone, positions=MRopePositionsConfig(sections=SECTIONS))


def model_of(config: ModelConfig, encode: Encode) -> MultimodalModel:
    return build.build_model(config, encode.tokenizer.vocabulary, seed=0)


@pytest.fixture(scope="module")
def encode(tiny_recipe: Recipe, tiny_encode: Encode) -> Encode:
    return build.build_encode(config_of(tiny_recipe), tiny_recipe.prompt, tiny_encode.tokenizer)


def pictures(number: int) -> list[ImagePart]:
    """None, one, two or three, of mixed sizes; the widest makes more columns than it has tokens before it."""
    chance = np.random.default_rng(number)
    sizes = [(64, 32), (16, 512), (48, 48)][: number % 4]
    return [ImagePart(chance.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def conversation(number: int, answer: str = "Yes, é 日本.") -> Conversation:
    asked = Message("user", (*pictures(number), TextPart(f"What is in {number}?")))
    more = (asked, Message("assistant", (TextPart(f"A {number}."),)), Message("user", (TextPart("Sure?"),)))
    return Conversation(f"row {number}", (*more, *([Message("assistant", (TextPart(answer),))] if answer else [])))


def batch_of(samples: list[Sample], encode: Encode, pad_to: int = 0) -> Batch:
    batch, events = collate(Pack(tuple(samples)), encode.media, pad_to)
    assert batch is not None
    assert [event.outcome for event in events] == ["used"] * len(samples)
    return batch


def loss_and_gradients(model: MultimodalModel, batches: list[Batch]) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = model.loss_sum(batch)
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_samples_carry_the_positions_of_their_tokens(encode: Encode) -> None:
    """A picture of 16 x 512 px is a row of 32 tokens: the text after it goes on 31 behind its row."""
    sample = encode(conversation(2))
    first, second = sample.slots
    assert (second.view.tokens, second.view.token_columns) == (32, 32)
    assert sample.positions is not None
    expected = grid_positions(len(sample), [Grid(first.start, 1, 4, 2), Grid(second.start, 1, 1, 32)])
    assert (sample.positions == expected).all()
    assert sample.positions.max() + 1 < len(sample)
    assert encode(conversation(0)).positions is not None, "of text alone, for packs with pictures"


def test_a_question_stands_where_it_will_be_learnt(encode: Encode) -> None:
    asked, learnt = encode.question(conversation(3, answer="")), encode(conversation(3))
    assert asked.positions is not None
    assert learnt.positions is not None
    assert (asked.ids == learnt.ids[: len(asked)]).all()
    assert (asked.positions == learnt.positions[:, : len(asked)]).all()


@pytest.mark.parametrize("pad_to", [0, 1000])
@pytest.mark.parametrize("family", BACKBONES)
def test_packed_is_one_by_one(family: str, pad_to: int, tiny_recipe: Recipe, encode: Encode) -> None:
    """Loss and every gradient."""
    samples = [encode(conversation(number)) for number in range(6)]
    model = model_of(config_of(tiny_recipe, family), encode)
    packed = batch_of(samples, encode, pad_to)
    assert packed.text.positions.shape == (3, max(pad_to, sum(map(len, samples))))
    loss, gradients = loss_and_gradients(model, [packed])
    alone_loss, alone = loss_and_gradients(model, [batch_of([sample], encode) for sample in samples])
    assert loss == pytest.approx(alone_loss, rel=1e-5)
    assert gradients.keys() == alone.keys() == {name for name, _ in model.named_parameters()}
    for name, gradient in gradients.items():
        scale = float(alone[name].abs().max())
        torch.testing.assert_close(
            gradient, alone[name], rtol=1e-4, atol=1e-5 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@torch.no_grad()
def test_where_a_picture_token_stands_is_noticed(tiny_recipe: Recipe, encode: Encode) -> None:
    """By the model, not only by the numbers: on a line the same batch has another loss."""
    model = model_of(config_of(tiny_recipe), encode)
    batch = batch_of([encode(conversation(3))], encode)
    line = torch.arange(batch.text.segments.total).expand(3, -1)
    on_a_line = batch.having("text", dataclasses.replace(batch.text, positions=line))
    assert abs(float(model.loss_sum(batch) - model.loss_sum(on_a_line))) > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("number", range(4))
def test_cached_is_uncached(number: int, tiny_recipe: Recipe, encode: Encode) -> None:
    """Greedy tokens over the cache are those of whole passes, whose positions the sample itself has."""
    model = model_of(config_of(tiny_recipe), encode).eval()
    prompt = batch_of([encode.question(conversation(number, answer=""))], encode)
    cached = list(generate(model, prompt, frozenset(), GenerationConfig(max_tokens=12)))
    slots = encode.question(conversation(number, "")).slots
    grids = [Grid(slot.start, 1, slot.view.token_rows, slot.view.token_columns) for slot in slots]
    embeddings, context = model.fused(prompt)
    assert context is None
    whole: list[int] = []
    for _ in range(12):
        positions = torch.from_numpy(grid_positions(len(embeddings), grids))
        hidden = model.backbone(embeddings, positions, Segments((len(embeddings),)))
        whole.append(int(model.logits(hidden[-1:])[0].argmax()))
        embeddings = torch.cat([embeddings, model.backbone.embed(torch.tensor(whole[-1:]))])
    assert cached == whole


def test_a_finished_model_keeps_its_positions(tiny_recipe: Recipe, encode: Encode, tmp_path: Path) -> None:
    config = config_of(tiny_recipe)
    model = model_of(config, encode).eval()
    build.save_weights(model, encode, config, tiny_recipe.prompt, tmp_path)
    loaded = vitrail.load(tmp_path, device="cpu")
    assert loaded.model.backbone.sections == SECTIONS
    prompt = loaded.prompt(conversation(3, answer=""))
    assert prompt.text.positions.shape[0] == 3
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(prompt), model(prompt))


@pytest.mark.parametrize(
    ("positions", "settings", "expected"),
    [
        ((16, 24, 24), {}, "model.positions.sections: 16 \\+ 24 \\+ 24 is not 4, half the width of a head"),
        (
            SECTIONS,
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 500.0}},
            "rope_type is dynamic",
        ),
    ],
)
def test_backbones_it_does_not_fit(
    positions: tuple[int, int, int], settings: dict[str, object], expected: str, tiny_recipe: Recipe, encode: Encode
) -> None:
    backbone = DecoderConfig(config={**tiny_recipe.model.backbone.config, **settings}, tokenizer="bytes")
    config = dataclasses.replace(
        tiny_recipe.model, backbone=backbone, positions=MRopePositionsConfig(sections=positions)
    )
    with pytest.raises(RecipeError, match=expected):
        model_of(config, encode)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.positions={kind: mrope, sections: [1, 1, -2]}", "0 or more each"),
        ("model.positions={kind: mrope, sections: [1, 1, 2], tokens_per_second: 0}", "must be more than 0"),
        ("model.positions={kind: mrope}", "row_break"),
    ],
)
def test_what_a_recipe_cannot_say(override: str, expected: str, tiny_recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=expected):
        read_recipe(str(tiny_recipe_file), [override, "prompt.picture=pixtral"])

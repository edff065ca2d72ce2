"""Answers token by token: the engine against computing everything anew, alone, together and joining late; sampling."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail import build
from vitrail.contracts.samples import Batch, Pack, Segments
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.inference import cache
from vitrail.inference.chat_model import ChatModel, conversation
from vitrail.inference.config import GenerationConfig
from vitrail.inference.engine import Engine, choose, generate
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.schema import Recipe


@pytest.fixture(scope="module")
def model(tiny_recipe: Recipe, tiny_encode: Encode) -> MultimodalModel:
    """Random weights, but decided ones: its likeliest token is no toss-up, and not simply the last one again."""
    settings = {**tiny_recipe.model.backbone.config, "tie_word_embeddings": False, "initializer_range": 0.2}
    backbone = dataclasses.replace(tiny_recipe.model.backbone, config=settings)
    config = dataclasses.replace(tiny_recipe.model, backbone=backbone)
    return build.build_model(config, tiny_encode.tokenizer.vocabulary, seed=5).eval()


@pytest.fixture(scope="module")
def prompt(model: MultimodalModel, tiny_encode: Encode) -> Batch:
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return ChatModel(model, tiny_encode).prompt(conversation((picture, "What is this?")))


@torch.no_grad()
def recomputed(model: MultimodalModel, prompt: Batch, count: int) -> list[int]:
    """Greedy, with everything computed anew at every step."""
    ids: list[int] = []
    embeddings, _ = model.fused(prompt)
    for _ in range(count):
        length = len(embeddings)
        hidden = model.backbone(embeddings, torch.arange(length), Segments((length,)))
        ids.append(int(model.logits(hidden[-1:]).argmax()))
        embeddings = torch.cat([embeddings, model.backbone.embed(torch.tensor(ids[-1:]))])
    return ids


@pytest.mark.parametrize("growth", [1, 7, 256])
def test_greedy_is_the_same_as_recomputing_everything(
    growth: int, model: MultimodalModel, prompt: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "GROWTH", growth)
    ours = list(generate(model, prompt, frozenset(), GenerationConfig(max_tokens=40)))
    assert ours == recomputed(model, prompt, 40)
    assert len(set(ours)) > 3, "a model that repeats itself would prove little"


@torch.no_grad()
def test_the_least_likely_token_is_known(model: MultimodalModel, prompt: Batch) -> None:
    """Of all that were chosen and of what ended it, with everything computed anew."""
    ids = recomputed(model, prompt, 12)
    embeddings, _ = model.fused(prompt)
    whole = torch.cat([embeddings, model.backbone.embed(torch.tensor(ids[:-1]))])
    hidden = model.backbone(whole, torch.arange(len(whole)), Segments((len(whole),)))
    likely = model.logits(hidden[-12:]).softmax(-1)[torch.arange(12), torch.tensor(ids)]
    end = ids.index(ids[9])
    told: list[float] = []
    given = list(generate(model, prompt, frozenset({ids[9]}), GenerationConfig(max_tokens=40), told.append))
    assert given == ids[:end]
    generation = generate(model, prompt, frozenset(), GenerationConfig(max_tokens=40), told.append)
    assert [next(generation) for _ in range(4)] == ids[:4]
    generation.close()
    assert told == pytest.approx([float(likely[: end + 1].min()), float(likely[:4].min())], rel=1e-3)


def test_the_stop_token_ends_it_and_is_not_shown(model: MultimodalModel, prompt: Batch) -> None:
    config = GenerationConfig(max_tokens=40)
    whole = list(generate(model, prompt, frozenset(), config))
    stop = whole[10]
    assert list(generate(model, prompt, frozenset({stop, -1}), config)) == whole[: whole.index(stop)]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_limit_is_kept(count: int, model: MultimodalModel, prompt: Batch) -> None:
    assert len(list(generate(model, prompt, frozenset(), GenerationConfig(max_tokens=count)))) == count


def test_chance_is_a_function_of_the_seed(model: MultimodalModel, prompt: Batch) -> None:
    """Whatever else has drawn numbers in between; another seed gives another answer."""

    def sampled(seed: int, temperature: float = 3.0) -> list[int]:
        torch.rand(3)
        config = GenerationConfig(max_tokens=20, temperature=temperature, seed=seed)
        return list(generate(model, prompt, frozenset(), config))

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)
    assert sampled(1) != sampled(1, temperature=0.0)
    assert sampled(1, temperature=0.0) == sampled(2, temperature=0.0)


def test_one_answer_is_of_one_prompt(model: MultimodalModel, prompt: Batch) -> None:
    torn = prompt.having("text", dataclasses.replace(prompt.text, segments=Segments((3, 4))))
    with pytest.raises(AssertionError, match="one prompt"):
        next(iter(generate(model, torn, frozenset(), GenerationConfig())))


@pytest.fixture(scope="module")
def prompts(model: MultimodalModel, tiny_encode: Encode) -> tuple[list[Batch], Batch]:
    """Four prompts of different lengths, one without a picture: each alone, and all in one pack."""
    chance = np.random.default_rng(1)
    pictures = [chance.integers(0, 256, (32 + 16 * number, 96, 3), dtype=np.uint8) for number in range(3)]
    asked = [*((picture, "What is this?") for picture in pictures), ("Hello",)]
    samples = [tiny_encode.question(conversation(parts)) for parts in asked]
    packs = [collate(Pack(tuple(group)), tiny_encode.media)[0] for group in (*([one] for one in samples), samples)]
    *alone, together = [pack for pack in packs if pack is not None]
    return alone, together


@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_answers_side_by_side_are_those_of_each_prompt_alone(
    temperature: float, model: MultimodalModel, prompts: tuple[list[Batch], Batch]
) -> None:
    """Also when some are finished long before others, by a stop token or by hand."""
    alone, together = prompts
    config = GenerationConfig(max_tokens=30, temperature=temperature, seed=4)
    whole = [list(generate(model, prompt, frozenset(), config)) for prompt in alone]
    assert len(set(map(tuple, whole))) == len(whole), "prompts that are answered alike would prove little"
    stop = frozenset({whole[1][5]})
    expected = [list(generate(model, prompt, stop, config)) for prompt in alone]
    expected[2] = expected[2][:3]
    engine, made = Engine(model, stop), [list[int]() for _ in alone]
    assert engine.add(together, config) == [0, 1, 2, 3]
    while engine.under_way:
        for number, token in engine.step().items():
            made[number].append(token)
        if len(made[2]) == 3:
            engine.finish({2})
    assert made == expected


@pytest.mark.parametrize("delay", [1, 4, 9])
def test_answers_that_join_late_are_those_of_each_prompt_alone(
    delay: int, model: MultimodalModel, prompts: tuple[list[Batch], Batch]
) -> None:
    """Each prompt joins some steps after the one before; short answers leave in between, and slots are used again."""
    alone, _ = prompts
    configs = [GenerationConfig(max_tokens=limit, temperature=0.0) for limit in (30, 3, 12, 20)]
    expected = [list(generate(model, prompt, frozenset(), one)) for prompt, one in zip(alone, configs, strict=True)]
    engine, made, step = Engine(model, frozenset()), [list[int]() for _ in alone], 0
    joining = list(zip(alone, configs, strict=True))
    while joining or engine.under_way:
        if joining and step % delay == 0:
            engine.add(*joining.pop(0))
        for number, token in engine.step().items():
            made[number].append(token)
        step += 1
    assert made == expected


def test_a_step_reads_the_past_where_it_lies(model: MultimodalModel, prompts: tuple[list[Batch], Batch]) -> None:
    """No buffer is made anew while answers grow: the room they will need is known when they join."""
    engine = Engine(model, frozenset())
    engine.add(prompts[1], GenerationConfig(max_tokens=30))
    engine.step()
    held = {layer: buffer.keys.data_ptr() for layer, buffer in engine._cache._layers.items()}
    for _ in range(29):
        engine.step()
    assert held == {layer: buffer.keys.data_ptr() for layer, buffer in engine._cache._layers.items()}
    assert len(held) == 2


def draws(probabilities: list[float], count: int, **settings: float) -> Counter[int]:
    chance = torch.Generator().manual_seed(0)
    logits = torch.tensor(probabilities).log()
    config = GenerationConfig(**{"temperature": 1.0, **settings})
    return Counter(choose(logits, config, chance) for _ in range(count))


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    drawn = draws([0.1, 0.6, 0.3], 2000)
    assert [drawn[token] / 2000 for token in range(3)] == pytest.approx([0.1, 0.6, 0.3], abs=0.04)


def test_the_temperature_sharpens_and_flattens() -> None:
    assert draws([0.1, 0.6, 0.3], 500, temperature=0.05)[1] > 495
    flat = draws([0.1, 0.6, 0.3], 2000, temperature=100.0)
    assert [flat[token] / 2000 for token in range(3)] == pytest.approx([1 / 3] * 3, abs=0.04)


@pytest.mark.parametrize(
    ("top_p", "nucleus"),
    [(0.0, {1}), (0.5, {1}), (0.7, {1, 2}), (0.85, {1, 2}), (0.95, {0, 1, 2}), (1.0, {0, 1, 2, 3})],
)
def test_the_nucleus_holds_the_likeliest_up_to_top_p(top_p: float, nucleus: set[int]) -> None:
    assert set(draws([0.08, 0.6, 0.3, 0.02], 1000, top_p=top_p)) == nucleus


@settings(max_examples=50, deadline=None)
@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=8),
    temperature=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
    top_p=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_there_is_always_a_token(logits: list[float], temperature: float, top_p: float, seed: int) -> None:
    config = GenerationConfig(temperature=temperature, top_p=top_p)
    token = choose(torch.tensor(logits), config, torch.Generator().manual_seed(seed))
    assert 0 <= token < len(logits)
    if temperature == 0 or top_p == 0:
        assert logits[token] == max(logits)

"""A model of pictures and T5, from its recipe to its answers: loss, greedy tokens, training, resuming, saving."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

import vitrail
from vitrail import build
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.samples import Batch, Pack
from vitrail.data.collate import collate
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode
from vitrail.inference.chat_model import ChatModel, conversation
from vitrail.inference.config import GenerationConfig
from vitrail.inference.engine import generate
from vitrail.models.assembled import MultimodalModel
from vitrail.models.weights import finished
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.run.plan import make_plan
from vitrail.run.verify import verify
from vitrail.training.device import Device
from vitrail.training.loop import Trainer
from vitrail.training.objectives import ContrastiveCaption

T5 = [
    "model.backbone={kind: encoder_decoder, tokenizer: bytes, config: {model_type: t5, d_model: 32, d_kv: 8, d_ff: 48, "
    "num_layers: 2, num_decoder_layers: 2, num_heads: 4, feed_forward_proj: gated-gelu, tie_word_embeddings: false, "
    "decoder_start_token_id: 256}}",
    "prompt.template=text_to_text",
]
CPU = Device("cpu", "float32", 1, compiled=False)


@pytest.fixture
def read(tiny_recipe_file: Path) -> Callable[..., Recipe]:
    """The tiny recipe with T5 as its language model."""

    def make(*overrides: str) -> Recipe:
        return read_recipe(str(tiny_recipe_file), [*T5, *overrides]).value

    return make


@pytest.fixture
def recipe(read: Callable[..., Recipe]) -> Recipe:
    return read()


@pytest.fixture
def encode(recipe: Recipe) -> Encode:
    return build.build_encode(recipe.model, recipe.prompt, build.build_tokenizer(recipe.model.backbone, recipe.prompt))


@pytest.fixture
def model(recipe: Recipe, encode: Encode) -> MultimodalModel:
    """Random weights, but decided ones."""
    made = build.build_model(recipe.model, encode.tokenizer.vocabulary, seed=5).eval()
    with torch.no_grad():
        for parameter in made.language_model.parameters():
            parameter.add_(
                0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    return made


def official(model: MultimodalModel) -> Any:
    """transformers' class, with its weights."""
    ours = model.language_model.lm
    config = copy.deepcopy(ours.config)
    config.tie_word_embeddings = True
    made = AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager").eval()
    made.lm_head.weight = torch.nn.Parameter(made.lm_head.weight.clone())
    made.load_state_dict(ours.state_dict())
    return made


def batch_of(recipe: Recipe, encode: Encode, count: int) -> Batch:
    source, dialect = build.build_source(recipe.data.train)
    samples = tuple(encode(to_conversation(source.row(index), dialect), source.name) for index in range(count))
    batch, _ = collate(Pack(samples), encode.media)
    assert batch is not None
    return batch


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)


@torch.no_grad()
def test_the_loss_of_a_pack_with_pictures_is_the_official_one(
    recipe: Recipe, encode: Encode, model: MultimodalModel
) -> None:
    """Whose encoder is given the same embeddings, sample by sample."""
    batch, theirs = batch_of(recipe, encode, 4), official(model)
    embeddings, context = model.fused(batch)
    assert context is None
    assert len(batch.media["vision"].token_index)
    learnt, expected = batch.learnt, 0.0
    parts = zip(
        embeddings.split(batch.text.segments.lengths),
        learnt.ids.split(learnt.segments.lengths),
        learnt.labels.split(learnt.segments.lengths),
        strict=True,
    )
    for read, said, labels in parts:
        found = theirs(inputs_embeds=read[None], decoder_input_ids=said[None], labels=labels[None])
        expected += float(found.loss) * len(labels)
    assert float(model.loss_sum(batch)) == pytest.approx(expected, rel=1e-5)


def test_greedy_tokens_are_the_official_ones(encode: Encode, model: MultimodalModel) -> None:
    theirs, chat = official(model), ChatModel(model, encode)
    for seed, question in enumerate(("What is this?", "And that, further to the left?")):
        prompt = chat.prompt(conversation((picture(seed), question)))
        ours = list(generate(model, prompt, frozenset(), GenerationConfig(max_tokens=24)))
        with torch.no_grad():
            embeddings, _ = model.fused(prompt)
            expected = theirs.generate(
                inputs_embeds=embeddings[None],
                decoder_start_token_id=256,
                eos_token_id=None,
                do_sample=False,
                num_beams=1,
                max_new_tokens=24,
                min_new_tokens=24,
            )
        assert ours == expected[0, 1:].tolist()
        assert len(set(ours)) > 3, "a model that repeats itself would prove little"


def test_answers_together_are_answers_alone(encode: Encode, model: MultimodalModel) -> None:
    chat, config = ChatModel(model, encode), GenerationConfig(max_tokens=9)
    asked = [conversation((*map(picture, range(number)), "Why?" * (number + 1))) for number in range(3)]
    asked.append(conversation((picture(0), picture(1), "Why?Who?Where?")))
    together = [str(reply) for reply in chat.replies(asked, config)]
    assert together == [str(chat.reply(one, config)) for one in asked]
    assert "".join(chat.stream(picture(0), "Why?Why?", generation=config)) == together[1]
    assert chat.reply(asked[0], config).prompt_tokens == len(encode.question(asked[0]))


def trained(recipe: Recipe, encode: Encode, folder: Path, every: int = 100, stop_at: int = 0) -> MultimodalModel:
    class Unplugged(Exception):  # noqa: N818
        pass

    def unplug(record: dict[str, Any]) -> None:
        if record["total_steps"] == stop_at:
            raise Unplugged

    made = build.starting_model(recipe.model, encode.tokenizer.vocabulary, recipe.seed).train()
    trainer = Trainer(made, build.build_stages(recipe, encode, CPU), folder, CPU, every, unplug)
    trainer.resume()
    with contextlib.suppress(Unplugged):
        trainer.run()
    return made


def test_a_run_that_was_stopped_ends_where_another_ends(recipe: Recipe, encode: Encode, tmp_path: Path) -> None:
    whole = trained(recipe, encode, tmp_path / "whole", every=2).state_dict()
    for stop_at in (4, 7, 0):
        found = trained(recipe, encode, tmp_path / "stopped", every=2, stop_at=stop_at)
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, whole[name]), name
    started = build.starting_model(recipe.model, encode.tokenizer.vocabulary, recipe.seed).state_dict()
    moved = {
        name.split(".")[2]
        for name in whole
        if name.startswith("backbone") and not torch.equal(whole[name], started[name])
    }
    assert moved == {"shared", "encoder", "decoder", "lm_head"}


def test_no_sample_sees_another(recipe: Recipe) -> None:
    found = verify(recipe, stage=1, packs=2)
    assert found.finding == ""
    assert "backbone" in found.packs[0].components


def test_a_finished_model_is_opened_and_is_the_same(
    recipe: Recipe, encode: Encode, model: MultimodalModel, tmp_path: Path
) -> None:
    build.save_weights(model, encode, recipe.model, recipe.prompt, tmp_path / "run" / "weights")
    opened = vitrail.load(tmp_path / "run", device="cpu")
    assert opened.encode.start == 256
    config = GenerationConfig(max_tokens=9)
    ours = ChatModel(model, encode).chat(picture(2), "What?", generation=config)
    assert str(opened.chat(picture(2), "What?", generation=config)) == str(ours)
    text = f"""
run: runs/next
model: {{from: {tmp_path / "run"}, backbone: {{recompute: true}}}}
data: {{train: {{kind: drawn, rows: 4}}}}
stages: [{{name: all, train: {{backbone: 1.0e-3}}, steps: 1}}]
"""
    (tmp_path / "next.yaml").write_text(text, encoding="utf-8")
    following = read_recipe(str(tmp_path / "next.yaml")).value
    assert following.model.backbone.kind == "encoder_decoder"
    begun = build.starting_model(following.model, encode.tokenizer.vocabulary, seed=9)
    for name, tensor in begun.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_adapters_learn_and_are_merged(read: Callable[..., Recipe], encode: Encode, tmp_path: Path) -> None:
    recipe = read("model.backbone.lora={rank: 2, alpha: 4, targets: [q, v, wi_0]}")
    before = build.starting_model(recipe.model, encode.tokenizer.vocabulary, recipe.seed)
    made = trained(recipe, encode, tmp_path)
    moved = {
        name.rpartition(".")[0].rpartition(".")[2]
        for name, tensor in finished(made).items()
        if name.startswith("backbone") and not torch.equal(tensor, finished(before)[name])
    }
    assert moved == {"q", "v", "wi_0"}
    assert verify(recipe, stage=1).finding == ""


@pytest.mark.usefixtures("quick_plan")
def test_layers_of_both_stacks_are_in_the_plan(read: Callable[..., Recipe]) -> None:
    plan = make_plan(read(), CPU)
    deeper = make_plan(read("model.backbone.config.num_decoder_layers=6", "model.backbone.recompute=true"), CPU)
    layer = sum(p.numel() for p in _model(read()).language_model.layers[-1].parameters())
    assert deeper.parameters["backbone"] == plan.parameters["backbone"] + 4 * layer
    assert plan.parameters["backbone"] == sum(p.numel() for p in _model(read()).language_model.parameters())
    assert all(stage.memory_gib and stage.seconds for stage in (*plan.stages, *deeper.stages))


def _model(recipe: Recipe) -> MultimodalModel:
    return build.build_model(recipe.model, 257, seed=0)


def test_plain_text_is_no_question(read: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"evaluate\.text: plain text asks nothing"):
        read("evaluate.text=true")


def test_what_is_said_of_a_picture_is_contrasted(recipe: Recipe, encode: Encode) -> None:
    """The answers are those of the target stream."""
    objective = ContrastiveCaption(width=8)
    made = build.build_model(recipe.model, encode.tokenizer.vocabulary, seed=0, objectives=[objective])
    batch = batch_of(recipe, encode, 3)
    terms = objective(made, batch)
    assert terms["contrastive"].count == objective.counts(batch)["contrastive"] > 0
    assert terms["caption"].count == batch.label_weight
    sum(term.loss_sum for term in terms.values()).backward()
    assert made.language_model.lm.encoder.block[0].layer[0].SelfAttention.q.weight.grad is not None


def test_what_compares_ways_to_go_on_is_refused(recipe: Recipe, encode: Encode) -> None:
    from vitrail.contracts.protocols import Needs
    from vitrail.training.objectives import NextToken

    class Both(NextToken):
        @property
        def needs(self) -> Needs:
            return Needs(variants=lambda row: (row, row))

    stage = dataclasses.replace(recipe.stages[0], objective=Both())
    with pytest.raises(RecipeError, match="which takes a backbone of kind decoder"):
        build.build_stages(dataclasses.replace(recipe, stages=(stage,)), encode, CPU)

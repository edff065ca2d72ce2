"""A model that reads pages, from a recipe: pasted text at first, what the reader saw after that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vitrail
from vitrail import build
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import ImagePart
from vitrail.data.collate import collate
from vitrail.data.loader import Stream
from vitrail.data.spans import spans
from vitrail.inference.chat_model import conversation
from vitrail.inference.config import GenerationConfig
from vitrail.media.text_lines import TextLines
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.run.plan import make_plan
from vitrail.run.train import train
from vitrail.run.verify import verify
from vitrail.synthetic.documents.config import DocumentsConfig
from vitrail.synthetic.documents.source import DocumentsSource
from vitrail.training.device import choose

EXAMPLE = "recipes/examples/text_lines.yaml"
SMALL = (
    "model.backbone={tokenizer: small, config: {model_type: llama, hidden_size: 32, intermediate_size: 64, "
    "num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, tie_word_embeddings: true}}",
    "prompt.template=terse",
    "data.train={kind: documents, documents: [notice], rows: 3, ask: [text]}",
    "data.held_out={kind: documents, split: test, documents: [notice], rows: 2, ask: [field]}",
    "evaluate={max_tokens: 4}",
    "training={dtype: float32, threads: 1}",
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that these tests read are kept for each other, and nowhere else."""
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path_factory.getbasetemp() / "text_lines"))


def recipe(*overrides: str) -> Recipe:
    return read_recipe(EXAMPLE, [*SMALL, *overrides]).value


def parts(given: Recipe) -> tuple[MultimodalModel, Stream]:
    tokenizer = build.build_tokenizer(given.model.backbone, given.prompt)
    encode = build.build_encode(given.model, given.prompt, tokenizer)
    model = build.build_model(given.model, tokenizer.vocabulary, seed=0)
    return model, build.build_stages(given, encode, choose(given.training))[0].stream


def test_what_is_added_is_nothing_at_first_and_stays_with_its_token() -> None:
    """The hidden states are those of the same ids as text alone; what is then added moves no token before it."""
    model, stream = parts(recipe())
    batch, _ = collate(stream.first_window().packs[0], stream.encode.media)
    assert batch is not None
    vision = batch.vision
    assert vision is not None
    with torch.no_grad():
        seen = model(batch)
        pasted = model(replace(batch, streams={"text": batch.text}))
        torch.testing.assert_close(seen, pasted, rtol=0, atol=0)
        torch.nn.init.normal_(model.get_submodule("projector.second").weight, std=0.1)
        model.get_submodule("projector.second").bias.zero_()
        moved = (model(batch) - pasted).abs().sum(1) > 0
    first = int(vision.token_index[0])
    assert not moved[:first].any()
    assert moved[first]


def test_values_reach_the_loss_and_the_projector_learns() -> None:
    model, stream = parts(recipe())
    batch, _ = collate(stream.first_window().packs[0], stream.encode.media)
    assert batch is not None
    model.loss_sum(batch).backward()
    last = model.get_submodule("projector.second").weight.grad
    assert last is not None
    assert bool(last.any())
    assert not list(model.get_submodule("encoder").parameters())


@pytest.mark.usefixtures("quick_plan")
def test_plan_and_verify_take_it() -> None:
    given = recipe()
    plan = make_plan(given, choose(given.training))
    assert set(plan.parameters) == {"projector", "backbone"}
    assert not verify(given).finding


def test_it_trains_is_opened_and_answers(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(read_recipe(EXAMPLE, [*SMALL, f"run={run}", "stages.0.epochs=2", "evaluate.text=false"]))
    results = json.loads((run / "results.json").read_text())
    assert {"before", "after", "blind"} <= results.keys()
    model = vitrail.load(run)
    document = DocumentsSource(DocumentsConfig(split="test", rows=1, documents=("notice",))).document(0)
    page = document.picture
    sample = model.encode.question(conversation((page, "What is said?")))
    read = "".join(text for sort, text in spans(sample, model.encode.tokenizer) if sort == "media")
    assert read.splitlines()[0].split()[0] in document.lines[0]
    reply = model.chat(page, "What is said?", generation=GenerationConfig(max_tokens=3))
    assert reply.tokens <= 3


def test_a_baseline_learns_from_pasted_text(tmp_path: Path) -> None:
    """The same rows in every step, the same answers to learn, and the plain text where the page stood."""
    run = tmp_path / "run"
    measures = "evaluate={max_tokens: 3, before: false, blind: false, pasted: true, swapped: true}"
    train(read_recipe(EXAMPLE, [*SMALL, f"run={run}", "stages.0.epochs=2", measures]))
    results = json.loads((run / "results.json").read_text())
    assert {"after", "swapped", "pasted", "pasted_training_seconds"} <= results.keys()
    assert {"pasted", "after"} == {path.stem for path in (run / "answers").iterdir()} - {"swapped"}
    logs = [(one / "log.jsonl").read_text().splitlines() for one in (run, run / "pasted")]
    seen, pasted = ([json.loads(line)["rows"] for line in lines] for lines in logs)
    assert seen == pasted
    given = recipe("model.media.boxes=true")
    _, stream = parts(given)
    encode, read = stream.encode, stream.encode.media["vision"]
    page = DocumentsSource(DocumentsConfig(split="test", rows=1, documents=("notice",))).document(0).picture
    asked = conversation((page, "What is said?"))
    assert isinstance(read, TextLines)
    text = read.text(ImagePart(page))
    sample = replace(encode, shown="text").question(asked)
    assert not sample.media
    assert f"{text}\nWhat is said?" in encode.tokenizer.decode(sample.ids.tolist())
    assert text not in encode.tokenizer.decode(encode.question(asked).ids.tolist()), "boxes stand between its lines"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.encoder={kind: vision_transformer}", "reads media.kind: native or tiles or padded; got text_lines"),
        ("model.media={kind: native}", "encoder.kind is text_lines, which reads media.kind: text_lines"),
        ("model.fusion={kind: gated_cross_attention}", "fusion.kind: splice"),
        ("model.projector={kind: resampler}", "every token of the text has one"),
        ("stages.0.objective={kind: embedding_alignment}", "there are none: leave the stage out"),
        (
            "data.train={kind: mixture, parts: [{name: a, source: {kind: documents}, augment: {}}]}",
            "part 'a' has augment, which changes no page",
        ),
    ],
)
def test_what_does_not_fit_is_said(override: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        recipe(override)
    assert "\n" not in str(caught.value)

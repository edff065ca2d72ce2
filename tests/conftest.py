"""A model small enough for every test: width 32, two layers, bytes for words, drawn pictures of mixed sizes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vitrail.data.encode import Encode
    from vitrail.models.assembled import MultimodalModel
    from vitrail.recipe.schema import Recipe

# Read when torch is first imported. Tensors this small gain nothing from a second thread, and on a busy machine each
# product of matrices would wait for it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

FIRST = (
    "training/test_parallel.py",
    "training/test_stopped_processes.py",
    "recipes/test_published.py",
    "training/test_resume.py",
    "synthetic/test_documents.py",
    "synthetic/test_drawn.py",
    "run/test_cross_attention.py",
    "data/test_loader.py",
    "benchmarks/test_data_path.py",
)
"""The files that take longest. `make test` gives each worker whole files: one begun last would leave the other idle."""

TINY = """
run: runs/tiny
model:
  media: {patch: 8, merge: 2, max_tokens: 64}
  encoder: {width: 32, depth: 2, heads: 2, mlp_width: 48}
  backbone:
    tokenizer: bytes
    config:
      model_type: llama
      hidden_size: 32
      intermediate_size: 48
      num_hidden_layers: 2
      num_attention_heads: 4
      num_key_value_heads: 2
      tie_word_embeddings: true
prompt: {template: terse}
data:
  train: {kind: drawn, rows: 16, size: [64, 128]}
  pack: {length: 280, patches: 512, window: 6}
  max_lost: 1.0
stages:
  - name: align
    train: {projector: 1.0e-2}
    steps: 5
  - name: instruct
    train: {encoder: 1.0e-3, projector: 1.0e-3, backbone: 1.0e-3}
    steps: 7
    accumulate: 2
training: {device: cpu, dtype: float32, compile: 'off', threads: 1, checkpoint_every: 3}
evaluate: {answers: false, losses: false, before: false, blind: false}
"""
"""A few rows are longer than a pack, so that there is something in the ledger."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; all else stays in its order."""
    tests = Path(__file__).parent
    order = {tests / name: number for number, name in enumerate(FIRST)}
    assert all(path.is_file() for path in order), "a file of FIRST is gone"
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(scope="session")
def tiny_recipe_text() -> str:
    return TINY


@pytest.fixture
def tiny_recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    from vitrail.recipe.read import read_recipe

    return read_recipe(str(path)).value


@pytest.fixture(scope="session")
def tiny_encode(tiny_recipe: Recipe) -> Encode:
    from vitrail import build

    tokenizer = build.build_tokenizer(tiny_recipe.model.backbone, tiny_recipe.prompt)
    return build.build_encode(tiny_recipe.model, tiny_recipe.prompt, tokenizer)


@pytest.fixture(scope="session")
def tiny_model(tiny_recipe: Recipe, tiny_encode: Encode) -> Callable[..., MultimodalModel]:
    """Makes one: the same weights for the same seed."""

    def make(seed: int = 0) -> MultimodalModel:
        from vitrail import build

        return build.build_model(tiny_recipe.model, tiny_encode.tokenizer.vocabulary, seed)

    return make


@pytest.fixture
def quick_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan times two passes of each model, the fewest it can do with, and not as many as fit into seconds."""
    from vitrail.run import plan_cost

    monkeypatch.setattr(plan_cost, "CALIBRATION_SECONDS", 0.0)


@pytest.fixture
def finished_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the weights of a recipe (its text, and overrides) as a finished run has them: the run's folder.

    Norms and biases are moved off their start, where a mistake in them would not show.
    """

    def write(text: str, *overrides: str) -> Path:
        import torch

        from vitrail import build
        from vitrail.recipe.read import read_recipe

        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        recipe = read_recipe(str(path), list(overrides)).value
        tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
        objectives = build.objectives_of(recipe.stages).values()
        model = build.build_model(recipe.model, tokenizer.vocabulary, seed=3, objectives=objectives)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
        heads = build.with_heads(recipe.stages)
        build.save_weights(model, encode, recipe.model, recipe.prompt, tmp_path / "run" / "weights", heads)
        return tmp_path / "run"

    return write

"""Compiled pieces: the same model, faster."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vitrail import build
from vitrail.contracts.samples import Batch, Pack
from vitrail.data.collate import collate
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.schema import Recipe
from vitrail.training.compiling import compile_pieces
from vitrail.training.device import has_compiler

Make = Callable[..., MultimodalModel]


def test_names_stay_and_every_layer_takes_part(tiny_model: Make) -> None:
    """Compilation itself waits for the first use, so this costs nothing."""
    model, plain = tiny_model(), tiny_model()
    assert compile_pieces(model) == 3 * 2 + 3 * 2
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own, of several libraries
def test_compiled_is_eager(tiny_model: Make, tiny_recipe: Recipe, tiny_encode: Encode) -> None:
    """Loss and gradients, over packs of different lengths."""
    source, dialect = build.build_source(tiny_recipe.data.train)
    samples = [tiny_encode(to_conversation(source.row(index), dialect), source.name) for index in range(6)]
    eager, compiled = tiny_model(), tiny_model()
    assert compile_pieces(compiled) > 0

    def losses(model: MultimodalModel, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
        model.zero_grad()
        loss = model.loss_sum(batch)
        loss.backward()
        return float(loss.detach()), {
            name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
        }

    for pack in (samples[:1], samples[1:3], samples[3:]):
        batch, _ = collate(Pack(tuple(pack)), tiny_encode.media)
        assert batch is not None
        expected, gradients = losses(eager, batch)
        loss, found = losses(compiled, batch)
        assert loss == pytest.approx(expected, rel=1e-5)
        for name, gradient in gradients.items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * scale)

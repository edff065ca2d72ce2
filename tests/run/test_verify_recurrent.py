"""What carries a state from token to token must begin anew with each sample: `verify` names such a layer if it does
not, though no attention leaks. Decoders of that kind are refused today; here one is built into ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitrail import build
from vitrail.contracts.samples import Segments
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.read import read_recipe
from vitrail.run import verify as verifying
from vitrail.run.verify import Verification


class Recurrent(nn.Module):
    """A gated linear recurrence beside a decoder layer: h = decay * h + x, with a decay that forgets in a few tokens.

    apart: the state is emptied where a sample begins. gate: closed before training, where zero.
    """

    def __init__(self, layer: nn.Module, width: int, *, apart: bool, gate: float = 1.0, decay: float = 0.5) -> None:
        super().__init__()
        self.layer, self.apart, self.decay = layer, apart, decay
        self.gate = nn.Parameter(torch.full((width,), gate))

    def forward(self, hidden: Tensor, *, segments: Segments, **rest: Any) -> Tensor:
        out: Tensor = self.layer(hidden, segments=segments, **rest)
        parts = hidden[0].split(segments.lengths) if self.apart else [hidden[0]]
        return out + self.gate * torch.cat([self.carried(part) for part in parts])[None]

    def carried(self, tokens: Tensor) -> Tensor:
        state, states = torch.zeros_like(tokens[0]) if len(tokens) else None, []
        for token in tokens:
            state = self.decay * state + token
            states.append(state)
        return torch.stack(states) if states else tokens


class LinearAttention(Recurrent):
    """Linear attention: a matrix of keys and values, summed over all tokens so far."""

    def carried(self, tokens: Tensor) -> Tensor:
        keys = tokens.softmax(-1)
        memory = (keys[:, :, None] * tokens[:, None]).cumsum(0)
        return torch.einsum("td,tde->te", keys, memory) / (1 + torch.arange(len(tokens)))[:, None]


class ShortConvolution(Recurrent):
    """A causal convolution over three tokens, as stands before the recurrence in such layers."""

    def carried(self, tokens: Tensor) -> Tensor:
        before = nn.functional.pad(tokens, (0, 0, 2, 0))
        return (before[:-2] + before[1:-1] + before[2:]) / 3 if len(tokens) else tokens


class Centred(Recurrent):
    """The same not causal: a token sees the one after it, so samples leak backwards, and padding does."""

    def carried(self, tokens: Tensor) -> Tensor:
        after = nn.functional.pad(tokens, (0, 0, 0, 1))
        return after[1:] - tokens


KINDS = {one.__name__: one for one in (Recurrent, LinearAttention, ShortConvolution, Centred)}
Verify = Callable[..., Verification]


@pytest.fixture
def verify(tiny_recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verifies the tiny recipe with a layer of a kind in the place of the language model's last."""

    def call(kind: type[Recurrent], *overrides: str, **settings: Any) -> Verification:
        right = build.starting_model

        def made(*given: Any, **named: Any) -> MultimodalModel:
            model = right(*given, **named)
            layers = model.language_model.lm.model.layers
            layers[-1] = kind(layers[-1], model.language_model.width, **settings)
            return model

        monkeypatch.setattr(build, "starting_model", made)
        found = verifying.verify(read_recipe(str(tiny_recipe_file), list(overrides)).value)
        monkeypatch.setattr(build, "starting_model", right)
        return found

    return call


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_state_across_borders_is_found(kind: type[Recurrent], verify: Verify) -> None:
    found = verify(kind, apart=False)
    assert found.finding.startswith("backbone: what it makes of sample drawn-train-")
    assert "depends on the other samples" in found.finding
    components = found.packs[0].components
    assert components["encoder"].output is not None
    assert components["encoder"].output < verifying.TOLERANCE


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_state_that_begins_anew_passes(kind: type[Recurrent], verify: Verify) -> None:
    assert verify(kind, apart=True).finding == ""


def test_a_closed_gate_hides_nothing(verify: Verify) -> None:
    assert verify(Recurrent, apart=False, gate=0.0).finding.startswith("backbone: ")


def test_a_state_that_is_soon_forgotten_is_found(verify: Verify) -> None:
    """After two tokens a hundredth is left of it, and those two may be of the prompt, where nothing is learnt."""
    assert verify(Recurrent, apart=False, decay=0.1).finding.startswith("backbone: ")

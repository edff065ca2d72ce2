"""`verify` finds nothing in what is right, and names the component and the sample of whatever is not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vitrail.cli.main import main
from vitrail.contracts.errors import DataError, RecipeError
from vitrail.recipe.read import read_recipe
from vitrail.run import verify as verifying
from vitrail.run.verify import LOSS_TOLERANCE, TOLERANCE, Verification
from vitrail.run.verify_passes import MOST

LEAKS = '''
"""Components that let samples see each other."""

import torch
from torch import nn

from vitrail.training.objectives import Objective


class Everywhere(nn.Module):
    """Every patch attends to all patches of the pack: the segments are ignored."""

    def __init__(self, patch_values: int) -> None:
        super().__init__()
        self.width = 16
        self.stem, self.mix = nn.Linear(patch_values, 16), nn.Linear(16, 48)

    def forward(self, stream):
        x = self.stem(stream.values.to(self.stem.weight.dtype))
        query, key, value = self.mix(x)[None].chunk(3, dim=-1)
        return x + nn.functional.scaled_dot_product_attention(query, key, value)[0]


class Apart(Everywhere):
    """The same attention, picture by picture."""

    def forward(self, stream):
        x = self.stem(stream.values.to(self.stem.weight.dtype))
        views = self.mix(x).split(stream.segments.lengths)
        return x + torch.cat(
            [nn.functional.scaled_dot_product_attention(*view[None].chunk(3, dim=-1))[0] for view in views]
        )


class Centred(nn.Module):
    """Takes the mean over all tokens of the pack away."""

    def __init__(self, encoder_width: int, backbone_width: int, patches_per_token: int) -> None:
        super().__init__()
        self.many, self.layer = patches_per_token, nn.Linear(encoder_width, backbone_width)

    def forward(self, features, stream):
        tokens = self.layer(features.unflatten(0, (-1, self.many)).mean(1))
        return tokens - tokens.mean(0)


class Gated(Centred):
    """What it would let through of the others waits behind a gate that is closed before training."""

    def __init__(self, encoder_width: int, backbone_width: int, patches_per_token: int) -> None:
        super().__init__(encoder_width, backbone_width, patches_per_token)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features, stream):
        tokens = self.layer(features.unflatten(0, (-1, self.many)).mean(1))
        return tokens + self.gate * tokens.mean(0)


class Backward(torch.autograd.Function):
    """The identity, whose gradient is mixed over all tokens."""

    @staticmethod
    def forward(ctx, tokens):
        return tokens.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient + gradient.abs().max()


class Sly(Centred):
    """Right on the way forward, wrong on the way back."""

    def forward(self, features, stream):
        return Backward.apply(self.layer(features.unflatten(0, (-1, self.many)).mean(1)))


class ShortEverywhere(Apart):
    """Attends across pictures in half precision alone, as a kernel of its own might."""

    def forward(self, stream):
        return Everywhere.forward(self, stream) if self.stem.weight.dtype == torch.bfloat16 else super().forward(stream)


class ShortCentred(Centred):
    """Takes the mean over the pack away, in half precision alone: of a picture alone too."""

    def forward(self, features, stream):
        tokens = self.layer(features.unflatten(0, (-1, self.many)).mean(1))
        return tokens - tokens.mean(0) if tokens.dtype == torch.bfloat16 else tokens


class ShortMixed(Centred):
    """Adds a fifth of the mean over the pack, in half precision alone, where there are several pictures."""

    def forward(self, features, stream):
        tokens = self.layer(features.unflatten(0, (-1, self.many)).mean(1))
        leaks = tokens.dtype == torch.bfloat16 and len(stream.segments.lengths) > 1
        return tokens + 0.2 * tokens.mean(0) if leaks else tokens


class ShortSly(Centred):
    """Right on the way forward, wrong on the way back, in half precision alone, where there are several pictures."""

    def forward(self, features, stream):
        tokens = self.layer(features.unflatten(0, (-1, self.many)).mean(1))
        leaks = tokens.dtype == torch.bfloat16 and len(stream.segments.lengths) > 1
        return Backward.apply(tokens) if leaks else tokens


class Dropped(Centred):
    """Leaves values out by chance."""

    def forward(self, features, stream):
        tokens = self.layer(features.unflatten(0, (-1, self.many)).mean(1))
        return nn.functional.dropout(tokens, 0.5, self.training)


class Noisy(Centred):
    """Never the same twice."""

    def forward(self, features, stream):
        tokens = self.layer(features.unflatten(0, (-1, self.many)).mean(1))
        return tokens + torch.randn_like(tokens)


class Anything(Objective):
    """Anything at all."""

    def counts(self, batch):
        return {"own": 1.0}
'''

Verify = Callable[..., Verification]


@pytest.fixture
def verify(tiny_recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verifies the tiny recipe with changes; `leaks:...` names one of the components above."""
    (tmp_path / "leaks.py").write_text(LEAKS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "leaks", raising=False)

    def call(*overrides: str, stage: int = 0, packs: int = 1) -> Verification:
        return verifying.verify(read_recipe(str(tiny_recipe_file), overrides).value, stage, packs)

    return call


def test_what_is_right_passes(verify: Verify) -> None:
    found = verify(packs=2)
    assert found.finding == ""
    assert len(found.packs) == 2
    for pack in found.packs:
        assert pack.samples >= 2
        assert pack.pictured >= 2
        assert pack.loss <= LOSS_TOLERANCE
        assert list(pack.components) == ["encoder", "projector", "fusion", "backbone"]
        for name, one in pack.components.items():
            assert one.output is not None
            assert one.output <= TOLERANCE
            # A splice has no weights.
            assert (one.gradient is None) == (name == "fusion")
            assert (one.gradient or 0.0) <= TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        "model.backbone.lora={rank: 2, alpha: 4}",
        "model.encoder={kind: 'leaks:Apart'}",
        "model.projector={kind: linear}",
        "data.pack.policy=fixed_length",
        "data.workers=1",
    ],
)
def test_other_models_and_packs_pass(verify: Verify, change: str) -> None:
    found = verify(change)
    assert found.finding == ""
    assert [name for name, one in found.packs[0].components.items() if one.gradient is None] == ["fusion"]


@pytest.mark.parametrize(
    ("change", "component"),
    [
        ("model.encoder={kind: 'leaks:Everywhere'}", "encoder"),
        ("model.projector={kind: 'leaks:Centred'}", "projector"),
        ("model.projector={kind: 'leaks:Gated'}", "projector"),
    ],
)
def test_a_leak_is_found_and_named(verify: Verify, change: str, component: str) -> None:
    found = verify(change)
    assert found.finding.startswith(f"{component}: what it makes of sample drawn-train-")
    assert "depends on the other samples" in found.finding
    assert "\n" not in found.finding


def test_a_leak_in_the_language_model_is_found(verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model without its borders: the whole pack as one segment."""
    from vitrail.contracts.samples import Segments
    from vitrail.models.backbones.decoder import Decoder

    right = Decoder.forward
    monkeypatch.setattr(
        Decoder,
        "forward",
        lambda self, x, positions, segments, **how: right(self, x, positions, Segments((segments.total,)), **how),
    )
    assert verify().finding.startswith("backbone: what it makes of sample")


def test_a_leak_of_gradients_alone_is_found(verify: Verify) -> None:
    found = verify("model.projector={kind: 'leaks:Sly'}")
    assert found.packs[0].loss <= LOSS_TOLERANCE
    assert "its gradient for sample drawn-train-" in found.finding
    assert found.finding.startswith(("encoder", "projector"))


def test_a_model_that_draws_by_chance(verify: Verify) -> None:
    found = verify("model.projector={kind: 'leaks:Dropped'}")
    assert found.finding == ""
    assert "evaluation mode" in found.notes[0]
    with pytest.raises(RecipeError, match="two passes over the same pack disagree"):
        verify("model.projector={kind: 'leaks:Noisy'}")


def test_other_objectives_are_verified_by_the_next_token(verify: Verify) -> None:
    found = verify("stages.align.objective={kind: contrastive_caption}")
    assert found.finding == ""
    assert found.notes == [
        "the objective 'contrastive_caption' compares the samples of a pack by design: compared by the next-token loss"
    ]
    assert "may compare" in verify("stages.align.objective={kind: 'leaks:Anything'}").notes[0]


def test_the_stage_has_its_own_data(verify: Verify) -> None:
    change = "stages.instruct.data={kind: drawn, rows: 8, split: test, size: [64, 64]}"
    assert verify(change, stage=1).packs[0].sample.startswith("drawn-test-")
    assert verify(change).packs[0].sample.startswith("drawn-train-")
    with pytest.raises(RecipeError, match="the recipe has 2 stages"):
        verify(stage=2)


def test_packs_of_one_sample_prove_nothing(verify: Verify) -> None:
    with pytest.raises(DataError, match="none holds two samples"):
        verify("data.train.rows=1")


def test_text_and_damaged_pictures(verify: Verify, tmp_path: Path) -> None:
    """A pack of text and pictures; the row whose picture breaks off is left out of both sides."""
    import numpy as np
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save("whole.png")
    Path("broken.png").write_bytes(Path("whole.png").read_bytes()[:3000])
    rows = [
        {"id": name, "images": images, "messages": [{"role": "user", "content": asked}, said]}
        for name, images, asked in (
            ("a", ["whole.png"], "<image>Why?"),
            ("text", [], "Why so?"),
            ("bad", ["broken.png"], "<image>Why?"),
            ("two", ["whole.png", "whole.png"], "<image>or<image>?"),
        )
        for said in [{"role": "assistant", "content": f"Because of {name}."}]
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = verify("data.train=rows.jsonl")
    assert found.finding == ""
    assert (found.packs[0].samples, found.packs[0].pictured) == (3, 2)


def test_the_verb(
    verify: Verify, tiny_recipe_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vitrail", "verify", str(tiny_recipe_file), *arguments])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    status, out, _ = run()
    assert status == 0
    assert "no sample sees another" in out
    status, out, err = run("model.encoder={kind: 'leaks:Everywhere'}", "--json", "--packs", "9", "--stage", "1")
    assert status == 1
    assert err.count("\n") == 1
    assert err.startswith("leak: encoder: ")
    found = json.loads(out)
    assert not found["passed"]
    assert found["finding"] in err
    assert found["stage"] == "instruct"
    assert "fewer than the 9 asked for" in found["notes"][0]
    assert found["packs"][0]["components"]["encoder"]["output"] > found["allowed"]["output"]


# The run's own number format


SHORT = ("training.dtype=bfloat16",)


def test_what_is_right_passes_in_the_runs_own_format(verify: Verify) -> None:
    found = verify(*SHORT, packs=2)
    assert found.finding == ""
    assert [pack.format for pack in found.packs] == ["float32", "float32", "bfloat16", "bfloat16"]
    for exact, short in zip(found.packs[:2], found.packs[2:], strict=True):
        for name, one in short.components.items():
            assert one.output is not None
            # Rounding is there, or it has not been looked at; and it would hide no leak.
            assert one.output_allowed > TOLERANCE == exact.components[name].output_allowed
            assert one.output <= one.output_allowed < MOST


@pytest.mark.parametrize("change", ["model.encoder={kind: 'leaks:Apart'}", "model.backbone.lora={rank: 2, alpha: 4}"])
def test_other_models_pass_in_their_own_format(verify: Verify, change: str) -> None:
    assert verify(*SHORT, change).finding == ""


@pytest.mark.parametrize(
    ("change", "component"),
    [
        ("model.encoder={kind: 'leaks:ShortEverywhere'}", "encoder"),
        ("model.projector={kind: 'leaks:ShortMixed'}", "projector"),
    ],
)
def test_a_leak_of_the_kernels_of_one_format_is_found_there(verify: Verify, change: str, component: str) -> None:
    """Right in float32, where it used to be looked for alone."""
    found = verify(*SHORT, change)
    exact, short = found.packs
    assert exact.finding == ""
    assert short.finding.startswith(f"{component}: what it makes of sample drawn-train-")
    assert short.finding.endswith("; in bfloat16")
    assert found.finding == short.finding
    assert verify(change).finding == ""


def test_what_is_another_function_in_short_is_not_taken_for_rounding(verify: Verify) -> None:
    """It moves single samples too, so rounding cannot be measured: the leak is found all the same."""
    found = verify(*SHORT, "model.projector={kind: 'leaks:ShortCentred'}")
    assert found.finding.endswith("; in bfloat16")
    assert found.packs[1].components["projector"].output_allowed == MOST
    assert "projector: bfloat16 moves it by more than rounding explains, of single samples too" in found.notes


def test_a_leak_of_short_gradients_alone_is_found(verify: Verify) -> None:
    found = verify(*SHORT, "model.projector={kind: 'leaks:ShortSly'}")
    assert "its gradient for sample drawn-train-" in found.finding
    assert found.finding.endswith("; in bfloat16")


def test_a_leak_in_the_language_models_short_kernel_is_found(verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the kernel for half precision took a pack for one segment."""
    from vitrail.contracts.samples import Segments
    from vitrail.models.backbones import decoder

    right = decoder.packed_attention

    def leaking(query: Any, key: Any, value: Any, segments: Segments, **how: Any) -> Any:
        if query.dtype == torch.bfloat16:
            segments = Segments((segments.total,))
        return right(query, key, value, segments, **how)

    monkeypatch.setattr(decoder, "packed_attention", leaking)
    assert verify().finding == ""
    found = verify(*SHORT)
    assert found.finding.startswith("backbone: what it makes of sample")
    assert found.finding.endswith("; in bfloat16")

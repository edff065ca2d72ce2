"""The whole model: packed equals one by one, samples do not see each other, components of the user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail import build
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.samples import Batch, Pack, Sample
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import CustomConfig
from vitrail.recipe.schema import Recipe

Make = Callable[..., MultimodalModel]

OWN = '''
import torch
from torch import nn


class Average(nn.Module):
    """An encoder that gives every patch the mean of its values."""

    def __init__(self, patch_values, width, tilt=0.0):
        super().__init__()
        self.width = width
        self.tilt = tilt
        self.scale = nn.Linear(1, width)
        assert patch_values == 3 * 8 * 8

    def forward(self, stream):
        return self.scale(stream.values.mean(1, keepdim=True)) + self.tilt


class First(nn.Module):
    """A projector that keeps the first patch of each token."""

    def __init__(self, encoder_width, backbone_width, patches_per_token):
        super().__init__()
        self.together = patches_per_token
        self.linear = nn.Linear(encoder_width, backbone_width)

    def forward(self, features, stream):
        return self.linear(features[:: self.together])
'''


def conversation(number: int) -> Conversation:
    """Samples with one picture, two, three of mixed sizes, and none."""
    chance = np.random.default_rng(number)
    sizes = [(64, 32), (48, 48), (16, 80)][: (number + 1) % 4]
    pictures = [ImagePart(chance.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    asked = Message("user", (*pictures, TextPart(f"What is in number {number}?" * (1 + number % 3))))
    more = [asked, Message("assistant", (TextPart(f"A {number}."),)), Message("user", (TextPart("Sure?"),))]
    return Conversation(f"row {number}", (*more, Message("assistant", (TextPart("Yes, é 日本."),))))


@pytest.fixture(scope="module")
def samples(tiny_encode: Encode) -> list[Sample]:
    return [tiny_encode(conversation(number)) for number in range(7)]


def batch_of(samples: list[Sample], encode: Encode, pad_to: int = 0) -> Batch:
    batch, events = collate(Pack(tuple(samples)), encode.media, pad_to)
    assert batch is not None
    assert [event.outcome for event in events] == ["used"] * len(samples)
    return batch


def loss_and_gradients(model: MultimodalModel, batches: list[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = model.loss_sum(batch)
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pad_to", [0, 2000])
def test_packed_is_one_by_one(tiny_model: Make, tiny_encode: Encode, samples: list[Sample], pad_to: int) -> None:
    """Loss and every gradient, with pictures of mixed sizes and numbers; padding changes nothing either."""
    model = tiny_model()
    packed = batch_of(samples, tiny_encode, pad_to)
    assert packed.padding == max(0, pad_to - sum(map(len, samples)))
    # Rotary positions are relative, so only the numbers themselves tell that they start anew.
    starts = [torch.arange(length) for length in packed.text.segments.lengths]
    assert torch.equal(packed.text.positions, torch.cat(starts))
    loss, gradients = loss_and_gradients(model, [packed])
    alone_loss, alone = loss_and_gradients(model, [batch_of([sample], tiny_encode) for sample in samples])
    assert loss == pytest.approx(alone_loss, rel=1e-5)
    assert gradients.keys() == alone.keys() == {name for name, _ in model.named_parameters()}
    for name, gradient in gradients.items():
        scale = float(alone[name].abs().max())
        assert scale > 0, name
        torch.testing.assert_close(
            gradient, alone[name], rtol=1e-4, atol=1e-5 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@torch.no_grad()
def test_a_sample_does_not_see_its_neighbours(tiny_model: Make, tiny_encode: Encode, samples: list[Sample]) -> None:
    """Bit for bit: with another picture, and other words, in the second sample, the others stay as they were."""
    model = tiny_model()
    changed = list(samples)
    pictures = [dataclasses.replace(part, image=255 - part.image) for part in samples[1].media]
    changed[1] = dataclasses.replace(samples[1], media=tuple(pictures), ids=samples[1].ids[::-1].copy())
    before, after = model(batch_of(samples, tiny_encode)), model(batch_of(changed, tiny_encode))
    start, end = len(samples[0]), len(samples[0]) + len(samples[1])
    assert torch.equal(before[:start], after[:start])
    assert torch.equal(before[end:], after[end:])
    assert not torch.equal(before[start:end], after[start:end])


@torch.no_grad()
def test_each_picture_stands_in_its_own_place(tiny_model: Make, tiny_encode: Encode, samples: list[Sample]) -> None:
    """The stream the backbone reads holds, at each slot, the tokens of that picture encoded by itself."""
    model = tiny_model()
    fused, context = model.fused(batch_of(samples, tiny_encode))
    assert context is None
    offset, seen = 0, 0
    for sample in samples:
        text = model.backbone.embed(torch.from_numpy(sample.ids))
        expected = text.clone()
        for slot in sample.slots:
            only = dataclasses.replace(sample, media=(sample.media[slot.media],))
            moved = dataclasses.replace(only, slots=(dataclasses.replace(slot, media=0),))
            vision = batch_of([moved], tiny_encode).vision
            assert vision is not None
            expected[slot.start : slot.start + slot.view.tokens] = model.projector(model.encoder(vision), vision)
            seen += 1
        torch.testing.assert_close(fused[offset : offset + len(sample)], expected, rtol=1e-5, atol=1e-5)
        offset += len(sample)
    assert seen == sum(len(sample.media) for sample in samples) == 12


def test_splice_refuses_another_number_of_tokens(tiny_model: Make, tiny_encode: Encode, samples: list[Sample]) -> None:
    batch = batch_of(samples, tiny_encode)
    assert batch.vision is not None
    count = len(batch.vision.token_index)
    made = f"vision: the projector made {count - 1} tokens, the text holds {count} placeholders"
    with pytest.raises(AssertionError, match=made):
        tiny_model().fusion(torch.zeros(1000, 8), {"vision": torch.zeros(count - 1, 8)}, batch)


def test_a_seed_gives_the_same_weights(tiny_model: Make) -> None:
    once, again, other = (tiny_model(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["encoder.stem.weight"], other["encoder.stem.weight"])
    assert not torch.equal(
        once["backbone.lm.model.embed_tokens.weight"], other["backbone.lm.model.embed_tokens.weight"]
    )


def test_components_of_the_users_own(
    tiny_recipe: Recipe,
    tiny_encode: Encode,
    samples: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By `package.module:Class`, from the folder one works in; their options arrive, and they train."""
    (tmp_path / "vitrail_own_parts.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    config = dataclasses.replace(
        tiny_recipe.model,
        encoder=CustomConfig("vitrail_own_parts:Average", {"width": 12, "tilt": 0.5}),
        projector=CustomConfig("vitrail_own_parts:First"),
    )
    model = build.build_model(config, tiny_encode.tokenizer.vocabulary, seed=0)
    assert type(model.encoder).__name__ == "Average"
    assert (model.encoder.width, model.encoder.tilt) == (12, 0.5)
    model.loss_sum(batch_of(samples, tiny_encode)).backward()
    assert model.encoder.scale.weight.grad.abs().max() > 0
    assert model.projector.linear.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["no_such_module_of_anyone:Thing", "json:Thing", "json", "json:", ":Thing"])
def test_a_component_that_is_not_there(kind: str, tiny_recipe: Recipe) -> None:
    config = dataclasses.replace(tiny_recipe.model, encoder=CustomConfig(kind))
    with pytest.raises(RecipeError, match=f"^model.encoder: cannot load '{kind}': ") as caught:
        build.build_model(config, 260, seed=0)
    assert "\n" not in str(caught.value)

"""The fused head and loss against `F.cross_entropy` over all logits at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from vitrail.contracts.samples import IGNORE
from vitrail.models.ops import vocabulary_loss
from vitrail.models.ops.vocabulary_loss import VocabularyLoss

TOKENS, WIDTH, WORDS = 37, 16, 50


def case(labelled: float = 0.4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden, weight, labels, weights, as a pack has them."""
    chance = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=chance)
    weight = torch.randn(WORDS, WIDTH, generator=chance)
    labels = torch.randint(WORDS, (TOKENS,), generator=chance)
    labels[torch.rand(TOKENS, generator=chance) >= labelled] = IGNORE
    weights = torch.rand(TOKENS, generator=chance) + 0.5
    return hidden, weight, labels, torch.where(labels == IGNORE, 0.0, weights)


def reference(hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    each = cross_entropy((hidden @ weight.T).float(), labels, reduction="none", ignore_index=IGNORE)
    return (each * weights).sum()


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
@pytest.mark.parametrize("labelled", [0.0, 0.4, 1.0])
def test_values_and_gradients(monkeypatch: pytest.MonkeyPatch, rows: int, labelled: float) -> None:
    """Also where the labelled places are no whole number of chunks, and where there are none."""
    monkeypatch.setattr(vocabulary_loss, "CHUNK_BYTES", rows * 4 * WORDS)
    hidden, weight, labels, weights = case(labelled)
    hidden.requires_grad_()
    weight.requires_grad_()
    ours, theirs = VocabularyLoss()(hidden, weight, labels, weights), reference(hidden, weight, labels, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for mine, other in zip(
        torch.autograd.grad(ours / 3, (hidden, weight)), torch.autograd.grad(theirs / 3, (hidden, weight)), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_the_chunks_are_as_many_as_their_size_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is obeyed at all: no chunk's logits are larger."""
    monkeypatch.setattr(vocabulary_loss, "CHUNK_BYTES", 5 * 4 * WORDS)
    seen: list[int] = []

    class Watched(Tensor):
        def logsumexp(self, *args: int, **kwargs: bool) -> Tensor:
            seen.append(len(self))
            return super().logsumexp(*args, **kwargs)

    hidden, weight, labels, weights = case(1.0)
    VocabularyLoss()(hidden.as_subclass(Watched), weight, labels, weights)
    assert seen == [5] * 7 + [2]


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_what_is_frozen_gets_no_gradient(frozen: str) -> None:
    hidden, weight, labels, weights = case()
    hidden.requires_grad_(frozen != "hidden")
    weight.requires_grad_(frozen != "weight")
    VocabularyLoss()(hidden, weight, labels, weights).backward()
    assert (hidden.grad is None) == (frozen == "hidden")
    assert (weight.grad is None) == (frozen == "weight")
    trained = weight if frozen == "hidden" else hidden
    again = trained.detach().clone().requires_grad_()
    other = (hidden, again) if frozen == "hidden" else (again, weight)
    reference(*other, labels, weights).backward()
    torch.testing.assert_close(trained.grad, again.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_gradient_is_made_where_none_is_wanted(mode: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a head of 150k words it would be the largest tensor of the evaluation."""
    hidden, weight, labels, weights = case()
    weight.requires_grad_()
    made: list[object] = []
    monkeypatch.setattr(torch, "zeros_like", lambda *args, **kwargs: made.append(args) or torch.zeros(()))
    with mode():
        loss = VocabularyLoss()(hidden, weight, labels, weights)
    assert made == []
    torch.testing.assert_close(loss, reference(hidden, weight, labels, weights), rtol=1e-5, atol=1e-5)


def test_half_precision_keeps_its_format_and_sums_in_single() -> None:
    hidden, weight, labels, weights = case()
    half = hidden.bfloat16().requires_grad_(), weight.bfloat16().requires_grad_()
    full = half[0].detach().float().requires_grad_(), half[1].detach().float().requires_grad_()
    loss = VocabularyLoss()(*half, labels, weights)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, reference(*full, labels, weights), rtol=1e-2, atol=0)
    loss.backward()
    reference(*full, labels, weights).backward()
    for mine, other in zip(half, full, strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        assert mine.grad.dtype == torch.bfloat16
        torch.testing.assert_close(mine.grad.float(), other.grad, rtol=5e-2, atol=5e-2)


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    """By differences in float64; the softmax is in float32, which bounds how well they can agree."""
    hidden, weight, labels, weights = case()
    inputs = hidden.double().requires_grad_(), weight.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *pair: VocabularyLoss()(*pair, labels, weights).double(), inputs, eps=1e-2, atol=2e-2, rtol=1e-2
    )

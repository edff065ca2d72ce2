"""The vocabulary head fused with its cross-entropy, over labelled positions only and in chunks.

The logits of a whole pack never exist: each chunk's are made, turned into their gradient and dropped. For a pack where
a sixth of the tokens is labelled and a 49k-word vocabulary this is both the memory and a good part of the time.
Source: the idea of chunked linear cross-entropy is Liger Kernel's (arXiv 2410.10989).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitrail.contracts.samples import IGNORE

CHUNK_BYTES = 64 * 2**20
"""Size of one chunk's float32 logits: large enough for full-speed matrix products, small enough to stay cheap."""


class VocabularyLoss(nn.Module):
    """A module, so that whatever shards or compiles the model sees the head's use."""

    def forward(self, hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of cross-entropies.

        hidden: float[T, D]. weight: float[V, D]. labels: int64[T] (IGNORE where there is none). weights: float32[T].
        Returns float32[]: divide by the summed weights for the mean.
        """
        return self.with_each(hidden, weight, labels, weights)[0]

    def with_each(self, hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The same, with what each position adds to the sum: float32[T], without a gradient."""
        labelled = labels.ne(IGNORE).nonzero().squeeze(1)
        if not torch.is_grad_enabled():
            # A function of our own is told that parameters need gradients even where none are wanted.
            weight = weight.detach()
        total, each = _HeadLoss.apply(hidden[labelled], weight, labels[labelled], weights[labelled])
        return total, each.new_zeros(len(labels)).index_put((labelled,), each)


class _HeadLoss(torch.autograd.Function):
    """Makes the gradients in the forward pass, while the logits are at hand."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        each = hidden.new_empty(len(hidden), dtype=torch.float32)
        rows = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            # The softmax is taken in float32 whatever the model computes in.
            logits = (hidden[part] @ weight.T).float()
            normaliser = logits.logsumexp(-1, keepdim=True)
            target = labels[part, None]
            scale = weights[part, None]
            each[part] = ((normaliser - logits.gather(1, target)) * scale)[:, 0]
            if needs_hidden or needs_weight:
                gradient = logits.sub_(normaliser).exp_().scatter_add_(1, target, -torch.ones_like(scale)).mul_(scale)
                gradient = gradient.to(hidden.dtype)
                if grad_hidden is not None:
                    torch.mm(gradient, weight, out=grad_hidden[part])
                if grad_weight is not None:
                    grad_weight += gradient.T @ hidden[part]
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(each)
        return each.sum(), each

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        if grad_hidden is not None:
            grad_hidden = grad_hidden * grad[0].to(grad_hidden.dtype)
        if grad_weight is not None:
            grad_weight = (grad_weight * grad[0]).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None, None

"""Pictures and texts in one space, for contrastive objectives."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize


class Contrast(nn.Module):
    """Maps summaries of pictures and of texts to one space and compares every pair.

    Source: the sigmoid loss of SigLIP, arXiv 2303.15343, algorithm 1.
    """

    def __init__(self, width: int, picture_width: int, text_width: int) -> None:
        """width: of the space where they meet."""
        super().__init__()
        self.picture = nn.Linear(picture_width, width, bias=False)
        self.text = nn.Linear(text_width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def logits(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """float[N, picture width], float[M, text width] to float32[N, M]: how well each picture fits each text."""
        left, right = normalize(self.picture(pictures).float()), normalize(self.text(texts).float())
        return left @ right.T * self.log_scale.float().exp() + self.bias.float()

    def loss_sum(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Sigmoid loss over all pairs of N pictures with their N texts, float32[]; divide by N for the paper's."""
        logits = self.logits(pictures, texts)
        sign = 2 * torch.eye(len(logits), device=logits.device) - 1
        return -logsigmoid(sign * logits).sum()

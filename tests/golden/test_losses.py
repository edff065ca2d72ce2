"""Preference losses and the log-probabilities they are made of, against public code: what of the folder is covered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vitrail.contracts.samples import IGNORE
from vitrail.models.ops.vocabulary_loss import VocabularyLoss
from vitrail.training.objectives import DPO
from vitrail.training.objectives.dpo import segment_sums

SYSTEM = "losses"

READ = {"logps.safetensors", "dpo.json"}
LOSSES = {"sigmoid_loss", "sigmoid_loss_mean", "reference_free_loss", "chosen_rewards", "rejected_rewards", "cdpo_loss"}
"""Of dpo.json."""
GIVEN = {"beta", "cdpo_label_smoothing"} | {
    f"{who}_{which}_logps" for who in ("policy", "ref") for which in ("chosen", "rejected")
}
ROWS = 1e-5
"""Absolute and relative: the folder's own tolerances are for features and logits; these are sums of float32."""


def close(found: Tensor, expected: Any) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected), atol=ROWS, rtol=ROWS)


def test_sequence_log_probabilities(golden: Path) -> None:
    """Rows laid end to end; the vocabulary's head is the identity, so that hidden states are the logits."""
    given = load_file(golden / "logps.safetensors")
    logits, labels = given["logits"], given["labels"]
    rows, length, width = logits.shape
    # Labels are shifted once, before: position t predicts the id at t + 1. The last predicts nothing.
    shifted = torch.cat([labels[:, 1:], torch.full((rows, 1), IGNORE)], dim=1)
    unshifted = torch.cat([labels[:, :-1], torch.full((rows, 1), IGNORE)], dim=1)
    weighted = torch.cat([given["token_weight"], torch.zeros(rows, 1)], dim=1)

    def logps(labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's, float[rows, length], and each row's."""
        _, each = VocabularyLoss().with_each(
            logits.flatten(0, 1), torch.eye(width), labels.flatten(), weights.flatten()
        )
        return -each.view(rows, length), -segment_sums(each, (length,) * rows)

    known = (shifted != IGNORE).float()
    each, sums = logps(shifted, torch.ones_like(known))
    close(sums, given["sum_logp"])
    close(sums / known.sum(1), given["avg_logp"])
    close(-sums.sum() / known.sum(), given["cross_entropy"][0])
    here = known[:, :-1].bool()
    close(each[:, :-1][here], given["per_token_logp"][here])
    _, sums = logps(shifted, weighted)
    close(sums, given["weighted_logp"])
    close(sums / (weighted * known).sum(1), given["weighted_avg_logp"])
    _, sums = logps(unshifted, torch.ones_like(known))
    close(sums, given["minicpm_sum_logp"])
    close(sums / (unshifted != IGNORE).sum(1), given["minicpm_avg_logp"])


def test_dpo(golden: Path) -> None:
    cases = json.loads((golden / "dpo.json").read_text(encoding="utf-8"))["cases"]
    assert cases
    for case in cases:
        now, before = (
            torch.tensor([case[f"{who}_chosen_logps"], case[f"{who}_rejected_logps"]]).T for who in ("policy", "ref")
        )
        objective = DPO(beta=case["beta"])
        losses, margins = objective.losses(now - before)
        close(losses, case["sigmoid_loss"])
        close(losses.mean(), case["sigmoid_loss_mean"][0])
        close(margins, torch.tensor(case["chosen_rewards"]) - torch.tensor(case["rejected_rewards"]))
        close(objective.beta * (now - before)[:, 0], case["chosen_rewards"])
        close(objective.losses(now)[0], case["reference_free_loss"])
        smoothed = DPO(beta=case["beta"], label_smoothing=case["cdpo_label_smoothing"])
        close(smoothed.losses(now - before)[0], case["cdpo_loss"])


def test_every_file_is_read_or_named(golden: Path) -> None:
    files = set(json.loads((golden / "meta.json").read_text(encoding="utf-8"))["files"])
    assert files >= READ
    if files - READ:
        pytest.skip(f"NOT COVERED: {golden.name}: {', '.join(sorted(files - READ))}")


def test_every_loss_is_read_or_named(golden: Path) -> None:
    cases = json.loads((golden / "dpo.json").read_text(encoding="utf-8"))["cases"]
    others = {name for case in cases for name in case} - LOSSES - GIVEN
    if others:
        pytest.skip(f"NOT COVERED: {golden.name}/dpo.json: {', '.join(sorted(others))}")

"""What the run report says of preferences: figures beside the loss, and held-out pairs after every stage."""

from __future__ import annotations

from vitrail.metrics.intervals import wilson
from vitrail.report.page import Report, render

STEPS = [
    {"stage": "dpo", "step": step, "loss": 0.7 - step / 100, "figures": {"reward_margin": step / 10, "right": 0.5}}
    for step in range(1, 20)
]


def test_pairs_and_figures_are_shown() -> None:
    share = {"right": wilson(30, 40).to_json(), "withheld": wilson(19, 40).to_json()}
    page = render(Report("run", {}, STEPS, [], {}, [], "", {}, {}, {}, pairs={"sft": share, "<dpo>": share}))
    for said in ("Reward margin", "Right", "sft", "&lt;dpo&gt;", "75.0\u00a0%", "47.5\u00a0%", "n = 40"):
        assert said in page, said
    assert "<dpo>" not in page


def test_without_them_the_page_says_nothing_of_them() -> None:
    plain = [{name: value for name, value in step.items() if name != "figures"} for step in STEPS]
    page = render(Report("run", {}, plain, [], {}, [], "", {}, {}, {}))
    assert "Reward" not in page
    assert 'id="pairs"' not in page

"""The benchmark of NVLM's three: the same rows for all, and text as long as each of them makes it."""

from __future__ import annotations

import nvlm_step as benchmark

from vitrail.training.config import TrainingConfig
from vitrail.training.device import choose


def test_it_runs_and_text_grows_as_each_model_makes_it() -> None:
    device = choose(TrainingConfig(device="cpu", dtype="float32", threads=1))
    found = benchmark.measured([1, 6], 1, 2, device, tiny=True)
    text = {name: found[f"text_{name}_6"] - found[f"text_{name}_1"] for name in benchmark.MODELS}
    settings = benchmark.config("d", tiny=True)
    tile = settings.media.tile_tokens  # type: ignore[union-attr]
    assert text["h"] == 0, "of six tiles the thumbnail alone stands in the text, as a single one does"
    assert text["d"] - text["x"] == 6 * tile
    assert text["x"] > 0, "tags stand in it"
    assert found["ratio_d_6"] == 1.0
    assert found["flop_d_6"] > found["flop_h_6"] > found["flop_h_1"]

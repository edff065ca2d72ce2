"""Llama 3.2 Vision's canvases against transformers' own image processor."""

from __future__ import annotations

import numpy as np
import pytest

from vitrail.contracts.errors import MediaError
from vitrail.media.canvas import Canvas
from vitrail.media.config import CanvasConfig
from vitrail.media.rule import normalised

SIZES = [(640, 480), (37, 91), (300, 1200), (1200, 300), (64, 64), (90, 61), (56, 56), (57, 20), (1000, 1001), (2, 9)]


@pytest.mark.parametrize(("tile", "most"), [(56, 4), (28, 6)])
def test_canvases_and_pixels_are_the_references(tile: int, most: int) -> None:
    from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

    config = CanvasConfig(patch=14, tile=tile, max_tiles=most)
    rule = Canvas(config)
    theirs = MllamaImageProcessorPil(
        size={"height": tile, "width": tile}, max_image_tiles=most, image_mean=config.mean, image_std=config.std
    )
    chance = np.random.default_rng(0)
    for width, height in SIZES:
        picture = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = theirs([picture], return_tensors="np")
        (view,) = rule.views(width, height)
        grid = rule.grid(width, height)
        assert config.grids.index(grid) + 1 == int(expected["aspect_ratio_ids"][0, 0]), (width, height)
        tiles = grid[0] * grid[1]
        assert view.tokens - view.padding == tiles * config.tile_tokens
        canvas = normalised(rule, rule.resized(picture, (view,))[0])
        found = canvas.reshape(grid[0], tile, grid[1], tile, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, tile, tile)
        np.testing.assert_allclose(found, expected["pixel_values"][0, 0, :tiles], atol=1e-6)


def test_slivers_are_refused() -> None:
    with pytest.raises(MediaError, match="too narrow"):
        Canvas(CanvasConfig()).views(4000, 3)
    with pytest.raises(ValueError, match="whole number"):
        CanvasConfig(patch=14, tile=100)

"""The rule of the vision stream: pictures and videos to views, patches and positions; a view states its token grid."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrail.contracts.messages import AudioPart, ImagePart, MediaPart, VideoPart
from vitrail.contracts.samples import View
from vitrail.media.config import NativeResolutionConfig, TilesConfig
from vitrail.media.rule import media_rule

CONFIG = NativeResolutionConfig(patch=4, merge=2, min_tokens=1, max_tokens=600)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grids(view: View) -> tuple[tuple[int, int], tuple[int, int]]:
    """Of patches and of tokens."""
    return (view.rows, view.columns), (view.token_rows, view.token_columns)


def test_a_view_states_the_grid_of_its_tokens() -> None:
    """Merged patches, unless a projector makes its own grid of every view: then that, whatever the patches."""
    part = ImagePart(noise(30 * 4, 34 * 4))
    (merged,) = media_rule(CONFIG).views(part)
    assert grids(merged) == ((30, 34), (15, 17))
    assert merged.tokens == 255
    (fixed,) = media_rule(CONFIG, token_grid=(8, 8)).views(part)
    assert grids(fixed) == ((30, 34), (8, 8))
    assert fixed.tokens == 64
    tiles = TilesConfig(patch=4, merge=2, tile=16, max_tiles=4)
    views = media_rule(tiles, token_grid=(1, 3)).views(part)
    assert len(views) > 1
    assert {(view.token_rows, view.token_columns) for view in views} == {(1, 3)}
    asked = media_rule(tiles, token_grid=(1, 3)).in_use.views(part)
    assert {view.tokens for view in asked} == {3}


@pytest.mark.parametrize(
    ("part", "read"),
    [(ImagePart(b""), True), (VideoPart(b""), True), (AudioPart(b""), False)],
    ids=str,
)
def test_pictures_and_videos_are_read_and_sounds_are_not(part: MediaPart, read: bool) -> None:
    assert media_rule(CONFIG).reads(part) == read


def test_positions_are_those_of_the_patches_as_they_are_laid_out() -> None:
    rule = media_rule(CONFIG)
    parts = [ImagePart(noise(16, 24)), ImagePart(noise(32, 8, seed=1))]
    views = [view for part in parts for view in rule.views(part)]
    decoded = [pixels for part, view in zip(parts, views, strict=True) for pixels in rule.decoded(part, [view])]
    values, positions, lengths = rule.laid_out(decoded)
    assert lengths == tuple(view.patches for view in views)
    assert np.array_equal(positions, np.concatenate([rule.positions(view) for view in views]))
    assert values.dtype == np.uint8
    made = rule.normalised(values, lengths)
    assert made.dtype == np.float32
    # Every patch holds the pixels that its row and its column say.
    start = 0
    for part, view in zip(parts, views, strict=True):
        assert isinstance(part.image, np.ndarray)
        for number in range(start, start + view.patches):
            row, column = positions[number]
            there = part.image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert np.array_equal(values[number].reshape(3, 4, 4), there.transpose(2, 0, 1))
            np.testing.assert_allclose(made[number], values[number] / 255 / 0.5 - 1, atol=1e-6)
        start += view.patches


def test_a_picture_beside_a_video_is_two_equal_frames() -> None:
    rule = media_rule(CONFIG, frames=2)
    clip = VideoPart(np.stack([noise(16, 16, seed) for seed in range(4)]))
    picture = ImagePart(noise(16, 16, seed=9))
    shown = [pixels for part in (clip, picture) for pixels in rule.decoded(part, rule.views(part))]
    values, _, lengths = rule.laid_out(shown)
    assert len(lengths) == 3
    assert values.shape[1] == 3 * 2 * 4 * 4
    still = values[-lengths[-1] :].reshape(lengths[-1], 3, 2, 16)
    assert np.array_equal(still[:, :, 0], still[:, :, 1])
    moving = values[: lengths[0]].reshape(lengths[0], 3, 2, 16)
    assert not np.array_equal(moving[:, :, 0], moving[:, :, 1])

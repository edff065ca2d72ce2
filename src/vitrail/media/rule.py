"""From what a recipe says about pictures to the rule that does it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.protocols import MediaRule
from vitrail.contracts.samples import View
from vitrail.media.config import NativeResolutionConfig, TilesConfig
from vitrail.media.native import NativeResolution
from vitrail.media.tiling import Tiling


def media_rule(config: NativeResolutionConfig | TilesConfig) -> MediaRule:
    """The rule of that kind."""
    return Tiling(config) if isinstance(config, TilesConfig) else NativeResolution(config)


def normalised(rule: MediaRule, view: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A view uint8[h, w, 3] as the encoder sees it, float32[h, w, 3], before it is cut into patches."""
    mean, std = np.asarray(rule.mean, np.float32), np.asarray(rule.std, np.float32)
    return (view.astype(np.float32) / np.float32(255) - mean) / std


def pixels(rule: MediaRule, image: NDArray[np.uint8], views: Sequence[View]) -> list[NDArray[np.float32]]:
    """Every view of a picture, normalised."""
    return [normalised(rule, view) for view in rule.resized(image, views)]

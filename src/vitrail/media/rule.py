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


def pixels(rule: MediaRule, image: NDArray[np.uint8], views: Sequence[View]) -> list[NDArray[np.float32]]:
    """What the encoder sees of a picture, before it is cut into patches: one normalised float32[h, w, 3] per view."""
    mean, std = np.asarray(rule.mean, np.float32), np.asarray(rule.std, np.float32)
    return [(view.astype(np.float32) / np.float32(255) - mean) / std for view in rule.resized(image, views)]

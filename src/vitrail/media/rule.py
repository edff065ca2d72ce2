"""From what a recipe says about pictures to the rule that does it."""

from __future__ import annotations

from vitrail.contracts.protocols import MediaRule
from vitrail.media.config import NativeResolutionConfig, TilesConfig
from vitrail.media.native import NativeResolution
from vitrail.media.tiling import Tiling


def media_rule(config: NativeResolutionConfig | TilesConfig) -> MediaRule:
    """The rule of that kind."""
    return Tiling(config) if isinstance(config, TilesConfig) else NativeResolution(config)

"""From what a recipe says about media to the rules that do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.messages import AudioPart, ImagePart, MediaPart, VideoPart
from vitrail.contracts.protocols import MediaRule, PictureRule
from vitrail.contracts.samples import VISION, View
from vitrail.media.audio import is_audio
from vitrail.media.canvas import Canvas
from vitrail.media.config import (
    CanvasConfig,
    LogMelConfig,
    NativeResolutionConfig,
    PaddedConfig,
    PictureMediaConfig,
    TilesConfig,
)
from vitrail.media.native import NativeResolution
from vitrail.media.padded import Padded
from vitrail.media.sound import Sound
from vitrail.media.tiling import Tiling
from vitrail.media.video import is_video
from vitrail.media.vision import Vision


def picture_rule(config: PictureMediaConfig) -> PictureRule:
    """The rule of that kind."""
    if isinstance(config, PaddedConfig):
        return Padded(config)
    if isinstance(config, CanvasConfig):
        return Canvas(config)
    return Tiling(config) if isinstance(config, TilesConfig) else NativeResolution(config)


def media_rule(
    config: PictureMediaConfig | LogMelConfig,
    *,
    frames: int = 1,
    token_grid: tuple[int, int] | None = None,
) -> MediaRule:
    """The rule of a stream. frames, token_grid: as in `Vision`, or in `Sound`."""
    if isinstance(config, LogMelConfig):
        return Sound(config, token_grid)
    return Vision(picture_rule(config), frames, token_grid)


def default_rules() -> Mapping[str, MediaRule]:
    """What media become where no model says it."""
    return {VISION: media_rule(NativeResolutionConfig()), "audio": media_rule(LogMelConfig())}


def media_part(given: Any) -> MediaPart:
    """What a caller gave, a picture, a video or a sound, by its suffix or axes, unless it is a part already."""
    if isinstance(given, MediaPart):
        return given
    if is_audio(given):
        return AudioPart(given)
    return VideoPart(given) if is_video(given) else ImagePart(given)


def sound_tokens(config: LogMelConfig, seconds: float, token_grid: tuple[int, int] | None = None) -> int:
    """Tokens of a sound of that length."""
    return Sound(config, token_grid).tokens(seconds)


def normalised(rule: PictureRule, view: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A view uint8[h, w, 3] as the encoder sees it, float32[h, w, 3], before it is cut into patches."""
    mean, std = np.asarray(rule.mean, np.float32), np.asarray(rule.std, np.float32)
    return (view.astype(np.float32) / np.float32(255) - mean) / std


def pixels(rule: PictureRule, image: NDArray[np.uint8], views: Sequence[View]) -> list[NDArray[np.float32]]:
    """Every view of a picture, normalised."""
    return [normalised(rule, view) for view in rule.resized(image, views)]

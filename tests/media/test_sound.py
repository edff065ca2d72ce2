"""What sounds become: views by length, frames, tokens; and which settings are refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.contracts.messages import AudioPart, ImagePart
from vitrail.media.config import LogMelConfig, NativeResolutionConfig
from vitrail.media.log_mel import HOP, filters, log_mel
from vitrail.media.sound import Sound
from vitrail.models.config import MLPProjectorConfig, StreamConfig, VisionTransformerConfig, WhisperEncoderConfig

RATE = 16_000


def sound(seconds: float, seed: int = 0) -> AudioPart:
    return AudioPart(np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32), RATE)


def shapes(rule: Sound, seconds: float) -> list[tuple[int, int]]:
    return [(view.columns, view.tokens) for view in rule.views(sound(seconds))]


def test_whisper_hears_thirty_seconds_at_a_time() -> None:
    rule = Sound(LogMelConfig())
    assert shapes(rule, 0.001) == shapes(rule, 30) == [(3000, 1500)]
    assert shapes(rule, 30.001) == shapes(rule, 60) == [(3000, 1500)] * 2


def test_without_padding_a_sound_is_as_long_as_it_is() -> None:
    rule = Sound(LogMelConfig(padded=False, merge=5))
    assert shapes(rule, 0.001) == [(10, 1)]
    assert shapes(rule, 1) == [(100, 10)]
    assert shapes(rule, 1.001) == [(110, 11)]
    assert shapes(rule, 31) == [(3000, 300), (100, 10)]
    assert rule.tokens(31) == 310


@given(samples=st.integers(1, 5 * RATE), padded=st.booleans(), merge=st.sampled_from([1, 2, 4]))
def test_views_hold_all_of_a_sound_and_whole_tokens(samples: int, padded: bool, merge: int) -> None:
    rule = Sound(LogMelConfig(bands=8, seconds=1.6, padded=padded, merge=merge))
    part = AudioPart(np.zeros(samples, np.float32), RATE)
    views = rule.views(part, most_tokens=1)
    frames = sum(view.columns for view in views)
    assert samples <= frames * HOP < samples + (160 if padded else 2 * merge) * HOP + HOP
    assert all(view.columns == 2 * merge * view.tokens and view.token_rows == view.rows == 1 for view in views)
    decoded = rule.decoded(part, views)
    values, positions, lengths = rule.laid_out(decoded)
    assert lengths == tuple(view.columns for view in views)
    assert values.shape == (frames, 8)
    assert np.array_equal(positions, np.concatenate([rule.positions(view) for view in views]))


def test_frames_are_those_of_each_view_alone() -> None:
    rule = Sound(LogMelConfig(bands=20, seconds=1))
    part = sound(1.4)
    first, second = rule.decoded(part, rule.views(part))
    assert isinstance(part.audio, np.ndarray)
    assert np.array_equal(first, log_mel(part.audio[:RATE], 20))
    assert np.array_equal(second, log_mel(np.pad(part.audio[RATE:], (0, RATE - RATE * 4 // 10)), 20))


def test_a_tone_stands_in_the_band_that_holds_it() -> None:
    for hertz in (300, 1200, 4000):
        frames = log_mel(np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32), 40)
        assert set(frames.argmax(1)[2:-2]) == {int(filters(40)[round(hertz / 40)].argmax())}
        assert frames.max() - frames.min() <= 2.0 + 1e-6, "eight powers of ten are two"


def test_silence_is_no_error() -> None:
    assert np.array_equal(log_mel(np.zeros(RATE, np.float32), 80), np.full((100, 80), -1.5, np.float32))


def test_a_projector_may_make_a_fixed_number_of_tokens() -> None:
    (view,) = Sound(LogMelConfig(padded=False), token_grid=(1, 32)).views(sound(2))
    assert (view.columns, view.tokens) == (200, 32)


def test_it_reads_sounds_alone() -> None:
    rule = Sound(LogMelConfig())
    assert rule.reads(sound(1))
    assert not rule.reads(ImagePart("a.png"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bands": 0}, "bands must be from 1 to 200"),
        ({"seconds": 0}, "seconds (0) must be more than 0"),
        ({"merge": 7}, "seconds (30) are 3000 frames, must be stride x merge (14) times a whole number"),
        ({"seconds": 0.015, "stride": 1}, "seconds (0.015) are 1.5 frames"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        LogMelConfig(**settings)


@pytest.mark.parametrize(
    ("media", "encoder", "said"),
    [
        (
            LogMelConfig(),
            VisionTransformerConfig(),
            "encoder.kind is vision_transformer, which reads media.kind: native",
        ),
        (None, WhisperEncoderConfig(), "encoder.kind is whisper, which reads media.kind: log_mel; got native"),
        (
            LogMelConfig(stride=1),
            WhisperEncoderConfig(),
            "media.stride is 1, the encoder makes one feature of 2 frames",
        ),
        (LogMelConfig(), WhisperEncoderConfig(max_positions=100), "media.seconds (30) are 1500 features"),
    ],
)
def test_encoders_that_cannot_read_the_media(media: Any, encoder: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        StreamConfig(media or NativeResolutionConfig(), encoder, MLPProjectorConfig())

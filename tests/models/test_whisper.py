"""Whisper's encoder: packed as one by one, sizes as published, weights into a stream's encoder."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperModel

from vitrail import build
from vitrail.contracts.errors import WeightsError
from vitrail.contracts.samples import MediaStream, Segments
from vitrail.media.config import LogMelConfig
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import (
    DecoderConfig,
    LinearProjectorConfig,
    MLPProjectorConfig,
    ModelConfig,
    PatchMergerConfig,
    ResamplerConfig,
    StreamConfig,
    WhisperEncoderConfig,
)
from vitrail.models.encoders.whisper import WhisperEncoder
from vitrail.systems import folder as systems
from vitrail.systems.encoders import whisper
from vitrail.systems.opening import official_settings

BANDS, LENGTHS = 12, (10, 2, 10, 10, 6)
SMALL = WhisperEncoderConfig(width=24, depth=2, heads=2, mlp_width=40, max_positions=8)


def stream_of(lengths: tuple[int, ...], values: torch.Tensor) -> MediaStream:
    positions = torch.cat([torch.arange(length) for length in lengths])[:, None]
    return MediaStream(values, positions, Segments(lengths), torch.arange(sum(lengths) // 2))


def encoder(config: WhisperEncoderConfig = SMALL) -> WhisperEncoder:
    torch.manual_seed(0)
    made = WhisperEncoder(config, BANDS)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def test_a_sound_is_encoded_as_if_alone() -> None:
    """Features and gradients."""
    made, values = encoder(), torch.randn(sum(LENGTHS), BANDS)
    packed = made(stream_of(LENGTHS, values))
    assert packed.shape == (sum(LENGTHS) // 2, SMALL.width)
    alone = torch.cat([made(stream_of((len(one),), one)) for one in values.split(LENGTHS)])
    assert torch.allclose(packed, alone, atol=1e-5)
    weights = torch.randn_like(packed)
    gradients = [torch.autograd.grad((out * weights).sum(), list(made.parameters())) for out in (packed, alone)]
    for (name, _), together, apart in zip(made.named_parameters(), *gradients, strict=True):
        assert torch.allclose(together, apart, atol=1e-4), name


def test_every_frame_is_heard_by_its_own_view_alone() -> None:
    made, values = encoder(), torch.randn(sum(LENGTHS), BANDS)
    owner = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    before = made(stream_of(LENGTHS, values))
    for frame in range(len(values)):
        changed = values.clone()
        changed[frame] += 1
        moved = (made(stream_of(LENGTHS, changed)) - before).abs().amax(1) > 1e-6
        assert torch.equal(moved, owner[::2] == owner[frame])


@pytest.mark.parametrize("key_positions", ["own", "none"])
def test_queries_may_look_at_the_features_of_a_sound(key_positions: Any) -> None:
    """The resampler is handed the stream of the features, half as long as that of the frames."""
    projector = ResamplerConfig(queries=(1, 3), width=16, heads=2, key_positions=key_positions)
    made = build.build_model(model(projector=projector), 20, seed=0)
    lengths = (10, 4, 10)
    values = torch.randn(24, BANDS)
    tokens = made.tokens("audio", {"audio": stream_of(lengths, values)})
    assert tokens.shape == (9, 16)
    alone = [made.tokens("audio", {"audio": stream_of((len(one),), one)}) for one in values.split(lengths)]
    assert torch.allclose(tokens, torch.cat(alone), atol=1e-5)
    with pytest.raises(ValueError, match="resized is for grids of patches"):
        model(projector=replace(projector, key_positions="resized"))


def test_views_of_an_odd_number_of_frames_are_no_views() -> None:
    with pytest.raises(AssertionError, match="even number of frames"):
        encoder()(stream_of((3, 3), torch.randn(6, BANDS)))


@pytest.mark.parametrize("size", whisper.SIZES)
def test_sizes_are_the_published_ones(size: str) -> None:
    """As many numbers as transformers' encoder has, and our layout of the same checkpoint says so too."""
    ours = whisper.published(size)
    config = WhisperConfig(
        d_model=ours.width,
        encoder_layers=ours.depth,
        encoder_attention_heads=ours.heads,
        encoder_ffn_dim=ours.mlp_width,
        decoder_layers=1,
        decoder_attention_heads=ours.heads,
        num_mel_bins=80,
    )
    with torch.device("meta"):
        theirs = WhisperModel(config).encoder
        made = WhisperEncoder(ours, 80)
    counted = sum(tensor.numel() for tensor in made.state_dict().values())
    assert counted == sum(tensor.numel() for tensor in theirs.state_dict().values())
    millions = {"tiny": 8.2, "base": 20.6, "small": 88.2, "medium": 307.2, "large": 636.8}
    assert counted == pytest.approx(millions[size] * 1e6, rel=0.01)


@pytest.mark.parametrize(
    "projector",
    [
        MLPProjectorConfig(),
        MLPProjectorConfig(order="columns", norm_at="merged"),
        LinearProjectorConfig(),
        PatchMergerConfig(),
    ],
)
def test_some_features_become_one_token(projector: Any) -> None:
    """In a row, not in a square: the tokens of a view are those of its own features, in their order."""
    made = build.build_model(model(merge=5, projector=projector), 20, seed=0)
    tower = made.projector_of("audio")
    lengths = (10, 20)
    features = torch.randn(15, SMALL.width)
    stream = stream_of(lengths, torch.randn(30, BANDS))
    tokens = tower(features, stream)
    assert tokens.shape == (3, 16)
    changed = features.clone()
    changed[7] += 1
    moved = (tower(changed, stream) - tokens).abs().amax(1) > 1e-6
    assert moved.tolist() == [False, True, False]


BACKBONE = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def model(
    encoder_: WhisperEncoderConfig = SMALL, weights: str = "", merge: int = 1, projector: Any = None
) -> ModelConfig:
    media = LogMelConfig(bands=BANDS, seconds=0.1, merge=merge, padded=False)
    stream = StreamConfig(media, encoder_, projector or MLPProjectorConfig())
    return ModelConfig(
        DecoderConfig(config=BACKBONE, tokenizer="bytes"),
        encoder=None,
        streams={"audio": stream},
        weights={"audio_encoder": weights} if weights else {},
    )


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper as transformers saves it."""
    torch.manual_seed(1)
    config = WhisperConfig(
        vocab_size=60,
        d_model=24,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=40,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        max_source_positions=8,
        num_mel_bins=BANDS,
        max_target_positions=9,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    folder = tmp_path_factory.mktemp("whisper")
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


def started(config: ModelConfig) -> MultimodalModel:
    return build.starting_model(config, 20, seed=0)


@torch.inference_mode()
def test_a_stream_takes_its_encoder_from_an_official_whisper(official: Path) -> None:
    """And makes of a sound what the official encoder makes of it."""
    ours = started(model(weights=str(official))).encoder_of("audio")
    theirs = WhisperForConditionalGeneration.from_pretrained(official).model.encoder.eval()
    features = torch.randn(2, BANDS, 16)
    found = ours(stream_of((16, 16), features.transpose(1, 2).flatten(0, 1)))
    expected = theirs(features).last_hidden_state.flatten(0, 1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_rest_of_the_model_does_not_change(official: Path) -> None:
    with_, without = started(model(weights=str(official))), started(model())
    for name, tensor in without.state_dict().items():
        same = torch.equal(tensor, with_.state_dict()[name])
        assert same != name.startswith("audio_encoder.") or "norm" in name or "position" in name or tensor.ndim == 1, (
            name
        )


def test_official_names_come_without_their_beginning_too(official: Path, tmp_path: Path) -> None:
    """As `WhisperModel` writes them."""
    whole = WhisperForConditionalGeneration.from_pretrained(official)
    whole.model.save_pretrained(tmp_path)
    one, other = (started(model(weights=str(folder))) for folder in (official, tmp_path))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_what_a_stream_trained_is_written_back(official: Path, tmp_path: Path) -> None:
    """Into the official layout, where the official class reads it."""
    made = started(model(weights=str(official)))
    with torch.no_grad():
        for parameter in made.encoder_of("audio").parameters():  # type: ignore[attr-defined]
            parameter.add_(0.01)
    layout = systems.encoder_of(official)
    described = systems.describe(layout, systems.read_settings(official), official)
    own = {
        name.removeprefix("audio_"): tensor
        for name, tensor in made.state_dict().items()
        if name.startswith("audio_encoder.")
    }
    written = systems.to_official(layout, described, own)
    theirs = WhisperForConditionalGeneration.from_pretrained(official)
    kept = {
        name: tensor.clone()
        for name, tensor in theirs.state_dict().items()
        if not name.startswith(("model.encoder.", "proj_out."))
    }
    save_file({**kept, **written}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((official / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    theirs = WhisperForConditionalGeneration.from_pretrained(tmp_path).model.encoder.eval()
    features = torch.randn(1, BANDS, 16)
    with torch.inference_mode():
        found = made.encoder_of("audio")(stream_of((16,), features[0].T))
        assert torch.allclose(found, theirs(features).last_hidden_state[0], atol=1e-5)


def test_another_encoder_is_refused(official: Path) -> None:
    wide = WhisperEncoderConfig(width=24, depth=2, heads=2, mlp_width=44, max_positions=8)
    said = "model.weights.audio_encoder: '.*' is of another structure: model.streams.audio.encoder.mlp_width is 44"
    with pytest.raises(WeightsError, match=said):
        started(model(wide, str(official)))


def test_other_settings_are_refused(official: Path, tmp_path: Path) -> None:
    config = json.loads((official / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "activation_function": "tanh"}), encoding="utf-8")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8000}), encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes((official / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=re.escape("activation_function is 'tanh'")) as caught:
        started(model(weights=str(tmp_path)))
    assert "feature extractor's sampling_rate is 8000, supported: 16000" in str(caught.value)


def test_it_is_no_model_to_talk_to(official: Path) -> None:
    with pytest.raises(WeightsError, match="'whisper': taken for its encoder alone, without a language model"):
        official_settings(official)

"""Sounds in rows, and rows that mix them with pictures: dialects, samples, batches."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitrail import build
from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import AudioPart, ImagePart, Message, Row, TextPart
from vitrail.contracts.samples import Pack
from vitrail.data.collate import collate
from vitrail.data.dialects import recognise, to_conversation, to_messages
from vitrail.data.encode import Encode
from vitrail.data.spans import spans
from vitrail.media import wav
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import read

HEARD, ALSO = AudioPart(Path("/rows/a.wav")), AudioPart(Path("/rows/b.wav"))
YES = {"role": "assistant", "content": "yes"}
TONE = (0.4 * np.sin(np.arange(3200) / 8)).astype(np.float32)
FILE = wav.wav_bytes(TONE, 16_000)


def row(fields: dict[str, Any]) -> Row:
    return Row("r", fields, Path("/rows"), "rows.jsonl:1")


def openai(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}, YES], **fields}


def tags(words: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": words}, YES], **fields}


def asked(fields: dict[str, Any]) -> tuple[Any, ...]:
    return to_messages(row(fields))[0].parts


def refusal(fields: dict[str, Any]) -> str:
    with pytest.raises(DataError) as caught:
        to_conversation(row(fields))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("rows.jsonl:1: ")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "audio", "audio": "a.wav"},
        {"type": "audio", "path": "a.wav"},
        {"type": "audio", "url": "file:///rows/a.wav"},
        {"type": "audio", "audio": {"bytes": None, "path": "a.wav"}},
        {"type": "audio_url", "audio_url": {"url": "a.wav"}},
        {"type": "audio_url", "audio_url": "a.wav"},
    ],
)
def test_parts_of_messages(part: dict[str, Any]) -> None:
    assert recognise(row(openai(part))) == "openai"
    assert asked(openai(part)) == (HEARD,)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(FILE).decode(), "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64," + base64.b64encode(FILE).decode()}},
        {"type": "audio", "audio": FILE},
        {"type": "audio", "audio": {"bytes": FILE, "path": "x.wav"}},
    ],
)
def test_sounds_inside_rows(part: dict[str, Any]) -> None:
    assert asked(openai(part)) == (AudioPart(FILE),)


@pytest.mark.parametrize("array", [TONE, TONE.astype(np.float64), TONE.tolist()])
def test_samples_as_datasets_has_them(array: Any) -> None:
    for fields in (
        tags("<audio>", audios=[{"array": array, "sampling_rate": 16_000, "path": None}]),
        openai({"type": "audio", "audio": array, "sampling_rate": 16_000}),
    ):
        (part,) = asked(fields)
        assert part.rate == 16_000
        assert part.audio.dtype == np.float32
        assert np.allclose(part.audio, TONE)


def test_tags_stand_for_sounds() -> None:
    assert recognise(row(tags("x", audios=["a.wav"]))) == "tags"
    assert asked(tags("<audio>What?", audios=["a.wav"])) == (HEARD, TextPart("What?"))
    assert asked(tags("What?", audio="a.wav")) == (HEARD, TextPart("\nWhat?"))
    mixed = tags("<image> and <audio>?", images=["p.png"], audios=["a.wav"])
    assert asked(mixed) == (ImagePart(Path("/rows/p.png")), TextPart(" and "), HEARD, TextPart("?"))
    assert asked(tags("?", images=["p.png"], audios=["a.wav"]))[::2] == (ImagePart(Path("/rows/p.png")), HEARD)


def test_without_sounds_the_tag_is_text() -> None:
    assert asked(tags("<audio> is a tag")) == (TextPart("<audio> is a tag"),)


def test_columns() -> None:
    assert recognise(row({"audio": "a.wav", "text": "Two birds."})) == "caption"
    assert asked({"audio": "a.wav", "text": "Two birds."}) == (HEARD,)
    assert asked({"audios": ["a.wav", "b.wav"], "caption": "Two birds."}) == (HEARD, ALSO)
    assert asked({"audio": "a.wav", "question": "Who?", "answer": "I"}) == (HEARD, TextPart("\nWho?"))
    assert "audio" not in to_conversation(row({"audio": "a.wav", "text": "x"})).extra


def test_bare_parts_take_the_rows_sounds() -> None:
    bare, seen = {"type": "audio"}, {"type": "image"}
    fields = openai(bare, seen, bare, audios=["a.wav", "b.wav"], images=["p.png"])
    assert asked(fields) == (HEARD, ImagePart(Path("/rows/p.png")), ALSO)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (tags("<audio><audio>", audios=["a.wav"]), "2 <audio> tags but 1 sounds"),
        (tags("<audio>", audios=["a.wav", "b.wav"]), "1 <audio> tags but 2 sounds"),
        (openai({"type": "audio"}), "more audio parts than sounds"),
        (openai({"type": "audio"}, audios=["a.wav", "b.wav"]), "1 sounds have no audio part"),
        (tags("<audio>", audios=[None]), "a sound is null"),
        (tags("<audio>", audios=[{"array": [0.0]}]), "samples of a sound need their 'sampling_rate', a whole number"),
        (tags("<audio>", audios=[{"array": ["x"], "sampling_rate": 8000}]), "a sound must be a file, bytes or samples"),
        (openai({"type": "input_audio", "input_audio": "abc"}), "'input_audio' must be {'data': base64"),
        (
            openai({"type": "input_audio", "input_audio": {"data": "a b"}}),
            "a sound's data URL is not base64: ",
        ),
        (
            openai({"type": "audio", "audio": "data:image/png;base64,AAAA"}),
            "a sound's data URL is of type 'image/png'; allowed: audio/...",
        ),
        ({"messages": [YES], "audios": ["a.wav"]}, "1 sounds but no user turn for them to open"),
    ],
)
def test_what_does_not_fit_is_one_line(fields: dict[str, Any], said: str) -> None:
    assert refusal(fields).startswith(said)


TWO = """
run: runs/tiny
model:
  media: {patch: 8, merge: 2, max_tokens: 64}
  encoder: {width: 32, depth: 1, heads: 2, mlp_width: 48}
  streams:
    audio:
      media: {kind: log_mel, bands: 20, seconds: 2, padded: false, merge: 5}
      encoder: {kind: whisper, width: 24, depth: 2, heads: 2, mlp_width: 32, max_positions: 100}
      projector: {kind: linear}
  backbone:
    tokenizer: bytes
    config:
      model_type: llama
      hidden_size: 32
      intermediate_size: 48
      num_hidden_layers: 2
      num_attention_heads: 4
      num_key_value_heads: 2
prompt:
  template: terse
  picture: {row_break: "<|row|>"}
  audio: {start: "<|hear|>", end: "<|heard|>", label: "Sound {number}: "}
data: {train: none.jsonl, pack: {length: 512}}
stages: [{name: one, train: {backbone: 1.0e-3}, steps: 1}]
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Encode]:
    """A model that sees and hears."""
    path = tmp_path_factory.mktemp("both") / "recipe.yaml"
    path.write_text(TWO, encoding="utf-8")
    recipe = read(Recipe, path).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    return recipe, build.build_encode(recipe.model, recipe.prompt, tokenizer)


def mixed(number: int) -> Any:
    """Conversations with a sound, a picture, both, two sounds and a picture between them, and neither."""
    chance = np.random.default_rng(number)
    heard = [
        AudioPart(chance.uniform(-0.5, 0.5, int(n)).astype(np.float32), 16_000) for n in chance.integers(400, 40_000, 2)
    ]
    seen = ImagePart(chance.integers(0, 256, (32, 48, 3), dtype=np.uint8))
    media: list[Any] = [[heard[0]], [seen], [seen, heard[0]], [heard[0], seen, heard[1]], []][number % 5]
    fields = {"messages": [Message("user", (*media, TextPart("What?"))), Message("assistant", (TextPart("yes"),))]}
    from vitrail.contracts.messages import Conversation

    return Conversation(f"c{number}", tuple(fields["messages"]))


def test_what_is_written_around_a_sound(both: tuple[Recipe, Encode]) -> None:
    _, encode = both
    text = "".join(
        f"[{piece}]" if sort == "media" else piece for sort, piece in spans(encode(mixed(3)), encode.tokenizer)
    )
    assert re.fullmatch(
        r"Sound 1: <\|hear\|>(\[audio \d+ frames: 1 x \d+ tokens\])+<\|heard\|>\[vision 48 x 32 px: 2 x 3 tokens\]"
        r"Sound 2: <\|hear\|>(\[audio \d+ frames: 1 x \d+ tokens\])+<\|heard\|>What\?<\|answer\|>yes<\|end\|>",
        text,
    ), text


def test_two_streams_in_one_batch(both: tuple[Recipe, Encode]) -> None:
    """Every sample of a mixed pack comes out as it does alone."""
    recipe, encode = both
    model = build.build_model(recipe.model, encode.tokenizer.vocabulary, seed=1).eval()
    samples = [encode(mixed(number)) for number in range(5)]
    whole, events = collate(Pack(tuple(samples)), encode.media)
    assert whole is not None
    assert {event.outcome for event in events} == {"used"}
    assert set(whole.media) == {"vision", "audio"}
    heard = whole.media["audio"]
    assert heard.values.dtype == torch.float32
    assert [link.segment for link in heard.links] == sorted(link.segment for link in heard.links)
    assert {link.segment for link in heard.links} == {0, 2, 3}
    with torch.inference_mode():
        hidden = model(whole).split([len(sample) for sample in samples])
        for sample, found in zip(samples, hidden, strict=True):
            alone, _ = collate(Pack((sample,)), encode.media)
            assert alone is not None
            assert torch.allclose(model(alone), found, atol=1e-5), sample.id


def test_a_damaged_sound_costs_its_own_row(both: tuple[Recipe, Encode], tmp_path: Path) -> None:
    """It says it is whole, and is found out when it is decoded."""
    _, encode = both
    path = tmp_path / "nan.wav"
    path.write_bytes(FILE)
    good = encode(mixed(0))
    bad = encode(to_conversation(row(tags("<audio>", audios=[str(path)]))))
    path.write_bytes(b"")
    batch, events = collate(Pack((bad, good)), encode.media)
    assert batch is not None
    assert [event.outcome for event in events] == ["unreadable", "used"]
    assert events[0].reason == f"rows.jsonl:1: sound '{path}' is empty: it has no bytes"


def test_a_model_without_ears_says_so(tiny_encode: Encode) -> None:
    with pytest.raises(MediaError, match=r"rows\.jsonl:1: the model has no encoder for this kind of media: audio"):
        tiny_encode(to_conversation(row(tags("<audio>", audios=[{"array": TONE, "sampling_rate": 16_000}]))))


def test_sounds_are_not_fetched(both: tuple[Recipe, Encode]) -> None:
    conversation = to_conversation(row(tags("<audio>", audios=["https://example.org/a.wav"])))
    with pytest.raises(MediaError, match="is not fetched: only pictures are, other media must be files"):
        both[1](conversation)

"""Documents of text and pictures: one turn, all of whose words are learnt, and their pictures where they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialect_rows import FOLDER, refusal, row
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.messages import ImagePart, TextPart
from vitrail.contracts.samples import IGNORE
from vitrail.data.config import DialectName
from vitrail.data.dialects import recognise, to_conversation
from vitrail.data.encode import Encode

A, B = FOLDER / "a.png", FOLDER / "b.png"


def parts(fields: dict[str, Any], dialect: DialectName = "auto") -> list[Any]:
    (message,) = to_conversation(row(fields), dialect).messages
    assert message.role == "assistant"
    return [part.text if isinstance(part, TextPart) else part.image for part in message.parts]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "fields",
    [
        {"images": [None, "a.png", None, "b.png"], "texts": ["One.", None, "Two.", None]},
        {"interleaved": ["One.", {"image": "a.png"}, {"text": "Two."}, {"path": "b.png", "bytes": None}]},
        {
            "interleaved": [
                {"type": "text", "text": "One."},
                {"type": "image", "image": "a.png"},
                "Two.",
                None,
                {"type": "image_url", "image_url": {"url": "b.png"}},
            ]
        },
    ],
)
def test_documents_that_say_the_same(fields: dict[str, Any]) -> None:
    assert recognise(row(fields)) == "interleaved"
    assert parts(fields) == parts(fields, "interleaved") == ["One.", A, "Two.", B]


def test_sentences_with_matched_pictures() -> None:
    info = [{"image_name": "b.png", "matched_text_index": 1}, {"image_name": "a.png", "matched_text_index": 0}]
    fields = {"text_list": ["One.", "Two.", "Three."], "image_info": info, "url": "x"}
    assert recognise(row(fields)) == "interleaved"
    assert parts(fields) == [A, "One.", B, "Two.", " ", "Three."]
    info = [{"raw_url": "http://x/a.png", "matched_text_index": 0}]
    assert parts({"text_list": ["One."], "image_info": info}) == ["http://x/a.png", "One."]
    assert parts({"text_list": ["One.", "Two."]}) == ["One.", " ", "Two."]


def test_paragraphs_that_follow_each_other_stay_apart() -> None:
    fields = {"images": [None, None, "a.png", None], "texts": ["One.", "Two.", None, ""]}
    assert parts(fields) == ["One.", "\n\n", "Two.", A]


def test_text_alone_is_a_document() -> None:
    assert recognise(row({"text": "Words."})) == "interleaved"
    assert parts({"text": "Words.", "url": "x"}) == ["Words."]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": [None], "texts": ["One.", None]}, "2 texts but 1 images, holes counted"),
        ({"images": ["a.png"], "texts": ["One."]}, "position 0 needs either a text or a picture"),
        ({"images": [None], "texts": [None]}, "position 0 needs either a text or a picture"),
        ({"texts": ["One."]}, "'images' must be a list that is not empty"),
        ({"images": [None], "texts": [5]}, "a document's text must be a string, got int"),
        ({"interleaved": []}, "'interleaved' must be a list that is not empty"),
        ({"interleaved": "x"}, "'interleaved' must be a list that is not empty"),
        ({"interleaved": [{}]}, "a picture is null"),
        ({"interleaved": [5]}, "a content part must be an object with 'type', got 5"),
        ({"interleaved": [{"type": "image"}]}, "more image parts than pictures"),
        (
            {"text_list": ["One."], "image_info": [{"image_name": "a.png", "matched_text_index": 1}]},
            "'matched_text_index' must be from 0 to 0, got 1",
        ),
    ],
)
def test_documents_that_are_none(fields: dict[str, Any], message: str) -> None:
    assert refusal(fields, "interleaved") == message


def test_every_word_of_a_document_is_learnt_and_no_picture(tmp_path: Path, encode: Encode, paint: Any) -> None:
    paint(tmp_path / "a.png", 16, 8)
    fields = {"images": [None, "a.png", None], "texts": ["Before.", None, "After."]}
    sample = encode(to_conversation(row(fields, tmp_path)))
    learnt = np.asarray(sample.labels) != IGNORE
    assert encode.tokenizer.decode(list(sample.labels[learnt])) == "Before.After."
    # Not the picture's tokens, which hold no word.
    ((start, tokens),) = [(slot.start, slot.view.tokens) for slot in sample.slots]
    assert not learnt[start - 1 : start + tokens - 1].any()
    assert learnt[start + tokens - 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.text(max_size=5)), min_size=1, max_size=12))
def test_nothing_of_a_document_is_lost(pieces: list[tuple[bool, str]]) -> None:
    texts = [None if pictured else said for pictured, said in pieces]
    images = [f"{number}.png" if pictured else None for number, (pictured, _) in enumerate(pieces)]
    conversation = to_conversation(row({"texts": texts, "images": images}), "interleaved")
    wanted = tuple(ImagePart(FOLDER / name) for name in images if name)
    assert conversation.media == wanted
    assert conversation.messages[0].text.replace("\n", "") == "".join(filter(None, texts)).replace("\n", "")

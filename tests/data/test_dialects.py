"""Rows in the formats people have: read alike, and refused with one line that says where."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from dialect_rows import FOLDER, refusal, row, said
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Conversation, ImagePart, Row, VideoPart
from vitrail.data.config import DialectName
from vitrail.data.dialects import dialects_of, recognise, to_conversation, to_messages
from vitrail.data.sources.jsonl import JsonlSource

A, B = FOLDER / "a.png", FOLDER / "b.png"
YES = {"role": "assistant", "content": "Yes."}


def openai(*parts: Any, **columns: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}, YES], **columns}


def tags(text: str, *, answer: str = "Yes.", **columns: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **columns}


def sharegpt(text: str, *, answer: str = "Yes.", **columns: Any) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": answer}], **columns}


# The same conversation, three times


@pytest.mark.parametrize(
    ("fields", "dialect"),
    [
        (openai({"type": "image", "image": "a.png"}, {"type": "text", "text": "\nWhat?"}), "openai"),
        (sharegpt("<image>\nWhat?", image="a.png"), "sharegpt"),
        (tags("<image>\nWhat?", images=["a.png"]), "tags"),
    ],
)
def test_the_three_dialects_say_the_same(fields: dict[str, Any], dialect: DialectName) -> None:
    assert recognise(row(fields)) == dialect
    wanted = [("user", [A, "\nWhat?"]), ("assistant", ["Yes."])]
    assert said(fields) == said(fields, dialect) == wanted


def test_system_turns_and_names_of_roles() -> None:
    turns = [("system", "s"), ("human", "h"), ("user", "u"), ("gpt", "g"), ("model", "m"), ("assistant", "a")]
    wanted = [
        ("system", ["s"]),
        ("user", ["h"]),
        ("user", ["u"]),
        ("assistant", ["g"]),
        ("assistant", ["m"]),
        ("assistant", ["a"]),
    ]
    assert said({"conversations": [{"from": name, "value": text} for name, text in turns]}) == wanted
    assert said({"messages": [{"role": name, "content": text} for name, text in turns]}) == wanted


def test_what_else_a_row_holds() -> None:
    fields = tags("<image>", images=["a.png"], id="x", kind="total", answers=["1", "2"], note=None)
    conversation = to_conversation(row(fields))
    assert (conversation.id, conversation.kind, conversation.location) == ("r", "total", "my.jsonl:3")
    assert conversation.extra == {"answers": ["1", "2"], "note": None}
    assert conversation.media == (ImagePart(A),)
    assert to_conversation(row(tags("Hm?", kind=None))).kind == ""
    assert to_conversation(row(tags("Hm?"))).kind == ""
    assert to_conversation(row(tags("Hm?", kind=7))).kind == "7"


# Parts


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "a.png"},
        {"type": "image", "path": "a.png"},
        {"type": "image", "url": "a.png"},
        {"type": "image", "image": {"path": "a.png", "bytes": None}},
        {"type": "image", "image": "/data/a.png"},
        {"type": "image", "image": "file:///data/a.png"},
        {"type": "image_url", "image_url": {"url": "a.png", "detail": "high"}},
        {"type": "image_url", "image_url": "file:///data/a.png"},
    ],
)
def test_image_parts(part: dict[str, Any]) -> None:
    assert said(openai({"type": "text", "text": "x"}, part)) == [("user", ["x", A]), ("assistant", ["Yes."])]


def test_pictures_that_come_with_the_row() -> None:
    url = "data:image/png;base64," + base64.b64encode(b"\x89PNG...").decode()
    wanted = [("user", [b"\x89PNG..."]), ("assistant", ["Yes."])]
    assert said(openai({"type": "image_url", "image_url": {"url": url}})) == wanted
    assert said(openai({"type": "image", "image": url})) == wanted
    assert said(openai({"type": "image"}, images=[{"bytes": b"\x89PNG...", "path": "a.png"}])) == wanted
    assert said(tags("<image>", images=[{"bytes": b"\x89PNG...", "path": None}])) == wanted
    assert said(sharegpt("<image>", image={"bytes": b"\x89PNG..."})) == wanted
    pixels = np.zeros((2, 2, 3), np.uint8)
    (_, (shown,)), _ = said(tags("<image>", images=[pixels]))
    assert shown is pixels


def test_bare_image_parts_take_the_images_column_in_order() -> None:
    bare = {"type": "image"}
    fields = openai(bare, {"type": "text", "text": " or "}, bare, images=["a.png", "b.png"])
    assert said(fields) == [("user", [A, " or ", B]), ("assistant", ["Yes."])]
    assert said(fields, "openai") == said(fields)
    assert refusal(openai(bare, bare, images=["a.png"])) == "more image parts than pictures"
    assert refusal(openai(bare, images=["a.png", "b.png"])) == "1 pictures have no image part"


def test_a_row_of_its_own_folder_or_of_none() -> None:
    assert to_messages(Row("r", tags("<image>", images="a.png"), Path("other")))[0].parts == (
        ImagePart(Path("other/a.png")),
    )
    assert to_messages(Row("r", tags("<image>", images="a.png")))[0].parts == (ImagePart(Path("a.png")),)


# Tags


@pytest.mark.parametrize("make", [tags, sharegpt])
def test_tags_are_where_the_pictures_go(make: Callable[..., dict[str, Any]]) -> None:
    assert said(make("<image><image> which?", images=["a.png", "b.png"]))[0] == ("user", [A, B, " which?"])
    assert said(make("first <image>, then <image>", images=["a.png", "b.png"]))[0] == (
        "user",
        ["first ", A, ", then ", B],
    )


def test_tags_of_several_turns_are_counted_together() -> None:
    turns = [("system", "Like <image>."), ("human", "<image> this?"), ("gpt", "Yes."), ("human", "Sure?"), ("gpt", "Y")]
    fields = {"conversations": [{"from": name, "value": text} for name, text in turns], "images": ["a.png", "b.png"]}
    assert said(fields)[:2] == [("system", ["Like ", A, "."]), ("user", [B, " this?"])]
    assert said(fields)[3] == ("user", ["Sure?"])


@pytest.mark.parametrize("make", [tags, sharegpt])
def test_pictures_without_tags_open_the_first_user_turn(make: Callable[..., dict[str, Any]]) -> None:
    assert said(make("Which?", images=["a.png", "b.png"]))[0] == ("user", [A, "\n", B, "\nWhich?"])
    fields = {**make("Which?", image="a.png"), "images": None}
    assert said(fields)[0] == ("user", [A, "\nWhich?"])
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, YES]
    assert said({"messages": turns, "images": ["a.png"]})[:2] == [("system", ["s"]), ("user", [A, "\nu"])]


@pytest.mark.parametrize("make", [tags, sharegpt])
def test_another_number_of_tags_than_pictures_is_refused(make: Callable[..., dict[str, Any]]) -> None:
    assert refusal(make("<image><image>", images=["a.png"])) == "2 <image> tags but 1 pictures"
    assert refusal(make("<image>", images=["a.png", "b.png"])) == "1 <image> tags but 2 pictures"
    assert refusal(make("<image>")) == "1 <image> tags but 0 pictures"
    assert refusal(make("<image>", images=[])) == "1 <image> tags but 0 pictures"


@pytest.mark.parametrize("make", [tags, sharegpt])
def test_a_tag_in_an_answer_stays_text(make: Callable[..., dict[str, Any]]) -> None:
    answer = "Write <image> for a picture."
    assert said(make("How?", answer=answer))[1] == ("assistant", [answer])
    assert said(make("<image> How?", answer=answer, image="a.png")) == [
        ("user", [A, " How?"]),
        ("assistant", [answer]),
    ]
    assert said(make("How?", answer=answer, image="a.png")) == [("user", [A, "\nHow?"]), ("assistant", [answer])]


def test_a_tag_among_parts_stays_text() -> None:
    assert said(openai({"type": "text", "text": "<image>"}, {"type": "image", "image": "a.png"}))[0] == (
        "user",
        ["<image>", A],
    )


# Refusals


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "'messages' must be a list of turns"),
        ({"messages": ["hello"]}, "'messages' must be a list of turns"),
        ({"conversations": {"from": "human"}}, "'conversations' must be a list of turns"),
        ({"messages": [{"role": "user", "content": "Hm?"}]}, "no assistant turn"),
        (tags(5), "a turn's text must be a string, got int"),  # type: ignore[arg-type]
        ({"messages": [{"role": "user"}, YES]}, "a turn's text must be a string, got NoneType"),
        (sharegpt(None), "a turn's text must be a string, got NoneType"),  # type: ignore[arg-type]
        (openai("hello"), "a content part must be an object with 'type', got 'hello'"),
        (
            openai({"type": "smell", "smell": "a.mp4"}),
            "unknown part type 'smell'; allowed: text, image, image_url, video, video_url, audio, audio_url, "
            "input_audio, box, ref, and Responses' input_text, input_image, output_text",
        ),
        (
            openai({"text": "x"}),
            "unknown part type None; allowed: text, image, image_url, video, video_url, audio, audio_url, "
            "input_audio, box, ref, and Responses' input_text, input_image, output_text",
        ),
        (openai({"type": "text"}), "a turn's text must be a string, got NoneType"),
        (openai({"type": "image_url", "image_url": None}), "a picture is null"),
        (openai({"type": "image_url", "image_url": {}}), "a picture is null"),
        (tags("<image>", images=[None]), "a picture is null"),
        (tags("<image>", images=[{"bytes": None, "path": None}]), "a picture is null"),
        (tags("half \ud83d"), "a turn's text holds half a surrogate pair: half \\ud83d"),
        ({"messages": [YES], "images": ["a.png"]}, "1 pictures but no user turn for them to open"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    assert refusal(fields) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"mesages": [], "x": 1},
            """no dialect fits the row {"mesages": [], "x": 1} (did you mean 'messages'?); a row""",
        ),
        ({"a\nb": 1}, """no dialect fits the row {"a\\nb": 1}; a row has 'messages' (openai, tags), """),
        ({}, "no dialect fits the row {}; a row has 'messages' (openai, tags), 'conversations' (sharegpt), "),
        ({"messages": "hello"}, """no dialect fits the row {"messages": "hello"}; a row has """),
        ({"image": b"123", "x": "y" * 50}, """no dialect fits the row {"image": "<3 bytes>", "x": "yyyyyyyyyy"""),
    ],
)
def test_a_row_of_no_dialect_is_shown(fields: dict[str, Any], message: str) -> None:
    assert refusal(fields).startswith(message)


@pytest.mark.parametrize(
    "dialect", ["openai", "sharegpt", "tags", "turns", "preference", "interleaved", "caption", "vqa", "short_vqa"]
)
def test_a_row_of_another_dialect_than_named_is_shown(dialect: DialectName) -> None:
    assert """{"other": "x"}""" in refusal({"other": "x"}, dialect)


@pytest.mark.parametrize("role", ["asistant", "function", "", None, 3, [], {"user": 1}, "Two\nlines"])
def test_unknown_roles(role: Any) -> None:
    message = refusal({"messages": [{"role": role, "content": "x"}, YES]})
    assert message.startswith(f"unknown role {role!r}")
    assert message.endswith("allowed: system, user, human, assistant, gpt, model, tool")
    assert ("did you mean 'assistant'" in message) == (role == "asistant")


@pytest.mark.parametrize("url", ["http://example.org/a.png", "HTTPS://example.org/a.png?x=1"])
def test_an_address_stays_one_until_its_picture_is_opened(url: str) -> None:
    for fields in (tags("<image>", images=[url]), openai({"type": "image_url", "image_url": {"url": url}})):
        assert to_conversation(row(fields)).media == (ImagePart(url),)


@pytest.mark.parametrize("data", ["data:image/png;base64,####", "data:image/png;base64,é", "data:,%20"])
def test_data_urls_that_are_not_base64(data: str) -> None:
    assert refusal(tags("<image>", images=[data])).startswith("a picture's data URL is not base64: ")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("<image>"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
ROLE = st.sampled_from(["user", "assistant", "human", "gpt", "system"]) | ANYTHING
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "image_url"]) | ANYTHING},
    optional=dict.fromkeys(("text", "image", "path", "url", "image_url"), ANYTHING),
)
CONTENT = st.text(max_size=5) | st.just("<image>") | st.lists(PART, max_size=3) | ANYTHING
TURN = st.fixed_dictionaries({"role": ROLE, "content": CONTENT}) | st.fixed_dictionaries(
    {"from": ROLE, "value": CONTENT}
)
EXCHANGE = st.fixed_dictionaries({"user": CONTENT, "assistant": CONTENT}, optional={"system": ANYTHING})
ANSWER = st.text(max_size=5) | TURN | st.lists(TURN, max_size=3) | ANYTHING
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(TURN, max_size=4) | ANYTHING,
        "conversations": st.lists(TURN, max_size=4) | ANYTHING,
        "images": st.lists(st.text(max_size=4), max_size=3) | ANYTHING,
        "image": ANYTHING,
        "kind": ANYTHING,
        "texts": st.lists(EXCHANGE | st.none() | st.text(max_size=4), max_size=3) | ANYTHING,
        "chosen": ANSWER,
        "rejected": ANSWER,
        "rejected_response": ANYTHING,
        **dict.fromkeys(("text", "caption", "question", "answer", "answers", "choices", "prompt"), ANYTHING),
        **dict.fromkeys(("interleaved", "text_list", "image_info"), st.lists(PART, max_size=3) | ANYTHING),
    },
)


@settings(max_examples=400, deadline=None)
@given(fields=FIELDS, dialect=st.sampled_from(get_args(DialectName)))
def test_any_row_is_read_or_refused_in_one_line(fields: dict[str, Any], dialect: DialectName) -> None:
    conversation: Conversation | None = None
    message = "my.jsonl:3: "
    try:
        conversation = to_conversation(row(fields), dialect)
    except DataError as error:
        message = str(error)
    assert message.startswith("my.jsonl:3: ")
    assert len(message.splitlines()) == 1
    if conversation is not None:
        assert any(said_.role == "assistant" for said_ in conversation.messages)


# Which dialect a file is in

TEXT = tags("Hm?")
PARTS = openai({"type": "image", "image": "a.png"})
TAGS = tags("<image>", images=["a.png"])
SHAREGPT = sharegpt("Hm?")
WriteRows = Callable[[Path, Sequence[Any]], JsonlSource]


@pytest.mark.parametrize(
    ("rows", "dialects"),
    [
        ([PARTS], {"openai": 1}),
        ([TEXT, TEXT, PARTS], {"tags": 2, "openai": 1}),
        (["{broken", "[1]", PARTS], {"openai": 1}),
        ([{"mesages": []}, TAGS, SHAREGPT], {"tags": 1, "sharegpt": 1}),
        ([TAGS] * 5 + [SHAREGPT], {"tags": 5}),
    ],
)
def test_the_dialects_of_a_file(
    tmp_path: Path, write_rows: WriteRows, rows: list[Any], dialects: dict[str, int]
) -> None:
    assert dialects_of(write_rows(tmp_path / "my.jsonl", rows)) == dialects


def test_tags_by_name_reads_parts_too() -> None:
    assert said(PARTS, "tags") == said(PARTS, "openai")


def test_a_file_without_one_readable_row_names_the_first(tmp_path: Path, write_rows: WriteRows) -> None:
    source = write_rows(tmp_path / "my.jsonl", ["", "{broken", "5"])
    with pytest.raises(DataError, match=r"my\.jsonl:2: not JSON: "):
        dialects_of(source)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("file:///{folder}/a%20b.png", "a b.png"),
        ("file://localhost{folder}/a%20b.png", "a b.png"),
        ("FILE:{folder}/%C3%A9t%C3%A9.png", "été.png"),
        ("file://a%20b.png", "a b.png"),
        ("file:///{folder}/100%25.png", "100%.png"),
        ("file:///{folder}/c%20d.png", "c%20d.png"),
        ("file:///{folder}/gone%20.png", "gone .png"),
        ("{folder}/a%20b.png", "a%20b.png"),
    ],
)
def test_an_address_of_a_file_is_its_path(tmp_path: Path, address: str, name: str) -> None:
    """The name as it stands counts where a file has it, and none the other."""
    (tmp_path / "c%20d.png").touch()
    address = address.format(folder=tmp_path)
    address = address.replace("file:////", "file:///")
    fields = {"image": address, "text": "x"}
    (media,) = to_conversation(Row("r", fields, tmp_path, confined=True), "caption").media
    assert media.content == tmp_path / name


FRAMES = ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(
    "fields",
    [
        {
            "messages": [{"role": "user", "content": "<video>?"}, {"role": "assistant", "content": "x"}],
            "videos": [FRAMES],
        },
        {
            "messages": [{"role": "user", "content": "<video>?"}, {"role": "assistant", "content": "x"}],
            "videos": FRAMES,
        },
        {"question": "?", "answer": "x", "video": FRAMES},
        {"video": [{"path": name} for name in FRAMES], "messages": "parts"},
    ],
)
def test_frames_as_a_list_are_one_video(fields: dict[str, Any]) -> None:
    if fields.get("messages") == "parts":
        part = {"type": "video", "video": fields["video"], "sample_fps": 4}
        fields = {"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "x"}]}
    (media,) = to_conversation(row(fields)).media
    assert isinstance(media, VideoPart)
    assert media.image == tuple(FOLDER / name for name in FRAMES)
    assert media.fps == (4 if "videos" not in fields and "video" not in fields else None)


def test_frames_that_are_no_pictures_are_refused() -> None:
    for wrong in (["https://x.org/0.png"], [0.5], []):
        fields = {"messages": [{"role": "user", "content": "<video>"}, {"role": "assistant", "content": "x"}]}
        assert "frames of a video must be pictures that are at hand" in refusal({**fields, "videos": [wrong]}, "tags")
    array = np.zeros((8, 8, 3), np.uint8)
    fields = {"question": "?", "answer": "x", "videos": [[array, array]]}
    (media,) = to_conversation(row(fields)).media
    assert isinstance(media.content, np.ndarray)
    assert media.content.shape == (2, 8, 8, 3)

"""Boxes and references: written as published systems write them, and read back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.contracts.messages import Box, BoxPart, Conversation, Message, RefPart, TextPart
from vitrail.metrics.boxes import parse_box
from vitrail.models.backbones.tokenizer import byte_tokenizer
from vitrail.prompts.boxes import parse, parse_boxes, scaled, written
from vitrail.prompts.config import BOX_SPECIALS, BoxStyle, PromptConfig
from vitrail.prompts.render import render
from vitrail.prompts.templates import template
from vitrail.prompts.turns import Special

DOG: Box = (0.012, 0.034, 0.56, 0.78)
STYLES: list[BoxStyle] = list(BOX_SPECIALS)
UNNAMED = ("plain", "compact")
"""Styles in which nothing sets the words for a thing apart."""
every_style = pytest.mark.parametrize("style", STYLES)


def text_of(part: RefPart | BoxPart, style: BoxStyle) -> str:
    return "".join(piece.name if isinstance(piece, Special) else piece for piece in written(part, style))


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        # Source: the hub's Qwen-VL-Chat, from_list_format.
        ("qwen_vl", "<ref>the dog</ref><box>(12,34),(560,780)</box>"),
        (
            "qwen2_vl",
            "<|object_ref_start|>the dog<|object_ref_end|><|box_start|>(12,34),(560,780)<|box_end|>",
        ),
        ("internvl", "<ref>the dog</ref><box>[[12, 34, 560, 780]]</box>"),
        ("nvlm", "<ref>the dog</ref><box>(12,34),(560,780)</box>"),
        ("minigptv2", "<p>the dog</p> {<1><3><56><78>}"),
        ("plain", "the dog[12, 34, 560, 780]"),
        ("compact", "the dog[01035678]"),
    ],
)
def test_the_published_string(style: BoxStyle, expected: str) -> None:
    assert text_of(RefPart("the dog"), style) + text_of(BoxPart((DOG,)), style) == expected


def test_several_boxes_of_one_thing() -> None:
    both = BoxPart(((0.001, 0.002, 0.003, 0.004), (0.005, 0.006, 0.007, 0.008)))
    assert text_of(both, "qwen_vl") == "<box>(1,2),(3,4)</box><box>(5,6),(7,8)</box>"
    assert text_of(both, "internvl") == "<box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box>"
    assert text_of(both, "plain") == "[1, 2, 3, 4], [5, 6, 7, 8]"


def test_qwens_grid_ends_before_a_thousand() -> None:
    whole = BoxPart(((0, 0, 1, 1),))
    assert text_of(whole, "qwen_vl") == "<box>(0,0),(999,999)</box>"
    assert text_of(whole, "internvl") == "<box>[[0, 0, 1000, 1000]]</box>"


corners = st.tuples(st.integers(0, 99), st.integers(0, 99)).map(sorted)
boxes = st.tuples(corners, corners).map(
    lambda pair: (pair[0][0] / 100, pair[1][0] / 100, pair[0][1] / 100, pair[1][1] / 100)
)


@every_style
@settings(deadline=None, max_examples=50)
@given(
    given=st.lists(boxes, min_size=1, max_size=3),
    before=st.text("ab .,", max_size=5),
    after=st.text("ab .", max_size=5),
)
def test_what_is_written_is_read_back(style: BoxStyle, given: list[Box], before: str, after: str) -> None:
    part = BoxPart(tuple(given))
    read = parse(before + text_of(part, style) + after, style)
    texts = [TextPart(text) for text in (before, after) if text]
    assert [piece for piece in read if isinstance(piece, TextPart)] == texts
    assert parse_boxes(text_of(part, style), style) == part.boxes
    (found,) = (piece for piece in read if isinstance(piece, BoxPart))
    assert found.boxes == part.boxes


@every_style
def test_words_that_name_a_thing_are_read_back(style: BoxStyle) -> None:
    text = "Here is " + text_of(RefPart("the dog"), style) + text_of(BoxPart((DOG,)), style) + "."
    parts = parse(text, style)
    assert [type(part) for part in parts if not isinstance(part, TextPart)] == (
        [BoxPart] if style in UNNAMED else [RefPart, BoxPart]
    )
    if style not in UNNAMED:
        assert parts[1] == RefPart("the dog")


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("(12,34),(1560,780)", "qwen_vl"),
        ("(560,34),(12,780)", "qwen2_vl"),
        ("<box>(12,34)</box>", "qwen_vl"),
        ("[[12, 34, 560]]", "internvl"),
        ("[0.1, 0.2, 0.3, 0.4]", "plain"),
        ("[0103567]", "compact"),
        ("[57035678]", "compact"),
        ("01035678", "compact"),
        ("(12,34),(56,78)", "internvl"),
        ("<ref>open", "qwen_vl"),
        ("{<1><2><3><400>}", "minigptv2"),
    ],
)
def test_what_is_not_well_formed_stays_text(text: str, style: BoxStyle) -> None:
    assert parse(text, style) == (TextPart(text),)


@pytest.mark.parametrize("style", ["qwen_vl", "qwen2_vl"])
def test_boxes_are_read_from_a_reply_without_its_special_tokens(style: BoxStyle) -> None:
    assert parse_boxes("the dog(12,34),(560,780)", style) == (DOG,)


def test_the_metric_reads_every_style_of_a_thousand() -> None:
    for style in ("plain", "qwen_vl", "internvl"):
        assert parse_box(text_of(BoxPart((DOG,)), style)) == (12, 34, 560, 780)


def test_a_box_is_made_of_special_tokens_and_typed_ones_are_text() -> None:
    chat, prompt = template("chatml"), PromptConfig(boxes="qwen_vl")
    tokenizer = byte_tokenizer((*chat.specials, *prompt.specials))
    asked = Message("user", (TextPart("Find <box>"), RefPart("<box>the dog")))
    answered = Message("assistant", (BoxPart((DOG,)),))
    made = render(Conversation("talk", (asked, answered)), [], chat, tokenizer, prompt)
    counts = {name: made.ids.tolist().count(tokenizer.special(name)) for name in prompt.specials}
    assert counts == {"<ref>": 1, "</ref>": 1, "<box>": 1, "</box>": 1}
    learnt = made.labels[made.labels >= 0].tolist()
    assert tokenizer.decode(learnt, show_special=True) == "<box>(12,34),(560,780)</box><|im_end|>"
    # Evaluation compares with the drawn data's way of writing.
    assert answered.text == "[12, 34, 560, 780]"


@pytest.mark.parametrize(
    ("numbers", "scale", "expected"),
    [
        ([12, 34, 560, 780], 1000, DOG),
        ([0.012, 0.034, 0.56, 0.78], 1, DOG),
        ([24, 17, 1120, 390], [2000, 500], DOG),
    ],
)
def test_numbers_to_shares(numbers: list[float], scale: float | list[float], expected: Box) -> None:
    assert scaled(numbers, scale) == pytest.approx(expected)

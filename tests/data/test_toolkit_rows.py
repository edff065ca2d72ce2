"""Rows as other toolkits write them: read as those mean them, or refused by the key that is not understood.

Each test is one kind of fault that users of such toolkits reported: what a row said was dropped without a word.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialect_rows import FOLDER, refusal, row, said
from PIL import Image

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import BoxPart, ImagePart, Message, RefPart, Row, TextPart
from vitrail.data.dialects import to_conversation
from vitrail.data.sources.annotations import annotations_in
from vitrail.data.sources.config import JsonlConfig, Reading
from vitrail.data.sources.opening import open_source
from vitrail.evaluation.answers import question

A, B = FOLDER / "a.png", FOLDER / "b.png"
USER, YES = {"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Yes."}
READ = [("user", [A, "\nHm?"]), ("assistant", ["Yes."])]
PICTURE = np.zeros((64, 96, 3), np.uint8)


def turns(fields: dict[str, Any], reading: Reading | None = None) -> tuple[Message, ...]:
    return to_conversation(row(fields), reading or Reading()).messages


# Every key is understood, named as ignored, or refused


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({"messages": [USER, {**YES, "reasoning_content": "Let me see."}]}, "reasoning_content"),
        ({"messages": [USER, YES], "rationale": "So."}, "rationale"),
        ({"conversations": [{"from": "human", "value": "Hm?", "hint": 1}, {"from": "gpt", "value": "Yes."}]}, "hint"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png", "max_pixels": 784}]}, YES]},
         "max_pixels"),
        ({"image": {"path": "a.png", "crop": [1, 2]}, "text": "An ant."}, "crop"),
        ({"image": "a.png", "question": "Hm?", "answer": "Yes.", "hint": "No."}, "hint"),
        ({"image": "a.png", "text": "An ant.", "caption": "A bee."}, "text"),
        ({"images": ["a.png"], "image": "b.png", "text": "An ant."}, "image"),
        ({"prompt": "Hm?", "chosen": "Yes.", "rejected": "No.", "score_chosen": 1}, "score_chosen"),
        ({"prompt": "Other?", "chosen": [USER, YES], "rejected": [USER, {**YES, "content": "No."}]}, "prompt"),
        ({"interleaved": ["One.", {"image": "a.png", "alt": "x"}]}, "alt"),
        ({"texts": [{"user": "Hm?", "assistant": "Yes.", "rank": 2}]}, "rank"),
    ],
)  # fmt: skip
def test_a_key_that_nobody_reads_is_refused_by_name_or_named_in_the_source(fields: dict[str, Any], lost: str) -> None:
    message = refusal(fields)
    assert f"'{lost}'" in message
    assert f"ignore_keys: [{lost}]" in message
    assert turns(fields, Reading(ignore_keys=(lost[:2] + "*",)))[-1].role == "assistant"


def test_a_misspelled_key_is_compared_with_those_that_are_known() -> None:
    assert "(did you mean 'image'?)" in refusal({"messages": [USER, YES], "imagse": ["a.png"]})
    assert "'my_image' looks as if it named a picture" in refusal({"messages": [USER, YES], "my_image": ["a.png"]})
    assert "(did you mean 'system'?)" in refusal({"messages": [USER, YES], "sytem": "Be kind."})


def test_facts_about_a_row_go_with_it_and_nulls_say_nothing() -> None:
    facts = {"dataset": "x", "question_id": 3, "width": 96, "metadata": {"page": 1}}
    empty = {"hint": None, "videos": [], "note": "", "part": {"x": None}}
    fields = {"image": "a.png", "question": "Hm?", "answer": "Yes.", **facts, **empty}
    assert said(fields) == READ
    extra = to_conversation(row(fields)).extra
    assert {name: extra[name] for name in facts} == facts


# Boxes


def test_boxes_of_a_column_stand_where_their_tags_do() -> None:
    content = "<image>Find <ref-object> and <ref-object>."
    fields = {
        "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "<bbox>, <bbox>"}],
        "images": [PICTURE],
        "objects": {"ref": ["a", "b"], "bbox": [[24, 16, 48, 32], [0, 0, 96, 64]]},
    }
    asked, answered = turns(fields)
    assert asked.parts[1:] == (TextPart("Find "), RefPart("a"), TextPart(" and "), RefPart("b"), TextPart("."))
    assert answered.parts == (BoxPart(((0.25, 0.25, 0.5, 0.5),)), TextPart(", "), BoxPart(((0, 0, 1, 1),)))
    shares = {"ref": ["a", "b"], "bbox": [[0.25, 0.25, 0.5, 0.5], [0, 0, 1, 1]], "bbox_type": "norm1"}
    assert turns({**fields, "objects": shares})[1] == answered
    assert turns({**fields, "objects": json.dumps(shares)})[1] == answered


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"ref": ["a"], "bbox": []}, "1 <bbox> tags but 0 in 'objects.bbox'"),
        ({"ref": ["a", "b"], "bbox": [[1, 2, 3, 4]]}, "1 <ref-object> tags but 2 in 'objects.ref'"),
        ({"ref": ["a"], "bbox": [[1, 2, 3, 4]], "image_id": [1]}, "a box lies in picture 1, the row has 1"),
        ({"ref": ["a"], "bbox": [[1, 2, 3, 4]], "bbox_type": "px"}, "'bbox_type' must be real, norm1 or "),
        ({"ref": ["a"], "bbox": [[1, 2, 97, 4]]}, "the box [1, 2, 97, 4] lies outside of its scale, 96 wide and 64"),
        ({"ref": ["a"], "bbox": [[1, 2, 3, 4]], "label": [7]}, "'label' of 'objects' is not understood"),
        (None, "<ref-object> or <bbox> stands in the text, and the row has no 'objects'"),
    ],
)  # fmt: skip
def test_another_number_of_boxes_than_tags_is_refused(objects: Any, message: str) -> None:
    said_by = [{"role": "user", "content": "<image><ref-object>?"}, {"role": "assistant", "content": "<bbox>"}]
    assert refusal({"messages": said_by, "images": [PICTURE], "objects": objects}).startswith(message)


def test_boxes_in_qwen_vls_and_internvls_text() -> None:
    answer = "<ref>the dog</ref><box>(100,200),(300,400)</box> and <box>[[0, 0, 500, 1000]]</box>"
    fields = {"messages": [USER, {"role": "assistant", "content": answer}], "images": ["a.png"]}
    dog, left = BoxPart(((0.1, 0.2, 0.3, 0.4),)), BoxPart(((0, 0, 0.5, 1),))
    assert turns(fields)[1].parts == (RefPart("the dog"), dog, TextPart(" and "), left)
    without = {"messages": [USER, {"role": "assistant", "content": "Cite <ref>it</ref> in a <box>."}]}
    assert turns(without)[1].parts == (TextPart("Cite <ref>it</ref> in a <box>."),)
    wrong = {"messages": [USER, {"role": "assistant", "content": "<box>(1,2),(3)</box>"}]}
    assert refusal(wrong) == "<box>(1,2),(3)</box> holds no box, (x1,y1),(x2,y2) or [[x1, y1, x2, y2]]"


@pytest.mark.parametrize(
    ("box", "scale", "message"),
    [
        ([8, 8, 400, 300], [96, 64], "lies outside of its scale, 96 wide and 64 high"),
        ([120, 300, 1500, 1800], 1000, "lies outside of its scale, 1000 wide and 1000 high"),
        ([-1, 0, 5, 5], 1000, "lies outside of its scale"),
        ([60, 50, 10, 8], [96, 64], "has its corners in the wrong order"),
        ([1, 2, float("nan"), 4], 1000, "has its corners in the wrong order"),
    ],
)
def test_a_box_that_leaves_its_scale_is_refused_with_its_numbers(box: list[float], scale: Any, message: str) -> None:
    part = {"type": "box", "box": box, "scale": scale}
    said_so = refusal({"messages": [USER, {"role": "assistant", "content": [part]}]})
    assert said_so.startswith(f"the box {box} {message}")


def test_corner_and_size_are_read_where_the_source_says_so_alone() -> None:
    part = {"type": "box", "box": [50, 40, 30, 20], "scale": [100, 100]}
    fields = {"messages": [USER, {"role": "assistant", "content": [part]}]}
    assert "read where the source says box_format: xywh" in refusal(fields)
    assert turns(fields, Reading(box_format="xywh"))[1].parts == (BoxPart(((0.5, 0.4, 0.8, 0.6),)),)
    part["box"] = [50, 40, 60, 20]
    with pytest.raises(DataError, match=r"box \[50, 40, 60, 20\] \(x, y, width, height\) lies outside"):
        turns(fields, Reading(box_format="xywh"))


# Turns


@pytest.mark.parametrize(
    "fields",
    [
        {"conversations": [{"from": "human", "value": "Hm?"}, {"from": "gpt", "value": "Yes."}]},
        {"messages": [USER, YES]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hm?"}]}, YES]},
        {"instruction": "Hm?", "output": "Yes."},
        {"query": "Hm?", "response": "Yes."},
        {"prompt": [USER], "completion": [YES]},
        {"prompt": "Hm?", "chosen": "Yes.", "rejected": "No."},
        {"texts": [{"user": "Hm?", "assistant": "Yes."}]},
        {"question": "Hm?", "answer": "Yes."},
    ],
)
def test_a_system_column_is_a_system_turn(fields: dict[str, Any]) -> None:
    conversation = to_conversation(row({**fields, "system": "Be kind."}))
    assert [(one.role, one.text) for one in conversation.messages] == [
        ("system", "Be kind."),
        ("user", "Hm?"),
        ("assistant", "Yes."),
    ]
    assert conversation.shared == (2 if "chosen" in fields else 0)
    assert len(turns({**fields, "system": ""})) == 2


def test_two_system_turns_that_differ_are_refused() -> None:
    given = [{"role": "system", "content": "Be kind."}, USER, YES]
    assert len(turns({"messages": given, "system": "Be kind."})) == 3
    assert refusal({"messages": given, "system": "Be short."}) == "a system turn and another text in 'system'"


@pytest.mark.parametrize(
    ("key", "value", "weight"),
    [("loss", False, 0), ("loss", True, 1), ("weight", 0, 0), ("train", False, 0), ("loss_scale", 0.5, 0.5)],
)
@pytest.mark.parametrize("parts", [False, True])
def test_a_turn_says_what_its_loss_weighs(key: str, value: Any, weight: float, parts: bool) -> None:
    content = [{"type": "text", "text": "Yes."}] if parts else "Yes."
    answer = {"role": "assistant", "content": content, key: value}
    assert [one.weight for one in turns({"messages": [{**USER, key: None}, answer, USER, YES]})] == [1, weight, 1, 1]


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({**YES, "loss": "no"}, "'loss' of a turn must be true, false or a number from 0, got 'no'"),
        ({**YES, "weight": -1}, "'weight' of a turn must be true, false or a number from 0, got -1"),
        ({**YES, "loss": True, "weight": 0}, "'loss' and 'weight' of a turn differ"),
        ({**USER, "train": True}, "'train' is True, but only answers are learnt, not what the user says"),
    ],
)
def test_weights_that_are_none(turn: dict[str, Any], message: str) -> None:
    assert refusal({"messages": [USER, turn, YES]}) == message


# Pictures


@pytest.mark.parametrize("key", ["image_path", "imgs", "img", "image_paths", "picture"])
def test_columns_that_plainly_name_pictures_are_read(key: str) -> None:
    assert said({key: "a.png", "question": "Hm?", "answer": "Yes."}) == READ
    assert said({key: ["a.png"], "messages": [USER, YES]}) == READ


def test_a_key_that_may_name_a_picture_is_refused_in_a_row_without_any() -> None:
    fields = {"image_id": 7, "question": "Hm?", "answer": "Yes."}
    assert refusal(fields).startswith("'image_id' looks as if it named a picture or another medium, and none was read")
    assert said({**fields, "image": "a.png"}) == READ
    assert len(turns(fields, Reading(ignore_keys=("image_id",)))) == 2


@pytest.mark.parametrize("key", ["from", "role"])
def test_paths_in_qwen_vls_text_are_pictures(key: str) -> None:
    value = "value" if key == "from" else "content"
    said_by = [{key: "user", value: "Picture 1: <img>a.png</img>\nHm?"}, {key: "assistant", value: "Yes."}]
    fields: dict[str, Any] = {"conversations" if key == "from" else "messages": said_by}
    assert said(fields) == [("user", ["Picture 1: ", A, "\nHm?"]), ("assistant", ["Yes."])]
    assert refusal({**fields, "image": "b.png"}) == "pictures in the text as <img>...</img>, and others in a column"
    said_by[1][value] = "See <img>b.png</img>."
    assert refusal(fields) == "an answer shows a picture, <img>b.png</img>"


@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_minicpmvs_named_pictures_stand_where_their_names_do(keys: tuple[str, str]) -> None:
    role, content = keys
    said_by = [{role: "user", content: "<image_01> or <image_00>?"}, {role: "assistant", content: "Yes."}]
    fields = {"image": {"<image_00>": "a.png", "<image_01>": "b.png"}, "conversations": said_by}
    assert said(fields) == [("user", [B, " or ", A, "?"]), ("assistant", ["Yes."])]
    said_by[0][content] = "<image_01>?"
    assert refusal(fields) == "'<image_00>' stands 0 times in the text, not once"
    said_by[0][content] = "Which?"
    assert said(fields)[0] == ("user", [A, "\n", B, "\nWhich?"])


def test_mmmus_numbered_pictures_and_spelled_options() -> None:
    fields = {"image_1": "a.png", "image_2": {"path": "b.png"}, "image_3": None, "answer": "A"}
    fields |= {"question": "<image 2> or <image 1>?", "options": "['red', 'green']"}
    assert said(fields) == [("user", [B, " or ", A, "?\nA. red\nB. green"]), ("assistant", ["A"])]


def test_rows_of_text_first_settle_nothing(tmp_path: Path) -> None:
    rows = [{"image": None, "text": f"Text {n}."} for n in range(6)] + [{"image": "a.png", "text": "An ant."}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    source, reading = open_source(JsonlConfig(tmp_path / "rows.jsonl"))
    read = [to_conversation(source.row(index), reading) for index in range(7)]  # type: ignore[union-attr]
    assert [len(one.media) for one in read] == [0] * 6 + [1]


# Columns


@pytest.mark.parametrize(
    "fields",
    [
        {"instruction": "Hm?", "input": "", "output": "Yes."},
        {"query": "Hm?", "response": "Yes."},
        {"prompt": "Hm?", "completion": "Yes."},
        {"prompt": [USER], "completion": [YES]},
        {"prompt": "Hm?", "completion": YES},
        {"prompt": json.dumps([USER]), "completion": json.dumps([YES])},
        {"prefix": "Hm?", "suffix": "Yes."},
        {"prompt": "Hm?", "text": "Yes."},
        {"messages": json.dumps([USER, YES])},
        {"conversations": json.dumps([{"from": "human", "value": "Hm?"}, {"from": "gpt", "value": "Yes."}])},
    ],
)
def test_questions_and_answers_by_any_names(fields: dict[str, Any]) -> None:
    assert said({**fields, "images": ["a.png"]}) == READ
    assert said({**fields, "images": '["a.png"]'}) == READ


def test_the_input_and_the_history_of_an_instruction() -> None:
    fields = {"instruction": "Translate.", "input": "Oui.", "output": "Yes.", "history": [["Hm?", "Ja."]]}
    wanted = [("user", ["Hm?"]), ("assistant", ["Ja."]), ("user", ["Translate.\nOui."]), ("assistant", ["Yes."])]
    assert said(fields) == wanted
    assert refusal({**fields, "history": ["Hm?"]}) == "'history' must be a list of [question, answer], got 'Hm?'"


def test_parts_of_openais_responses() -> None:
    parts = [{"type": "input_image", "image_url": "a.png", "detail": "auto"}, {"type": "input_text", "text": "Hm?"}]
    answer = {"role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]}
    assert said({"messages": [{"role": "user", "content": parts}, answer]}) == [
        ("user", [A, "Hm?"]),
        ("assistant", ["Yes."]),
    ]


def test_a_struct_filled_with_nulls_is_as_if_they_were_not_there() -> None:
    picture = {"type": "image", "text": None, "image": None, "max_pixels": None}
    text = {"type": "text", "text": "Hm?", "image": None, "max_pixels": None}
    answer = {"role": "assistant", "content": [{**text, "text": "Yes."}], "tool_calls": None, "loss": None}
    fields = {
        "messages": [{"role": "user", "content": [picture, text]}, answer],
        "images": [{"bytes": None, "path": "a.png"}],
    }
    assert said(fields) == [("user", [A, "Hm?"]), ("assistant", ["Yes."])]
    assert len(turns({"image": {"bytes": None, "path": None}, "text": "Prose."})) == 1


@pytest.mark.parametrize(
    ("choices", "answer", "letter"),
    [
        ([2, 0, 1], 0, "A"),
        (["2", "0", "1"], 0, "A"),
        (["2", "0", "1"], 2, "C"),
        (["red", "green"], "1", "B"),
        ({"A": "red", "B": "green"}, "B", "B"),
        (["B", "A"], 1, "B"),
        (["A", "B"], "B", "B"),
    ],
)
def test_an_integer_beside_choices_is_the_place_of_one(choices: Any, answer: Any, letter: str) -> None:
    assert said({"question": "Hm?", "choices": choices, "answer": answer})[1] == ("assistant", [letter])


@pytest.mark.parametrize(
    ("choices", "answer", "message"),
    [
        (["C", "A", "B"], "B", "the answer 'B' may be B ('A') and C ('B'): give the index of the choice, from 0"),
        (["2", "0", "1"], "0", "the answer '0' may be A ('2') and B ('0'): give the index of the choice, from 0"),
        (["2", "0", "1"], 3, "the answer '3' is none of the 3 choices"),
        (["x", "y"], -1, "the answer '-1' is none of the 2 choices"),
    ],
)
def test_an_answer_that_may_be_two_choices_is_refused(choices: Any, answer: Any, message: str) -> None:
    assert refusal({"question": "Hm?", "choices": choices, "answer": answer}) == message


def test_several_answers_beside_the_one_that_is_learnt_are_right_as_well() -> None:
    _, truths = question(row({"question": "Hm?", "answer": "two", "answers": ["2", "2"]}), Reading())
    assert truths == ("two", "2")


# Annotation files as published


def test_cocos_captions_and_docvqas_questions(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "9.png")
    coco = {
        "info": {"year": 2017},
        "images": [{"id": 9, "file_name": "9.png", "width": 96, "height": 64}],
        "annotations": [{"id": 1, "image_id": 9, "caption": "A block."}, {"id": 2, "image_id": 9, "caption": "Dark."}],
    }
    docvqa = {
        "dataset_name": "docvqa",
        "data": [{"questionId": 4, "question": "Hm?", "image": "9.png", "answers": ["yes", "Yes", "yes"], "docId": 1}],
    }
    answers = []
    for name, found in (("captions", coco), ("val_v1.0", docvqa)):
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
        source, reading = open_source(JsonlConfig(tmp_path / f"{name}.json"))
        read = [to_conversation(source.row(index), reading) for index in range(len(source))]  # type: ignore[union-attr, arg-type]
        assert all(one.media == (ImagePart(tmp_path / "9.png"),) for one in read)
        answers += [one.messages[-1].text for one in read]
    assert answers == ["A block.", "Dark.", "yes"]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"images": [{"id": 9, "file_name": "9.png"}], "annotations": [{"image_id": 8, "caption": "x"}]},
         "annotation 0: no picture has the id 8"),
        ({"images": [], "annotations": [{"image_id": 8, "bbox": [1, 2]}]}, "0: has no 'caption' but image_id, bbox"),
        ({"questions": [{"question": "Hm?"}]}, "holds 'questions' alone"),
    ],
)  # fmt: skip
def test_annotations_of_which_no_rows_can_be_made(tmp_path: Path, found: Any, message: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps(found))
    with pytest.raises(DataError, match=message):
        annotations_in(tmp_path / "x.json")
    assert annotations_in(Path(__file__)) is None


def test_a_question_without_its_answer_says_so() -> None:
    assert refusal({"image": "a.png", "question": "Hm?"}).startswith("a question without an answer (")


def test_a_rows_own_values_are_left_as_they_are() -> None:
    fields = {"messages": [{**USER}, {**YES, "loss": False}, {**USER}, {**YES}], "objects": None}
    before = json.dumps(fields)
    to_conversation(Row("r", fields))
    assert json.dumps(fields) == before

"""Drawn documents: same rows every time, splits that share nothing, sizes, boxes around the ink, settings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turns import turns

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import Row
from vitrail.synthetic.config import split_of
from vitrail.synthetic.documents.config import ASKS, DOCUMENTS, OFFERS, DocumentsConfig
from vitrail.synthetic.documents.draft import fair_size
from vitrail.synthetic.documents.page import LARGEST_AREA, NARROWEST, WIDEST, Document
from vitrail.synthetic.documents.pen import SIDE, Pen
from vitrail.synthetic.documents.source import DocumentsSource
from vitrail.synthetic.documents.wording import CHINESE, CHINESE_STATEMENTS, ENGLISH, ENGLISH_STATEMENTS
from vitrail.synthetic.export import export
from vitrail.synthetic.typefaces import TypefaceFile, lettering_on_baseline, reading_typefaces

BLIND_LIMIT = 0.10
BOXED = ("box", "click")
PINNED = [
    (
        "notice",
        "NOTICE\nThe lake lab opens on\n21/12/2037.\nWrite to luis@tring.eu.\nVik Ford",
        [{"content": "Which place opens?", "role": "user"}, {"content": "lake lab", "role": "assistant"}],
    ),
    (
        "receipt",
        "FIRE TRAVEL\n"
        "KYOTO\n"
        "13.06.2021 15:29\n"
        "TICKET FI 9914\n"
        "8 MINT SODA 6.49\n"
        "5 GREEN RIBBON 9.04\n"
        "7 OAT CHEESE 4.31\n"
        "5 ROSE TEA 4.06\n"
        "TOTAL: $23.90",
        [
            {"content": "<image>\nWhat comes after MINT SODA?", "role": "user"},
            {"content": "GREEN RIBBON", "role": "assistant"},
        ],
    ),
]


def picture_of(row: Row) -> Any:
    return row.fields["images"][0].image


# Held out


def test_splits_share_no_value_no_layout_and_no_font(documents: dict[str, list[Document]]) -> None:
    train, test = documents["train"], documents["test"]
    for split, side in documents.items():
        for document in side:
            assert split_of(document.layout) == split
            for value in document.values:
                assert split_of(value) == split, (document.name, value)
    assert not {value for document in train for value in document.values} & {
        value for document in test for value in document.values
    }
    assert not {font for document in train for font in document.fonts} & {
        font for document in test for font in document.fonts
    }
    assert {font for document in test for font in document.fonts} == {face.name for face in reading_typefaces("test")}


def test_answers_of_amounts_belong_to_the_split(documents: dict[str, list[Document]]) -> None:
    for split, side in documents.items():
        for document in side:
            for ask in document.asks:
                if ask.kind == "sum":
                    assert split_of(re.sub("[$€£]", "", ask.answer).replace(",", ".")) == split, ask


def test_layouts_are_many(documents: dict[str, list[Document]]) -> None:
    for kind in DOCUMENTS:
        layouts = [document.layout for document in documents["train"] if document.name == kind]
        assert len(set(layouts)) > 40, kind


# Pixels


def test_sizes_keep_the_limits() -> None:
    areas = []
    for split, unit in (("train", 28), ("test", 28), ("train", 16), ("train", 56)):
        source = DocumentsSource(DocumentsConfig(split=split, rows=120, unit=unit))
        for index in range(len(source)):
            height, width = picture_of(source.row(index)).shape[:2]
            assert width % unit == height % unit == 0
            assert NARROWEST <= width <= WIDEST
            assert width * height <= LARGEST_AREA
            if unit == 28:
                areas.append(width * height / unit**2)
    assert 48 < sum(areas) / len(areas) < 62
    assert (NARROWEST, WIDEST, LARGEST_AREA) == (168, 280, 90 * 28**2)


def test_text_is_of_readable_size_and_few_lines(documents: dict[str, list[Document]]) -> None:
    for face in (*reading_typefaces("train"), *reading_typefaces("test")):
        assert all(12 <= fair_size(face, size) <= 20 for size in range(12, 19))
    lines = [len(document.lines) for document in documents["train"] + documents["test"]]
    assert max(lines) <= 10
    assert 4 < sum(lines) / len(lines) < 8


def test_nothing_is_cut_off_and_no_texts_touch(documents: dict[str, list[Document]]) -> None:
    for document in documents["train"] + documents["test"]:
        height, width = document.picture.shape[:2]
        for text, (x1, y1, x2, y2) in document.runs:
            assert 0 < x1 < x2 < width, (document.name, text)
            assert 0 < y1 < y2 < height, (document.name, text)
        for index, (text, one) in enumerate(document.runs):
            for other, two in document.runs[:index]:
                apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
                assert apart, (document.name, document.layout, text, other)


def test_boxes_of_text_are_tight(documents: dict[str, list[Document]]) -> None:
    seen = 0
    for document in documents["train"] + documents["test"]:
        texts = [box for _, box in document.runs]
        for name, box in document.boxes.items():
            x1, y1, x2, y2 = box
            assert 0 <= x1 < x2 <= document.picture.shape[1], name
            assert 0 <= y1 < y2 <= document.picture.shape[0], name
            if box not in texts:
                continue
            around = document.picture[y1 - 1 : y2 + 1, x1 - 1 : x2 + 1].astype(int)
            ground = Counter(map(tuple, [*around[0].tolist(), *around[-1].tolist()])).most_common(1)[0][0]
            ink = np.abs(around[1:-1, 1:-1] - ground).max(axis=2) > 12
            for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
                assert edge.any(), (document.name, name)
            seen += 1
    assert seen > 1000


def test_boxes_and_characters_follow_a_turned_page() -> None:
    moved = 0
    for index in range(80):
        straight, turned = (
            DocumentsSource(DocumentsConfig(level=level, wear=wear, documents=("receipt",))).document(index)
            for level, wear in ((1.0, 0.0), (1.0, 1.0))
        )
        assert straight.lines == turned.lines
        height, width = straight.picture.shape[:2]
        moved += straight.boxes != turned.boxes
        for name, box in straight.boxes.items():
            assert np.abs(np.subtract(box, turned.boxes[name])).max() <= 7, name
            assert min(turned.boxes[name]) >= 0
            assert turned.boxes[name][2] <= width
            assert turned.boxes[name][3] <= height
        for one, two in zip(straight.characters, turned.characters, strict=True):
            assert one.text == two.text
            assert abs(one.x - two.x) * width < 5
            assert abs(one.y - two.y) * height < 5
    assert 15 < moved < 50


def test_every_character_is_known_where_it_stands(documents: dict[str, list[Document]]) -> None:
    for document in documents["train"][::7]:
        height, width = document.picture.shape[:2]
        rest = list(document.characters)
        for text, (x1, y1, x2, y2) in document.runs:
            mine, rest = rest[: len(text.replace(" ", ""))], rest[len(text.replace(" ", "")) :]
            assert "".join(one.text for one in mine) == text.replace(" ", "")
            assert all(x1 - 3 <= one.x * width <= x2 + 3 and y1 - 4 <= one.y * height <= y2 + 4 for one in mine)
            assert all(one.x < two.x for one, two in pairwise(mine))
        assert not rest


def test_letters_one_by_one_look_like_whole_words() -> None:
    for face in (*reading_typefaces("train"), *reading_typefaces("test")):
        ours = Pen(face, 15).mask("Mill 208")
        theirs = lettering_on_baseline("Mill 208", face, 15)
        spread = np.zeros_like(ours)
        left = SIDE - 1 + int(np.flatnonzero(ours.any(axis=0))[0] - np.flatnonzero(theirs.any(axis=0))[0] - SIDE + 1)
        shown = min(theirs.shape[1], spread.shape[1] - left)
        spread[:, left : left + shown] = theirs[:, :shown]
        assert (ours != spread).mean() < 0.12, face.name


# Rows


@settings(max_examples=20, deadline=None)
@given(
    split=st.sampled_from(["train", "test"]),
    seed=st.integers(0, 2**40),
    index=st.integers(0, 999),
    level=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_a_row_is_a_function_of_its_index_alone(split: str, seed: int, index: int, level: float) -> None:
    source = DocumentsSource(DocumentsConfig(split=split, rows=1000, seed=seed, level=level))
    source.row((index + 7) % 1000)
    row, again = (
        source.row(index),
        DocumentsSource(DocumentsConfig(split=split, rows=index + 1, seed=seed, level=level)).row(index),
    )
    assert row.id == again.id
    assert np.array_equal(picture_of(row), picture_of(again))
    assert {**row.fields, "images": 0} == {**again.fields, "images": 0}
    assert picture_of(row).dtype == np.uint8


def test_the_text_of_a_row_is_pinned() -> None:
    # Seeds are promised to mean the same data for good; pixels may differ by a level between builds of Pillow.
    rows = [DocumentsSource(DocumentsConfig(split=split, seed=5)).row(3) for split in ("train", "test")]
    assert [(row.fields["document"], row.fields["text"], row.fields["messages"][-2:]) for row in rows] == PINNED


def test_kinds_of_the_test_split_come_in_turn() -> None:
    source = DocumentsSource(DocumentsConfig(split="test", rows=96))
    rows = [source.row(index) for index in range(96)]
    assert [row.fields["kinds"] for row in rows] == [[kind] for kind in ASKS[:-1]] * 16
    assert all(row.fields["kind"] in OFFERS[row.fields["document"]] for row in rows)
    assert Counter(row.fields["document"] for row in rows if row.fields["kind"] == "box") == dict.fromkeys(DOCUMENTS, 2)


def test_every_document_is_asked_a_question_of_each_kind() -> None:
    asks = ("field", "sum", "compare", "position", "box")
    config = DocumentsConfig(split="test", rows=10, documents=("receipt", "form", "table"), ask=asks, every_kind=True)
    source = DocumentsSource(config)
    rows = [source.row(index) for index in range(10)]
    assert [row.fields["kind"] for row in rows] == [*asks, *asks]
    assert len({row.id for row in rows}) == 10
    # A form has no sums, so it is not drawn.
    assert [row.fields["document"] for row in rows] == ["receipt"] * 5 + ["table"] * 5
    pages = [picture_of(row).tobytes() for row in rows]
    assert pages[0] != pages[5]
    assert pages == [pages[0]] * 5 + [pages[5]] * 5


def test_train_rows_ask_several_kinds_and_read_and_describe_by_share() -> None:
    source = DocumentsSource(DocumentsConfig(rows=600))
    rows = [source.row(index) for index in range(600)]
    assert {row.fields["document"] for row in rows} == set(DOCUMENTS)
    kinds = [kind for row in rows for kind in row.fields["kinds"]]
    assert set(kinds) == {*ASKS, "caption"}
    assert 110 < kinds.count("text") < 190
    assert 35 < kinds.count("caption") < 90
    for row in rows:
        questions = [turn for turn in turns(row) if turn[0] not in ("text", "caption")]
        assert 1 <= len(questions) <= 3
        assert len(set(questions)) == len(questions)
        assert row.fields["kind"] == questions[-1][0]
        assert row.fields["messages"][0]["content"].startswith("<image>\n")
    first = [row.fields["kinds"][0] == "text" for row in rows if "text" in row.fields["kinds"]]
    assert 0.3 < sum(first) / len(first) < 0.7


def test_only_what_is_chosen_is_drawn_and_asked() -> None:
    source = DocumentsSource(
        DocumentsConfig(rows=60, documents=("receipt", "form"), ask=("sum",), text=0.0, caption=0.0)
    )
    rows = [source.row(index) for index in range(60)]
    assert {row.fields["document"] for row in rows} == {"receipt"}
    assert {kind for row in rows for kind in row.fields["kinds"]} == {"sum"}
    reading = DocumentsSource(DocumentsConfig(split="test", rows=8, ask=("text",))).row(2)
    assert reading.fields["messages"][-1]["content"] == reading.fields["text"]
    described = DocumentsSource(DocumentsConfig(rows=3, questions=0, text=0.0, caption=0.5)).row(1)
    assert described.fields["kinds"] == ["caption"]


def test_questions_leave_the_picture_alone() -> None:
    one, other = (DocumentsSource(DocumentsConfig(ask=ask, text=text)) for ask, text in (((), 0.25), (("field",), 1.0)))
    same = sum(np.array_equal(picture_of(one.row(index)), picture_of(other.row(index))) for index in range(40))
    assert same > 30  # the others show nothing that a field could be asked about


def test_level_and_grow_make_documents_harder() -> None:
    easy, hard = (
        [len(DocumentsSource(DocumentsConfig(rows=4000, **v)).document(i).lines) for i in range(0, 4000, 40)]
        for v in ({"level": 0.0}, {"level": 1.0})
    )
    assert sum(hard) > 1.2 * sum(easy)
    grown = [
        len(DocumentsSource(DocumentsConfig(rows=4000, level=1.0, grow=4000)).document(i).lines) for i in range(100)
    ]
    assert sum(grown) < 1.1 * sum(easy)


# Settings, Chinese, files


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "tset"}, "did you mean 'test'"),
        ({"documents": ("recept",)}, "did you mean 'receipt'"),
        ({"documents": ("form", "form")}, "twice"),
        ({"ask": ("fields",)}, "did you mean 'field'"),
        ({"documents": ("form",), "ask": ("sum", "click")}, "does not offer, allowed: field, position, box, text"),
        ({"every_kind": True}, "every_kind is for split: test"),
        (
            {"split": "test", "every_kind": True, "documents": ("form",), "ask": ("field", "click")},
            "none of the documents offers all of field, click",
        ),
        ({"split": "test", "every_kind": True, "documents": ("form",)}, "offers all of field, sum, compare"),
        ({"rows": -1}, "rows is -1"),
        ({"questions": 0, "text": 0.0, "caption": 0.0}, "questions is 0"),
        ({"level": 1.5}, "level is 1.5, allowed: 0 to 1"),
        ({"wear": -0.1}, "wear is -0.1"),
        ({"unit": 100}, "unit is 100, allowed: 1 to 56"),
        ({"script": "chinise"}, "did you mean 'chinese'"),
        ({"script": "chinese"}, "without a font, allowed: font: path"),
        ({"font": Path("song.ttf")}, "only with script: chinese"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        DocumentsConfig(**values)
    assert "\n" not in str(caught.value)


def test_a_font_that_cannot_write_chinese_is_refused(tmp_path: Path) -> None:
    (face, *_) = reading_typefaces("train")
    for path, message in ((tmp_path / "none.ttf", "cannot be read"), (face.path, "has no Chinese characters")):
        with pytest.raises(DataError, match=message) as caught:
            DocumentsSource(DocumentsConfig(script="chinese", font=path))
        assert "\n" not in str(caught.value)


def test_chinese_documents_speak_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    # No Chinese font is bundled: one without those characters draws boxes instead, and all else is the same.
    (face, *_) = reading_typefaces("train")
    monkeypatch.setattr(
        "vitrail.synthetic.documents.source.chinese_typeface",
        lambda file, split: TypefaceFile("song", split, 0.7, file),
    )
    for split in ("train", "test"):
        source = DocumentsSource(DocumentsConfig(split=split, rows=48, script="chinese", font=face.path))
        rows = [source.row(index) for index in range(48)]
        assert all(re.search("[\u4e00-\u9fff]", question) for row in rows for _, question, _ in turns(row))
        assert {row.fields["document"] for row in rows} == set(DOCUMENTS)
        assert sum(bool(re.search("[\u4e00-\u9fff]", row.fields["text"])) for row in rows) > 40


def test_both_languages_word_the_same_topics() -> None:
    assert set(ENGLISH) == set(CHINESE)
    assert set(ENGLISH_STATEMENTS) == set(CHINESE_STATEMENTS) == set(DOCUMENTS)
    assert all(len(phrasings) >= 2 for phrasings in (*ENGLISH.values(), *CHINESE.values()))


def test_settings_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, vitrail.synthetic.documents.config; sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


def test_an_index_past_the_end_is_refused() -> None:
    source = DocumentsSource(DocumentsConfig(rows=3))
    assert len(source) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError):
            source.row(index)


def test_documents_are_exported_like_other_drawn_data(tmp_path: Path) -> None:
    for split, rows in (("train", 5), ("test", 2), ("train", 3)):
        config = DocumentsConfig(split=split, rows=rows)
        records = [json.loads(line) for line in export(config, tmp_path / "out").read_text("utf-8").splitlines()]
        assert len(records) == rows
        for index, record in enumerate(records):
            row = DocumentsSource(config).row(index)
            facts = {name: row.fields[name] for name in row.facts}
            said = {name: value for name, value in row.fields.items() if name not in facts}
            assert record == {"id": row.id, **said, "images": [f"images/{row.id}.png"], "metadata": facts}
    assert len(list((tmp_path / "out" / "images").iterdir())) == 5

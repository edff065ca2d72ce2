"""Drawn data: same rows every time, splits that share nothing, answers that cannot be guessed, boxes that fit."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrail.contracts.messages import Row
from vitrail.synthetic.config import KINDS, LESSONS, SCENE_OF_KIND, SCORED_KINDS, DrawnConfig, split_of
from vitrail.synthetic.paper import COLOURS
from vitrail.synthetic.scenes.scene import Scene
from vitrail.synthetic.scenes.shapes import POSITIONS
from vitrail.synthetic.scenes.text import CAPS
from vitrail.synthetic.shapes import SHAPES, plural, shape_mask
from vitrail.synthetic.source import DrawnSource
from vitrail.synthetic.typefaces import TYPEFACES, lettering
from vitrail.synthetic.words import WORDS

BLIND_LIMIT = 0.10
PINNED = [
    [
        {"role": "user", "content": "<image>\nWhat is in the picture?"},
        {"role": "assistant", "content": "6 purple moons."},
        {"role": "user", "content": "How many purple moons do you see?"},
        {"role": "assistant", "content": "6"},
    ],
    [
        {"role": "user", "content": "<image>\nGive the box of the blue heart."},
        {"role": "assistant", "content": "[359, 16, 641, 281]"},
    ],
]
_NAMES = re.compile(r"\b(" + "|".join([*COLOURS, *map(plural, SHAPES), *SHAPES]) + r")\b")


def pairs(row: Row) -> list[tuple[str, str]]:
    """The questions and answers of a row, without the picture's mark and without its caption turn."""
    said = [message["content"].removeprefix("<image>\n") for message in row.fields["messages"]]
    turns = list(zip(said[::2], said[1::2], strict=True))
    return [turn for turn in turns if turn[1] != row.fields["caption"]]


def asked(source: DrawnSource) -> Iterable[tuple[str, str, str]]:
    """(kind, question, answer) of every question of a source."""
    for index in range(len(source)):
        row = source.row(index)
        for kind, (question, answer) in zip(row.fields["kinds"], pairs(row), strict=True):
            yield kind, question, answer


@pytest.fixture(scope="module")
def train_asked() -> list[tuple[str, str, str]]:
    return list(asked(DrawnSource(DrawnConfig(rows=12_000))))


@pytest.fixture(scope="module")
def test_asked() -> list[tuple[str, str, str]]:
    return list(asked(DrawnSource(DrawnConfig(split="test", rows=700 * len(SCORED_KINDS), kinds=SCORED_KINDS))))


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    sources = [DrawnSource(DrawnConfig(split="train", rows=2000)), DrawnSource(DrawnConfig(split="test", rows=900))]
    return {source.config.split: [source.scene(index) for index in range(len(source))] for source in sources}


# Blind guessing


def test_no_phrasing_has_a_frequent_answer(
    train_asked: list[tuple[str, str, str]], test_asked: list[tuple[str, str, str]]
) -> None:
    for rows in (train_asked, test_asked):
        groups: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for kind, question, answer in rows:
            if kind != "box":
                groups[kind, _NAMES.sub("*", question)][answer] += 1
        assert {kind for kind, _ in groups} == set(SCORED_KINDS)
        for group, answers in groups.items():
            total = answers.total()
            assert len(answers) >= 12, group
            limit = BLIND_LIMIT + 3 * sqrt(BLIND_LIMIT / total)
            assert answers.most_common(1)[0][1] / total < limit, (group, answers.most_common(3), total)


def test_a_reader_of_questions_alone_stays_under_the_limit(
    train_asked: list[tuple[str, str, str]], test_asked: list[tuple[str, str, str]]
) -> None:
    # Learns the most frequent train answer to each exact question, its named things included, and answers the test.
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for _, question, answer in train_asked:
        seen[question][answer] += 1
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for kind, question, answer in test_asked:
        total[kind] += 1
        right[kind] += bool(seen[question]) and seen[question].most_common(1)[0][0] == answer
    for kind in SCORED_KINDS:
        assert right[kind] / total[kind] < BLIND_LIMIT + 2 * sqrt(BLIND_LIMIT / total[kind]), kind


@pytest.mark.parametrize("named", [COLOURS, SHAPES])
def test_the_named_thing_does_not_give_the_answer_away(named: Iterable[str], test_asked: list[Any]) -> None:
    for kind in ("colour", "shape", "position", "count", "bar value"):
        for name in named:
            answers = Counter(a for k, q, a in test_asked if k == kind and re.search(rf"\b{name}", q))
            if answers.total() > 50:
                assert answers.most_common(1)[0][1] / answers.total() < 0.3, (kind, name)


def test_kinds_of_the_test_split_come_in_turn_and_evenly() -> None:
    source = DrawnSource(DrawnConfig(split="test", rows=3 * len(KINDS)))
    kinds = [source.row(index).fields["kind"] for index in range(len(source))]
    assert kinds == list(KINDS) * 3
    assert [SCENE_OF_KIND[kind] for kind in kinds] == [source.row(i).fields["scene"] for i in range(len(source))]


def test_answers_of_the_test_split_come_equally_often() -> None:
    rows = asked(DrawnSource(DrawnConfig(split="test", rows=24 * len(KINDS), seed=3)))
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, _, answer in rows:
        answers[kind][answer] += 1
    for kind in set(KINDS) - {"box", "number", "word"}:
        assert sorted(answers[kind].values()) == [2] * 12, kind


def test_train_mixes_every_lesson(train_asked: list[tuple[str, str, str]]) -> None:
    kinds = Counter(kind for kind, _, _ in train_asked)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) > 600
    assert {kind for lesson, _ in LESSONS for kind in lesson} == set(KINDS)


# Held out


def test_splits_share_no_number_no_word_no_layout_and_no_font(scenes: dict[str, list[Scene]]) -> None:
    train, test = scenes["train"], scenes["test"]
    for what in ("value", "layout", "font"):
        ours, theirs = ({getattr(scene, what) for scene in side} - {""} for side in (train, test))
        assert ours, what
        assert theirs, what
        assert not ours & theirs, what
    assert {scene.font for scene in train + test} - {""} == {face.name for face in TYPEFACES}


def test_what_is_held_out_does_not_depend_on_the_seed() -> None:
    other = DrawnSource(DrawnConfig(split="test", rows=300, seed=99))
    for index in range(300):
        scene = other.scene(index)
        # A lone shape's layout is held out by its position and size, not by chance.
        if scene.name != "shapes" or len(scene.boxes) > 1:
            assert split_of(scene.layout) == "test"
        assert not scene.value or split_of(scene.value) == "test"


def test_about_a_fifth_of_words_and_numbers_is_held_out() -> None:
    for values in (WORDS, [str(number) for number in range(10, 1000)]):
        share = sum(split_of(value) == "test" for value in values) / len(values)
        assert 0.15 < share < 0.25


def test_words_are_short_distinct_and_name_no_colour_or_shape() -> None:
    assert len(set(WORDS)) == len(WORDS) >= 400
    assert all(re.fullmatch("[a-z]{3,4}", word) for word in WORDS)
    assert not set(WORDS) & {*COLOURS, *SHAPES}


# Same rows every time


def same(one: Row, other: Row) -> bool:
    fields = [{**row.fields, "images": [image.tolist() for image in row.fields["images"]]} for row in (one, other)]
    return one.id == other.id and fields[0] == fields[1]


@settings(max_examples=30, deadline=None)
@given(
    split=st.sampled_from(["train", "test"]),
    seed=st.integers(0, 2**40),
    index=st.integers(0, 999),
    sides=st.tuples(st.integers(4, 8), st.integers(4, 8)),
)
def test_a_row_is_a_function_of_its_index_alone(split: str, seed: int, index: int, sides: tuple[int, int]) -> None:
    size = (16 * min(sides), 16 * max(sides))
    source = DrawnSource(DrawnConfig(split=split, rows=1000, seed=seed, size=size))
    source.row((index + 7) % 1000)
    row = source.row(index)
    assert same(row, DrawnSource(DrawnConfig(split=split, rows=index + 1, seed=seed, size=size)).row(index))
    check_row(row, source.picture_size(index), size)


def test_the_text_of_a_row_is_pinned() -> None:
    # Seeds are promised to mean the same data for good; pixels may differ by a level between builds of Pillow.
    said = [DrawnSource(DrawnConfig(split=split, seed=5)).row(3).fields["messages"] for split in ("train", "test")]
    assert said == PINNED


def test_seeds_splits_and_indexes_differ() -> None:
    rows = [DrawnSource(DrawnConfig(seed=seed)).row(index) for seed in (0, 1) for index in range(40)]
    assert len({json.dumps(row.fields["messages"]) for row in rows}) > 70


def test_settings_of_the_text_leave_the_picture_alone() -> None:
    one, other = DrawnSource(DrawnConfig()), DrawnSource(DrawnConfig(questions=1, caption=False))
    for index in range(30):
        assert np.array_equal(one.row(index).fields["images"][0], other.row(index).fields["images"][0])


# Rows


def check_row(row: Row, expected: tuple[int, int], size: tuple[int, int]) -> None:
    (picture,) = row.fields["images"]
    width, height = expected
    assert picture.dtype == np.uint8
    assert picture.shape == (height, width, 3)
    assert all(size[0] <= side <= size[1] and side % 16 == 0 for side in expected)
    for name, (x1, y1, x2, y2) in row.fields["boxes"].items():
        assert 0 <= x1 < x2 <= width, name
        assert 0 <= y1 < y2 <= height, name
    messages = row.fields["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
    assert messages[0]["content"].startswith("<image>\n")
    assert sum(message["content"].count("<image>") for message in messages) == 1
    for question, answer in pairs(row):
        assert question[0].isupper()
        assert answer == answer.lower().rstrip(".")
    assert row.fields["kind"] == row.fields["kinds"][-1]
    assert len(row.fields["caption"]) <= 90


def test_train_rows_have_a_caption_and_several_distinct_questions() -> None:
    source = DrawnSource(DrawnConfig(rows=400))
    first = 0
    for index in range(len(source)):
        row = source.row(index)
        check_row(row, (64, 64), (64, 64))
        questions = pairs(row)
        assert 1 <= len(questions) <= 4
        assert len(set(questions)) == len(questions)
        assert len(row.fields["messages"]) == 2 * len(questions) + 2
        first += row.fields["messages"][1]["content"] == row.fields["caption"]
    assert 150 < first < 250


def test_test_rows_have_one_question_and_no_caption() -> None:
    source = DrawnSource(DrawnConfig(split="test", rows=50))
    for index in range(50):
        row = source.row(index)
        check_row(row, (64, 64), (64, 64))
        assert len(row.fields["messages"]) == 2
        assert row.fields["messages"][1]["content"] != row.fields["caption"]


def test_only_chosen_kinds_are_asked() -> None:
    source = DrawnSource(DrawnConfig(rows=200, kinds=("word", "count"), questions=3))
    assert {kind for kind, _, _ in asked(source)} == {"word", "count"}
    captions_only = DrawnSource(DrawnConfig(rows=5, questions=0)).row(0)
    assert captions_only.fields["kind"] == "caption"
    assert len(captions_only.fields["messages"]) == 2


def test_answers_match_the_caption_of_the_scene(scenes: dict[str, list[Scene]]) -> None:
    for scene in scenes["train"]:
        for ask in scene.asks:
            if ask.kind == "bar value":
                colour = next(name for name in COLOURS if re.search(rf"\b{name}\b", ask.question))
                assert f"{colour} {ask.answer}" in scene.caption
            elif ask.kind == "count":
                drawn = [name for name in scene.boxes if name.rsplit(" ", 1)[0] in ask.question]
                assert len(drawn) == int(ask.answer)
            elif ask.kind not in ("box", "position", "tallest bar"):
                assert ask.answer in scene.caption


def test_a_position_is_where_its_box_has_its_centre(scenes: dict[str, list[Scene]]) -> None:
    seen = set()
    for scene in scenes["train"] + scenes["test"]:
        for ask in (ask for ask in scene.asks if ask.kind == "position"):
            (x1, y1, x2, y2) = next(box for name, box in scene.boxes.items() if name in ask.question)
            column, row = int((x1 + x2) / 2 * 3 / 64), int((y1 + y2) / 2 * 4 / 64)
            assert ask.answer == POSITIONS[3 * row + column]
            seen.add(ask.answer)
    assert seen == set(POSITIONS)


def test_a_box_answer_is_its_box_in_thousandths() -> None:
    source = DrawnSource(DrawnConfig(split="test", rows=100, kinds=("box",), size=(64, 128)))
    for index in range(100):
        row, (width, height) = source.row(index), source.picture_size(index)
        ((question, answer),) = pairs(row)
        box = next(box for name, box in row.fields["boxes"].items() if name in question)
        x1, y1, x2, y2 = json.loads(answer)
        assert np.allclose([x1 * width, y1 * height, x2 * width, y2 * height], [1000 * edge for edge in box], atol=64)
        assert 0 <= min(x1, y1) <= max(x2, y2) < 1000


# Pixels


@pytest.mark.parametrize("size", [(64, 64), (64, 128)])
def test_boxes_are_tight_and_apart(size: tuple[int, int]) -> None:
    source = DrawnSource(DrawnConfig(rows=400, size=size, kinds=("colour", "count", "word", "number")))
    for index in range(len(source)):
        scene = source.scene(index)
        blank = scene.picture[0].mean(axis=0)  # nothing is drawn on the first row
        drawn = (np.abs(scene.picture - blank) > 11).any(axis=2)
        free = np.ones_like(drawn)
        for name, (x1, y1, x2, y2) in scene.boxes.items():
            assert free[y1:y2, x1:x2].all(), f"{name} touches another"
            free[y1:y2, x1:x2] = False
            inside = drawn[y1:y2, x1:x2]
            assert inside[0].any(), (index, name)
            assert inside[-1].any(), (index, name)
            assert inside[:, 0].any(), (index, name)
            assert inside[:, -1].any(), (index, name)
        assert not (drawn & free).any(), index


def test_bars_are_as_high_as_their_values() -> None:
    source = DrawnSource(DrawnConfig(rows=150, size=(64, 128), kinds=("bar value",)))
    for index in range(len(source)):
        scene = source.scene(index)
        unit = (scene.picture.shape[0] - 10) // 12
        for name, (x1, y1, x2, y2) in scene.boxes.items():
            colour = name.removesuffix(" bar")
            value = int(re.search(rf"\b{colour} (\d+)", scene.caption)[1])  # type: ignore[index]
            assert y2 - y1 == value * unit - 1
            column = (scene.picture[y1:y2, x1] == COLOURS[colour]).all(axis=1)
            assert column[0]
            assert column[-1]
            assert (~column).sum() == value - 1
            assert (scene.picture[y1:y2, x2 - 1] == scene.picture[y1:y2, x1]).all(axis=1)[column].all()


def test_text_is_large_in_every_font() -> None:
    for face in TYPEFACES:
        for cap in (16, 24, 40):
            assert 0.93 < lettering("H", face, cap).shape[0] / cap < 1.08, face.name
        smallest = min(CAPS["word"])
        assert smallest >= 16
        assert max(lettering(word, face, smallest).shape[1] for word in WORDS) <= 60, face.name
        assert max(lettering(number, face, 16).shape[1] for number in ("888", "444", "100")) <= 60, face.name


def test_shapes_and_colours_are_told_apart() -> None:
    drawn = [np.asarray(Image.fromarray(shape_mask(shape, 64)).resize((16, 16))) > 127 for shape in SHAPES]
    for index, one in enumerate(drawn):
        for other in drawn[:index]:
            assert (one ^ other).mean() > 0.08
    inks = np.array(list(COLOURS.values()), dtype=float)
    apart = np.linalg.norm(inks[:, None] - inks[None], axis=2) + 1e9 * np.eye(len(inks))
    assert apart.min() > 80
    assert len(SHAPES) >= 12
    assert len(COLOURS) >= 12

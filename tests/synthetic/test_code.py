"""Drawn code and prose: rows are functions of their number, splits share nothing, pictures show what code says."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from vitrail.contracts.errors import DataError
from vitrail.data.dialects import to_conversation
from vitrail.media.dice import Dice
from vitrail.synthetic.code.config import CodeConfig
from vitrail.synthetic.code.screens import Element, Screen, drawn
from vitrail.synthetic.code.source import CodeSource
from vitrail.synthetic.config import ProseConfig
from vitrail.synthetic.paper import COLOURS
from vitrail.synthetic.prose import PEOPLE, PLACES, ProseSource, story
from vitrail.synthetic.typefaces import typefaces

BACKGROUNDS = {"white": (255, 255, 255), "whitesmoke": (238, 238, 238)}


def code(**settings: Any) -> CodeSource:
    return CodeSource(CodeConfig(**settings))


def answer(row: Any) -> str:
    text: str = row.fields["messages"][-1]["content"]
    return text


class Page(HTMLParser):
    """Tags with their colours and texts, as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, (dict(attrs).get("style") or "").rpartition(":")[2]))

    def handle_data(self, data: str) -> None:
        self.text += data.strip()


def test_a_row_is_a_function_of_its_number() -> None:
    one, other = code(rows=40).row(7), code(rows=900).row(7)
    assert answer(one) == answer(other)
    assert np.array_equal(one.fields["images"][0], other.fields["images"][0])
    assert answer(code(seed=1).row(7)) != answer(one)


def test_pages_are_html_that_says_what_is_drawn() -> None:
    for index in range(60):
        row = code(languages=("html",)).row(index)
        page, picture = Page(answer(row)), row.fields["images"][0]
        (body, background), *elements = page.found
        assert (body, tuple(picture[0, 0])) == ("body", BACKGROUNDS[background])
        seen = [tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0).tolist()]
        for tag, colour in elements:
            if tag in ("button", "div"):
                assert COLOURS[colour] in seen, answer(row)
        assert bool(page.text) == any(tag == "h1" for tag, _ in elements)
        assert 1 <= len(elements) <= 3


def test_elements_stand_below_each_other() -> None:
    """In the order of the code, a button narrower than a box."""
    screen = Screen("white", (Element("div", "red"), Element("button", "blue")))
    picture = drawn(screen, typefaces("train")[0], 64)
    red, blue = (np.argwhere((picture == COLOURS[name]).all(2)) for name in ("red", "blue"))
    assert red[:, 0].max() < blue[:, 0].min()
    assert np.ptp(red[:, 1]) > np.ptp(blue[:, 1])
    large = drawn(screen, typefaces("train")[0], 128)
    assert np.mean(large[::2, ::2] == picture) > 0.9


def test_plots_are_calls_that_say_what_is_drawn() -> None:
    for index in range(30):
        row = code(languages=("plot",)).row(index)
        found = re.fullmatch(r"plt\.bar\((\[.*?\]), (\[.*?\]), color=(\[.*?\])\)", answer(row))
        assert found is not None, answer(row)
        names, heights = re.findall(r'"(\w+)"', found[1]), [int(one) for one in re.findall(r"\d+", found[2])]
        assert len(names) == len(heights)
        picture = row.fields["images"][0]
        counts = {name: int((picture == COLOURS[name]).all(2).any(1).sum()) for name in names}
        tallest = max(heights)
        for name, height in zip(names, heights, strict=True):
            # A row of paper lies between two units of a bar.
            assert abs(counts[name] / height - counts[names[heights.index(tallest)]] / tallest) < 1


def test_splits_share_no_code_and_the_test_split_alternates() -> None:
    train = {answer(code(split="train").row(index)) for index in range(400)}
    test = [code(split="test").row(index) for index in range(100)]
    assert not train & {answer(row) for row in test}
    assert Counter(row.fields["kind"] for row in test) == {"html": 50, "plot": 50}
    for row in test[:4]:
        conversation = to_conversation(row, "tags")
        assert (conversation.kind, conversation.extra["tag"]) == (row.fields["kind"], "code")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"split": "tset"}, "split is 'tset', allowed: train, test"),
        ({"size": 60}, "size is 60, allowed: a multiple of 16 from 64 to 128"),
        ({"languages": ("htm",)}, "unknown language 'htm' (did you mean 'html'?), allowed: html, plot"),
        ({"most": 9}, "most is 9"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as raised:
        CodeConfig(**settings)
    assert says in str(raised.value)


def test_stories_keep_to_their_cast_and_their_split() -> None:
    train, test = (ProseSource(ProseConfig(split=split)) for split in ("train", "test"))
    texts = [train.row(index).fields["text"] for index in range(300)]
    assert texts[7] == ProseSource(ProseConfig(rows=9)).row(7).fields["text"]
    assert not set(texts) & {test.row(index).fields["text"] for index in range(300)}
    for text in texts:
        assert len({name for name in PEOPLE if re.search(rf"\b{name}\b", text)}) <= 2
        assert len({place for place in PLACES if re.search(rf"\b{place}\b", text)}) <= 1
        assert "{" not in text
    assert len(set(texts)) == len(texts)


def test_a_story_is_learnt_whole() -> None:
    row = ProseSource(ProseConfig()).row(0)
    (message,) = to_conversation(row, "interleaved").messages
    assert (message.role, message.text) == ("assistant", row.fields["text"])


def test_stories_are_as_long_as_they_may_be() -> None:
    sentences = [story(Dice("length", number), ProseConfig(sentences=1)).count(". ") for number in range(50)]
    assert max(sentences) <= 5

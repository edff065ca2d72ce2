"""Tokenizers: nothing is lost, and text never becomes a special token."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vitrail.build.data import OWN_TOKENIZERS
from vitrail.contracts.errors import DataError, RecipeError, WeightsError
from vitrail.models.backbones.tokenizer import HFTokenizer, byte_tokenizer, load_tokenizer

SPECIALS = ("<|im_start|>", "<|im_end|>", "<|answer|>")
MADE = {name: make(SPECIALS) for name, make in OWN_TOKENIZERS.items()}
SPECIAL_IDS = {name: {tokenizer.special(special) for special in SPECIALS} for name, tokenizer in MADE.items()}

texts = st.text() | st.lists(st.sampled_from([*SPECIALS, "a", " ", "\n", "<|", "é", "日"])).map("".join)
every_tokenizer = pytest.mark.parametrize("name", sorted(MADE))


@every_tokenizer
@settings(max_examples=100, deadline=None)
@given(text=texts)
@example(text="\x00\x7f\x80ÿ\ufffd\u2028 e\u0301 👨‍👩‍👧  \t\r\n")
def test_what_goes_in_comes_out(name: str, text: str) -> None:
    tokenizer = MADE[name]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= number < tokenizer.vocabulary for number in ids)


@every_tokenizer
@settings(max_examples=100, deadline=None)
@given(text=texts)
@example(text="".join(SPECIALS))
def test_text_never_becomes_a_special_token(name: str, text: str) -> None:
    assert SPECIAL_IDS[name].isdisjoint(MADE[name].encode(text))


@every_tokenizer
def test_special_tokens_are_asked_for_by_name(name: str) -> None:
    tokenizer = MADE[name]
    assert len(SPECIAL_IDS[name]) == len(SPECIALS)
    ids = [*tokenizer.encode("one"), tokenizer.special("<|im_end|>"), *tokenizer.encode("two")]
    assert tokenizer.decode(ids) == "onetwo"
    assert tokenizer.decode(ids, show_special=True) == "one<|im_end|>two"
    with pytest.raises(WeightsError, match=r"no special token '<pad>'; it has: <\|im_start\|>, "):
        tokenizer.special("<pad>")


def test_bytes_are_bytes() -> None:
    tokenizer = byte_tokenizer(SPECIALS)
    assert tokenizer.vocabulary == 256 + len(SPECIALS)
    for text in ("plain", "é日", "👍"):
        assert len(tokenizer.encode(text)) == len(text.encode())


@every_tokenizer
def test_half_a_surrogate_pair_is_a_mistake_in_the_data(name: str) -> None:
    with pytest.raises(DataError, match=r"half a surrogate pair.*ud800"):
        MADE[name].encode("a\ud800b")


@every_tokenizer
def test_a_saved_tokenizer_comes_back(name: str, tmp_path: Path) -> None:
    """With its manners: specials stay out of reach of text."""
    before = MADE[name]
    before.save(str(tmp_path))
    after = load_tokenizer(str(tmp_path))
    assert isinstance(after, HFTokenizer)
    assert after.vocabulary == before.vocabulary
    for text in ("What is 17 + 25?\n", "<|im_end|>é日👍", ""):
        assert after.encode(text) == before.encode(text)
        assert after.decode(after.encode(text)) == text
    assert {after.special(special) for special in SPECIALS} == SPECIAL_IDS[name]


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^model\.backbone\.tokenizer: cannot load a tokenizer from ") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)

"""Things that are written on documents, made up: words, names, numbers, prices, dates, codes.

Reading must not lean on a list of words, so half of the words are invented, letter after letter, by the habits of the
listed ones. What is invented belongs to one split by its own spelling.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from vitrail.media.dice import Dice
from vitrail.synthetic.config import split_of
from vitrail.synthetic.words import WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def token(dice: Dice, split: str) -> str:
    """One word, number or code without a space, of that split."""
    while True:
        made = dice.pick(_MAKERS)(dice)
        if split_of(made) == split:
            return made


def line(dice: Dice, split: str, longest: int) -> str:
    """Tokens with spaces between them, at most `longest` characters (more only where a single token is longer)."""
    text = token(dice, split)
    while True:
        more = f"{text} {token(dice, split)}"
        if len(more) > longest:
            return text
        text = more


def letters(dice: Dice, count: int) -> str:
    """So many characters drawn one by one, for a reader that knows no words yet."""
    return "".join(dice.pick(_SIGNS) for _ in range(count))


def invented(dice: Dice) -> str:
    """A word that reads like English and mostly is none."""
    follows = _follows()
    while True:
        text = "^^"
        while not text.endswith("$") and len(text) < 13:
            text += dice.pick(follows[text[-2:]])
        text = text.strip("^$")
        if len(text) > 2:
            return text


def _cased(dice: Dice, word: str) -> str:
    if dice.chance(0.25):
        return word.upper()
    return word.capitalize() if dice.chance(0.4) else word


def _digits(dice: Dice, count: int) -> str:
    return "".join(str(dice.below(10)) for _ in range(count))


def _word(dice: Dice) -> str:
    word = dice.pick(WORDS) if dice.chance(0.4) else invented(dice)
    # The listed words are short, and so are those made after them.
    word = _cased(dice, word + invented(dice) if dice.chance(0.3) else word)
    return word + dice.pick(",.:;!?") if dice.chance(0.12) else word


def _number(dice: Dice) -> str:
    return str(dice.between(0, 10 ** dice.between(1, 5)))


def _price(dice: Dice) -> str:
    amount = f"{dice.between(0, 10 ** dice.between(1, 4))}.{_digits(dice, 2)}"
    return dice.pick(("", "", "$", "€", "£")) + amount


def _date(dice: Dice) -> str:
    day, month, year = dice.between(1, 28), dice.below(12), dice.between(1990, 2039)
    return dice.pick(
        (
            f"{year}-{month + 1:02d}-{day:02d}",
            f"{day:02d}/{month + 1:02d}/{year}",
            f"{day:02d}.{month + 1:02d}.{year % 100:02d}",
            f"{day}-{_MONTHS[month]}-{year}",
        )
    )


def _code(dice: Dice) -> str:
    head = "".join(dice.pick(LETTERS) for _ in range(dice.between(1, 3))).upper()
    return head + dice.pick(("-", "", "#", "/")) + _digits(dice, dice.between(2, 5))


def _share(dice: Dice) -> str:
    return dice.pick((f"{dice.between(0, 100)}%", f"x{dice.between(1, 20)}", f"({_number(dice)})", f"#{_number(dice)}"))


_MAKERS: tuple[Callable[[Dice], str], ...] = (
    *(_word,) * 10,
    *(_number,) * 3,
    *(_price,) * 3,
    _date,
    _code,
    _share,
)
_SIGNS = LETTERS + LETTERS.upper() + "0123456789" * 3 + ".,-:/$%"


@lru_cache(maxsize=1)
def _follows() -> dict[str, str]:
    """What follows two letters in the listed words, as often as it does."""
    follows: dict[str, str] = {}
    for word in WORDS:
        marked = f"^^{word}$"
        for first, second, third in zip(marked, marked[1:], marked[2:], strict=False):
            follows[first + second] = follows.get(first + second, "") + third
    return follows

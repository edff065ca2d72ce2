"""Words by their sounds, and sounds by what a mouth does: formants in Hz, voice, hiss, and how long it lasts.

Formants of vowels are rounded averages of men's voices; the rest is set by ear and by eye. No recording is in it.
Source: Peterson and Barney 1952, "Control methods used in a study of the vowels", table II, for the vowels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Phone(NamedTuple):
    """One steady sound. first, second, third: formants, Hz. voice, hiss: how loud each is, 0 to 1. centre: of the hiss,
    Hz. length: ms, of a voice that is neither slow nor quick."""

    first: int
    second: int
    third: int
    voice: float
    hiss: float
    centre: int
    length: int


def _vowel(first: int, second: int, third: int, length: int = 110) -> tuple[Phone, ...]:
    return (Phone(first, second, third, 1.0, 0.0, 3000, length),)


def _glide(*vowels: tuple[Phone, ...]) -> tuple[Phone, ...]:
    """One vowel that moves to another: the pair is as long as one and a half."""
    return tuple(phone._replace(length=80) for vowel in vowels for phone in vowel)


def _hiss(loud: float, centre: int, voice: float = 0.0, length: int = 100) -> tuple[Phone, ...]:
    return (Phone(300, 1700, 2600, voice, loud, centre, length),)


def _stop(second: int, centre: int, *, voiced: bool, loud: float = 0.5) -> tuple[Phone, ...]:
    """Silence, or a hum behind closed lips, and a burst."""
    closed = Phone(200, second, 2500, 0.12 if voiced else 0.0, 0.0, centre, 55)
    return closed, Phone(300, second, 2500, 0.3 if voiced else 0.0, loud, centre, 18 if voiced else 32)


def _hum(first: int, second: int, third: int, voice: float = 0.45, length: int = 75) -> tuple[Phone, ...]:
    return (Phone(first, second, third, voice, 0.0, 3000, length),)


_IY, _IH, _EH, _AE = (
    _vowel(270, 2290, 3010),
    _vowel(390, 1990, 2550, 80),
    _vowel(530, 1840, 2480),
    _vowel(660, 1720, 2410),
)
_AA, _AO, _UH, _UW = (
    _vowel(730, 1090, 2440),
    _vowel(570, 840, 2410),
    _vowel(440, 1020, 2240, 80),
    _vowel(300, 870, 2240),
)
_AH = _vowel(640, 1190, 2390, 85)

PHONES: Mapping[str, tuple[Phone, ...]] = {
    "iy": _IY, "ih": _IH, "eh": _EH, "ae": _AE, "aa": _AA, "ao": _AO, "uh": _UH, "uw": _UW, "ah": _AH,
    "ay": _glide(_AA, _IH), "ey": _glide(_EH, _IY), "ow": _glide(_AO, _UW), "aw": _glide(_AA, _UW),
    "s": _hiss(0.5, 6200), "z": _hiss(0.35, 6000, 0.3), "f": _hiss(0.14, 4800), "v": _hiss(0.08, 4500, 0.4, 70),
    "th": _hiss(0.12, 5600), "sh": _hiss(0.5, 3100), "hh": _hiss(0.15, 1500, length=60),
    "p": _stop(900, 900, voiced=False), "t": _stop(1800, 4200, voiced=False), "k": _stop(1900, 2000, voiced=False),
    "b": _stop(900, 700, voiced=True), "d": _stop(1700, 3600, voiced=True), "g": _stop(2000, 1800, voiced=True),
    "m": _hum(250, 1000, 2200), "n": _hum(250, 1500, 2500), "ng": _hum(250, 2000, 2700),
    "l": _hum(360, 1100, 2700, 0.6, 65), "r": _hum(340, 1150, 1500, 0.6, 70),
    "w": _hum(300, 650, 2200, 0.5, 65), "y": _hum(270, 2200, 3000, 0.5, 60),
}  # fmt: skip
"""Each sound of English that the words below need, as one or two steady ones."""

WORDS: Mapping[str, str] = {
    "zero": "z ih r ow",
    "one": "w ah n",
    "two": "t uw",
    "three": "th r iy",
    "four": "f ao r",
    "five": "f ay v",
    "six": "s ih k s",
    "seven": "s eh v ah n",
    "eight": "ey t",
    "nine": "n ay n",
    "up": "ah p",
    "down": "d aw n",
    "left": "l eh f t",
    "right": "r ay t",
    "go": "g ow",
    "stop": "s t aa p",
    "yes": "y eh s",
    "no": "n ow",
    "red": "r eh d",
    "green": "g r iy n",
    "blue": "b l uw",
    "moon": "m uw n",
    "fish": "f ih sh",
    "cat": "k ae t",
}
"""Each word by its sounds."""

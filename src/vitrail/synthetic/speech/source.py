"""Spoken phrases as a source of rows: words of a small vocabulary, said when their row is asked for, in some 5 ms.

The splits share no phrase of two words or more and no voice: what is measured on the test split is whether words are
told apart in new company and by new speakers, all of whom are the same synthesiser (`voice.py`).
"""

from __future__ import annotations

from vitrail.contracts.messages import AudioPart, Row
from vitrail.media.dice import Dice
from vitrail.synthetic.config import split_of
from vitrail.synthetic.speech.config import KINDS, SpokenConfig
from vitrail.synthetic.speech.voice import RATE, Voice, speak
from vitrail.synthetic.speech.words import PHONES, WORDS, Phone

QUESTIONS = {
    "words": ("What is said?", "Write down what is said.", "Which words are these?"),
    "first word": ("What is the first word?", "Which word comes first?"),
    "last word": ("What is the last word?", "Which word comes last?"),
    "how many": ("How many words are said?", "How many words are there?"),
}
PAUSE = Phone(500, 1500, 2500, 0.0, 0.0, 3000, 60)
NUMBERS = ("0", "1", "2", "3", "4")

_PITCHES, _SCALES = 24, 12
"""Steps between the deepest voice and the highest, and between the largest head and the smallest."""


class SpokenSource:
    """Rows of spoken phrases. Each is a pure function of the configuration and its index."""

    name: str = "spoken"
    block: int = 1

    def __init__(self, config: SpokenConfig) -> None:
        self.config = config

    def __len__(self) -> int:
        """How many rows there are."""
        return self.config.rows

    def row(self, index: int) -> Row:
        """A row as a chat record with its sound.

        Its fields: messages (`<audio>` first in the first user turn), audios (one), kind (of the question), words
        (what is said). Raises IndexError past the last row.
        """
        if not 0 <= index < self.config.rows:
            raise IndexError(f"row {index} of {self.config.rows}")
        dice = Dice("spoken", self.config.split, self.config.seed, index)
        words = self._words(dice, index)
        samples = speak(dice, _phones(dice, words), self._voice(dice), self.config.noise * dice.between(2, 100) / 1000)
        answers = {
            "words": " ".join(words),
            "first word": words[0],
            "last word": words[-1],
            "how many": NUMBERS[len(words)],
        }
        kind = self._kind(dice, index)
        fields = {
            "messages": [
                {"role": "user", "content": f"<audio>\n{dice.pick(QUESTIONS[kind])}"},
                {"role": "assistant", "content": answers[kind]},
            ],
            "audios": [AudioPart(samples, RATE)],
            "kind": kind,
            "words": answers["words"],
        }
        name = f"spoken-{self.config.split}-{index:06d}"
        return Row(name, fields, location=f"spoken words, row {index}", facts=("words",))

    def _words(self, dice: Dice, index: int) -> tuple[str, ...]:
        """A phrase of the split; single words are in both, in other voices."""
        grow = self.config.grow if self.config.split == "train" else 0
        grown = min(1.0, index / grow) if grow else 1.0
        count = dice.between(1, 1 + round((self.config.words - 1) * grown))
        while True:
            words = tuple(dice.pick(tuple(WORDS)) for _ in range(count))
            if len(words) == 1 or split_of(words) == self.config.split:
                return words

    def _voice(self, dice: Dice) -> Voice:
        """One of the split's."""
        while True:
            pitch, scale = dice.below(_PITCHES), dice.below(_SCALES)
            if split_of(("voice", pitch, scale)) == self.config.split:
                break
        return Voice(
            85 * 3 ** (pitch / (_PITCHES - 1)), 0.88 + 0.32 * scale / (_SCALES - 1), dice.between(85, 125) / 100
        )

    def _kind(self, dice: Dice, index: int) -> str:
        """One kind after the other for test; for train what is said, half of the time.

        One question a row: a second could be answered from the words of the first answer, without listening.
        """
        if self.config.split == "test":
            return KINDS[index % len(KINDS)]
        return KINDS[0] if dice.chance(0.5) else dice.pick(KINDS[1:])


def _phones(dice: Dice, words: tuple[str, ...]) -> list[Phone]:
    """The sounds of a phrase, silence around the words."""
    phones = [PAUSE]
    for word in words:
        phones += [phone for name in WORDS[word].split() for phone in PHONES[name]]
        phones.append(PAUSE._replace(length=dice.between(30, 120)))
    return phones

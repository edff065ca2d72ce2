"""Makes what is written on a document, value by value, and keeps every value to its split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from vitrail.media.dice import Dice
from vitrail.synthetic.config import split_of
from vitrail.synthetic.documents import content, fields
from vitrail.synthetic.made_up_text import LETTERS, invented

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LONG_MONTHS = content.words_of("January February March April May June July August September October November December")


class Vocabulary:
    """English names, things, amounts, dates and codes of one split. `values` has all that were made, in order."""

    script = "latin"
    short_number = "No."
    labels: Mapping[str, tuple[str, ...]] = fields.LABELS
    form_fields: Sequence[tuple[str, str]] = fields.FORM_FIELDS
    notices: Sequence[tuple[str, tuple[tuple[str, str, str], ...]]] = fields.NOTICE_SENTENCES

    def __init__(self, dice: Dice, split: str) -> None:
        """dice: where every choice comes from. split: "train" or "test"."""
        self.dice = dice
        self.split = split
        self.values: list[str] = []
        self.sign = dice.pick(("$", "€", "£"))
        self._date_style = dice.below(6)

    def held(self, make: Callable[[], str]) -> str:
        """Draws until what is made belongs to the split and is not on the document yet."""
        while True:
            made = make()
            if split_of(made) == self.split and made not in self.values:
                self.values.append(made)
                return made

    def make(self, kind: str) -> str:
        """A value of a kind that is named like one of the methods below."""
        maker: Callable[[], str] = getattr(self, kind)
        return maker()

    def label(self, key: str) -> str:
        """A way to print the name of a field."""
        return self.dice.pick(self.labels[key])

    def noun(self, key: str) -> str:
        """What a field is called in a question."""
        return fields.NOUNS.get(key, key)

    def box(self, key: str) -> str:
        """What the box of a field or a thing is called."""
        return f"the {self.noun(key).lower().rstrip('.')}"

    def box_of_price(self, name: str) -> str:
        """What the box of a thing's price is called."""
        return f"the price of the {name.lower()}"

    def box_of_line(self, number: int) -> str:
        """What the box of a line is called."""
        return f"line {number}"

    def box_of_bar(self, name: str) -> str:
        """What the box of a bar is called."""
        return f"the bar of {name}"

    def box_of_label(self, name: str) -> str:
        """What the box of a label at an axis is called."""
        return f"the label {name}"

    def box_of_value(self, name: str) -> str:
        """What the box of a written value is called."""
        return f"the value of {name}"

    def element(self, kind: str, text: str) -> str:
        """What a thing on a screen is called: a "button", "icon", "entry", "menu", "field", "switch" or "file"."""
        return f"the {text} {kind}"

    def shape(self, name: str) -> str:
        """What one of the drawn shapes is called."""
        return name

    def column_head(self, kind: str) -> str:
        """What stands above a column of values of a kind."""
        return self.dice.pick(fields.COLUMN_HEADS[kind])

    # Numbers

    def price(self) -> str:
        """An amount of money without a sign, such as 12.40."""
        return self.held(lambda: written(self.dice.between(50, 10 ** self.dice.between(3, 4) - 1)))

    def cost(self) -> str:
        """An amount of money with a sign, such as $12.40; it is held out without."""
        return self.sign + self.price()

    def number(self) -> str:
        """A whole number of two to four digits."""
        return self.held(lambda: str(self.dice.between(10, 10 ** self.dice.between(2, 4) - 1)))

    def code(self) -> str:
        """Letters and digits, such as KX-2041."""
        return self.held(self._code)

    def digits(self, count: int) -> str:
        """So many digits."""
        return self.held(lambda: _digits(self.dice, count))

    def time(self) -> str:
        """A time of day, such as 14:05."""
        return self.held(lambda: f"{self.dice.between(0, 23):02d}:{self.dice.between(0, 59):02d}")

    def phone(self) -> str:
        """A telephone number, such as 030 224 718."""
        return self.held(lambda: f"0{_digits(self.dice, 2)} {_digits(self.dice, 3)} {_digits(self.dice, 3)}")

    def date(self) -> str:
        """A date; those of one document are written in one way."""
        return self.held(self._date)

    # Names

    def item(self) -> str:
        """Something to buy."""
        return self.held(lambda: self._pair(content.GOODS))

    def dish(self) -> str:
        """Something to eat."""
        return self.held(lambda: self._pair(content.DISHES))

    def service(self) -> str:
        """Something to pay for on an invoice."""
        return self.held(lambda: self._pair(content.SERVICES))

    def person(self) -> str:
        """First and last name."""
        return self.held(lambda: f"{self.dice.pick(content.FIRST_NAMES)} {self._last_name()}")

    def city(self) -> str:
        """A city, one in three invented."""
        return self.held(lambda: self._invented() if self.dice.chance(1 / 3) else self.dice.pick(content.CITIES))

    def street(self) -> str:
        """Number and street."""
        return self.held(
            lambda: (
                f"{self.dice.between(1, 199)} {self.dice.pick(content.STREET_NAMES)} "
                f"{self.dice.pick(content.STREET_KINDS)}"
            )
        )

    def shop(self) -> str:
        """The name of a shop."""
        return self.held(lambda: f"{self._proper()} {self.dice.pick(content.SHOP_KINDS)}")

    def company(self) -> str:
        """The name of a company."""
        return self.held(
            lambda: (
                f"{self._proper()} & {self._last_name()}"
                if self.dice.chance(0.2)
                else f"{self._proper()} {self.dice.pick(content.COMPANY_KINDS)}"
            )
        )

    def name(self) -> str:
        """One short name for a bar, a row or a line of a chart."""
        return self.held(
            lambda: self.dice.pick((self._last_name, self._invented, self._invented, self._first_name, self._city))()
        )

    def email(self) -> str:
        """An address of letters."""
        return self.held(
            lambda: (
                f"{self.dice.pick(content.FIRST_NAMES).lower()}@{self._word(3, 7)}."
                f"{self.dice.pick(('com', 'org', 'net', 'eu', 'io'))}"
            )
        )

    def place(self) -> str:
        """A public place, in small letters."""
        return self.held(lambda: self.dice.pick(content.PLACES))

    def subject(self) -> str:
        """What a chart counts, with a year or a place: "Visitors 2019", "Trees in Lille"."""
        return self.held(
            lambda: (
                f"{self.dice.pick(content.SUBJECTS)} "
                + (str(self.dice.between(1950, 2049)) if self.dice.chance(0.5) else f"in {self._city()}")
            )
        )

    def table_title(self) -> str:
        """The title of a table: "Results 2014", "List for Oslo"."""
        return self.held(
            lambda: (
                f"{self.dice.pick(content.TABLE_KINDS)} "
                + (str(self.dice.between(1950, 2049)) if self.dice.chance(0.5) else f"for {self._city()}")
            )
        )

    def action(self) -> str:
        """What a button or a menu entry does."""
        return self.held(self._action)

    def shortcut(self) -> str:
        """Keys to press, such as Ctrl+Shift+K."""
        return self.held(
            lambda: (
                f"{self.dice.pick(('Ctrl', 'Alt', 'Shift'))}+{self.dice.pick('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}"
                f"{self.dice.pick(('', str(self.dice.between(1, 9))))}"
            )
        )

    def file(self) -> str:
        """A file name."""
        return self.held(lambda: f"{self._word(3, 8)}.{self.dice.pick(content.FILE_ENDINGS)}")

    def form_title(self) -> str:
        """What a form is for."""
        return self.held(lambda: self.dice.pick(fields.FORM_TITLES))

    def heading(self) -> str:
        """The heading of a notice; not held out."""
        return self.dice.pick(fields.NOTICE_HEADS).replace("-", " ")

    def thanks(self) -> str:
        """The last line of a receipt."""
        return self.dice.pick(content.THANKS)

    def following(self, kind: str, count: int) -> list[str]:
        """So many years, months or times of day, in order of time."""
        last = {"year": 2049, "month": 40 * 12 - 1, "time": 24 * 12 - 1}[kind]
        first = 1900 if kind == "year" else 0
        write = {"year": self._year, "month": self._month, "time": _five_minutes}[kind]
        points: dict[int, str] = {}
        while len(points) < count:
            point = self.dice.between(first, last)
            if point not in points and split_of(write(point)) == self.split:
                points[point] = write(point)
        made = [points[point] for point in sorted(points)]
        self.values += made
        return made

    # How they are made

    def _pair(self, families: tuple[tuple[str, str], ...]) -> str:
        firsts, seconds = _split_family(self.dice.pick(families))
        return f"{self.dice.pick(firsts)} {self.dice.pick(seconds)}"

    def _first_name(self) -> str:
        return self.dice.pick(content.FIRST_NAMES)

    def _last_name(self) -> str:
        return self._invented() if self.dice.chance(0.4) else self.dice.pick(content.LAST_NAMES)

    def _city(self) -> str:
        return self.dice.pick(content.CITIES)

    def _invented(self) -> str:
        return self._word(4, 7).capitalize()

    def _word(self, shortest: int, longest: int) -> str:
        """An invented word that is fit to print."""
        while True:
            word = invented(self.dice)
            if shortest <= len(word) <= longest and not any(rude in word for rude in content.RUDE):
                return word

    def _proper(self) -> str:
        return self.dice.pick((self._last_name, self._invented, self._first_name))()

    def _action(self) -> str:
        verb = self.dice.pick(content.ACTION_VERBS).replace("-", " ")
        return verb if " " in verb or self.dice.chance(0.4) else f"{verb} {self.dice.pick(content.ACTION_THINGS)}"

    def _code(self) -> str:
        head = "".join(self.dice.pick(LETTERS) for _ in range(self.dice.between(1, 2))).upper()
        return head + self.dice.pick(("-", "", " ")) + _digits(self.dice, self.dice.between(3, 5))

    def _year(self, number: int) -> str:
        return str(number)

    def _month(self, number: int) -> str:
        return f"{MONTHS[number % 12]} {number // 12:02d}"

    def _date(self) -> str:
        day, month, year = self.dice.between(1, 28), self.dice.below(12), self.dice.between(1990, 2039)
        return (
            f"{day} {MONTHS[month]} {year}",
            f"{year}-{month + 1:02d}-{day:02d}",
            f"{day:02d}/{month + 1:02d}/{year}",
            f"{day:02d}.{month + 1:02d}.{year}",
            f"{MONTHS[month]} {day}, {year}",
            f"{day} {LONG_MONTHS[month]}",
        )[self._date_style]


def written(cents: int) -> str:
    """An amount as it is held out and written: 1240 as 12.40."""
    return f"{cents // 100}.{cents % 100:02d}"


def _five_minutes(number: int) -> str:
    return f"{number // 12}:{number % 12 * 5:02d}"


def _digits(dice: Dice, count: int) -> str:
    return "".join(str(dice.below(10)) for _ in range(count))


@lru_cache(maxsize=64)
def _split_family(family: tuple[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(family[0].split()), tuple(family[1].split())

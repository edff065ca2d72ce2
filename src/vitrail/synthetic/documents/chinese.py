"""The same documents in Chinese: a vocabulary that makes Chinese names and things."""

from __future__ import annotations

from collections.abc import Mapping

from vitrail.synthetic.documents import chinese_content as content
from vitrail.synthetic.documents.vocabulary import Vocabulary


class ChineseVocabulary(Vocabulary):
    """Chinese names and things; amounts, codes and times are those of the English documents."""

    script = "chinese"
    short_number = "编号"
    labels: Mapping[str, tuple[str, ...]] = content.LABELS
    form_fields = content.FORM_FIELDS
    notices = content.NOTICES

    def noun(self, key: str) -> str:
        """What a field is called in a question."""
        return content.NOUNS.get(key, key)

    def box(self, key: str) -> str:
        """What the box of a field or a thing is called."""
        return self.noun(key)

    def box_of_price(self, name: str) -> str:
        """What the box of a thing's price is called."""
        return f"{name}的价格"

    def box_of_line(self, number: int) -> str:
        """What the box of a line is called."""
        return f"第{number}行"

    def box_of_bar(self, name: str) -> str:
        """What the box of a bar is called."""
        return f"{name}的柱"

    def box_of_label(self, name: str) -> str:
        """What the box of a label at an axis is called."""
        return f"{name}这个标签"

    def box_of_value(self, name: str) -> str:
        """What the box of a written value is called."""
        return f"{name}的数值"

    def element(self, kind: str, text: str) -> str:
        """What a thing on a screen is called."""
        return f"“{text}”{content.KINDS[kind]}"

    def shape(self, name: str) -> str:
        """What one of the drawn shapes is called."""
        return content.SHAPE_NAMES[name]

    def column_head(self, kind: str) -> str:
        """What stands above a column of values of a kind."""
        return self.dice.pick(content.COLUMN_HEADS[kind])

    def cost(self) -> str:
        """An amount of money with a sign; it is held out without."""
        return f"¥{self.price()}"

    def item(self) -> str:
        """Something to buy."""
        return self.held(lambda: self._joined(content.GOODS))

    def service(self) -> str:
        """Something to pay for on an invoice."""
        return self.held(lambda: self._joined(content.SERVICES))

    def person(self) -> str:
        """Family name and given name."""
        return self.held(self._person)

    def city(self) -> str:
        """A city."""
        return self.held(lambda: self.dice.pick(content.CITIES))

    def street(self) -> str:
        """Street and number."""
        return self.held(
            lambda: (
                f"{self.dice.pick(content.STREETS)}{self.dice.pick(content.STREET_KINDS)}{self.dice.between(1, 399)}号"
            )
        )

    def shop(self) -> str:
        """The name of a shop."""
        return self.held(lambda: self._proper() + self.dice.pick(content.SHOP_KINDS))

    def company(self) -> str:
        """The name of a company."""
        return self.held(lambda: self._proper() + self.dice.pick(content.COMPANY_KINDS))

    def name(self) -> str:
        """One short name for a bar, a row or a line of a chart."""
        return self.held(lambda: self.dice.pick((self._person, self._proper, lambda: self.dice.pick(content.CITIES)))())

    def place(self) -> str:
        """A public place."""
        return self.held(lambda: self.dice.pick(content.PLACES))

    def subject(self) -> str:
        """What a chart counts, with a year or a city."""
        return self.held(lambda: self._where_or_when() + self.dice.pick(content.SUBJECTS))

    def table_title(self) -> str:
        """The title of a table."""
        return self.held(lambda: self._where_or_when() + self.dice.pick(content.TABLE_KINDS))

    def action(self) -> str:
        """What a button or a menu entry does."""
        return self.held(
            lambda: self.dice.pick(content.VERBS) + ("" if self.dice.chance(0.4) else self.dice.pick(content.THINGS)),
        )

    def form_title(self) -> str:
        """What a form is for."""
        return self.held(lambda: self.dice.pick(content.FORM_TITLES))

    def heading(self) -> str:
        """The heading of a notice; not held out."""
        return self.dice.pick(content.HEADS)

    def thanks(self) -> str:
        """The last line of a receipt."""
        return self.dice.pick(content.THANKS)

    def _joined(self, families: tuple[tuple[str, str], ...]) -> str:
        first, second = self.dice.pick(families)
        return self.dice.pick(first.split()) + self.dice.pick(second.split())

    def _person(self) -> str:
        given = "".join(self.dice.pick(content.GIVEN) for _ in range(self.dice.between(1, 2)))
        return self.dice.pick(content.SURNAMES) + given

    def _proper(self) -> str:
        return self.dice.pick(content.SHOP_NAMES) + self.dice.pick(content.SHOP_NAMES)

    def _where_or_when(self) -> str:
        return f"{self.dice.between(1950, 2049)}年" if self.dice.chance(0.5) else self.dice.pick(content.CITIES)

    def _month(self, number: int) -> str:
        return f"{number // 12:02d}年{number % 12 + 1}月"

    def _date(self) -> str:
        day, month, year = self.dice.between(1, 28), self.dice.between(1, 12), self.dice.between(1990, 2039)
        return (
            f"{year}年{month}月{day}日",
            f"{year}-{month:02d}-{day:02d}",
            f"{month}月{day}日",
            f"{year}.{month:02d}.{day:02d}",
            f"{year}/{month:02d}/{day:02d}",
            f"{year}年{month}月{day}日",
        )[self._date_style]

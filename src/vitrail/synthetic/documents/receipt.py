"""A till receipt: narrow, mostly in fonts of even width, with a shop's name, items and prices, a total, a payment."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vitrail.synthetic.documents.draft import Draft, ask_items, even, larger
from vitrail.synthetic.documents.money import Money, paid, prices_with_total
from vitrail.synthetic.documents.page import NARROWEST, WHITE, Colour, Flow, Page, UnfitError, whole_width
from vitrail.synthetic.documents.pen import Pen
from vitrail.synthetic.documents.rows import Entry, needed, write_rows

OPTIONS: dict[str, tuple[str, ...]] = {
    "head": ("centre", "left", "band", "boxed", "centre"),
    "under the name": ("", "", "street", "phone", "city"),
    "when": ("apart", "labelled", "joined", "labelled"),
    "number": ("top", "bottom", "none", "top"),
    "rule": ("dashes", "dots", "solid", "double", "none", "dashes"),
    "leader": ("", "", "dots"),
    "count": ("", "", "before", "after"),
    "sum": ("", "", "", "tax", "discount", "tip"),
    "total": ("large", "band", "boxed", "ruled", "plain"),
    "pay": ("cash", "card", "none", "none"),
    "foot": ("", "", "centre", "left"),
    "case": ("as is", "upper", "as is"),
}
DESKS: tuple[Colour, ...] = (
    (112, 92, 74),
    (78, 82, 92),
    (150, 150, 150),
    (58, 66, 60),
    (168, 148, 120),
    (200, 204, 210),
)
LARGEST_WIDTH = 224  # px


@dataclass(frozen=True)
class _Bought:
    name: str
    cents: int
    count: int


def draw(draft: Draft) -> None:
    """Draws a receipt and what can be asked about it."""
    dice, words = draft.dice, draft.words
    layout = draft.lay_out("receipt", OPTIONS)
    mono = even(draft.job.faces)
    pen = draft.pen(mono if mono and dice.chance(0.75) else (), 13, 17)
    money = Money(dice, words.script)
    bought, sums = _shopping(draft, layout)
    shop = words.shop()
    facts = {"shop": shop}
    entries = [
        *_head(draft, layout, pen, shop),
        *_when(draft, layout, pen, facts),
        Entry(rule=layout["rule"]) if layout["rule"] != "none" else Entry(gap=7),
        *_items(draft, layout, pen, bought, money),
        Entry(rule=layout["rule"]) if layout["rule"] != "none" else Entry(gap=5),
        *_sums(draft, layout, pen, sums, money, facts),
        *_payment(draft, layout, pen, sums["total"], money, facts),
    ]
    if layout["case"] == "upper":
        entries = [_upper(entry) for entry in entries]
        bought = [replace(thing, name=thing.name.upper()) for thing in bought]
        facts = {key: value.upper() for key, value in facts.items()}
    lead = dice.between(116, 140) / 100
    desk = dice.between(4, 9) if dice.chance(0.3) else 0
    margin = desk + dice.between(7, 11)
    width = whole_width(needed(entries) + 2 * margin, draft.job.unit)
    if width > max(LARGEST_WIDTH, NARROWEST):
        raise UnfitError("a receipt is narrow")
    draft.page = page = Page(width, margin)
    if desk:
        page.paper, page.sheet = dice.pick(DESKS), (desk, dice.pick((WHITE, (250, 249, 244), (244, 246, 248))))
    write_rows(Flow(page, margin, lead), entries, draft.ink())
    draft.tell("receipt", shop=facts["shop"], count=str(len(bought)), total=facts["total"])
    _ask(draft, facts, bought, money)


def _shopping(draft: Draft, layout: dict[str, str]) -> tuple[list[_Bought], dict[str, int]]:
    """What was bought, and the sums in cents. Everything that is written belongs to the split."""
    fixed = 2 + bool(layout["under the name"]) + bool(layout["foot"]) + (layout["number"] != "none")
    fixed += (2 if layout["when"] == "labelled" else 1) + (2 if layout["sum"] else 0)
    fixed += {"cash": 2, "card": 1, "none": 0}[layout["pay"]]
    prices, sums = prices_with_total(draft.words, draft.lines_left(2, 5, fixed), layout["sum"])
    # Of several of one thing the price of all is written: that one adds up, and that one is asked for.
    return [_Bought(draft.words.item(), price, draft.dice.between(2, 9)) for price in prices], sums


def _head(draft: Draft, layout: dict[str, str], pen: Pen, shop: str) -> list[Entry]:
    words, style = draft.words, layout["head"]
    ink = draft.accent() if style == "band" else None
    large = larger(pen, draft.dice.between(1, 3))
    name = Entry(
        left=shop if style == "left" else "",
        middle="" if style == "left" else shop,
        pen=large,
        names=(words.box("shop"), ""),
        band=ink,
        colour=WHITE if ink else None,
        boxed=style == "boxed",
        gap=4 if style in ("band", "boxed") else 0,
    )
    below = layout["under the name"]
    if not below:
        return [replace(name, gap=name.gap + 4)]
    text = words.make(below)
    if below == "phone" and draft.dice.chance(0.5):
        text = f"{words.label('phone')} {text}"
    return [name, Entry(left=text if style == "left" else "", middle="" if style == "left" else text, pen=pen, gap=4)]


def _when(draft: Draft, layout: dict[str, str], pen: Pen, facts: dict[str, str]) -> list[Entry]:
    """Date, time and number of the receipt."""
    words, style = draft.words, layout["when"]
    facts["date"], facts["time"] = words.date(), words.time()
    labels = {key: words.label(key).rstrip(":") for key in ("date", "time")}
    if style == "labelled":
        entries = [Entry(labels[key], facts[key], pen=pen, names=("", words.box(key))) for key in ("date", "time")]
    elif style == "apart":
        entries = [Entry(facts["date"], facts["time"], pen=pen, names=(words.box("date"), words.box("time")))]
    else:
        entries = [Entry(f"{facts['date']} {facts['time']}", pen=pen)]
    if layout["number"] == "top":
        entries.insert(draft.dice.below(2), _number(draft, pen, facts))
    return entries


def _number(draft: Draft, pen: Pen, facts: dict[str, str]) -> Entry:
    facts["number"] = draft.words.code() if draft.dice.chance(0.5) else draft.words.digits(draft.dice.between(4, 6))
    return Entry(draft.words.label("number"), facts["number"], pen=pen, names=("", draft.words.box("number")))


def _items(draft: Draft, layout: dict[str, str], pen: Pen, bought: list[_Bought], money: Money) -> list[Entry]:
    words = draft.words
    entries: list[Entry] = []
    for thing in bought:
        before = f"{thing.count} " if layout["count"] == "before" else ""
        after = f" x{thing.count}" if layout["count"] == "after" else ""
        names = ("" if before or after else words.box(thing.name), words.box_of_price(thing.name))
        text = before + thing.name + after
        entries.append(Entry(text, money.of(thing.cents), pen=pen, names=names, leader=layout["leader"]))
    return entries


def _sums(
    draft: Draft, layout: dict[str, str], pen: Pen, sums: dict[str, int], money: Money, facts: dict[str, str]
) -> list[Entry]:
    words, style = draft.words, layout["total"]
    entries: list[Entry] = []
    for key, cents in sums.items():
        sign = "-" if key == "discount" else ""
        facts[key] = money.total(cents) if key == "total" else sign + money.of(cents)
        entry = Entry(words.label(key), facts[key], pen=pen, names=("", words.box(key)))
        if key == "total":
            band = draft.ink() if style == "band" else None
            entry = replace(
                entry,
                pen=larger(pen, 2) if style in ("large", "ruled") else pen,
                band=band,
                colour=WHITE if band else None,
                boxed=style == "boxed",
                gap=3,
            )
            if style == "ruled" and len(entries):
                entries.append(Entry(rule="solid"))
        entries.append(entry)
    return entries


def _payment(
    draft: Draft, layout: dict[str, str], pen: Pen, total: int, money: Money, facts: dict[str, str]
) -> list[Entry]:
    """Cash and change, or the last digits of a card; then number and thanks."""
    words = draft.words
    entries: list[Entry] = []
    if layout["pay"] == "cash":
        given, back = paid(words, total)
        facts["cash"], facts["change"] = money.of(given), money.of(back)
        entries = [
            Entry(words.label(key), facts[key], pen=pen, names=("", words.box(key))) for key in ("cash", "change")
        ]
    elif layout["pay"] == "card":
        facts["card"] = words.digits(4)
        entries = [Entry(words.label("card"), f"**** {facts['card']}", pen=pen)]
    if layout["number"] == "bottom":
        entries.append(_number(draft, pen, facts))
    if layout["foot"]:
        text, left = words.thanks(), layout["foot"] == "left"
        entries[-1:] = [replace(entries[-1], gap=4)] if entries else []
        entries.append(Entry(left=text if left else "", middle="" if left else text, pen=pen))
    return entries


def _upper(entry: Entry) -> Entry:
    return replace(entry, left=entry.left.upper(), right=entry.right.upper(), middle=entry.middle.upper())


def _ask(draft: Draft, facts: dict[str, str], bought: list[_Bought], money: Money) -> None:
    for key, value in facts.items():
        if key == "shop":
            draft.ask("field", "shop", value)
        else:
            draft.ask("field", "value", value, name=draft.words.noun(key))
    ask_items(draft, [(thing.name, thing.cents) for thing in bought], money)

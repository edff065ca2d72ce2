"""An invoice: who asks whom for how much, for what work, by when."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

from vitrail.synthetic.documents.draft import Draft, ask_items, larger, pale
from vitrail.synthetic.documents.money import Money, prices_with_total
from vitrail.synthetic.documents.page import WHITE, Colour, Flow, Page, whole_width
from vitrail.synthetic.documents.pen import Pen
from vitrail.synthetic.documents.rows import Entry, needed, write_rows

OPTIONS: dict[str, tuple[str, ...]] = {
    "head": ("title left", "title right", "title above", "band", "centre"),
    "facts": ("beside", "right", "apart", "right"),
    "client": ("label", "plain", "plain", "street"),
    "columns": ("band", "ruled", "plain", "none"),
    "stripes": ("no", "yes", "no"),
    "sum": ("", "", "tax", "discount"),
    "total": ("band", "large", "boxed", "ruled"),
    "due": ("yes", "no", "no", "account"),
    "colour": ("accent", "ink"),
}


def draw(draft: Draft) -> None:
    """Draws an invoice and what can be asked about it."""
    dice, words = draft.dice, draft.words
    layout = draft.lay_out("invoice", OPTIONS)
    pen = draft.pen((), 12, 16)
    money, ink = Money(dice, words.script), draft.ink()
    colour = draft.accent() if layout["colour"] == "accent" else ink
    prices, sums = prices_with_total(words, draft.lines_left(2, 4, _fixed_lines(layout)), layout["sum"])
    items = [(words.service(), price) for price in prices]
    facts: dict[str, str] = {}
    entries = [
        *_head(draft, layout, pen, colour, facts),
        *_facts(draft, layout, pen, (ink, colour), facts),
        *_table(draft, layout, pen, items, money, colour),
        *_sums(draft, layout, pen, sums, money, colour, facts),
    ]
    if layout["due"] == "account":
        facts["account"] = words.code()
        label = words.label("account")
        entries.append(
            Entry(label, facts["account"], pen=pen, tab=pen.width(label) + 8, names=("", words.box("account")))
        )
    margin = dice.between(10, 15)
    width = whole_width(needed(entries, 14) + 2 * margin + dice.between(0, 20), draft.job.unit)
    draft.page = page = Page(width, margin)
    write_rows(Flow(page, margin, dice.between(118, 140) / 100), entries, ink)
    draft.tell("invoice", client=facts["client"], total=facts["total"])
    for key, value in facts.items():
        if key in ("client", "sender"):
            draft.ask("field", key, value)
        else:
            draft.ask("field", "value", value, name=words.noun(key))
    ask_items(draft, items, money)


def _fixed_lines(layout: dict[str, str]) -> int:
    """Lines besides the items."""
    keys, client = (3 if layout["due"] == "yes" else 2), {"plain": 1, "label": 2, "street": 3}[layout["client"]]
    facts = max(keys, client) if layout["facts"] == "right" else keys + client
    head = 2 if layout["head"] in ("title above", "centre") else 1
    return head + facts + (layout["columns"] != "none") + (3 if layout["sum"] else 1) + (layout["due"] == "account")


def _head(draft: Draft, layout: dict[str, str], pen: Pen, colour: Colour, facts: dict[str, str]) -> list[Entry]:
    """The word "invoice" and who sends it."""
    words, style = draft.words, layout["head"]
    title, large = words.label("invoice"), larger(pen, draft.dice.between(2, 5))
    facts["sender"] = sender = words.company()
    box = words.box("sender")
    if style == "title left":
        return [Entry(title, sender, pen=large, right_pen=pen, colour=colour, names=("", box), gap=5)]
    if style == "title right":
        return [Entry(sender, title, pen=pen, right_pen=large, right_colour=colour, names=(box, ""), gap=5)]
    if style == "band":
        return [Entry(sender, title, pen=pen, names=(box, ""), band=colour, colour=WHITE, gap=7)]
    if style == "centre":
        return [Entry(middle=title, pen=large, colour=colour), Entry(middle=sender, pen=pen, names=(box, ""), gap=5)]
    return [Entry(title, pen=large, colour=colour), Entry(sender, pen=pen, names=(box, ""), gap=5)]


def _facts(
    draft: Draft, layout: dict[str, str], pen: Pen, colours: tuple[Colour, Colour], facts: dict[str, str]
) -> list[Entry]:
    """Number, dates and client: label and value beside each other, apart, or in a block at the right."""
    words, style, (ink, colour) = draft.words, layout["facts"], colours
    facts["invoice number"] = words.code() if draft.dice.chance(0.5) else words.digits(draft.dice.between(4, 6))
    facts["date"] = words.date()
    if layout["due"] == "yes":
        facts["due date"] = words.date()
    facts["client"] = words.person() if draft.dice.chance(0.6) else words.company()
    label = words.label("client")
    block = [label, facts["client"]] if layout["client"] != "plain" else [f"{label}: {facts['client']}"]
    if layout["client"] == "street":
        block.append(words.street())
    name = words.box("client") if layout["client"] != "plain" else ""
    labels = {key: words.label(key).rstrip(":") for key in ("invoice number", "date", "due date")}
    keys = [key for key in labels if key in facts]
    rows = []
    if style == "right":
        # Where there is no room for a column of labels, each value has its own in front, but for the only date.
        texts = [facts[key] if key == "date" and len(keys) == 2 else f"{labels[key]} {facts[key]}" for key in keys]
        for number, (left, right) in enumerate(zip_longest(block, texts, fillvalue="")):
            names = (name if number == 1 else "", words.box("date") if right == facts["date"] else "")
            tone = colour if number == 0 and name else ink
            rows.append(Entry(left, right, pen=pen, names=names, colour=tone, right_colour=ink))
    else:
        tab = 0 if style == "apart" else max(pen.width(labels[key]) for key in keys) + 9
        rows = [Entry(labels[key], facts[key], pen=pen, tab=tab, names=("", words.box(key))) for key in keys]
        rows += [Entry(line, pen=pen, names=(name if number == 1 else "", "")) for number, line in enumerate(block)]
    return [*rows[:-1], replace(rows[-1], gap=6)]


def _table(
    draft: Draft, layout: dict[str, str], pen: Pen, items: list[tuple[str, int]], money: Money, colour: Colour
) -> list[Entry]:
    words, style = draft.words, layout["columns"]
    entries: list[Entry] = []
    if style != "none":
        head = Entry(words.label("item"), words.label("amount"), pen=pen)
        if style == "band":
            head = replace(head, band=colour, colour=WHITE, gap=2)
        entries.append(head if style == "band" else replace(head, colour=colour))
    if style in ("ruled", "none"):
        entries.append(Entry(rule="solid"))
    for number, (name, cents) in enumerate(items):
        stripe = pale(colour) if layout["stripes"] == "yes" and number % 2 == 0 else None
        names = (words.box(name), words.box_of_price(name))
        entries.append(Entry(name, money.of(cents), pen=pen, names=names, band=stripe))
    return [*entries, Entry(rule="solid")] if style != "band" else [*entries, Entry(gap=4)]


def _sums(
    draft: Draft,
    layout: dict[str, str],
    pen: Pen,
    sums: dict[str, int],
    money: Money,
    colour: Colour,
    facts: dict[str, str],
) -> list[Entry]:
    words, style = draft.words, layout["total"]
    entries: list[Entry] = []
    for key, cents in sums.items():
        facts[key] = money.total(cents) if key == "total" else ("-" if key == "discount" else "") + money.of(cents)
        entry = Entry(words.label(key), facts[key], pen=pen, names=("", words.box(key)))
        if key == "total":
            entry = replace(entry, pen=larger(pen, 2) if style == "large" else pen, boxed=style == "boxed", gap=3)
            if style == "band":
                entry = replace(entry, band=colour, colour=WHITE)
            if style == "ruled" and entries:
                entries.append(Entry(rule="double"))
        entries.append(entry)
    return entries

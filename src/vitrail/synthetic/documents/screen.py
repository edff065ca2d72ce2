"""A simple screen: a dialog, an open menu, a list of files, a settings page or a grid of icons."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from vitrail.synthetic.documents.draft import Draft, ask_order, fair_size
from vitrail.synthetic.documents.page import Page, UnfitError, whole_width
from vitrail.synthetic.documents.pen import Pen
from vitrail.synthetic.documents.widgets import (
    Theme,
    button,
    entry_box,
    icon,
    middle,
    switch,
    theme,
    title_bar,
)
from vitrail.synthetic.shapes import SHAPES

OPTIONS: dict[str, tuple[str, ...]] = {
    "screen": ("dialog", "menu", "files", "settings", "icons"),
    "theme": ("light", "dark", "grey", "light"),
    "bar": ("cross", "dots", "plain", "quiet"),
    "order": ("right", "left", "spread", "stacked"),
    "density": ("dense", "loose"),
    "extra": ("none", "icons", "second"),
    "wide": ("6", "7", "8", "9"),
}


def draw(draft: Draft) -> None:
    """Draws a screen and what can be asked about it."""
    layout = draft.lay_out("screen", OPTIONS)
    look = theme(draft.dice, layout["theme"])
    pen = draft.pen((), 12, 16)
    margin = draft.dice.between(8, 12)
    page = draft.page = Page(whole_width(28 * int(layout["wide"]), draft.job.unit), margin, paper=look.ground)
    page.floats = False
    title = draft.words.file() if layout["screen"] in ("menu", "dialog") else draft.words.company()
    _SCREENS[layout["screen"]](draft, layout, look, pen, title)
    page.reach(page.height + margin // 2)
    draft.tell("screen", title=title)


def _head(draft: Draft, layout: dict[str, str], look: Theme, pen: Pen, title: str) -> int:
    draft.ask("field", "title", title)
    return title_bar(draft, look, pen, title, layout["bar"]) + (6 if layout["density"] == "dense" else 11)


def _pitch(layout: dict[str, str], pen: Pen) -> int:
    """Height of a row, px."""
    return pen.size + (9 if layout["density"] == "dense" else 15)


def _dialog(draft: Draft, layout: dict[str, str], look: Theme, pen: Pen, title: str) -> None:
    """Boxes with labels, and two or three buttons below them, or above where the layout says so."""
    page, words, dice = draft.page, draft.words, draft.dice
    y = _head(draft, layout, look, pen, title)
    row = _pitch(layout, pen)
    labels = dice.sample(words.form_fields, draft.more(1, 4))
    actions = [words.action() for _ in range(dice.between(2, 3))]
    if layout["extra"] == "second":
        y = _buttons(draft, layout, look, pen, actions, y) + 6
    tab = max(pen.width(label) for label, _ in labels) + 8
    for label, kind in labels:
        value, name = words.make(kind), words.element("field", label)
        if layout["extra"] == "icons":
            page.write(label, pen, page.margin, middle(pen, y, y + pen.size + 4), look.ink)
            y += pen.size + 5
            box = [page.margin, y, page.width - page.margin, y + pen.size + 8]
        else:
            box = [page.margin + tab, y, page.width - page.margin, y + pen.size + 8]
            page.write(label, pen, page.margin, middle(pen, y, box[3]), look.ink)
        if box[0] + 9 + pen.width(value) > box[2]:
            raise UnfitError(value)
        entry_box(page, look, pen, value, box, name)
        draft.ask("field", "entry", value, name=label)
        y = box[3] + row - pen.size - 4
    ask_order(draft, [label for label, _ in labels], topics=("field below", "field above"))
    if layout["extra"] != "second":
        _buttons(draft, layout, look, pen, actions, y + 3)


def _buttons(draft: Draft, layout: dict[str, str], look: Theme, pen: Pen, actions: list[str], y: int) -> int:
    """A row or a column of buttons; returns where it ends, px."""
    page, dice, words = draft.page, draft.dice, draft.words
    widths = [pen.width(action) + 18 for action in actions]
    high, gap = pen.size + 10, 7
    raised, main = layout["theme"] == "grey", dice.below(len(actions))
    names = [words.element("button", action) for action in actions]
    if layout["order"] == "stacked":
        wide = max(widths)
        left = page.margin + dice.between(0, page.inner - wide)
        for index, (action, name) in enumerate(zip(actions, names, strict=True)):
            button(page, look, pen, action, [left, y, left + wide, y + high], name, main=index == main, raised=raised)
            y += high + 5
        ask_order(draft, actions, topics=("button below", "button above"))
        return y
    room = page.inner - sum(widths) - gap * (len(actions) - 1)
    if room < 0:
        raise UnfitError("too many buttons")
    x = page.margin + (room if layout["order"] == "right" else 0)
    gap += room // (len(actions) - 1) if layout["order"] == "spread" else 0
    for index, (action, wide, name) in enumerate(zip(actions, widths, names, strict=True)):
        button(page, look, pen, action, [x, y, x + wide, y + high], name, main=index == main, raised=raised)
        x += wide + gap
    for one, two in pairwise(actions):
        draft.ask("position", "button right", two, name=one)
        draft.ask("position", "button left", one, name=two)
    return y + high


def _menu(draft: Draft, layout: dict[str, str], look: Theme, pen: Pen, title: str) -> None:
    """A bar of menus, one of them open, each entry with its shortcut."""
    page, words, dice = draft.page, draft.words, draft.dice
    y = _head(draft, layout, look, pen, title) - 4
    high = _pitch(layout, pen)
    menus: list[str] = []
    lefts, x = [], page.margin
    while len(menus) < 4:
        menu = words.action()
        if x + pen.width(menu) > page.width - page.margin:
            break
        menus.append(menu)
        lefts.append(x)
        x += pen.width(menu) + 12
    if len(menus) < 2:
        raise UnfitError("one menu")
    page.area([0, y, page.width, y + high], look.panel)
    entries = [words.action() for _ in range(draft.more(3, 6))]
    keys = [words.shortcut() for _ in entries]
    wide = max(map(pen.width, entries)) + max(map(pen.width, keys)) + 32
    if wide > page.width - 4:
        raise UnfitError("a wide menu")
    opened = dice.below(len(menus))
    left = min(max(lefts[opened] - 5, page.margin - 6), page.width - page.margin - wide + 6)
    for index, (menu, at) in enumerate(zip(menus, lefts, strict=True)):
        box = [at - 5, y, at + pen.width(menu) + 5, y + high]
        if index == opened:
            page.area(box, look.accent)
        name = words.element("menu", menu)
        page.boxes[name] = box
        page.targets.append(name)
        page.write(menu, pen, at, middle(pen, y, y + high), (255, 255, 255) if index == opened else look.ink)
    for one, two in pairwise(menus):
        draft.ask("position", "menu right", two, name=one)
        draft.ask("position", "menu left", one, name=two)
    _entries(draft, layout, look, pen, list(zip(entries, keys, strict=True)), [left, y + high, left + wide])


def _entries(
    draft: Draft, layout: dict[str, str], look: Theme, pen: Pen, entries: list[tuple[str, str]], corner: list[int]
) -> None:
    """The entries of an open menu in a panel: left, top and right in `corner`, px."""
    page, words, high = draft.page, draft.words, _pitch(layout, pen)
    left, y, right = corner
    panel = [left, y, right, y + high * len(entries) + 6]
    page.area(panel, look.panel)
    page.outline(panel, look.edge)
    y += 3
    lit = draft.dice.below(len(entries))
    for number, (entry, keys) in enumerate(entries):
        box, name = [left + 2, y, right - 2, y + high], words.element("entry", entry)
        ink = look.ink
        if number == lit:
            page.area(box, look.accent)
            ink = (255, 255, 255)
        page.boxes[name] = [box[0], box[1], left + pen.width(entry) + 12, box[3]]
        page.targets.append(name)
        page.write(entry, pen, left + 8, middle(pen, y, y + high), ink)
        page.write(keys, pen, right - 8, middle(pen, y, y + high), ink, align="right")
        draft.ask("field", "shortcut", keys, name=entry)
        y += high
    ask_order(draft, [entry for entry, _ in entries], topics=("entry below", "entry above"))
    page.reach(y + 8)


def _files(draft: Draft, layout: dict[str, str], look: Theme, pen: Pen, title: str) -> None:
    """A list of files with sizes or times, one of them chosen; perhaps a row of icons above."""
    page, words, dice = draft.page, draft.words, draft.dice
    y = _head(draft, layout, look, pen, title)
    if layout["extra"] != "none":
        y = _icon_row(draft, look, y) + 8
    high = _pitch(layout, pen)
    timed = dice.chance(0.5)
    head = words.noun("time" if timed else "size")
    names = [words.file() for _ in range(draft.more(3, 6))]
    chosen = dice.below(len(names))
    for number, file in enumerate(names):
        box = [page.margin - 5, y, page.width - page.margin + 5, y + high]
        name = words.element("file", file)
        ink = look.ink
        if number == chosen:
            page.area(box, look.accent)
            ink = (255, 255, 255)
        elif layout["order"] in ("left", "spread") and number % 2:
            page.area(box, look.panel)
        # The name alone: whole rows are so wide that a guess at the middle would hit them.
        page.boxes[name] = [box[0], box[1], page.margin + pen.width(file) + 4, box[3]]
        page.targets.append(name)
        value = words.time() if timed else f"{words.number()} KB"
        page.write(file, pen, page.margin, middle(pen, y, y + high), ink)
        page.write(value, pen, page.width - page.margin, middle(pen, y, y + high), ink, align="right")
        if page.inner < pen.width(file) + pen.width(value) + 10:
            raise UnfitError(file)
        draft.ask("field", "cell", value, column=head, row=file)
        y += high
    ask_order(draft, names, topics=("file below", "file above"))
    if layout["extra"] == "second":
        _buttons(draft, layout, look, pen, [words.action() for _ in range(2)], y + 6)


def _icon_row(draft: Draft, look: Theme, y: int) -> int:
    """Three to six icons in a row, somewhere by lot; returns where it ends, px."""
    page, dice = draft.page, draft.dice
    side = dice.between(15, 20)
    count = dice.between(3, min(6, page.inner // (side + 8)))
    step = dice.between(side + 8, max(side + 8, page.inner // count))
    left = page.margin + dice.between(0, page.inner - step * (count - 1) - side)
    for index, shape in enumerate(dice.sample(SHAPES, count)):
        colour = (
            look.ink if dice.chance(0.5) else dice.pick(((220, 60, 50), (40, 130, 220), (60, 170, 90), (230, 150, 20)))
        )
        icon(page, shape, side, left + step * index, y, colour, draft.words.element("icon", draft.words.shape(shape)))
    return y + side


def _settings(draft: Draft, layout: dict[str, str], look: Theme, pen: Pen, title: str) -> None:
    """Rows of settings, each with its value or a switch at the right."""
    page, words, dice = draft.page, draft.words, draft.dice
    y = _head(draft, layout, look, pen, title)
    high = _pitch(layout, pen) + 2
    rows = dice.sample(words.form_fields, draft.more(3, 6))
    switches = dice.below(len(rows)) if layout["extra"] != "none" else -1
    for number, (label, kind) in enumerate(rows):
        baseline = middle(pen, y, y + high)
        page.write(label, pen, page.margin, baseline, look.ink)
        if number == switches:
            switch(
                page, look, page.width - page.margin, y + high // 2, dice.chance(0.5), words.element("switch", label)
            )
        else:
            value = words.make(kind)
            if page.inner < pen.width(label) + pen.width(value) + 10:
                raise UnfitError(value)
            page.write(value, pen, page.width - page.margin, baseline, look.ink, align="right")
            draft.ask("field", "entry", value, name=label)
            name = words.element("setting", label)
            page.boxes[name] = [
                page.width - page.margin - pen.width(value) - 4,
                y,
                page.width - page.margin + 4,
                y + high,
            ]
            page.targets.append(name)
        y += high
        page.area([page.margin, y - 1, page.width - page.margin, y], look.edge)
    ask_order(draft, [label for label, _ in rows], topics=("field below", "field above"))
    if layout["extra"] == "second":
        _buttons(draft, layout, look, pen, [words.action() for _ in range(2)], y + 7)


def _icons(draft: Draft, layout: dict[str, str], look: Theme, pen: Pen, title: str) -> None:
    """A grid of icons with names under them, as on a telephone."""
    page, words, dice = draft.page, draft.words, draft.dice
    y = _head(draft, layout, look, pen, title) + 2
    small = Pen(pen.face, fair_size(pen.face, 12 if layout["density"] == "dense" else 13))
    across = 3 if layout["wide"] in ("8", "9") else 2
    rows = 2 if layout["density"] == "dense" else dice.between(2, 3)
    slot, side = page.inner // across, dice.between(26, 36)
    shapes = dice.sample(SHAPES, across * rows)
    names = [words.name() for _ in shapes]
    for number, (shape, name) in enumerate(zip(shapes, names, strict=True)):
        column, row = number % across, number // across
        x = page.margin + slot * column + slot // 2
        top = y + row * (side + small.size + 16)
        colour = dice.pick(((220, 60, 50), (40, 130, 220), (60, 170, 90), (230, 150, 20), (150, 90, 200), look.ink))
        icon(page, shape, side, x - side // 2, top, colour, words.element("icon", words.shape(shape)))
        if small.width(name) > slot - 6:
            raise UnfitError(name)
        page.write(name, small, x, top + side + small.size + 2, look.ink, align="centre")
        draft.ask("field", "under icon", name, name=words.shape(shape))
        if column:
            draft.ask("position", "right", name, name=names[number - 1])
            draft.ask("position", "left", names[number - 1], name=name)
        if row:
            draft.ask("position", "below", name, name=names[number - across])
            draft.ask("position", "above", names[number - across], name=name)
    page.reach(y + rows * (side + small.size + 16))


_SCREENS: dict[str, Callable[[Draft, dict[str, str], Theme, Pen, str], None]] = {
    "dialog": _dialog,
    "menu": _menu,
    "files": _files,
    "settings": _settings,
    "icons": _icons,
}

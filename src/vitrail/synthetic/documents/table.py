"""A table: a name in each row, and one to three columns of numbers, amounts, times, codes or places."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from vitrail.synthetic.config import split_of
from vitrail.synthetic.documents.draft import Draft, ask_order, larger, pale
from vitrail.synthetic.documents.page import WHITE, Colour, Flow, Page, whole_width
from vitrail.synthetic.documents.pen import Pen
from vitrail.synthetic.documents.vocabulary import written

OPTIONS: dict[str, tuple[str, ...]] = {
    "title": ("none", "left", "centre", "band", "left"),
    "head": ("band", "ruled", "tint", "plain"),
    "body": ("grid", "rules", "stripes", "plain", "frame"),
    "numbers": ("right", "right", "left", "centre"),
    "spread": ("even", "even", "tight"),
    "colour": ("accent", "ink"),
    "rows": ("name", "city", "item", "person", "company"),
}
GREY: Colour = (150, 150, 150)


@dataclass(frozen=True)
class _Column:
    """head: what stands above. kind: of its values. values: from top to bottom. left, width: px."""

    head: str
    kind: str
    values: tuple[str, ...]

    def needs(self, pen: Pen) -> int:
        """Width of the widest text, px."""
        return max(pen.width(text) for text in (self.head, *self.values))


def draw(draft: Draft) -> None:
    """Draws a table and what can be asked about it."""
    dice, words = draft.dice, draft.words
    layout = draft.lay_out("table", OPTIONS)
    pen, ink = draft.pen((), 12, 17), draft.ink()
    colour = draft.accent() if layout["colour"] == "accent" else ink
    title = words.table_title() if layout["title"] != "none" else ""
    columns = _columns(draft, layout["rows"], draft.more(3, 7))
    margin, pad = dice.between(9, 13), dice.between(4, 7)
    needs = [column.needs(pen) + 2 * pad for column in columns]
    head_pen = larger(pen, 2)
    wanted = max(sum(needs), head_pen.width(title) if title else 0) + 2 * margin
    width = whole_width(wanted + (dice.between(0, 30) if layout["spread"] == "even" else 0), draft.job.unit)
    draft.page = page = Page(width, margin)
    spare = (page.inner - sum(needs)) // len(needs) if layout["spread"] == "even" else 0
    edges = [page.margin]
    for need in needs:
        edges.append(edges[-1] + need + spare)
    flow = Flow(page, margin, dice.between(125, 160) / 100)
    if title:
        _title(draft, layout["title"], flow, title, head_pen, colour)
    _body(draft, layout, flow, columns, edges, (pen, pad), (ink, colour))
    draft.tell("table", title=title or columns[0].head, count=str(len(columns[0].values)))
    if title:
        draft.ask("field", "title", title)
    _ask(draft, columns)


def _columns(draft: Draft, rows: str, count: int) -> list[_Column]:
    """The names of the rows, then one to three columns of values; none of a kind twice."""
    dice, words = draft.dice, draft.words
    head = words.column_head(rows)
    columns = [_Column(head, rows, tuple(words.make(rows) for _ in range(count)))]
    kinds = [kind for kind in ("number", "price", "time", "code", "city", "number") if kind != rows]
    for kind in dice.sample(kinds, 1 + draft.more(0, 2)):
        if any(column.kind == kind for column in columns):
            continue
        columns.append(_Column(words.column_head(kind), kind, tuple(words.make(kind) for _ in range(count))))
    return columns


def _title(draft: Draft, style: str, flow: Flow, title: str, pen: Pen, colour: Colour) -> None:
    page, name, top = flow.page, draft.words.box("title"), flow.y
    if style == "band":
        flow.gap(3)
    baseline = flow.line(pen)
    if style == "band":
        flow.gap(3)
        page.area([0, 0, page.width, flow.y], colour)
        page.floats = False
    centred = style == "centre"
    x = page.width // 2 if centred else page.margin
    ink = WHITE if style == "band" else colour
    page.write(title, pen, x, baseline, ink, align="centre" if centred else "left", name=name)
    flow.gap(6 if top == flow.y else 5)


def _body(
    draft: Draft,
    layout: dict[str, str],
    flow: Flow,
    columns: list[_Column],
    edges: list[int],
    setting: tuple[Pen, int],
    colours: tuple[Colour, Colour],
) -> None:
    page, body, (pen, pad), (ink, colour) = flow.page, layout["body"], setting, colours
    start = flow.y
    lines = [start]
    for number in range(len(columns[0].values) + 1):
        top = flow.y
        baseline = flow.line(pen)
        row = [edges[0], top, edges[-1], flow.y]
        shown = ink
        if number == 0 and layout["head"] in ("band", "tint"):
            page.area(row, colour if layout["head"] == "band" else pale(colour, 0.22))
            shown = WHITE if layout["head"] == "band" else ink
        elif number and body == "stripes" and number % 2 == 0:
            page.area(row, pale(colour, 0.1))
        for index, column in enumerate(columns):
            text = column.values[number - 1] if number else column.head
            align = layout["numbers"] if column.kind in ("number", "price", "time") else "left"
            left, right = edges[index] + pad, edges[index + 1] - pad
            x = {"left": left, "right": right, "centre": (left + right) // 2}[align]
            name = text if number and index == 0 else ""
            page.write(text, pen, x, baseline, shown, align=align, name=name)
        lines.append(flow.y)
    if not page.floats:
        page.reach(flow.y + page.margin)
    if layout["head"] == "ruled":
        page.area([edges[0], lines[1] - 2, edges[-1], lines[1]], colour)
    if body == "grid":
        for edge in edges:
            page.area([edge, start, edge + 1, flow.y], GREY)
    if body in ("grid", "rules"):
        for y in lines[1:] if body == "rules" else lines:
            page.area([edges[0], y, edges[-1] + 1, y + 1], GREY)
    if body == "frame":
        page.outline([edges[0], start, edges[-1], flow.y], colour)


def _ask(draft: Draft, columns: list[_Column]) -> None:
    names = columns[0].values
    for column in columns[1:]:
        head = column.head.lower()
        for name, value in zip(names, column.values, strict=True):
            draft.ask("field", "cell", value, column=head, row=name)
        if column.kind not in ("number", "price"):
            continue
        amounts = [int(value.replace(".", "")) for value in column.values]
        draft.ask("compare", "most", names[amounts.index(max(amounts))], column=head)
        draft.ask("compare", "least", names[amounts.index(min(amounts))], column=head)
        for one, two in combinations(range(len(names)), 2):
            total = amounts[one] + amounts[two]
            answer = written(total) if column.kind == "price" else str(total)
            if split_of(answer) == draft.job.split:
                draft.ask("sum", "cell sum", answer, column=head, one=names[one], two=names[two])
    ask_order(draft, names)
    for number, name in enumerate(names, 1):
        draft.ask("position", "row number", name, number=str(number))

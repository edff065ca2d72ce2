"""A sample as text again, for people: what is read, what is learnt, and where media stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from vitrail.contracts.protocols import Tokenizer
from vitrail.contracts.samples import MediaSlot, Sample, View

Sort = Literal["read", "learnt", "media"]


def spans(sample: Sample, tokenizer: Tokenizer) -> Iterator[tuple[Sort, str]]:
    """A sample as text, in pieces: what is only read, what is learnt, and a word for each view, or the text of it."""
    slots: dict[int, list[MediaSlot]] = {}
    for slot in sample.slots:
        slots.setdefault(slot.start, []).append(slot)
    run: list[int] = []
    learns, index = False, 0

    def text() -> Iterator[tuple[Sort, str]]:
        if run:
            yield "learnt" if learns else "read", tokenizer.decode(run, show_special=True)
            run.clear()

    while index < len(sample):
        for slot in slots.pop(index, ()):
            yield from text()
            yield "media", tokenizer.decode(slot.view.ids) if slot.view.ids else described(slot.view)
            index = max(index, slot.end)
        if index in slots or index >= len(sample):
            continue
        # labels[t] is the id at t + 1: a token is learnt when the position before it carries its label.
        now = index > 0 and bool(sample.weights[index - 1] > 0)
        if now != learns:
            yield from text()
            learns = now
        run.append(int(sample.ids[index]))
        index += 1
    yield from text()
    if sample.target is not None:
        yield "learnt", tokenizer.decode(sample.target.labels.tolist(), show_special=True)


def described(view: View) -> str:
    """A view in a few words."""
    if view.ids:
        return f"{view.stream}: {view.tokens} tokens of text"
    size = f"{view.width} x {view.height} px" if view.height else f"{view.columns} frames"
    beside = "" if view.spliced else " beside the text"
    return f"{view.stream} {size}: {view.token_rows} x {view.token_columns} tokens{beside}"

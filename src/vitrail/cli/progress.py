"""A run on the terminal: lines and bars with rich; where output is no terminal, a line now and then instead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

QUIET_SECONDS = 20.0
"""Between lines when there is no terminal to draw on."""


class Terminal:
    """Implements `run.screen.Screen`."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def training(self, label: str) -> Iterator[Callable[[dict[str, Any]], None]]:
        """Stage, step, loss, tokens/s, time left, memory."""
        if not self.console.is_terminal:
            yield _lines(self, label)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console) as progress:
            tasks: dict[str, Any] = {}

            def on_step(record: dict[str, Any]) -> None:
                stage = record["stage"]
                if stage not in tasks:
                    tasks[stage] = progress.add_task(f"{label}: {stage}", total=1.0, facts="")
                progress.update(tasks[stage], completed=min(1.0, record["progress"]), facts=facts(record))

            yield on_step

    @contextmanager
    def counting(self, label: str, total: int) -> Iterator[Callable[[], None]]:
        """So many of so many; total 0: of nobody knows how many."""
        if not self.console.is_terminal:
            self.say(f"{label}: {total} ..." if total else f"{label} ...")
            yield lambda: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(label, total=total or None)
            yield lambda: progress.advance(task)


def facts(record: dict[str, Any]) -> str:
    """What a step's record says, short."""
    loss = "-" if record["loss"] is None else f"{record['loss']:.3f}"
    return (
        f"step {record['step']}  loss {loss}  "
        f"{record['tokens_per_second']:,.0f} tokens/s  {record['memory_gib']:.1f} GiB"
    )


def _lines(terminal: Terminal, label: str) -> Callable[[dict[str, Any]], None]:
    last: dict[str, Any] = {"time": 0.0, "stage": ""}

    def on_step(record: dict[str, Any]) -> None:
        now = time.monotonic()
        due = now - last["time"] >= QUIET_SECONDS
        if due or record["stage"] != last["stage"] or record["progress"] >= 1:
            last.update(time=now, stage=record["stage"])
            terminal.say(f"{label}: {record['stage']} {min(1.0, record['progress']):4.0%}  {facts(record)}")

    return on_step

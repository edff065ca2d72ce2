"""What the benchmarks of a training step share: interleaved rounds, and how their result is printed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pass:
    """One pass over all samples. tokens: without padding. seconds: of the steps alone, setting up not counted."""

    tokens: int
    seconds: float


Contestant = Callable[[bool], Pass]
"""Takes a pass. True: it is to warm up, and where nothing is compiled a single step will do."""


def timed(run: Callable[[bool], int]) -> Contestant:
    """A contestant whose passes consist of steps alone. run: takes them and returns the tokens."""

    def once(warming: bool) -> Pass:
        started = time.perf_counter()
        tokens = run(warming)
        return Pass(tokens, time.perf_counter() - started)

    return once


def measure(
    contestants: Mapping[str, Contestant], rounds: int, may_fail: Collection[str] = ()
) -> dict[str, list[float]]:
    """Tokens a second of each contestant, round by round, after each has warmed up.

    may_fail: those that are left out, with a line that says why, when they fail while warming up.
    """
    speeds: dict[str, list[float]] = {}
    for name, once in contestants.items():
        try:
            _say(f"{name} has warmed up, {once(True).seconds:.1f} s")
        except Exception as error:
            if name not in may_fail:
                raise
            print(f"{name} does not work here: {str(error).strip().splitlines()[0]}")
        else:
            speeds[name] = []
    for number in range(rounds):
        for name, values in speeds.items():
            passed = contestants[name](False)
            _say(f"round {number + 1}: {name}, {passed.tokens} tokens in {passed.seconds:.1f} s")
            values.append(passed.tokens / passed.seconds)
    return speeds


def _say(line: str) -> None:
    """A sign of life; results come on the other stream."""
    print(line, file=sys.stderr)


def options(about: str | None, samples: int) -> argparse.ArgumentParser:
    """The options that every benchmark of a step has. samples: how many unless told otherwise."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=samples)
    return parser


def show(result: Mapping[str, Any], as_json: bool) -> None:
    width = max(map(len, result))
    for name, value in result.items():
        print(f"{name:<{width}} {value}")
    if as_json:
        print(json.dumps(result))

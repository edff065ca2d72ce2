"""Processes that train, each as real as one from the command line, without the seconds that importing torch takes.

One process imports the package and does nothing else; each run is a fork of it, in a process group of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Nursery:
    """Starts runs. Its process ends with `close`."""

    def __init__(self) -> None:
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, arguments: Sequence[str], folder: Path, number: int = 0, at: int = 0) -> Run:
        """`vitrail ARGUMENTS`, whose output goes to files in `folder`.

        number, at: the signal that it sends itself when it brings a file to the disk for so manieth time; 0 for none.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return Run(self, self.ask(start=list(arguments), folder=str(folder), number=number, at=at), folder)

    def ask(self, **what: Any) -> int:
        """Tells the process something; its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@dataclass
class Run:
    """A process that trains."""

    nursery: Nursery
    pid: int
    folder: Path
    returncode: int | None = None

    def poll(self) -> int | None:
        """Its status, None while it goes on."""
        if self.returncode is None:
            status = self.nursery.ask(poll=self.pid)
            self.returncode = None if status < 0 else os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        """Its status, once it has ended."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(self.nursery.ask(wait=self.pid))
        return self.returncode

    def send(self, number: int, *, group: bool = False) -> None:
        """A signal, to it or to all of its process group."""
        (os.killpg if group else os.kill)(self.pid, number)

    @property
    def said(self) -> str:
        """What it has written on its terminal: lines joined where a terminal's width had parted them."""
        both = [(self.folder / name).read_text(encoding="utf-8") for name in ("out", "err")]
        return " ".join("\n".join(both).split())


def _answers() -> list[str] | None:
    """Forks for each start that is asked for: in the child, its arguments; None once nobody asks."""
    for line in sys.stdin:
        what = json.loads(line)
        answer = -1
        if "start" in what:
            answer = os.fork()
            if not answer:
                _become(what)
                arguments: list[str] = what["start"]
                return arguments
        elif "wait" in what:
            answer = os.waitpid(what["wait"], 0)[1]
        else:
            pid, status = os.waitpid(what["poll"], os.WNOHANG)
            answer = status if pid else -1
        print(answer, flush=True)
    return None


def _become(what: dict[str, Any]) -> None:
    """A process of its own group, with its own output, that may have a signal to come."""
    os.setsid()
    # As from a terminal, also where the tests themselves run in the background, where Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(what["folder"], name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    if what["at"]:
        os.fsync = _signalling(os.fsync, what["number"], what["at"])


def _signalling(fsync: Callable[[int], None], number: int, at: int) -> Callable[[int], None]:
    left = at

    def counted(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            signal.raise_signal(number)
        fsync(descriptor)

    return counted


if __name__ == "__main__":
    # All that a run imports, before there is anything to import it in.
    from transformers.models.llama import modeling_llama  # noqa: F401

    import vitrail.cli.progress
    import vitrail.run.train  # noqa: F401
    from vitrail.cli.main import main

    arguments = _answers()
    if arguments is not None:
        sys.argv = ["vitrail", *arguments]
        main()

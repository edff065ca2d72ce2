"""Writes docs/help.md: the help text of `vitrail` and of every verb.

    python docs/help.py [--check]

With `--check` nothing is written, and the exit status is 1 when the page is not what the command line says today.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Read by typer and rich, typer when it is imported: the same page on every terminal.
os.environ.update(COLUMNS="100", TERM="dumb", TERMINAL_WIDTH="100", NO_COLOR="1")
for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "LINES"):
    os.environ.pop(name, None)

import typer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from vitrail.cli.main import app  # noqa: E402

PAGE = Path(__file__).with_name("help.md")
HEAD = """# Command line

Written by `make docs`; do not edit. A mistake in a recipe or in data is one line on stderr and exit status 2;
`--debug` shows the trace.
"""


def verbs() -> Iterator[tuple[str, ...]]:
    """`()` for the program itself, then each verb, and below a group each of its own."""
    yield ()
    for name, command in typer.main.get_command(app).commands.items():
        yield (name,)
        for below in getattr(command, "commands", ()):
            yield (name, below)


def help_of(verb: tuple[str, ...]) -> str:
    """What `vitrail VERB --help` prints, without blanks at the ends of lines."""
    done = CliRunner().invoke(app, [*verb, "--help"], prog_name="vitrail")
    assert done.exit_code == 0, f"vitrail {' '.join(verb)} --help: {done.output}"
    return "\n".join(line.rstrip() for line in done.output.splitlines()).strip("\n")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for verb in verbs():
        parts.append(f"## {' '.join(('vitrail', *verb))}\n\n```\n{help_of(verb)}\n```\n")
    return "\n".join(parts)


def main() -> int:
    """Writes or checks the page; returns the exit status."""
    now = page()
    if "--check" in sys.argv[1:]:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == now:
            return 0
        print(f"{PAGE} is not what the command line says: run `make docs`", file=sys.stderr)
        return 1
    PAGE.write_text(now, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

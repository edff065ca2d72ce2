"""The report of one run: a single HTML file that loads nothing, and reads on a phone, in the dark and on paper.

`write(report, path)` is all a caller needs. Rendering takes a fraction of a second; the file holds the example
pictures, so it is as large as they are plus about 200 kB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from vitrail.contracts.errors import VitrailError
from vitrail.disk import write_whole
from vitrail.report.contents import Example, Report
from vitrail.report.costs import recipe, where_it_went
from vitrail.report.curves import loss, peak_memory, small_charts
from vitrail.report.examples import examples
from vitrail.report.language import language
from vitrail.report.ledger import ledger
from vitrail.report.scores import by_kind, captions, headline, pairs
from vitrail.report.text import escape

__all__ = ["Example", "Report", "page", "render", "write", "write_page"]

HOW_TO_READ = (
    "Exact match compares answers after folding case, white space, quotes and a final period. ANLS gives credit for "
    "nearly right spelling. Box IoU is the overlap of the answered box with the true one. Intervals are 95 %: Wilson's "
    "for exact match, a percentile bootstrap for means. The blind baseline is trained by the same recipe without "
    "pictures, on the same rows in every step: what it gets right can be guessed from the question."
)

SHOWN_FIRST = 3
"""Examples at the head of the page."""


def render(report: Report) -> str:
    """Returns the page as HTML text. What the report lacks is left out; everything it holds is escaped."""
    steps = report.steps
    # Where it was asked with other pictures too, what becomes of answers leads the page.
    first = SHOWN_FIRST if "swapped" in report.results else 0
    sections = [
        ("looks", "Eyes open, eyes closed", examples(report.examples[:first])),
        ("result", "Result", headline(report.results)),
        ("kinds", "Scores by kind of question", by_kind(report.results)),
        ("language", "Did the language suffer?", language(report.text)),
        ("pictures", "Does the picture matter?", captions(report.captions)),
        ("pairs", "Are answers ranked as people rank them?", pairs(report.pairs)),
        ("loss", "Loss", loss(steps, report.blind_steps, report.units)),
        ("training", "Rates and speed", small_charts(steps)),
        ("examples", "Examples", examples(report.examples[first:])),
        ("costs", "Where tokens and time went", where_it_went(report.tokens, report.time, peak_memory(steps))),
        ("ledger", "Ledger: what became of every row", ledger(report.ledger)),
        ("recipe", "Resolved recipe", recipe(report.recipe_yaml)),
    ]
    return page("run report", report.title, report.summary, sections, HOW_TO_READ)


def page(
    sort: str, title: str, summary: Mapping[str, str], sections: Sequence[tuple[str, str, str]], how_to_read: str
) -> str:
    """A page in the look of the run report. sort: what it is, in two words. summary: facts, name to text.

    sections: (id, title, content as HTML); those without content are left out. how_to_read: HTML, for the foot.
    """
    kept = [section for section in sections if section[2]]
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>{content}</section>'
        for name, title, content in kept
    )
    facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in summary.items())
    return Template(_read("page.html")).substitute(
        sort=escape(sort),
        title=escape(title),
        css=_read("page.css"),
        facts=f'<dl class="facts">{facts}</dl>' if facts else "",
        nav="".join(f'<a href="#{name}">{name.capitalize()}</a>' for name, _, _ in kept),
        body=body or f'<p class="lead">This {escape(sort)} has recorded nothing yet.</p>',
        how_to_read=how_to_read,
    )


def write(report: Report, path: Path) -> None:
    """Writes the page of a run to `path`; see `write_page`."""
    write_page(render(report), path)


def write_page(text: str, path: Path) -> None:
    """Writes a page to `path`, making its folder if need be. A page already there is replaced whole or not at all.

    Raises VitrailError when the file cannot be written.
    """
    try:
        write_whole(path, text)
    except OSError as error:
        raise VitrailError(f"cannot write the report to {path}: {error.strerror or error}") from error


def _read(name: str) -> str:
    return files("vitrail.report").joinpath(name).read_text(encoding="utf-8")

"""The page of a data check: one HTML file in the look of the run report, which loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from vitrail.curation.findings import Findings, Repeats, Shown
from vitrail.curation.tally import Tally
from vitrail.report.bars import histogram
from vitrail.report.charts import both_widths
from vitrail.report.dots import stacked_bar
from vitrail.report.examples import player
from vitrail.report.ledger import by_source, outcomes_bar, summary, told
from vitrail.report.page import page, write_page
from vitrail.report.text import clipped, compact, duration, escape, number, percent, table

KINDS = 30
"""Kinds of questions in the table."""

HOW_TO_READ = (
    "Every row was read, rendered and fitted by the code that trains, and every picture was decoded. Learnt tokens are "
    "those of the answers; the rest is only read. Pictures are the same when their bytes are, and nearly the same when "
    "they look alike at 17 by 16 pixels: look at them before you take any out. Sizes are after EXIF rotation."
)


def write(findings: Findings, path: Path) -> None:
    """Writes the page. Raises VitrailError when it cannot be written."""
    write_page(render(findings), path)


def render(findings: Findings) -> str:
    """The page as HTML text; everything the data holds is escaped."""
    sections = [
        ("outcomes", "What would become of every row", _outcomes(findings)),
        ("duplicates", "The same again", _duplicates(findings)),
        ("pictures", "Pictures", _pictures(findings)),
        ("sounds", "Sounds", _sounds(findings)),
        ("lengths", "Lengths", _lengths(findings)),
        ("words", "Words", _words(findings)),
        ("samples", "Samples", _samples(findings.shown)),
    ]
    return page("data check", findings.name, _facts(findings), sections, HOW_TO_READ)


def _facts(found: Findings) -> Mapping[str, str]:
    learnt = f"{percent(found.mask_share)} of the tokens, {found.learnt.quantile(0.5):,} a sample in the middle"
    return {
        "Rows": f"{found.rows:,}",
        "With media": f"{sum(one.with_media for one in found.sources.values()):,} of the rows that can be read",
        "Pictures": f"{found.pictures:,}, {found.distinct_pictures:,} of them different",
        **({"Videos": f"{found.videos:,}"} if found.videos else {}),
        **({"Sounds": f"{found.sounds:,}, {duration(found.milliseconds.total / 1000)}"} if found.sounds else {}),
        "Tokens": compact(found.sample_tokens.total),
        "Learnt": learnt if found.learnt.count else "nothing",
        "Written as": ", ".join(dict.fromkeys(name for source in found.sources.values() for name in source.dialects)),
        "Looked at in": duration(found.seconds),
    }


def _outcomes(found: Findings) -> str:
    outcomes = dict(found.outcomes)
    rows = [asdict(one) for one in found.told]
    sorts = ""
    if any(count > 1 for count in found.reasons.values()):
        lines = [[escape(sort), f"{count:,}"] for sort, count in found.reasons.most_common(20)]
        sorts = "<h3>Reasons, most frequent first</h3>" + table(["Why", "Rows"], lines)
    policy = found.policy or (
        "Without a recipe nothing is too long: --recipe shows what would be cut, made smaller or left out"
    )
    sources = {name: dict(source.outcomes) for name, source in found.sources.items()}
    parts = (
        summary(outcomes),
        outcomes_bar(outcomes),
        f'<p class="lead">{escape(policy)}.</p>',
        by_source(sources),
        sorts,
    )
    return "".join(parts) + told(rows, outcomes)


def _duplicates(found: Findings) -> str:
    sorts = (
        (found.leaked, "Held-out pictures that are, or nearly are, among the training pictures"),
        (found.rows_again, "Rows with the words and pictures of an earlier one"),
        (found.names_again, "Pictures with the bytes of another file"),
        (found.similar, "Pictures that look nearly like an earlier one"),
    )
    if not any(repeats.count for repeats, _ in sorts):
        return '<p class="lead">No row comes twice, no picture under two names, and no two pictures look alike.</p>'
    return "".join(_repeated(repeats, what) for repeats, what in sorts if repeats.count)


def _repeated(repeats: Repeats, what: str) -> str:
    cells = [[escape(pair.first), escape(pair.second)] for pair in repeats.examples]
    more = (
        f' <span class="soft">the first {len(cells)} of {repeats.count:,}</span>' if repeats.count > len(cells) else ""
    )
    head = f"<h3>{what}: {repeats.count:,}{more}</h3>"
    return head + table(["Earlier", "Again"], cells, numeric_from=2, tall=True)


def _pictures(found: Findings) -> str:
    if not found.pictures and not found.videos:
        return ""
    rows = [
        _quantiles("Width, px", found.width),
        _quantiles("Height, px", found.height),
        _quantiles("Tokens of a picture", found.picture_tokens),
        _quantiles("Pictures of a sample", found.pictures_a_sample),
    ]
    charts = _pair(("Width", found.width, "px", None), ("Height", found.height, "px", None)) + _chart(
        "Tokens of a picture", found.picture_tokens, "tokens"
    )
    return charts + table(["", "Least", "Median", "95 % up to", "Most", "Mean"], rows)


def _sounds(found: Findings) -> str:
    if not found.sounds:
        return ""
    rows = [_quantiles("Length, ms", found.milliseconds), _quantiles("Tokens of a sound", found.sound_tokens)]
    return _chart("Length", found.milliseconds, "ms") + table(
        ["", "Least", "Median", "95 % up to", "Most", "Mean"], rows
    )


def _lengths(found: Findings) -> str:
    if not found.sample_tokens.count:
        return ""
    picture, sound, learnt = found.picture_tokens.total, found.sound_tokens.total, found.learnt.total
    rest = max(0, found.sample_tokens.total - picture - sound - learnt)
    heard = [("c4", "sounds", sound)] if sound else []
    bar = stacked_bar(
        [("c0", "pictures", picture), *heard, ("c6", "text, only read", rest), ("c2", "text, learnt", learnt)],
        label="Tokens by sort",
    )
    rows = [
        _quantiles("Tokens of a sample", found.sample_tokens),
        _quantiles("Learnt tokens", found.learnt),
        _quantiles("Answers", found.turns),
    ]
    longest = [
        [escape(one.location or one.id), f"{one.tokens:,}", f"{one.picture_tokens:,}", f"{one.pictures:,}"]
        for one in found.longest
    ]
    return (
        f'<p class="lead">Counted by {escape(found.measured)}.</p><figure>{bar}</figure>'
        + _chart("Tokens of a sample", found.sample_tokens, "tokens")
        + _chart("Learnt tokens of a sample", found.learnt, "tokens")
        + table(["", "Least", "Median", "95 % up to", "Most", "Mean"], rows)
        + "<h3>Longest</h3>"
        + table(["Sample", "Tokens", "Of pictures", "Pictures"], longest)
    )


def _words(found: Findings) -> str:
    blocks = []
    scripts = [(name, count) for name, count in found.characters.most_common() if count]
    if scripts:
        shown = [*scripts[:6], *([("the rest", sum(count for _, count in scripts[6:]))] if scripts[6:] else [])]
        bar = stacked_bar(
            [(f"c{index}", name, count) for index, (name, count) in enumerate(shown)], label="Characters by script"
        )
        blocks.append(f"<figure><figcaption><h3>Characters</h3></figcaption>{bar}</figure>")
    kinds = [(kind, count) for kind, count in found.kinds.most_common(KINDS) if kind]
    if kinds:
        whole = max(1, sum(found.kinds.values()))
        rows = [[escape(kind), f"{count:,}", percent(count / whole)] for kind, count in kinds]
        blocks.append("<h3>Kinds of question</h3>" + table(["Kind", "Rows", "Share"], rows))
    return "".join(blocks)


def _samples(shown: Sequence[Shown]) -> str:
    return f'<div class="examples">{"".join(map(_card, shown))}</div>' if shown else ""


def _card(one: Shown) -> str:
    pictures = "".join(
        f'<img src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}" alt="picture of the sample">'
        for png in one.pictures
    )
    several = " several" if len(one.pictures) > 1 else " heard" if one.sounds and not one.pictures else ""
    frame = pictures + "".join(map(player, one.sounds)) or '<p class="soft">no picture</p>'
    more = f'<p class="note">and {one.more_pictures} more</p>' if one.more_pictures else ""
    styles = {"read": "", "learnt": "learnt", "media": "slot"}
    spans = "".join(
        f'<span class="{styles[sort]}">{escape(f"[{text}]" if sort == "media" else text)}</span>'
        for sort, text in one.spans
    )
    answers = f"the last of {one.answers} answers; " if one.answers > 1 else ""
    lengths = f"{answers}{one.tokens:,} tokens: {one.picture_tokens:,} of media, {one.learnt:,} learnt"
    return (
        f'<article class="card example"><div class="frame{several}">{frame}</div><div class="body">'
        f'<p class="top"><span class="kind">{escape(one.id)}</span><span class="kind">{escape(one.kind)}</span></p>'
        f'<p class="question">{clipped(one.question) or "<i>nothing asked</i>"}</p>'
        f'<dl><dt>answer</dt><dd class="answer">{clipped(one.answer)}</dd></dl>{more}'
        f'<p class="note">{lengths}</p>'
        f'<details><summary>as the model reads it</summary><div class="spans">{spans}</div></details></div></article>'
    )


def _quantiles(name: str, tally: Tally) -> list[str]:
    values = (tally.least, tally.quantile(0.5), tally.quantile(0.95), tally.most)
    return [escape(name), *(f"{value:,}" for value in values), number(tally.total / max(1, tally.count))]


def _chart(title: str, tally: Tally, unit: str) -> str:
    if tally.least == tally.most:
        return ""
    drawn = both_widths(lambda width: histogram(tally.bins(), width=width, label=title, x_name=unit))
    return f"<figure><figcaption><h3>{escape(title)}</h3></figcaption>{drawn}</figure>"


def _pair(*charts: tuple[str, Tally, str, int | None]) -> str:
    """Two charts beside each other, where there is room."""
    figures = [
        f"<figure><figcaption><h3>{escape(title)}</h3></figcaption>"
        f"{histogram(tally.bins(), width=460, label=title, x_name=unit, limit=limit)}</figure>"
        for title, tally, unit, limit in charts
        if tally.least != tally.most
    ]
    return f'<div class="pair">{"".join(figures)}</div>' if figures else ""

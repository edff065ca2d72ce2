"""The run report: self-contained, escaped, well formed, and complete or gracefully shorter."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vitrail.contracts.errors import VitrailError
from vitrail.metrics.intervals import Score, bootstrap, wilson
from vitrail.metrics.scoring import Answer, summarise
from vitrail.report.charts import Axis, fitted, thinned
from vitrail.report.costs import _cut, recipe
from vitrail.report.curves import beside, smoothed, stages, timeline
from vitrail.report.page import Example, Report, render, write
from vitrail.report.scores import RUNS
from vitrail.report.text import compact, duration, number, tick

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = "<script>alert(1)</script> <img src=x onerror='x'> & \"quotes\" http://elsewhere.example/x.js"


class Page(HTMLParser):
    """Collects tags, attributes and text, and insists that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, style: str = "") -> int:
        """How many elements of this name there are, with this class if one is given."""
        found = [(attrs.get("class") or "").split() for name, attrs in self.tags if name == tag]
        return sum(not style or style in classes for classes in found)

    @property
    def sections(self) -> list[str]:
        return [attrs["id"] or "" for tag, attrs in self.tags if tag == "section"]


def png(width: int = 48, height: int = 32) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "PNG")
    return file.getvalue()


def log(count: int = 40, factor: float = 1.0) -> list[dict[str, Any]]:
    return [
        {
            "stage": "align" if step <= count // 2 else "instruct",
            "step": step,
            "loss": factor * (0.3 + 4 / step),
            "loss_by_source": {"shapes": 1 / step, "charts": 2 / step},
            "lr": {"encoder": 1e-4, "projector": 1e-3, "backbone": 1e-3},
            "tokens_per_second": 5000.0 + step,
            "gradient_norm": 1.0 + 1 / step,
            "seconds": 0.5 * step,
            "tokens": 1000 * step,
            "memory_gib": 1.25,
        }
        for step in range(1, count + 1)
    ]


def results(right: int, boxes: bool = True) -> dict[str, Any]:
    answers = [Answer(f"a{i}", "colour", "?", "red" if i < right else "blue", ("red",)) for i in range(100)]
    if boxes:
        answers.append(Answer("b", "where", "?", "[0, 0, 500, 500]", ("[0, 0, 500, 400]",)))
    return summarise(answers)


def example(**changes: Any) -> Example:
    base = Example(png(), "What colour?", "red", {"after": "red", "before": "blue", "blind": "green"}, "colour", 1.0)
    return dataclasses.replace(base, **changes)


@pytest.fixture
def full() -> Report:
    rows = [{"id": f"r{i}", "source": "shapes", "outcome": "dropped", "reason": "too long"} for i in range(250)]
    losses = {"right": bootstrap([1.0, 1.1], 0), "shuffled": bootstrap([2.0, 2.1], 0), "withheld": wilson(0, 0)}
    return Report(
        title="run 7",
        summary={"parameters": "5.1 M", "device": "cpu"},
        steps=log(),
        blind_steps=log(factor=2.0),
        results={"before": results(5), "blind": results(30), "after": results(90)},
        examples=[example() for _ in range(12)],
        recipe_yaml='name: run  # recipes/a.yaml:1\ntoken: "#1"  # default\n',
        ledger={"counts": {"used": 900, "dropped": 250}, "by_source": {"shapes": {"used": 900}}, "rows": rows},
        time={"data": 3.0, "forward+backward": 80.0},
        tokens={"text": 500, "picture": 900, "labelled": 200, "padding": 30},
        captions={name: score.to_json() for name, score in losses.items()},
    )


EMPTY = Report("empty", {}, [], [], {}, [], "", {}, {}, {})


def test_a_full_page_has_every_section_and_balanced_tags(full: Report) -> None:
    page = Page(render(full))
    assert page.sections == [
        *("result", "kinds", "pictures", "loss", "training", "examples", "costs", "ledger", "recipe"),
    ]
    assert page.count("article") == 12
    assert page.count("img") == 12
    for said in ("run 7", "5.1 M", "90.0", "60.0 points above the blind baseline", "do not overlap", "with pictures"):
        assert said in page.text.replace("\u00a0", " "), said


def test_the_loss_is_said_in_what_each_stage_counts_it_in(full: Report) -> None:
    """A preference is no token."""
    one = Page(render(dataclasses.replace(full, units={"align": "nats a token", "instruct": "nats a token"}))).text
    assert "nats a token" in one
    assert "align: nats" not in one
    units = {"align": "", "instruct": "nats a token", "again": "nats a token", "prefer": "nats a pair"}
    text = Page(render(dataclasses.replace(full, units=units))).text
    assert "align: the objective's own sum; instruct, again: nats a token; prefer: nats a pair" in text
    assert "nats a token" not in Page(render(full)).text.partition("Training loss")[2].partition("faint")[0]


def test_nothing_is_loaded_from_anywhere(full: Report) -> None:
    text = render(full)
    page = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"@import|url\(", text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base", "form"}
    for _, attrs in page.tags:
        for name in ("src", "href"):
            assert (attrs.get(name) or "#").startswith(("data:image/", "#"))
        assert not any(name.startswith("on") for name in attrs)


def test_everything_is_escaped() -> None:
    score = results(50)
    hostile_results = {**score, "by_kind": {HOSTILE: score["by_kind"]["colour"]}}
    step = {"stage": HOSTILE, "step": 1, "loss": 1.0, "loss_by_source": {HOSTILE: 1.0, "b": 2.0}, "lr": {HOSTILE: 0.1}}
    report = Report(
        title=HOSTILE,
        summary={HOSTILE: HOSTILE},
        steps=[step, {**step, "step": 2}],
        blind_steps=[],
        results={"after": hostile_results},
        examples=[Example(b"", HOSTILE, HOSTILE, dict.fromkeys(RUNS, HOSTILE), HOSTILE, 0.0)],
        recipe_yaml=f"name: {HOSTILE}  # {HOSTILE}",
        ledger={
            "counts": {HOSTILE: 3},
            "by_source": {HOSTILE: {HOSTILE: 3}},
            "rows": [{"id": HOSTILE, "source": HOSTILE, "outcome": HOSTILE, "reason": HOSTILE}],
        },
        time={HOSTILE: 2.0},
        tokens={HOSTILE: 5},
    )
    page = Page(render(report))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "img" not in {tag for tag, _ in page.tags}
    assert page.text.count(HOSTILE) > 15


def test_an_empty_report_is_a_page() -> None:
    page = Page(render(EMPTY))
    assert page.sections == []
    assert "recorded nothing" in page.text


PARTS: dict[str, tuple[Any, set[str]]] = {
    "steps": ([], {"training"}),
    "results": ({}, {"result", "kinds"}),
    "examples": ([], {"examples"}),
    "recipe_yaml": ("", {"recipe"}),
    "ledger": ({}, {"ledger"}),
    "captions": (None, {"pictures"}),
    "summary": ({}, set()),
    "blind_steps": ([], set()),
    "time": ({}, set()),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_takes_its_sections_with_it(full: Report, part: str) -> None:
    empty, gone = PARTS[part]
    whole = Page(render(full)).sections
    left = Page(render(dataclasses.replace(full, **{part: empty}))).sections
    assert left == [section for section in whole if section not in gone]


@pytest.mark.parametrize("missing", ["before", "blind", "after"])
def test_a_missing_run_is_left_out(full: Report, missing: str) -> None:
    kept = {run: scores for run, scores in full.results.items() if run != missing}
    page = Page(render(dataclasses.replace(full, results=kept)))
    assert page.count("div", "big") == 2


def test_half_empty_records_do_no_harm() -> None:
    broken: list[dict[str, Any]] = [{}, {"loss": math.nan}, {"loss": None, "lr": None}, {"step": 3, "loss": 1.0}]
    report = dataclasses.replace(
        EMPTY,
        steps=broken,
        results={"after": {"exact_match": {"value": 0.5}}, "blind": {}, "before": None},
        ledger={"rows": [{}]},
        tokens={"labelled": 5},
        captions={"right": {"value": 1.0}},
        examples=[example(picture_png=b"not a picture"), example(picture_png=b"\x89PNG\r\n\x1a\n"), example(score=0.4)],
    )
    page = Page(render(report))
    assert {"result", "loss", "examples", "ledger"} <= set(page.sections)
    assert "nan" not in page.text


def test_verdict_says_overlap_and_worse(full: Report) -> None:
    close = Page(render(dataclasses.replace(full, results={"after": results(33), "blind": results(30)})))
    assert "the 95\u00a0% intervals overlap" in close.text
    worse = Page(render(dataclasses.replace(full, results={"after": results(3), "blind": results(50)})))
    assert "47.0 points below the blind baseline" in worse.text


def test_without_text_answers_the_headline_is_box_iou(full: Report) -> None:
    only = summarise([Answer("b", "where", "?", "[0, 0, 500, 500]", ("[0, 0, 500, 400]",))])
    page = Page(render(dataclasses.replace(full, results={"after": only})))
    assert "Box IoU on held-out questions" in page.text
    assert "80.0\u00a0%" in page.text


def test_small_pictures_are_pixelated_and_boxes_are_drawn(full: Report) -> None:
    box = example(truth="[100, 200, 500, 600]", answers={"after": "at [90, 200, 500, 600]"}, score=0.97)
    page = Page(render(dataclasses.replace(full, examples=[example(), example(picture_png=png(640, 400)), box])))
    assert page.count("img", "pixelated") == 2
    assert page.count("svg", "boxes") == 1
    assert page.count("rect", "given") == 1
    assert "97\u00a0%" in page.text


def test_endless_answers_are_clipped(full: Report) -> None:
    page = Page(render(dataclasses.replace(full, examples=[example(answers={"after": "the " * 5000})])))
    assert "(20,000 characters)" in page.text
    assert page.text.count("the the") < 100


def test_labelled_tokens_are_not_counted_twice(full: Report) -> None:
    text = Page(render(full)).text.replace("\u00a0", " ")
    assert "Tokens 1,430" in text
    assert "text, learned from  200  (14.0 %)" in text


def test_ledger_rows_end_at_two_hundred(full: Report) -> None:
    text = Page(render(full)).text
    assert "The first 200 of 250 rows" in text
    assert "r199" in text
    assert "r200" not in text


def test_a_long_run_makes_a_small_page() -> None:
    assert len(render(dataclasses.replace(EMPTY, steps=log(20_000)))) < 1_000_000


def test_write_makes_folders_and_replaces(full: Report, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a" / "report.html"
    write(EMPTY, path)
    write(full, path)
    assert path.read_text(encoding="utf-8") == render(full)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_write_to_an_impossible_path_is_one_clean_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(VitrailError, match="cannot write the report to"):
        write(EMPTY, tmp_path / "file" / "report.html")


def test_a_baseline_that_lacks_a_stage_stands_beside_the_others() -> None:
    run = [{"stage": "a", "step": step} for step in (1, 2, 3)] + [{"stage": "b", "step": step} for step in (1, 2)]
    bands = stages(run, timeline(run))
    assert beside(run, bands) == timeline(run) == [1, 2, 3, 4, 5]
    assert beside(run[3:], bands) == [4, 5]
    assert beside(run[:2], bands) == [1, 2]
    assert beside([{"stage": "c", "step": 1}], bands) == beside([{"stage": "c", "step": 1}], []) == [1]


def test_timeline_goes_on_where_a_stage_counts_anew() -> None:
    again = [{"stage": "a", "step": 1}, {"stage": "a", "step": 2}, {"stage": "b", "step": 1}, {"stage": "b", "step": 2}]
    assert timeline(again) == [1, 2, 3, 4]
    from_zero = [{"stage": "a", "step": 0}, {"stage": "a", "step": 1}, {"stage": "b", "step": 0}]
    assert timeline(from_zero) == [0, 1, 2]
    assert timeline([{"stage": "a", "step": 1}, {"stage": "b", "step": 2}]) == [1, 2]
    bands = stages(again, timeline(again))
    assert [(band.name, band.start, band.end) for band in bands] == [("a", 1, 2), ("b", 2, 4)]


def test_smoothing_stays_within_a_stage() -> None:
    records = [{"stage": "a" if i <= 50 else "b", "step": i} for i in range(1, 101)]
    points = [(float(i), 5.0 if i <= 50 else 1.0) for i in range(1, 101)]
    assert smoothed(points, stages(records, timeline(records))) == points


def test_axes_have_round_ticks_inside_their_range() -> None:
    for low, high in ((0.13, 0.94), (1e-5, 3e-4), (3.0, 3.0), (0.0, 0.0), (-2.0, 5.5)):
        axis = fitted([low, high], 0, 100)
        ticks = axis.ticks(5)
        assert 3 <= len(ticks) <= 12
        assert axis.low <= low <= high <= axis.high
        assert all(0 <= axis.at(value) <= 100 for value in ticks)
    assert Axis(0.1, 10, 0, 100, log=True).at(1) == pytest.approx(50)
    assert Axis(0.1, 10, 0, 100, log=True).ticks(3) == pytest.approx([0.1, 0.3, 1, 3, 10])


def test_thinning_keeps_the_extremes() -> None:
    points = [(float(i), math.sin(i)) for i in range(10_000)]
    points[777] = (777.0, 9.0)
    kept = thinned(points, 200)
    assert len(kept) <= 201
    assert (777.0, 9.0) in kept
    assert kept == sorted(kept)


def test_recipe_comments_are_told_from_hash_signs_in_values() -> None:
    assert _cut('token: "a # b"  # default') == ('token: "a # b"', "# default")
    assert _cut("colour: a#b") == ("colour: a#b", "")
    assert _cut("name: don't  # origin") == ("name: don't", "# origin")
    assert _cut("  # alone") == ("  ", "# alone")
    assert recipe("  \n") == ""
    assert '<span class="origin"># default</span>' in recipe("a: 1  # default")


def test_numbers_read_well() -> None:
    assert [number(v) for v in (0, 0.04213, 5.126, 48.24, 12345.6, 0.0000123)] == [
        *("0", "0.0421", "5.13", "48.2", "12,346", "1.2e-5"),
    ]
    assert [compact(v) for v in (940, 9_400, 12_345, 5_100_000, 2e9)] == [
        *("940", "9,400", "12.3\u00a0k", "5.1\u00a0M", "2.0\u00a0G"),
    ]
    assert [duration(v) for v in (0.84, 12.4, 59.97, 372, 11100)] == [
        *("840\u00a0ms", "12.4\u00a0s", "1\u00a0min 00\u00a0s", "6\u00a0min 12\u00a0s", "3\u00a0h 05\u00a0min"),
    ]
    assert [tick(v) for v in (0, 0.5, 1200, 20_000, 0.001, 5e-5)] == ["0", "0.5", "1200", "20k", "1e-3", "5e-5"]
    assert Score.from_json({"value": 1.0}).n == 0


def test_the_ledger_says_of_every_outcome_how_many_and_why(tmp_path: Path) -> None:
    """Also of a rare one behind a frequent one, and in the order in which outcomes are told."""
    from vitrail.data.ledger import Event, Ledger, LedgerFile, rows_of, write
    from vitrail.report.ledger import OUTCOMES, chosen

    ledger = Ledger()
    for source in ("scans", "charts"):
        ledger.record(Event(f"u{number}", source, "used") for number in range(500))
        ledger.record(Event(f"s{number}", source, "media_shrunk", f"{source}:{number}: big") for number in range(300))
        for outcome in OUTCOMES[1:]:
            ledger.record([Event(outcome, source, outcome, f"{source}:7: {outcome} because")])  # type: ignore[arg-type]
    counts = {outcome: sum(found[outcome] for found in ledger.counts.values()) for outcome in OUTCOMES}
    file = LedgerFile(tmp_path / "beside.jsonl", {})
    file.add(ledger.rows)
    kept = {**ledger.to_json(), **file.mark()}
    file.close()
    rows = chosen(rows_of(tmp_path / "beside.jsonl", kept))
    assert len(rows) == 200
    assert {(row["source"], row["outcome"]) for row in rows} == {
        (s, f) for s in ("scans", "charts") for f in OUTCOMES[1:]
    }
    write(tmp_path / "ledger.jsonl", tmp_path / "beside.jsonl", kept)
    totals, *named = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert totals["counts"]["scans"] == {**dict.fromkeys(OUTCOMES, 1), "used": 500, "media_shrunk": 301}
    assert len(named) == 612
    report = dataclasses.replace(EMPTY, ledger={"counts": counts, "by_source": ledger.counts, "rows": rows})
    page = Page(render(report))
    assert "62.0\u00a0% of 1,612 rows used as they are, 37.6\u00a0% changed to fit, 0.4\u00a0% left out." in page.text
    assert "The first 200 of 612 rows" in page.text
    for outcome in OUTCOMES[1:]:
        for source in ("scans", "charts"):
            assert outcome == "media_shrunk" or f"{source}:7: {outcome} because" in page.text
        assert outcome.replace("_", " ") in page.text


def test_histograms_say_what_their_last_bar_holds() -> None:
    from vitrail.report.bars import histogram, sparkline

    bins = [(0, 10, 5), (10, 20, 0), (20, 500, 2)]
    chart = histogram(bins, width=960, label="tokens", x_name="tokens", limit=15)
    assert chart.count("<rect") == 3
    assert "20 and more: 2" in chart
    assert "0 to 9: 5" in chart
    assert "allowed: 15" in chart
    assert sparkline(bins) == "\u2588\u2581\u2584"
    assert histogram([], width=960, label="", x_name="") == sparkline([]) == ""

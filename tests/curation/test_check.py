"""A look at data: what it counts, what it finds twice, what it cannot read, and that its memory stays flat."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrail.contracts.errors import DataError, RecipeError
from vitrail.contracts.messages import Row
from vitrail.contracts.samples import Pack
from vitrail.curation.check import Check, Checked
from vitrail.curation.findings import EXAMPLES, Findings, Told
from vitrail.curation.seen import Met, Seen, print_of
from vitrail.curation.tally import Tally
from vitrail.curation.words import scripts, sort_of
from vitrail.data.collate import collate
from vitrail.data.config import MixtureConfig, Reading
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode
from vitrail.data.sources.config import FolderConfig, JsonlConfig, ParquetConfig, WebDatasetConfig
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.media.rule import default_rules
from vitrail.models.backbones.tokenizer import byte_tokenizer
from vitrail.prompts.templates import template
from vitrail.report.data_page import render
from vitrail.run.data_check import Wanted, check_data, data_of


def picture(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Blocks of colour, each seed its own."""
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path)
    return path


def row(name: str, image: str | None, answer: str = "red", asked: str = "What?") -> dict[str, Any]:
    tag = "<image>" if image else ""
    said = [{"role": "user", "content": tag + asked}, {"role": "assistant", "content": answer}]
    return {"id": name, "messages": said, **({"images": [image]} if image else {})}


def write(path: Path, rows: list[dict[str, Any]], end: str = "") -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows) + end, encoding="utf-8")
    return str(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory: four pictures, a copy of the first, the second made larger, and half of the third."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        picture(Path(f"{number}.png"), number)
    Path("copy.png").write_bytes(Path("0.png").read_bytes())
    Image.open("1.png").resize((80, 60), Image.Resampling.BICUBIC).save("near.jpg", quality=70)
    Path("torn.png").write_bytes(Path("2.png").read_bytes()[:150])


@pytest.mark.usefixtures("folder")
def test_every_row_is_accounted_for() -> None:
    rows = [
        *(row(f"r{number}", f"{number}.png") for number in range(4)),
        row("again", "0.png"),
        row("gone", "nowhere.png"),
        row("lost", "neither.png"),
        row("torn", "torn.png"),
        row("empty", "0.png", answer=" "),
        row("text", None, asked="多少?"),
    ]
    rows[4] = {**rows[0], "id": "again"}
    found = check_data(Wanted(write(Path("rows.jsonl"), rows, "{no json\n")))
    assert found.rows == 11
    assert found.outcomes == {"used": 6, "unreadable": 5}
    assert found.sources["rows"].total == 11
    assert [one.id for one in found.told] == ["gone", "lost", "torn", "empty", "row 10"]
    assert found.reasons["picture '...' does not exist"] == 2
    assert found.first_of["picture '...' does not exist"] == "rows.jsonl:6: picture 'nowhere.png' does not exist"
    assert any("truncated" in sort for sort in found.reasons)
    assert (found.pictures, found.distinct_pictures) == (5, 4)
    assert (found.width.least, found.width.most, found.height.most) == (64, 64, 48)
    assert (found.pictures_a_sample.least, found.pictures_a_sample.most) == (0, 1)
    assert found.rows_again.count == 1
    assert found.rows_again.examples[0].second == "rows.jsonl:5"
    assert found.characters["Han"] == 2
    # `<image>` stands for the picture: the answer in bytes, and the token that ends it.
    assert found.learnt.most == len("red") + 1
    assert found.mask_share == pytest.approx(6 * 4 / found.sample_tokens.total)
    assert "bytes" in found.measured
    assert found.policy == ""


@pytest.mark.usefixtures("folder")
def test_pictures_that_come_again() -> None:
    names = ["0.png", "1.png", "2.png", "copy.png", "near.jpg", "0.png"]
    rows = [row(f"r{number}", name, asked=f"{number}?") for number, name in enumerate(names)]
    held = [row("h0", "2.png"), row("h1", "3.png"), row("h2", "near.jpg")]
    found = check_data(Wanted(write(Path("rows.jsonl"), rows), write(Path("held.jsonl"), held)))
    assert [(pair.first, pair.second) for pair in found.names_again.examples] == [("0.png", "copy.png")]
    assert [(pair.first, pair.second) for pair in found.similar.examples] == [("1.png", "near.jpg")]
    assert [(pair.first, pair.second) for pair in found.leaked.examples] == [
        ("2.png", "2.png"),
        ("near.jpg", "near.jpg"),
    ]
    assert found.rows_again.count == 0
    assert found.sources["held (held out)"].held_out
    assert found.pictures == 6


@pytest.mark.usefixtures("folder")
def test_outcomes_by_a_recipe(tiny_recipe_file: Path) -> None:
    picture(Path("large.png"), 9, (400, 300))
    rows = [row("short", "0.png"), row("long", None, answer="very " * 200), row("wide", "large.png", answer="x" * 150)]
    data = write(Path("rows.jsonl"), rows)
    outcomes = {}
    for policy in ("drop", "shrink_media", "truncate_text"):
        change = ("data.pack.length=180", f"data.pack.overlong={policy}")
        found = check_data(Wanted(data, None, str(tiny_recipe_file), change))
        outcomes[policy] = dict(found.outcomes)
        assert f"overlong: {policy}" in found.policy
        assert found.sample_tokens.count == 3
    assert outcomes == {
        "drop": {"used": 1, "too_long": 2},
        "shrink_media": {"used": 1, "too_long": 1, "media_shrunk": 1},
        "truncate_text": {"used": 1, "text_cut": 2},
    }
    assert [long.id for long in found.longest] == ["long", "wide", "short"]


def test_the_data_of_a_recipe(tiny_recipe_file: Path) -> None:
    changes = (
        "data.held_out={kind: drawn, split: test, rows: 5}",
        "stages.instruct.data={kind: mixture, parts: [{name: a, source: {kind: drawn, rows: 6, seed: 1}}, "
        "{name: b, source: {kind: drawn, rows: 16, size: [64, 128]}}]}",
    )
    found = check_data(Wanted(recipe=str(tiny_recipe_file), overrides=changes, rows=4))
    # The source of `b` is the one of the first stage: it is looked at once.
    assert {name: one.rows for name, one in found.sources.items()} == {"drawn": 4, "a": 4, "drawn (held out)": 4}
    assert found.sources["drawn"].total == 16
    assert found.sample_tokens.count == 8


def test_what_data_stands_for(tmp_path: Path) -> None:
    assert isinstance(data_of("rows.jsonl", "DATA"), JsonlConfig)
    assert isinstance(data_of("rows.parquet", "DATA"), ParquetConfig)
    assert isinstance(data_of("rows.tar", "DATA"), WebDatasetConfig)
    for name, kind in (("a.png", FolderConfig), ("a.parquet", ParquetConfig), ("a.tar", WebDatasetConfig)):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).touch()
        assert isinstance(data_of(str(folder), "DATA"), kind)
    given = data_of("{kind: mixture, parts: [{name: a, source: {kind: jsonl, path: a.jsonl}}]}", "DATA")
    assert isinstance(given, MixtureConfig)
    with pytest.raises(RecipeError, match=r"row.*did you mean 'rows'"):
        data_of("{kind: drawn, row: 3}", "DATA")
    with pytest.raises(DataError, match="does not exist"):
        check_data(Wanted("nowhere.jsonl"))
    with pytest.raises(DataError, match="nothing to check"):
        check_data(Wanted())
    with pytest.raises(DataError, match="none is given"):
        check_data(Wanted("a.jsonl", overrides=("seed=1",)))


class Endless:
    """A stream of made-up rows, some of them bad; each picture has its own noise."""

    name = "endless"

    def rows(self, epoch: int, cursor: Any) -> Iterator[tuple[Row | DataError, Any]]:
        rng = np.random.default_rng(0)
        number = 0
        while True:
            if number % 10 == 7:
                yield DataError(f"endless:{number}: torn"), number
            else:
                pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
                yield (
                    Row(f"e{number}", {**row(f"e{number}", None), "images": [pixels]}, None, f"endless:{number}"),
                    number,
                )
            number += 1


def test_memory_stays_flat(tiny_encode: Encode) -> None:
    """Of three times as many rows, nothing more is kept."""
    grown = []
    for rows in (300, 900):
        findings = Findings("endless", "tiny")
        with Seen() as seen:
            check = Check(findings, tiny_encode, None, seen)
            tracemalloc.start()
            for _ in check.source(Checked("endless", Endless(), Reading("tags"), rows=rows)):
                pass
            grown.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
            check.finish()
        assert findings.outcomes == {"used": rows * 9 // 10, "unreadable": rows // 10}
        assert findings.sources["endless"].total is None
        assert len(findings.told) == min(rows // 10, EXAMPLES)
        assert len(findings.shown) == 20
    assert grown[1] < 1.3 * grown[0] + 50_000


@pytest.mark.usefixtures("folder")
def test_the_page_shows_everything_and_escapes_it() -> None:
    hostile = "<script>alert(1)</script>"
    rows = [row(f"r{number}", f"{number}.png", answer=hostile, asked=f"{hostile} {number}?") for number in range(4)]
    rows += [{**row(hostile, "copy.png"), "kind": hostile}, row("gone", f"{hostile}.png")]
    found = check_data(Wanted(write(Path("rows.jsonl"), rows)))
    page = render(found)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 8
    assert page.count("data:image/png;base64,") == 5
    for section in ("outcomes", "duplicates", "pictures", "lengths", "words", "samples"):
        assert f'<section id="{section}"' in page
    assert '<span class="learnt">' in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.usefixtures("folder")
def test_a_page_of_nothing_readable() -> None:
    found = check_data(Wanted(write(Path("rows.jsonl"), [row("gone", "nowhere.png")])))
    page = render(found)
    assert "none left out" not in page
    assert '<section id="samples"' not in page


def test_tally() -> None:
    tally = Tally()
    for value in [*range(1000, 3000), 123_456]:
        tally.add(value)
    assert (tally.count, tally.least, tally.most) == (2001, 1000, 123_456)
    assert tally.total == sum(range(1000, 3000)) + 123_456
    assert tally.quantile(0.5) == pytest.approx(2000, rel=0.01)
    bins = tally.bins()
    assert sum(count for *_, count in bins) == 2001
    assert bins[-1][1] == 123_457
    assert {stop - start for start, stop, _ in bins[:-1]} == {100}
    assert len(tally.counts) < 300
    assert Tally().bins() == []
    assert Tally().quantile(0.5) == 0
    one = Tally()
    one.add(0)
    assert one.bins() == [(0, 1, 1)]


def test_prints_tell_pictures_apart_and_know_them_again(tmp_path: Path) -> None:
    with Seen() as seen:
        shapes = []
        for number in range(30):
            pixels = np.asarray(Image.open(picture(tmp_path / "one.png", number, (200, 150))))
            assert seen.similar(print_of(pixels), Met(str(number), False)) is None
            shapes.append(pixels)
        for number, pixels in enumerate(shapes):
            smaller = np.asarray(Image.fromarray(pixels).resize((140, 100), Image.Resampling.BICUBIC))
            known = seen.similar(print_of(smaller), Met("smaller", True))
            assert known == Met(str(number), False)
        # Blank paper has nothing to be known by.
        blank = np.full((50, 50, 3), 255, np.uint8)
        assert seen.similar(print_of(blank), Met("a", False)) is None
        assert seen.similar(print_of(blank), Met("b", False)) is None


def test_words() -> None:
    assert scripts("Total: 12,50 €  总额 Привет") == {"Latin": 5, "digits": 4, "signs": 3, "Han": 2, "Cyrillic": 6}
    assert sort_of("a.jsonl:7: picture 'x.png' does not exist", "a.jsonl:7") == "picture '...' does not exist"
    assert sort_of("a b.jsonl:7: 8003 tokens", "a b.jsonl:7") == "N tokens"


def test_rows_are_told_outcome_by_outcome() -> None:
    """A thousand shrunk pictures do not hide the one that cannot be read."""
    findings = Findings("many", "tiny")
    for number in range(1000):
        findings.tell(Told(str(number), "many", "media_shrunk", f"{number}: shrunk"), "shrunk")
    findings.tell(Told("last", "many", "unreadable", "last: torn"), "torn")
    assert len(findings.told) == EXAMPLES + 1
    assert findings.reasons == {"shrunk": 1000, "torn": 1}
    assert json.dumps(findings.to_json())


def test_a_video_is_read_as_training_reads_it(tmp_path: Path) -> None:
    """Cut off behind the last frame that is looked at: what nobody looks at need not be there."""
    av = pytest.importorskip("av", reason="pip install 'vitrail[video]'")
    whole = tmp_path / "whole.mkv"
    with av.open(whole, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shade in range(20):
            pixels = np.full((48, 64, 3), 10 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    data = whole.read_bytes()
    for name, wanted in (("cut.mkv", 16), ("torn.mkv", 12)):
        for size in range(len(data), 0, -20):
            (tmp_path / name).write_bytes(data[:size])
            with av.open(tmp_path / name) as container:
                if sum(1 for _ in container.decode(video=0)) == wanted:
                    break
    rows = [{"video": name, "question": "?", "answer": "x"} for name in ("whole.mkv", "cut.mkv", "torn.mkv")]
    rows.append({"videos": [["0.png", "1.png"]], "question": "?", "answer": "x"})
    for number in range(2):
        picture(tmp_path / f"{number}.png", number)
    path = write(tmp_path / "rows.jsonl", rows)
    found = check_data(Wanted(path))
    assert found.outcomes == {"used": 3, "unreadable": 1}
    (reason,) = found.first_of.values()
    assert "rows.jsonl:3: video " in reason
    assert "says it has 20 frames, 12 could be read" in reason
    encode = Encode(default_rules(), template("terse"), byte_tokenizer(template("terse").specials))
    source = JsonlSource(JsonlConfig(Path(path)))
    for index, there in enumerate((True, True, False, True)):
        sample = encode(to_conversation(source.row(index), "vqa"), "rows")
        batch, events = collate(Pack((sample,)), encode.media)
        assert (batch is not None) == there
        assert [event.outcome for event in events] == ["used" if there else "unreadable"]

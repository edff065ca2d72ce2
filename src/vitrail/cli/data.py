"""`vitrail data`: pictures drawn by the package, rows for a user's own pictures, and a look at data (data_check.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.cli import data_check
from vitrail.contracts.errors import DataError, nearest
from vitrail.synthetic.config import KINDS, DrawnConfig, LinesConfig
from vitrail.synthetic.documents.config import ASKS, DOCUMENTS, DocumentsConfig
from vitrail.synthetic.speech.config import SpokenConfig

if TYPE_CHECKING:
    from vitrail.synthetic.export import AnyDrawnConfig

WHAT = ("drawn", "lines", "documents", "spoken")
"""What can be drawn: the names that a recipe has for it as `kind`."""

app = typer.Typer(no_args_is_help=True, help="Draw data, begin with your own, or check what you have.")
app.command("check")(data_check.check)


@app.callback()
def group() -> None:
    """Draw data, begin with your own, or check what you have."""


@app.command()
def draw(
    out: Annotated[Path, typer.Argument(help="Folder to write to: SPLIT.jsonl and images/, or audios/.")],
    rows: Annotated[int, typer.Option(help="Pictures, or phrases.", min=1)] = 1000,
    split: Annotated[str, typer.Option(help="train or test: they share no value, layout or font.")] = "train",
    seed: Annotated[int, typer.Option(help="Other seeds draw other pictures.")] = 0,
    smallest: Annotated[int, typer.Option(help="Smallest side of drawn scenes, px: 64 to 128, a multiple of 16.")] = 64,
    largest: Annotated[int, typer.Option(help="Largest side of drawn scenes, px.")] = 64,
    what: Annotated[
        str,
        typer.Option(
            help="What to draw: drawn (shapes, counts, words, bars), lines (of text), documents, or spoken words."
        ),
    ] = "drawn",
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only this kind of question (repeatable): {', '.join(KINDS)}; of documents: {', '.join(ASKS)}."
        ),
    ] = None,
    document: Annotated[
        list[str] | None, typer.Option(help=f"Only this kind of document (repeatable): {', '.join(DOCUMENTS)}.")
    ] = None,
) -> None:
    """Draw pictures with questions, answers and boxes, or say words."""
    kinds, documents = tuple(kind or ()), tuple(document or ())
    config = _config(what, split, rows, seed, (smallest, largest), kinds, documents)

    from vitrail.cli.progress import Terminal
    from vitrail.synthetic.export import export

    with Terminal().counting("drawing", rows) as on_row:
        path = export(config, out, lambda count: on_row())
    typer.echo(f"{path}")


@app.command()
def template(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures; folders in it are looked through too.")],
    out: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT.jsonl", help="File to write; default: the folder's name, here.", show_default=False
        ),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            help="Share of the pictures for a second file, OUT.held_out.jsonl, e.g. 0.2; chosen by their names.",
            show_default=False,
        ),
    ] = None,
    questions: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A question to ask of every picture (repeatable).", show_default=False),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What to read off every picture, as JSON, instead of questions (repeatable): total, date ...",
            show_default=False,
        ),
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Append the pictures that are not in the files yet, asked the same.")
    ] = False,
) -> None:
    """Write rows for a folder of pictures.

    The answers are left empty for you to fill in.
    """
    from vitrail.cli.progress import Terminal
    from vitrail.data.template import TemplateConfig, counted, write_template

    config = TemplateConfig(
        folder,
        out or Path(f"{folder.resolve().name}.jsonl"),
        held_out,
        tuple(questions or ()),
        tuple(fields or ()),
        add,
    )
    made = write_template(config, lambda files: Terminal().counting("looking at files", files))
    for line in made.left_out:
        typer.echo(f"left out: {line}", err=True)
    if made.others:
        typer.echo(f"no pictures: {counted(made.others)}", err=True)
    for path, count in made.pictures.items():
        typer.echo(f"{path}: {count} {'new ' if add else ''}picture{'' if count == 1 else 's'}")
    if not folder.resolve().is_relative_to(config.out.parent.resolve()):
        typer.echo(
            f"the pictures lie outside the folder of {config.out}: a recipe reads them with "
            f"{{kind: jsonl, path: {config.out}, allow_outside: true}}",
            err=True,
        )


@app.command("read")
def read_page(
    picture: Annotated[Path, typer.Argument(help="A picture of a page: a scan, a screenshot, a photograph.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: each line's text, row, box and confidence.")
    ] = False,
    source: Annotated[
        str, typer.Option(help="Where detector and recogniser come from: wheel:NAME, or a folder with ONNX files.")
    ] = "wheel:rapidocr",
) -> None:
    """Read the lines of text on a page, as models with media of kind text_lines see them."""
    import json

    from vitrail.media import image
    from vitrail.media.config import TextLinesConfig
    from vitrail.models.reading.reader import TextReader

    page = TextReader(TextLinesConfig(source=source))(image.load(picture))
    if not as_json:
        typer.echo(page.text, nl=False)
        return
    lines = [
        {
            "text": line.text,
            "row": line.row,
            "box": [round(edge, 4) for edge in line.box],
            "confidence": round(float(line.confidence.mean()), 4),
        }
        for line in page.lines
    ]
    typer.echo(json.dumps({"lines": lines}, ensure_ascii=False))


def _config(
    what: str,
    split: str,
    rows: int,
    seed: int,
    size: tuple[int, int],
    kinds: tuple[str, ...],
    documents: tuple[str, ...],
) -> AnyDrawnConfig:
    """The settings of what is to be drawn. Raises DataError for a choice that it does not have."""
    if documents and what != "documents":
        raise DataError(f"--document is given with --what {what}, allowed: only with --what documents")
    if what == "documents":
        return DocumentsConfig(split=split, rows=rows, seed=seed, documents=documents, ask=kinds)
    if what in ("lines", "spoken"):
        if kinds:
            raise DataError(f"--kind is given with --what {what}, allowed: only with drawn or documents")
        if what == "lines":
            return LinesConfig(split=split, rows=rows, seed=seed, ask=True)
        return SpokenConfig(split=split, rows=rows, seed=seed)
    if what != "drawn":
        raise DataError(f"--what is '{what}'{nearest(what, WHAT)}, allowed: {', '.join(WHAT)}")
    return DrawnConfig(split=split, rows=rows, seed=seed, size=size, kinds=kinds)

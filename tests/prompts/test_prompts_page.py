"""The examples of docs/prompts.md are what the code writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vitrail.contracts.messages import BoxPart, ImagePart, Message, RefPart, Row, TextPart
from vitrail.data.dialects import to_conversation
from vitrail.prompts.boxes import written
from vitrail.prompts.config import BOX_SPECIALS, PICTURES, PictureConfig
from vitrail.prompts.official import PROMPTS
from vitrail.prompts.recognise import spelled
from vitrail.prompts.templates import TEMPLATES
from vitrail.prompts.turns import Special
from vitrail.recipe.read import read_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def lines(block: str) -> dict[str, str]:
    pairs = (line.split(maxsplit=1) for line in block.splitlines())
    return {name: text.replace("\\n", "\n") for name, text in pairs}


def test_templates() -> None:
    talk = [Message("system", (TextPart("Be brief."),)), Message("user", (TextPart("Hi"),))]
    talk += [Message("assistant", (TextPart("Hello."),)), Message("user", (TextPart("How?"),))]
    made = {name: spelled(talk, chat, PictureConfig()).rstrip(" ") for name, chat in TEMPLATES.items()}
    assert {name: text.rstrip(" ") for name, text in lines(blocks("text")[0]).items()} == made


def test_picture_styles() -> None:
    pictures = (ImagePart(b""), ImagePart(b""), TextPart("Compare."))
    asked = [Message("user", pictures)]
    made = {name: spelled(asked, TEMPLATES["terse"], style) for name, style in PICTURES.items()}
    assert lines(blocks("text")[1]) == {name: text.removesuffix("<|answer|>") for name, text in made.items()}


def test_boxes() -> None:
    parts = (RefPart("the dog"), BoxPart(((0.012, 0.034, 0.56, 0.78),)))
    made = {
        style: "".join(
            piece.name if isinstance(piece, Special) else piece for part in parts for piece in written(part, style)
        )
        for style in BOX_SPECIALS
    }
    assert lines(blocks("text")[2]) == made


def test_the_recipe_is_the_prompt_of_qwen2_vl(tmp_path: Path) -> None:
    (snippet,) = blocks("yaml")
    demo = (Path(__file__).parents[2] / "recipes" / "demo.yaml").read_text(encoding="utf-8")
    path = tmp_path / "own.yaml"
    path.write_text(re.sub(r"^prompt:.*\n", lambda _: snippet, demo, flags=re.MULTILINE), encoding="utf-8")
    assert read_recipe(str(path)).value.prompt == PROMPTS["qwen2_vl"]


def test_the_agents_row_is_read() -> None:
    (snippet,) = blocks("json")
    read = to_conversation(Row("1", json.loads(snippet)))
    assert [len(message.calls) for message in read.messages] == [0, 1, 0, 0]
    assert len(read.media) == 2
    assert len(read.tools) == 1

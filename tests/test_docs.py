"""What the documentation says is there: pages, links, files, recipes, and code that runs as printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page: str, language: str) -> list[str]:
    """The fenced code of one language on a page of docs/."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its fenced code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a link's `#...` can mean on a page, as GitHub spells it."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_help_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/help.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_life_of_a_sample_is_what_runs() -> None:
    done = subprocess.run(
        [sys.executable, "docs/life_of_a_sample.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_recipes_and_tests_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:recipes/[\w/-]+\.yaml|(?:tests|benchmarks)/[\w/]+\.py)\b", text):
        assert (ROOT / name).is_file(), name


def test_files_on_the_map_exist() -> None:
    text = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_/]+\.py)`", text))
    alone = {"config.py", "yaml_lines.py", "layers.py", "convert.py"}
    assert len(named) > 40
    for name in named - alone:
        assert (ROOT / name).is_file() or (ROOT / "src" / "vitrail" / name).is_file(), name


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


def test_the_first_recipe_is_the_demo() -> None:
    assert blocks("first-recipe.md", "yaml")[0] == (ROOT / "recipes" / "demo.yaml").read_text(encoding="utf-8")


def test_the_other_recipes_on_the_pages_are_read(tmp_path: Path) -> None:
    from vitrail.recipe.read import read_recipe

    pages = ("own-component.md", "mixtures.md")
    texts = [blocks("first-recipe.md", "yaml")[1], *(text for page in pages for text in blocks(page, "yaml"))]
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        assert read_recipe(str(path)).value.stages


def test_components_of_the_page_take_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's encoder, projector and objective, put together by its recipe."""
    from vitrail import build
    from vitrail.data.collate import collate
    from vitrail.recipe.read import read_recipe
    from vitrail.training.device import Device

    (tmp_path / "mine.py").write_text("\n\n".join(blocks("own-component.md", "python")), encoding="utf-8")
    (recipe_text,) = blocks("own-component.md", "yaml")
    (tmp_path / "own.yaml").write_text(recipe_text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    recipe = read_recipe("own.yaml", ["data.train.rows=8", "data.pack.window=8"]).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    model = build.build_model(recipe.model, tokenizer.vocabulary, seed=0)
    stage = build.build_stages(recipe, encode, Device("cpu", "float32", 1, compiled=False))[1]
    (pack,) = stage.stream.first_window().packs
    batch, _ = collate(pack, encode.media)
    assert batch is not None
    (term,) = stage.objective(model, batch).values()
    assert stage.objective.counts(batch) == {"smoothed": term.count}
    term.loss_sum.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    sys.modules.pop("mine", None)


def test_the_stamps_snippet_splits_by_caption(tmp_path: Path) -> None:
    (snippet,) = blocks("stamps.md", "python")
    (tmp_path / "split.py").write_text(snippet, encoding="utf-8")
    folder = tmp_path / "stamps"
    folder.mkdir()
    rows = [
        {
            "file_name": f"{number}.png",
            "category": "signs",
            "captions": {"en": f"{'A' if capital else 'a'} sign {number}."},
        }
        for number in range(300)
        for capital in (True, False)
    ]
    rows.append({"file_name": "none.png", "category": "signs", "captions": {"de": "Ein Schild."}})
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    subprocess.run([sys.executable, "split.py", "stamps"], cwd=tmp_path, check=True, capture_output=True)
    captions = {}
    for name in ("train", "held_out"):
        path = tmp_path / "data" / "stamps" / f"{name}.jsonl"
        made = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert made[0].keys() == {"id", "kind", "images", "messages"}
        captions[name] = [row["messages"][1]["content"].casefold() for row in made]
    assert sum(map(len, captions.values())) == 600
    assert not set(captions["train"]) & set(captions["held_out"])
    assert 0.1 < len(captions["held_out"]) / 600 < 0.2

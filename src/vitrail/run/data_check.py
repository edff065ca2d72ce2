"""`vitrail data check`: which data, measured by which model, and the pass over it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.protocols import Tokenizer
from vitrail.curation.check import Check, Checked
from vitrail.curation.findings import Findings
from vitrail.curation.seen import Seen
from vitrail.data.config import MixtureConfig, PackConfig, SourceConfig, TrainingData
from vitrail.data.encode import Encode
from vitrail.data.sources.config import PACKED, ROWS, TABLES, FolderConfig, kind_of
from vitrail.data.sources.files import is_picture
from vitrail.data.sources.folder import METADATA
from vitrail.media.config import NativeResolutionConfig
from vitrail.media.rule import default_rules
from vitrail.models.backbones.tokenizer import byte_tokenizer
from vitrail.prompts.templates import template
from vitrail.recipe.convert import Converter
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.recipe.yaml_lines import Location, Problems, read_value
from vitrail.run.screen import Screen, Silent

WITHOUT = "terse"
"""The chat format where no recipe names one: it adds two tokens to an answer."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for. data, held_out: as `data.train=` takes them, or a folder. rows: of each source, 0 for all.

    recipe: whose model measures, and whose data is looked at where `data` is not given.
    """

    data: str | None = None
    held_out: str | None = None
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    rows: int = 0


def check_data(wanted: Wanted, screen: Screen | None = None) -> Findings:
    """Looks at every row. Raises DataError or RecipeError for data that cannot be opened at all."""
    recipe = read_recipe(wanted.recipe, wanted.overrides).value if wanted.recipe else None
    if recipe is None and wanted.data is None:
        raise DataError("nothing to check: give DATA (a file or a folder), or --recipe RECIPE")
    if recipe is None and wanted.overrides:
        raise DataError(f"'{wanted.overrides[0]}' changes a recipe, and none is given: add --recipe RECIPE")
    checked = list(_opened(wanted, recipe))
    encode = _encode(recipe)
    findings = Findings(
        name=wanted.data or f"data of {wanted.recipe}",
        measured=_measured(encode, wanted.recipe),
        policy=_policy(recipe.data.pack) if recipe else "",
    )
    totals = [one.total for one in checked]
    total = 0 if None in totals else sum(one or 0 for one in totals)
    started = time.perf_counter()
    with Seen() as seen, (screen or Silent()).counting("looking at rows", total) as on_row:
        check = Check(findings, encode, recipe.data.pack if recipe else None, seen)
        for one in checked:
            for _ in check.source(one):
                on_row()
        check.finish()
    findings.seconds = time.perf_counter() - started
    if not findings.rows:
        raise DataError(f"{findings.name}: has no rows")
    return findings


def _opened(wanted: Wanted, recipe: Recipe | None) -> Iterator[Checked]:
    """Training data first, so that held-out rows are compared with all of it; each source once."""
    taken: set[tuple[SourceConfig, bool]] = set()
    names: set[str] = set()
    for name, config, held_out in _sources(wanted, recipe):
        if (config, held_out) in taken:
            continue
        taken.add((config, held_out))
        source, reading = build.build_source(config)
        name = name or source.name
        if held_out:
            name += " (held out)"
        while name in names:
            name += "+"
        names.add(name)
        yield Checked(name, source, reading, held_out, wanted.rows)


def _sources(wanted: Wanted, recipe: Recipe | None) -> Iterator[tuple[str, SourceConfig, bool]]:
    """Each source's name, "" for its own, and whether it is held out."""
    if wanted.data is not None:
        yield from _parts(data_of(wanted.data, "DATA"))
    elif recipe is not None:
        for stage in recipe.stages:
            yield from _parts(stage.data or recipe.data.train)
    held_out: list[TrainingData] = []
    if wanted.held_out is not None:
        held_out.append(data_of(wanted.held_out, "--held-out"))
    elif recipe is not None and wanted.data is None and recipe.data.held_out is not None:
        held_out.append(recipe.data.held_out)
    for data in held_out:
        yield from ((name, config, True) for name, config, _ in _parts(data))


def _parts(data: TrainingData) -> Iterator[tuple[str, SourceConfig, bool]]:
    if isinstance(data, MixtureConfig):
        yield from ((part.name, part.source, False) for part in data.parts)
    else:
        yield "", data, False


def data_of(text: str, where: str) -> TrainingData:
    """A file, a folder, or what a recipe has as `data.train`: `{kind: ..., ...}`. Raises DataError, RecipeError."""
    if not text.strip().startswith(("{", "[")):
        return _by_path(Path(text))
    problems = Problems()
    location = Location(f"{where} {text!r}")
    found = Converter(problems).convert(read_value(text, location, problems), TrainingData, ("data", "train"))
    problems.raise_if_any()
    data: TrainingData = found
    return data


def _by_path(path: Path) -> SourceConfig:
    """By the ending of a file, or by what lies in a folder."""
    if not path.is_dir():
        return kind_of(path)(path)
    files = [one for one in path.rglob("*") if one.is_file() and not one.name.startswith(".")]
    endings = {one.suffix.lower() for one in files}
    if any(is_picture(ending) for ending in endings) or any(one.name in METADATA for one in files):
        return FolderConfig(path)
    for ending in (*TABLES, *PACKED, *ROWS):
        if ending in endings:
            return kind_of(path.with_suffix(ending))(path)
    return FolderConfig(path)


def _encode(recipe: Recipe | None) -> Encode:
    """The recipe's own, or media by the default rules and text in bytes."""
    if recipe is None:
        chosen = template(WITHOUT)
        return Encode(default_rules(), chosen, byte_tokenizer(chosen.specials))
    tokenizer: Tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    return build.build_encode(recipe.model, recipe.prompt, tokenizer, recipe.data.fetch)


def _measured(encode: Encode, recipe: str | None) -> str:
    if recipe is not None:
        return f"the model of {recipe}: its media rules, its tokenizer of {encode.tokenizer.vocabulary:,} pieces"
    rule = NativeResolutionConfig()
    return (
        f"the defaults, since no recipe is given: pictures by patches of {rule.patch} px, {rule.merge**2} to a token, "
        f"at most {rule.max_tokens} tokens; text in bytes, about four to a token of a large vocabulary"
    )


def _policy(pack: PackConfig) -> str:
    return (
        f"A pack holds {pack.length:,} tokens and {pack.patches:,} picture patches (data.pack); what is longer than "
        f"that by itself meets overlong: {pack.overlong}"
    )

"""`vitrail show`: the real object at each hop of the data's way, for a recipe and its data."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vitrail.cli.arguments import Overrides, RecipeName
from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import MediaPart

if TYPE_CHECKING:
    from rich.console import Console

    from vitrail.contracts.messages import Row
    from vitrail.contracts.protocols import Tokenizer
    from vitrail.contracts.samples import Pack, Sample
    from vitrail.data.loader import Stream
    from vitrail.data.mixture import Mixture, Part
    from vitrail.recipe.schema import Recipe

Hop = Literal["row", "conversation", "sample", "pack", "batch", "terms"]
LEARNT, SLOT = "bold green", "cyan"
LONGEST = 400
"""Characters of one value that are shown."""


def show(
    recipe: RecipeName,
    overrides: Overrides = None,
    at: Annotated[Hop, typer.Option(help="The hop.")] = "sample",
    index: Annotated[int, typer.Option(help="Which row, or which pack of the first window.", min=0)] = 0,
    stage: Annotated[int, typer.Option(help="Which stage's data.", min=0)] = 0,
) -> None:
    """Look at the data at a hop of its way to the model.

    A row, conversation, sample, pack, batch, or the loss terms it gives before training.
    Green is learnt, cyan is where a picture or a sound stands; a pack's samples are set apart by rulers.
    """
    from vitrail.recipe.read import read_recipe

    resolved = read_recipe(recipe, overrides or ()).value
    if stage >= len(resolved.stages):
        raise DataError(f"--stage {stage}: the recipe has {len(resolved.stages)} stages, numbered from 0")

    from rich.console import Console

    from vitrail import build
    from vitrail.training.device import choose

    tokenizer = build.build_tokenizer(resolved.model.backbone, resolved.prompt)
    encode = build.build_encode(resolved.model, resolved.prompt, tokenizer, resolved.data.fetch)
    stream = build.build_stages(resolved, encode, choose(resolved.training))[stage].stream
    console = Console(highlight=False)
    if at in ("row", "conversation", "sample"):
        _one(console, stream, tokenizer, at, index)
    else:
        window = stream.first_window()
        packs = window.packs
        for event in window.events:
            console.print(f"lost: {event.reason}", markup=False)
        if index >= len(packs):
            raise DataError(f"--index {index}: the first window makes {len(packs)} packs, numbered from 0")
        pack = packs[index]
        show_at: dict[str, Callable[[], None]] = {
            "pack": lambda: _pack(console, pack, tokenizer, stream.config.length),
            "batch": lambda: _batch(console, pack, stream),
            "terms": lambda: _terms(console, pack, stream, resolved, stage, tokenizer.vocabulary),
        }
        show_at[at]()


def _one(console: Console, stream: Stream, tokenizer: Tokenizer, at: str, index: int) -> None:
    from vitrail.data.dialects import to_conversation

    part, row = _row(stream.mixture, index)
    if at == "row":
        console.print(f"row {row.id}  {row.location}", markup=False, style="bold")
        for name, value in row.fields.items():
            console.print(f"  {name}: {_short(value)}", markup=False)
    elif at == "conversation":
        conversation = to_conversation(row, part.reading)
        console.print(f"conversation {conversation.id}  kind {conversation.kind or '-'}", markup=False, style="bold")
        for message in conversation.messages:
            parts = [
                f"<{_short(part.content)}>" if isinstance(part, MediaPart) else part.text for part in message.parts
            ]
            console.print(f"  {message.role:>9}: {''.join(parts)}", markup=False)
        for message in conversation.rejected:
            console.print(f"  {'rejected':>9}: {message.text}", markup=False)
    else:
        sample = stream.encode(to_conversation(row, part.reading), part.name)
        _sample(console, sample, tokenizer)


def _row(mixture: Mixture, index: int) -> tuple[Part, Row]:
    """Row `index`, counted through the parts of the mixture one after the other."""
    from vitrail.data.mixture import numbered

    left = index
    for part in mixture.parts:
        source = part.source
        if numbered(source):
            if left < len(source):
                return part, source.row(left)
            left -= len(source)
            continue
        for found, _ in islice(source.rows(0, None), left, None):
            if isinstance(found, DataError):
                raise found
            return part, found
        break
    raise DataError(f"--index {index}: the data has {index - left} rows, numbered from 0")


def _sample(console: Console, sample: Sample, tokenizer: Tokenizer) -> None:
    """Decoded tokens, what is learnt in green; media as their size and grid."""
    from rich.text import Text

    from vitrail.data.spans import spans

    if sample.lengths:
        for number, part in enumerate(sample.apart()):
            what = "ways to go on" if sample.target is None else "answers"
            console.print(f"{sample.id}, {number + 1} of {len(sample.lengths)} {what}", markup=False)
            _sample(console, part, tokenizer)
        return
    learnt = int(((sample.target or sample).weights > 0).sum())
    console.print(
        f"sample {sample.id}: {sample.tokens} tokens, {learnt} learnt, {sample.patches} patches",
        markup=False,
        style="bold",
    )
    text = Text()
    for sort, piece in spans(sample, tokenizer):
        style = {"read": "", "learnt": LEARNT, "media": SLOT}[sort]
        text.append(f"[{piece}]" if sort == "media" else piece, style)
    console.print(text)


def _pack(console: Console, pack: Pack, tokenizer: Tokenizer, length: int) -> None:
    share = pack.tokens / length
    console.print(
        f"pack: {len(pack.samples)} samples, {pack.tokens} of {length} tokens ({share:.1%}), {pack.patches} patches",
        style="bold",
    )
    start = 0
    for number, part in enumerate(part for sample in pack.samples for part in sample.apart()):
        console.rule(f"segment {number}: tokens {start} to {start + len(part) - 1}", align="left")
        _sample(console, part, tokenizer)
        start += len(part)


def _batch(console: Console, pack: Pack, stream: Stream) -> None:
    from vitrail.data.collate import collate

    batch, events = collate(pack, stream.encode.media, stream.pad_to)
    for event in events:
        if event.outcome != "used":
            console.print(f"{event.outcome}: {event.reason}", markup=False)
    if batch is None:
        return
    console.print(
        f"batch: {batch.tokens} tokens, {batch.padding} of padding, label weight {batch.label_weight:g}", style="bold"
    )
    for name, one in batch.streams.items():
        for field, value in vars(one).items():
            if hasattr(value, "dtype"):
                _tensor(console, f"{name}.{field}", value)
        console.print(f"  {name}.segments: {_short(list(one.segments.lengths))}", markup=False)
    for name, one in batch.media.items():
        seen = [f"view {number} by segment {link.segment} from {link.start}" for number, link in enumerate(one.links)]
        console.print(f"  {name}.links: {_short(seen)}", markup=False)
    for name, value in batch.targets.items():
        _tensor(console, f"targets.{name}", value)


def _tensor(console: Console, name: str, value: Any) -> None:
    kind = str(value.dtype).removeprefix("torch.")
    span = f", {value.min():g} to {value.max():g}" if value.numel() else ""
    console.print(f"  {name}: {kind}{list(value.shape)}{span}", markup=False)


def _terms(console: Console, pack: Pack, stream: Stream, recipe: Recipe, stage: int, vocabulary: int) -> None:
    import torch

    from vitrail import build
    from vitrail.data.collate import collate

    batch, _ = collate(pack, stream.encode.media, stream.pad_to)
    if batch is None:
        return
    objective = build.build_objective(recipe.stages[stage])
    model = build.build_model(recipe.model, vocabulary, recipe.seed, objectives=[objective]).eval()
    objective.prepare(model)
    with torch.no_grad():
        for name, term in objective(model, batch).items():
            mean = float(term.loss_sum) / max(term.count, 1e-9)
            console.print(
                f"{name}: sum {float(term.loss_sum):.3f} / count {term.count:g} = {mean:.4f}, weight {term.weight:g}"
            )
            for figure, value in term.figures.items():
                console.print(f"  {figure}: {value / max(term.count, 1e-9):.4f}")


def _short(value: Any) -> str:
    if isinstance(value, MediaPart):
        return f"{type(value).__name__}({_short(value.content)})"
    if hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    text = f"[{', '.join(map(_short, value))}]" if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."

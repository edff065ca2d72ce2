"""Useful tokens a second of multimodal training: ours against TRL's SFTTrainer and transformers' Trainer, interleaved.

    pip install 'vitrail[bench]'
    python benchmarks/vlm_train_step.py [--json] [--rounds 3] [--samples 64] [--device auto] [--compile] [--recipe FILE]

All train the model of `recipes/examples/native_resolution.yaml` (SmolLM2-135M-Instruct behind a Pixtral-style encoder
and a patch merger, both with random weights: encoder and projector whole, in the peers by peft's `modules_to_save`; the
language model by LoRA) on the same drawn receipts with one to four questions, some with their whole text. All begin
with the same weights: ours are exported to the layout of Mistral Small 3.1, which transformers opens. Labels are the
assistant's tokens, for all; before the first step the losses on the same samples are compared, and a difference beyond
rounding ends the benchmark. A step of ours is a pack of the recipe's length, a step of theirs are 8 samples.

A pass is one epoch from the rows on: reading, tokenising, pictures, forward, backward, clipping, optimizer. Setting a
trainer up is not counted. A token is useful when it is no padding; tokens of text and of pictures count alike. Before
the first round each warms up: with one step, or with a whole pass where it compiles. Ratios are of medians over rounds.

ours_eager       the recipe's packs, in the number format that `vitrail train` chooses on this machine
trl_default      SFTTrainer as it comes, gradient checkpointing included; assistant_only_loss, with a chat template that
                 marks the answers (it knows none for this format by itself)
trainer_default  Trainer as it comes, with a plain collator around the processor
..._best         bfloat16 weights and autocast where the hardware multiplies it, no gradient checkpointing, samples
                 sorted by length; on CUDA also workers that load ahead
..._compiled     all of them compiled, where that works: on CUDA, as `vitrail train` does, or with --compile. On two
                 slow cores the peers compile for longer than all the rest takes.

ratio_default: our best by the fastest default. ratio_best: our best by the fastest peer of all. Both are null unless
both peers are installed.

Why it is fair. Pictures are saved in the size that the model sees, so nobody resizes. transformers' processor for this
layout cannot be imported without torchvision: where that is missing, peers get the same processor over transformers'
own Pillow backend, which makes the same ids and pixels; what either takes is milliseconds of a step. TRL's default
number format is bfloat16 even where a processor only emulates it; there it gets float32. Packing is not among the best
of the peers, since TRL refuses it for samples with pictures.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import peers
import torch
from PIL import Image
from rounds import Contestant, measure, options, show, timed

from vitrail import build
from vitrail.contracts.devices import DeviceName
from vitrail.contracts.messages import ImagePart
from vitrail.contracts.samples import Batch, Sample
from vitrail.data.collate import best_fit, collate
from vitrail.data.config import JsonlConfig
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode
from vitrail.data.ledger import Ledger
from vitrail.data.loader import Cursor, Stream, prefetched
from vitrail.data.mixture import Mixture, Part
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.export.official import export
from vitrail.models.assembled import MultimodalModel
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.synthetic.documents.config import DocumentsConfig
from vitrail.synthetic.documents.source import DocumentsSource
from vitrail.training.compiling import compile_pieces
from vitrail.training.config import TrainingConfig
from vitrail.training.device import Device, choose, has_compiler
from vitrail.training.optimizer import Optimizer, freeze_all_but

RECIPE = Path(__file__).parents[1] / "recipes" / "examples" / "native_resolution.yaml"
MOST_QUESTIONS = 4
COMPARED = 4
"""Samples whose losses are compared."""
NEAR = {"float32": 1e-3, "bfloat16": 3e-2}
"""How far losses on the same samples may lie apart, by our number format."""


@dataclass(frozen=True)
class Work:
    """What all contestants are given. data: a jsonl file, pictures beside it. samples: its rows, encoded by us."""

    recipe: Recipe
    encode: Encode
    data: JsonlConfig
    samples: Sequence[Sample]
    exported: peers.Exported


def prepare(recipe: Recipe, count: int, folder: Path, device: str) -> Work:
    """Draws the documents and writes the model, without adapters, to `folder`."""
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    assert isinstance(recipe.data.train, DocumentsConfig), "this recipe trains on drawn documents"
    data = JsonlConfig(draw(recipe.data.train, count, encode, folder), dialect="tags")
    source = JsonlSource(data)
    rows = [source.row(number) for number in range(count)]
    samples = [encode(to_conversation(row, "tags"), source.name) for row in rows]
    longest = max(max(slot.view.height, slot.view.width) for sample in samples for slot in sample.slots)
    whole = dataclasses.replace(
        recipe.model,
        backbone=dataclasses.replace(recipe.model.backbone, lora=None),
        # The layout limits sides where ours limits tokens: a limit that lets every picture through.
        media=dataclasses.replace(recipe.model.media, max_tokens=(longest // unit(recipe)) ** 2),
    )
    export(build.build_model(whole, tokenizer.vocabulary, recipe.seed), encode, whole, folder / "model")
    picture, adapters = recipe.prompt.picture, recipe.model.backbone.lora
    assert adapters, "this recipe trains the language model by LoRA"
    exported = peers.Exported(
        folder / "model",
        [in_parts(row.fields, folder) for row in rows],
        [len(sample) for sample in samples],
        (picture.token, picture.row_break, picture.end),
        adapters,
        device,
    )
    return Work(recipe, encode, data, samples, exported)


def unit(recipe: Recipe) -> int:
    """Side of a token, px."""
    return recipe.model.media.patch * recipe.model.media.merge


def draw(config: DocumentsConfig, count: int, encode: Encode, folder: Path) -> Path:
    """Writes documents with one to four questions, in turn, to `folder`; returns the jsonl file.

    Pictures are saved in the size that the model sees.
    """
    sources = [
        DocumentsSource(dataclasses.replace(config, rows=count, questions=questions + 1))
        for questions in range(MOST_QUESTIONS)
    ]
    lines = []
    for number in range(count):
        row = sources[number % MOST_QUESTIONS].row(number)
        picture = Image.fromarray(row.fields["images"][0].image)
        (view,) = encode.views(ImagePart(row.fields["images"][0].image))
        name = f"{row.id}.png"
        picture.resize((view.width, view.height), Image.Resampling.BICUBIC).save(folder / name)
        lines.append(json.dumps({"id": row.id, "messages": row.fields["messages"], "images": [name]}))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def in_parts(fields: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A row as peers take it: parts instead of tags, and whole paths."""
    messages = []
    for message in fields["messages"]:
        before, tag, after = message["content"].rpartition("<image>")
        assert not before, "the picture opens a turn"
        parts = ([{"type": "image"}] if tag else []) + [{"type": "text", "text": after}]
        messages.append({"role": message["role"], "content": parts})
    return {"messages": messages, "images": [str(folder / name) for name in fields["images"]]}


def our_model(work: Work, device: Device) -> MultimodalModel:
    """With the exported weights, and adapters beside them: the seed is the same."""
    model = build.build_model(work.recipe.model, work.encode.tokenizer.vocabulary, work.recipe.seed)
    return model.to(device.name, device.torch_dtype).train()


def loss(model: MultimodalModel, batch: Batch) -> torch.Tensor:
    """The mean over a pack's labelled tokens."""
    return model.loss_sum(batch) / batch.label_weight


def our_loss(work: Work, device: Device, samples: Sequence[Sample]) -> float:
    """The mean over the labelled tokens of these samples, packed, before training."""
    config = work.recipe.data.pack
    length, patches = sum(map(len, samples)), sum(sample.patches for sample in samples)
    (pack,) = best_fit(samples, max(config.length, length), max(config.patches, patches))
    batch, _ = collate(pack, work.encode.media)
    assert batch is not None, "drawn pictures are sound"
    with torch.no_grad():
        return float(loss(our_model(work, device), batch.to(device.name)))


def ours(work: Work, device: Device, compiled: bool) -> Contestant:
    """The recipe's last stage as `vitrail train` runs it: a thread packs ahead, a step a pack."""
    stage, data = work.recipe.stages[-1], work.recipe.data
    model = our_model(work, device)
    freeze_all_but(model, stage.train, stage.name)
    if compiled:
        compile_pieces(model)
    optimizer = Optimizer(model, stage.train, stage.optimizer)
    pad_to = data.pack.length if compiled else 0
    mixture = Mixture([Part(JsonlSource(work.data), "tags", "rows")], work.recipe.seed)
    stream = Stream(mixture, work.encode, data.pack, max_lost=0.0, pad_to=pad_to)

    def run(warming: bool) -> int:
        tokens = 0
        items = prefetched(stream.items(Cursor(), Ledger()))
        for item in items:
            loss(model, item.batch.to(device.name)).backward()
            optimizer.step(1.0)
            tokens += item.batch.tokens
            if item.epochs >= 1 or (warming and not compiled):
                break
        items.close()
        peers.settle(device.name)
        return tokens

    return timed(run)


def trainers(work: Work, folder: Path, compiled: bool) -> dict[str, Any]:
    """Every peer that is installed, by default, at its best, and at its best compiled."""
    settings = {"default": peers.Setting(), "best": peers.Setting(best=True)}
    if compiled:
        settings["best_compiled"] = peers.Setting(best=True, compiled=True)
    return {
        f"{peer}_{name}": make(work.exported, setting, folder / f"{peer}_{name}")
        for peer, make in peers.PEERS.items()
        if not peers.missing(peer)
        for name, setting in settings.items()
    }


def compare_losses(work: Work, device: Device, theirs: Mapping[str, Any]) -> dict[str, float]:
    """First losses on the same samples, ours first. Raises AssertionError where a peer does other work than we do."""
    losses = {"ours": our_loss(work, device, work.samples[:COMPARED])}
    for name, trainer in theirs.items():
        losses[name] = peers.loss_of(trainer, work.exported.rows[:COMPARED])
        near = math.isclose(losses[name], losses["ours"], abs_tol=NEAR[device.dtype], rel_tol=0)
        assert near, f"{name} begins with a loss of {losses[name]:.4f}, ours with {losses['ours']:.4f}"
    return losses


def summary(speeds: Mapping[str, Sequence[float]], everyone: bool) -> dict[str, float | None]:
    """Medians and our ratios. everyone: whether all peers are there; a ratio to some of them would flatter."""
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    result: dict[str, float | None] = {f"{name}_tokens_per_second": round(value, 1) for name, value in medians.items()}
    best = max(value for name, value in medians.items() if name.startswith("ours"))
    theirs = {name: value for name, value in medians.items() if not name.startswith("ours")}
    defaults = [value for name, value in theirs.items() if name.endswith("default")]
    result["ratio_default"] = round(best / max(defaults), 3) if everyone else None
    result["ratio_best"] = round(best / max(theirs.values()), 3) if everyone else None
    return result


def main() -> None:
    parser = options(__doc__, samples=64)
    parser.add_argument("--device", default="auto", choices=get_args(DeviceName))
    parser.add_argument("--recipe", default=str(RECIPE), help="of a model that fits the layout, and drawn documents")
    parser.add_argument("--compile", action="store_true", help="all compile too, on the CPU as well: for many minutes")
    asked = parser.parse_args()
    device = choose(TrainingConfig(device=asked.device))
    torch.set_num_threads(device.threads)
    compiled, absent = has_compiler() and (asked.compile or device.name == "cuda"), False
    if not compiled:
        print("nobody compiles: " + ("--compile is not given" if has_compiler() else "no C++ compiler found"))
    for peer in peers.PEERS:
        if package := peers.missing(peer):
            print(f"no {peer}: {package} is not installed; pip install 'vitrail[bench]'")
            absent = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = read_recipe(asked.recipe, ["model.weights={}"]).value
        work = prepare(recipe, asked.samples, folder, device.name)
        theirs = trainers(work, folder, compiled)
        losses = compare_losses(work, device, theirs)
        contestants = {"ours_eager": ours(work, device, compiled=False)}
        if compiled:
            contestants["ours_compiled"] = ours(work, device, compiled=True)
        tokens = sum(work.exported.lengths)
        contestants |= {name: peers.contestant(trainer, tokens) for name, trainer in theirs.items()}
        may_fail = [name for name in theirs if name.endswith("compiled")]
        speeds = measure(contestants, asked.rounds, may_fail)
    result: dict[str, Any] = summary(speeds, everyone=not absent)
    result |= {"dtype": device.dtype, "samples": asked.samples, "tokens": tokens}
    result["first_loss"] = {name: round(value, 5) for name, value in losses.items()}
    show(result, asked.json)


if __name__ == "__main__":
    main()

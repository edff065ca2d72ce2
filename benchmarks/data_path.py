"""The way of the data, measured: pictures a second, fullness of packs, memory, going on from the middle, waiting.

    python benchmarks/data_path.py [--json] [--only NAME ...] [--rounds 3] [--samples 384] [--workers 2]
                                   [--rows 1000000] [--seen 20000] [--steps 8] [--device auto]
                                   [--recipe FILE] [KEY=VALUE ...]

ratio_samples   samples a second of our stream (rows, encoding, packing, decoding, collating) by those of the peer: a
                Hugging Face processor and its padding, batches of 8, as the collator of torch's DataLoader. Both read
                the same JPEGs of about 500 px with the same tokenizer and number of workers, and no model takes part.
                Each pass begins workers anew; the clock starts after the first window of samples, so that neither
                starting them nor packs made ahead count. Medians of interleaved rounds.
packing         real tokens of a full pack, over windows of a drawn mix of lengths: questions about pictures of 200 to
                1400 px, some with several pictures, some of text alone.
memory_growth   anonymous memory of a process that took `seen` samples of a file of `rows` rows, by that of one which
                took them of a hundredth of the rows, less 1. A tenth of the rows have a picture.
seek_seconds    in a fresh process, from opening the large file to the first batch after its middle.
wait_share      1 - tokens a second of training with workers, by those on the same batches held in memory. The model is
                the recipe's, its encoder and projector with random weights. Medians of interleaved rounds; the first
                batch is waited for before the clock starts. Packs that are made ahead and left over at the end of a
                pass cost it time too, which is against us.

On two cores all of it takes a quarter of an hour, most of it for `wait_share`.

The peer is given transformers' Pillow backend where torchvision is installed too: then both decode and resize with the
same library, and pixels are equal; `pixel_difference` is the largest that was found. Its labels are the ids themselves,
a simpler thing than ours. `load` is what else ran on the machine as this began: with workers, more than 0.3 spoils it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import peers
import torch
from PIL import Image, ImageDraw
from rounds import options, show
from torch.utils.data import DataLoader, RandomSampler
from transformers import AutoTokenizer
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from vlm_train_step import RECIPE, in_parts, loss, unit

from vitrail import build
from vitrail.contracts.devices import DeviceName
from vitrail.contracts.samples import IGNORE, Batch, MediaSlot, Sample
from vitrail.data.collate import decode, pack_window
from vitrail.data.config import JsonlConfig, PackConfig
from vitrail.data.dialects import to_conversation
from vitrail.data.encode import Encode
from vitrail.data.ledger import Ledger
from vitrail.data.loader import Cursor, Stream, prefetched
from vitrail.data.mixture import SourceCursor, open_mixture
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.media.rule import normalised, picture_rule
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.training.config import TrainingConfig
from vitrail.training.device import choose
from vitrail.training.optimizer import Optimizer, freeze_all_but

LONGEST = 1024
"""Side that a picture is scaled down to, px, on both sides."""

WINDOW = 64
SETTINGS = (
    "model.weights={}",
    "model.media={patch: 14, merge: 2, min_tokens: 1, max_tokens: 120}",
    "data.pack={length: 1024, patches: 4096, window: 256}",
)
"""Of the recipe: four patches a token, as most systems have it, and packs for a mix of lengths instead of receipts."""

NAMES = ("ratio_samples", "packing", "memory_growth", "seek_seconds", "wait_share")
Pass = Callable[[], float]
"""Takes a pass, and returns what it did in a second."""


@dataclass(frozen=True)
class Work:
    """What everyone is given. rows: a jsonl file, pictures beside it. encode: with pictures at their own size."""

    recipe: Recipe
    encode: Encode
    rows: Path
    count: int


def prepare(recipe: Recipe, count: int, folder: Path) -> Work:
    """Draws `count` pictures and their rows into `folder`."""
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    side = unit(recipe)
    media = dataclasses.replace(
        recipe.model.media, min_tokens=1, max_tokens=math.ceil(LONGEST / side) ** 2, sides="up", max_side=LONGEST
    )
    encode = build.build_encode(dataclasses.replace(recipe.model, media=media), recipe.prompt, tokenizer)
    return Work(recipe, encode, write_rows(folder / "rows.jsonl", count, draw(folder, count)), count)


def draw(folder: Path, count: int) -> list[str]:
    """Names of new JPEGs with sides of 400 to 640 px: soft colours, some noise, some words."""
    chance, names = np.random.default_rng(0), []
    for number in range(count):
        width, height = chance.integers(400, 641, 2).tolist()
        coarse = chance.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        noisy = np.clip(soft + chance.normal(0, 8, (height, width, 1)), 0, 255).astype(np.uint8)
        picture = Image.fromarray(noisy)
        pen = ImageDraw.Draw(picture)
        for _ in range(30):
            pen.text(chance.integers(0, 400, 2).tolist(), f"item {chance.integers(10_000)}", fill="black")
        names.append(f"{number:05}.jpg")
        picture.save(folder / names[-1], quality=90)
    return names


def write_rows(path: Path, count: int, pictures: Sequence[str], every: int = 1) -> Path:
    """Questions of 5 to 59 words; the pictures in turn, on every `every`th row."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            words = " ".join(f"word{(number * 31 + place * 7) % 100}" for place in range(5 + number * 17 % 55))
            images = [pictures[number // every % len(pictures)]] if number % every == 0 else []
            asked = {"role": "user", "content": "<image>" * len(images) + words}
            row = {"id": str(number), "messages": [asked, {"role": "assistant", "content": f"answer {number}"}]}
            file.write(json.dumps({**row, "images": images}) + "\n")
    return path


def open_stream(rows: Path, encode: Encode, pack: PackConfig, workers: int = 0) -> Stream:
    """As a stage has it, over one file."""
    config = JsonlConfig(rows, dialect="tags")
    return Stream(
        open_mixture(config, {config: (JsonlSource(config), "tags")}, seed=0), encode, pack, 0.0, workers=workers
    )


# ---- samples a second -----------------------------------------------------------------------------------------------


def ours(work: Work, workers: int) -> Pass:
    """A window that is not timed, then as many as hold every row once."""
    stream = open_stream(work.rows, work.encode, dataclasses.replace(work.recipe.data.pack, window=WINDOW), workers)
    windows = -(-work.count // WINDOW)

    def once() -> float:
        started, ended, samples = 0.0, 0, 0
        items = prefetched(stream.items(Cursor(), Ledger()))
        for item in items:
            samples += len(item.batch.sample_ids) if ended else 0
            if item.after.pack == 0:
                started = started or time.perf_counter()
                ended += 1
            if ended > windows:
                break
        seconds = time.perf_counter() - started
        items.close()
        return samples / seconds

    return once


class Rows:
    """The rows as a peer's data set has them: read by number, pictures opened and not yet decoded."""

    def __init__(self, path: Path) -> None:
        self.source = JsonlSource(JsonlConfig(path, dialect="tags"))

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.source.row(index)
        fields = in_parts(row.fields, row.folder)
        return {**fields, "images": [Image.open(path) for path in fields["images"]]}


class PaddingCollator:
    """What the processors' documentation shows: the template's text, then one call for ids and pixels."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        texts = [self.processor.apply_chat_template(row["messages"]) for row in rows]
        batch = self.processor(
            text=texts,
            images=[row["images"] for row in rows],
            padding=True,
            padding_side="right",
            add_special_tokens=False,
            return_tensors="pt",
        )
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORE)
        return batch


def processor(work: Work, folder: Path) -> Any:
    """transformers' processor of Pixtral, which has our rule for sizes, with our tokenizer."""
    work.encode.tokenizer.save(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token = "<|im_end|>"
    media, side = work.recipe.model.media, unit(work.recipe)
    images = PixtralImageProcessorPil(
        size={"longest_edge": LONGEST},
        patch_size={"height": side, "width": side},
        image_mean=list(media.mean),
        image_std=list(media.std),
    )
    picture = work.recipe.prompt.picture
    found = peers.PillowProcessor(images, tokenizer, unit=side, tokens=(picture.token, picture.row_break, picture.end))
    found.chat_template = peers.TEMPLATE.replace("PICTURE", picture.token)
    return found


def theirs(work: Work, folder: Path, workers: int) -> Pass:
    """The same numbers of samples, timed from the same one on."""
    rows, collate = Rows(work.rows), PaddingCollator(processor(work, folder))
    samples = WINDOW * -(-work.count // WINDOW)

    def once() -> float:
        sampler = RandomSampler(rows, num_samples=WINDOW + samples, generator=torch.Generator().manual_seed(0))
        loader = DataLoader(rows, peers.BATCH, sampler=sampler, num_workers=workers, collate_fn=collate)
        started = 0.0
        for number, _ in enumerate(loader, start=1):
            if number * peers.BATCH == WINDOW:
                started = time.perf_counter()
        return samples / (time.perf_counter() - started)

    return once


def pixel_difference(work: Work, folder: Path) -> float:
    """The largest between ours and theirs, over a batch. Raises AssertionError where ids or sizes differ."""
    rows = Rows(work.rows)
    count = min(peers.BATCH, len(rows))
    batch = PaddingCollator(processor(work, folder))([rows[number] for number in range(count)])
    largest = 0.0
    for number in range(count):
        row = rows.source.row(number)
        sample = work.encode(to_conversation(row, "tags"))
        assert batch["input_ids"][number][: len(sample)].tolist() == sample.ids.tolist(), f"row {number}: other ids"
        (view,) = decode(sample, work.encode.media)
        mine = normalised(picture_rule(work.recipe.model.media), view)
        height, width = batch["image_sizes"][number].tolist()
        assert mine.shape[:2] == (height, width), f"row {number}: {mine.shape} px, theirs {height} x {width}"
        seen = batch["pixel_values"][number, :, :height, :width].permute(1, 2, 0).numpy()
        largest = max(largest, float(np.abs(seen - mine).max()))
    return largest


def ratio(work: Work, folder: Path, workers: int, rounds: int) -> dict[str, Any]:
    difference = pixel_difference(work, folder)
    contestants = {"ours": ours(work, workers), "theirs": theirs(work, folder, workers)}
    medians = interleaved(contestants, rounds, "samples")
    return {
        "ratio_samples": round(medians["ours"] / medians["theirs"], 3),
        **{f"{name}_samples_per_second": round(value, 1) for name, value in medians.items()},
        "pixel_difference": round(difference, 7),
    }


def interleaved(contestants: Mapping[str, Pass], rounds: int, what: str) -> dict[str, float]:
    """Medians, after a pass of each that does not count."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, once in contestants.items():
            speed = once()
            print(f"{f'round {number}' if number else 'warming up'}: {name}, {speed:.1f} {what}/s", file=sys.stderr)
            speeds[name] += [speed] if number else []
    return {name: statistics.median(values) for name, values in speeds.items()}


# ---- packing --------------------------------------------------------------------------------------------------------


def packing(work: Work, windows: int = 20) -> dict[str, Any]:
    """Of the default packs; a pack's vision may fill it too."""
    config, chance = PackConfig(), np.random.default_rng(0)
    packs = []
    for _ in range(windows):
        packs += pack_window([measures(work, chance, config) for _ in range(config.window)], config)
    real = sum(pack.tokens for pack in packs)
    return {"packing": round(real / (len(packs) * config.length), 4), "packs": len(packs)}


def measures(work: Work, chance: np.random.Generator, config: PackConfig) -> Sample:
    """A sample by its measures alone: most have one picture and a short answer, a seventh are of text alone."""
    kind = chance.choice(["short", "caption", "several", "text"], p=[0.55, 0.2, 0.1, 0.15])
    tokens = {"short": (20, 80), "caption": (60, 300), "several": (60, 400), "text": (50, 1500)}[kind]
    rule, views = picture_rule(work.recipe.model.media), []
    for _ in range({"short": 1, "caption": 1, "several": int(chance.integers(2, 5)), "text": 0}[kind]):
        views += rule.views(*chance.integers(200, 1400, 2).tolist(), 512)
    total = min(config.length, int(chance.integers(*tokens)) + sum(view.tokens for view in views))
    ids = np.zeros(total, np.int64)
    slots, start = [], 0
    for number, view in enumerate(views):
        if start + view.tokens < total:
            slots.append(MediaSlot(start, number, view))
            start += view.tokens
    return Sample("", "", ids, ids, ids.astype(np.float32), tuple(slots))


# ---- memory and the middle, in processes of their own ---------------------------------------------------------------


def memory(small: Path, large: Path, seen: int, recipe: Sequence[str]) -> dict[str, Any]:
    if not Path("/proc/self/status").exists():
        print("no /proc/self/status here: memory is not measured")
        return {"memory_growth": None}
    found = [child("memory", path, seen, recipe) for path in (small, large)]
    growth = round(found[1] / found[0] - 1, 4)
    return {"memory_growth": growth, "anonymous_mib": [round(value, 1) for value in found]}


def seek(large: Path, recipe: Sequence[str]) -> dict[str, Any]:
    return {"seek_seconds": round(child("seek", large, 0, recipe), 3)}


def child(what: str, path: Path, seen: int, recipe: Sequence[str]) -> float:
    """What a fresh process found."""
    command = [sys.executable, __file__, f"--child={what}", f"--data={path}", f"--seen={seen}", *recipe]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def in_child(what: str, recipe: Recipe, path: Path, seen: int) -> float:
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    return after_middle(path, encode, recipe.data.pack) if what == "seek" else anonymous(path, encode, recipe, seen)


def anonymous(path: Path, encode: Encode, recipe: Recipe, seen: int) -> float:
    """MiB after so many samples."""
    taken = 0
    for item in open_stream(path, encode, recipe.data.pack).items(Cursor(), Ledger()):
        taken += len(item.batch.sample_ids)
        if taken >= seen:
            break
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def after_middle(path: Path, encode: Encode, pack: PackConfig) -> float:
    """Seconds to the first batch of the second half, from nothing but its cursor."""
    started = time.perf_counter()
    stream = open_stream(path, encode, pack)
    half = (stream.mixture.rows or 0) // 2
    middle = Cursor((SourceCursor(at=half, due=float(half), drawn=half),), samples=half)
    item = next(iter(stream.items(middle, Ledger())))
    assert item.epochs > 0.5, "the first batch of the second half"
    return time.perf_counter() - started


# ---- waiting --------------------------------------------------------------------------------------------------------


def waiting(work: Work, workers: int, steps: int, rounds: int, device_name: DeviceName) -> dict[str, Any]:
    """Steps of the recipe's last stage on the drawn pictures, in its packs."""
    recipe, device = work.recipe, choose(TrainingConfig(device=device_name))
    torch.set_num_threads(device.threads)
    encode = build.build_encode(recipe.model, recipe.prompt, work.encode.tokenizer)
    stream = open_stream(work.rows, encode, dataclasses.replace(recipe.data.pack, window=WINDOW), workers)
    model = build.build_model(recipe.model, encode.tokenizer.vocabulary, recipe.seed)
    model = model.to(device.name, device.torch_dtype).train()
    stage = recipe.stages[-1]
    freeze_all_but(model, stage.train, stage.name)
    optimizer = Optimizer(model, stage.train, stage.optimizer)

    def step(batch: Batch) -> int:
        loss(model, batch.to(device.name)).backward()
        optimizer.step(1.0)
        return batch.tokens

    def first(count: int) -> Iterator[Batch]:
        items = prefetched(stream.items(Cursor(), Ledger()))
        try:
            for _, item in zip(range(count), items, strict=False):
                yield item.batch
        finally:
            items.close()

    def timed(batches: Iterator[Batch]) -> float:
        began = next(batches)
        peers.settle(device.name)
        started = time.perf_counter()
        tokens = step(began) + sum(map(step, batches))
        peers.settle(device.name)
        return tokens / (time.perf_counter() - started)

    held = list(first(steps))
    contestants = {"preloaded": lambda: timed(iter(held)), "loaded": lambda: timed(first(steps))}
    medians = interleaved(contestants, rounds, "tokens")
    return {
        "wait_share": round(1 - medians["loaded"] / medians["preloaded"], 4),
        **{f"{name}_tokens_per_second": round(value, 1) for name, value in medians.items()},
        "dtype": device.dtype,
    }


def main() -> None:
    parser = options(__doc__, samples=384)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--workers", type=int, default=2, help="of ours and of the peer")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large file; the small one has a hundredth")
    parser.add_argument("--seen", type=int, default=20_000, help="samples taken of either")
    parser.add_argument("--steps", type=int, default=8, help="of a round of training")
    parser.add_argument("--device", default="auto", choices=get_args(DeviceName))
    parser.add_argument("--recipe", default=str(RECIPE))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--child", choices=("memory", "seek"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    # Forked workers of the peer would each say that they tokenise with one thread.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    recipe = read_recipe(asked.recipe, [*SETTINGS, *asked.overrides]).value
    if asked.child:
        print(in_child(asked.child, recipe, asked.data, asked.seen))
        return
    with tempfile.TemporaryDirectory() as name:
        result = measured(asked, recipe, Path(name))
    show(result, asked.json)


def measured(asked: argparse.Namespace, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Everything that was asked for; what was not is null."""
    result: dict[str, Any] = {"load": round(os.getloadavg()[0], 2), "cores": os.cpu_count(), **dict.fromkeys(NAMES)}
    result |= {"workers": asked.workers, "samples": asked.samples}
    work = prepare(recipe, asked.samples, folder)
    again = [f"--recipe={asked.recipe}", *asked.overrides]
    if "ratio_samples" in asked.only:
        result |= ratio(work, folder / "peer", asked.workers, asked.rounds)
    if "packing" in asked.only:
        result |= packing(work)
    if "memory_growth" in asked.only or "seek_seconds" in asked.only:
        pictures = sorted(path.name for path in folder.glob("*.jpg"))
        small, large = (
            write_rows(folder / f"{size}.jsonl", rows, pictures, every=10)
            for size, rows in (("small", max(1, asked.rows // 100)), ("large", asked.rows))
        )
        if "memory_growth" in asked.only:
            result |= memory(small, large, asked.seen, again)
        if "seek_seconds" in asked.only:
            result |= seek(large, again)
    if "wait_share" in asked.only:
        result |= waiting(work, asked.workers, asked.steps, asked.rounds, asked.device)
    return result


if __name__ == "__main__":
    main()

"""What a stage's stream brings: a typical pack, and how many steps come of it, counted as the loop takes them.

Rows are encoded (pictures by their headers alone) and packed for as long as `COUNT_SECONDS` allow: of a small set all
that the stage will take, so that its steps are exact; a large one is reckoned from its first windows.
"""

from __future__ import annotations

import dataclasses
import math
import time
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from vitrail import build
from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import AudioPart, ImagePart, MediaPart
from vitrail.contracts.samples import IGNORE, Batch, MediaSlot, Pack, Sample, TargetText
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.data.loader import Window
from vitrail.prompts.render import positions_of
from vitrail.recipe.schema import Recipe
from vitrail.training.config import StageConfig
from vitrail.training.device import Device

COUNT_SECONDS = 5.0
"""Of all stages together."""


@dataclass(frozen=True)
class Load:
    """What the stream brings. batch: a middling pack. packing: share of real tokens in packs.

    steps: None for epochs of data that is not there. packs: of all of them. known: whether all were counted. fresh:
    packs that are met for the first time. missing: why the data could not be opened, and a pack was made up.
    """

    batch: Batch
    packing: float
    steps: float | None
    packs: float
    known: bool
    fresh: float
    missing: str = ""


def load_of(recipe: Recipe, stage: StageConfig, encode: Encode, device: Device) -> Load:
    """Looks at the stage's first windows, or makes up a pack where its data is not there."""
    try:
        (made,) = build.build_stages(recipe, encode, device, stages=[stage])
    except DataError as error:
        return _missing(recipe, stage, encode, str(error))
    with closing(made.stream.windows_on()) as windows:
        first = next(windows)
        stream, packs = made.stream, first.packs
        batch = collate(packs[len(packs) // 2], encode.media, stream.pad_to)[0] if packs else None
        if batch is None:
            raise DataError("no usable row in the first window; `vitrail show RECIPE --at pack` says why")
        count = Count(stage, stream.mixture.rows)
        count.window(first)
        started = time.perf_counter()
        while not count.done and time.perf_counter() - started < COUNT_SECONDS / len(recipe.stages):
            count.window(next(windows))
    # The last pack of a window holds what is left over.
    full = packs[:-1] or packs
    packing = sum(pack.tokens for pack in full) / (recipe.data.pack.length * len(full))
    steps, all_packs = count.total()
    return Load(batch, packing, steps, all_packs, count.done, min(all_packs, count.packs_per_epoch()))


class Count:
    """Steps of a stage, from the windows of its stream as they come. done: whether the stage has ended.

    rows: of an epoch; None where a source is streamed.
    """

    def __init__(self, stage: StageConfig, rows: int | None) -> None:
        self.stage, self.rows = stage, rows
        self.samples = self.packs = self.steps = self.of_step = 0
        self.tokens, self.tokens_of_steps = 0, 0
        self.done = stage.steps is not None

    def window(self, window: Window) -> None:
        """Takes its packs as the loop does: so many a step, and those that are left where an epoch ends."""
        before = self.samples
        for number, pack in enumerate(window.packs):
            if self.done:
                return
            self.packs, self.of_step, self.tokens = self.packs + 1, self.of_step + 1, self.tokens + pack.tokens
            at = before + window.samples * (number + 1) / len(window.packs)
            ends = self.stage.epochs is not None and at / (self.rows or 1) >= self.stage.epochs
            if self.of_step == self.stage.accumulate or ends:
                self._step()
                self.done = ends or (self.stage.tokens is not None and self.tokens_of_steps >= self.stage.tokens)
        self.samples += window.samples
        if self.stage.epochs is not None and self.rows and not self.samples % self.rows:
            if self.of_step:
                self._step()
            self.done = self.done or self.samples / self.rows >= self.stage.epochs

    def _step(self) -> None:
        self.steps, self.of_step, self.tokens_of_steps = self.steps + 1, 0, self.tokens

    def packs_per_epoch(self) -> float:
        """As they have been so far; of a streamed source all are new."""
        return self.packs * self.rows / max(1, self.samples) if self.rows and self.samples else float("inf")

    def total(self) -> tuple[float, float]:
        """Steps and packs of the whole stage; reckoned on where it has not ended."""
        stage = self.stage
        if stage.steps is not None:
            return float(stage.steps), float(stage.steps * stage.accumulate)
        if self.done:
            return float(self.steps), float(self.packs)
        if stage.epochs is not None:
            each = self.packs_per_epoch()
            return stage.epochs * math.ceil(each / stage.accumulate), stage.epochs * each
        assert stage.tokens is not None, "a stage is counted in steps, tokens or epochs"
        packs = stage.tokens * self.packs / max(1, self.tokens)
        return packs / stage.accumulate, packs


def _missing(recipe: Recipe, stage: StageConfig, encode: Encode, why: str) -> Load:
    length = recipe.data.pack.length
    (objective,) = build.objectives_of([stage]).values()
    pack = _made_up(encode, length, recipe.data.pack.patches)
    if objective.needs.variants is not None:
        # Ways in which a row may go on come in pairs.
        pack = Pack(pack.samples[: len(pack.samples) // 2 * 2] or pack.samples * 2)
    batch, _ = collate(pack, encode.media)
    assert batch is not None, "made-up samples can be read"
    steps: float | None = None
    if stage.steps is not None:
        steps = float(stage.steps)
    elif stage.tokens is not None:
        steps = stage.tokens / (batch.tokens * stage.accumulate)
    packs = (steps or 0.0) * stage.accumulate
    return Load(batch, batch.tokens / length, steps, packs, stage.steps is not None, packs, why)


def _made_up(encode: Encode, length: int, patches: int) -> Pack:
    """Pictures of 448 px, or ten seconds of sound for a model that sees none, with 64 tokens of text each, half of them
    learnt, as many as a pack holds."""
    medium: MediaPart = ImagePart(np.zeros((448, 448, 3), np.uint8))
    if not any(rule.reads(medium) for rule in encode.media.values()):
        medium = AudioPart(np.zeros(160_000, np.float32), 16_000)
    views = encode.views(medium) if any(rule.reads(medium) for rule in encode.media.values()) else ()
    slots, total = [], 0
    for view in views:
        slots.append(MediaSlot(total, 0, view))
        total += view.tokens if view.spliced else 0
    patches_each, total = max(1, sum(view.patches for view in views)), total + 64
    ids = np.zeros(total, np.int64)
    weights = (np.arange(total) >= total - 32).astype(np.float32)
    labels = np.where(weights > 0, 0, IGNORE)
    positions = positions_of(encode.positions, total, slots)
    sample = Sample("made up", "made up", ids, labels, weights, tuple(slots), (medium,) if views else (), positions)
    if encode.start is not None:
        said = weights > 0
        sample = dataclasses.replace(sample, target=TargetText(ids[said], labels[said], weights[said]))
    return Pack((sample,) * max(1, min(length // sample.tokens, patches // patches_each)))

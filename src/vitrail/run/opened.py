"""A run with everything open that its parts share, and its baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vitrail import build
from vitrail.contracts.protocols import Source
from vitrail.data.config import Reading
from vitrail.data.encode import Encode, Shown
from vitrail.data.mixture import Opened
from vitrail.disk import with_room
from vitrail.inference.chat_model import ChatModel
from vitrail.models.assembled import MultimodalModel
from vitrail.models.weights import load_model
from vitrail.recipe.schema import Recipe
from vitrail.run.folder import RunFolder
from vitrail.run.screen import Screen
from vitrail.training import checkpoint
from vitrail.training.device import Device
from vitrail.training.parallel.single import Parallel


@dataclass(frozen=True)
class Baseline:
    """The same recipe with something else in the place of media. name: of its results. shown: instead of media."""

    name: str
    shown: Shown


BLIND, PASTED = Baseline("blind", "nothing"), Baseline("pasted", "text")


@dataclass
class Run:
    """What the parts of a run share. text: plain text to measure the language on; "" for none. parallel: with whom."""

    recipe: Recipe
    folder: RunFolder
    device: Device
    encode: Encode
    vocabulary: int
    screen: Screen
    sources: Opened
    held_out: tuple[Source, Reading] | None
    text: str
    parallel: Parallel

    def keep(self, write: Callable[[], None]) -> None:
        """Writes something of the run, however long the disk stays full."""
        with_room(write, self.screen.say)

    def add_result(self, name: str, value: Any) -> None:
        """Adds one entry to what was measured."""
        self.keep(lambda: self.folder.add_result(name, value))

    def fresh_model(self) -> MultimodalModel:
        """The model before training: the same weights each time it is asked for."""
        dtype = self.device.torch_dtype
        recipe = self.recipe
        objectives = build.objectives_of(recipe.stages).values()
        model = build.starting_model(recipe.model, self.vocabulary, recipe.seed, dtype, objectives)
        return model.to(self.device.name)

    def trained(self, model: MultimodalModel, folder: RunFolder) -> MultimodalModel:
        """The model that stages have trained in a folder, whole; `model` is what they trained it in."""
        if self.parallel.ranks == 1:
            return model
        end = checkpoint.latest(folder.checkpoints)
        assert end is not None, "the last stage has ended"
        whole = self.fresh_model()
        load_model(whole, end / checkpoint.MODEL)
        return whole

    def chat(self, model: MultimodalModel, baseline: Baseline | None = None) -> ChatModel:
        """To ask it questions."""
        encode = dataclasses.replace(self.encode, shown=baseline.shown if baseline else "media")
        return ChatModel(model.eval(), encode, self.device.name)

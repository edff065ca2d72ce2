"""What a published system says about itself, and what is said to it.

A system is a module of this folder that offers the names of `System`: it reads the official description into our
configuration, writes it back, and knows for each of our tensors where the official checkpoint keeps it. It sees
dictionaries and tensors; which files there are is the business of `systems.folder`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from vitrail.contracts.protocols import Tokenizer
from vitrail.models.config import ModelConfig
from vitrail.prompts.config import PromptConfig

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Official:
    """What lies in an official folder. files: name -> content of its JSON files. tensors: by their names on disk."""

    files: Mapping[str, Json]
    tensors: Mapping[str, Tensor]

    @property
    def config(self) -> Json:
        """config.json."""
        return self.files["config.json"]


@dataclass(frozen=True)
class Described:
    """A model in our words. backbone: transformers' settings of the language model.

    template and system turn of `prompt` are not a system's to say: they are recognised by the tokenizer's own chat
    template. redundant: official tensors that say again what another one says.
    """

    model: ModelConfig
    prompt: PromptConfig
    backbone: Json
    redundant: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True)
class Place:
    """Where the official checkpoint keeps one of our tensors: names, and how their tensors make ours and back."""

    names: tuple[str, ...]
    join: Callable[[Sequence[Tensor]], Tensor]
    split: Callable[[Tensor], Sequence[Tensor]]


class System(Protocol):
    """A published layout."""

    LAYOUT: str
    """The official class."""

    def read(self, official: Official) -> Described:
        """The official description in our words. Raises WeightsError for what we have no component for."""
        ...

    def obstacles(self, described: Described) -> list[str]:
        """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
        ...

    def write(self, described: Described, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
        """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
        ...

    def canonical(self, name: str) -> str | None:
        """The name that `place` uses for an official tensor, whichever way of writing it is; None to pass it over."""
        ...

    def place(self, name: str, described: Described) -> Place:
        """Where our tensor `name` is kept."""
        ...


def same(name: str) -> Place:
    """Kept as it is."""
    return Place((name,), lambda tensors: tensors[0], lambda tensor: [tensor])


def rows(*names: str) -> Place:
    """Equal parts, one below the other in ours."""
    return Place(names, lambda tensors: torch.cat(list(tensors)), lambda tensor: tensor.chunk(len(names)))

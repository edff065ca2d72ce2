"""What a published system says about itself, and what is said to it.

A system is a module of this folder that offers the names of `System`: it reads the official description into our
configuration, writes it back, and knows for each of our tensors where the official checkpoint keeps it. It sees
dictionaries and tensors; which files there are is the business of `systems.folder`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.media.config import LogMelConfig, TextLinesConfig
from vitrail.models.config import EncoderConfig, MediaConfig, ModelConfig, VisionTransformerConfig, WhisperEncoderConfig
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
class ModelSpec:
    """A model in our words. backbone: transformers' settings of the language model.

    template and system turn of `prompt` are not a system's to say: they are recognised by the tokenizer's own chat
    template. redundant: official tensors that say again what another one says. notes: on a folder that was opened, a
    line each: its tensors by component, and settings of it that have no effect here.
    """

    model: ModelConfig
    prompt: PromptConfig
    backbone: Json
    redundant: frozenset[str] = field(default=frozenset())
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder alone, in our words. media: the pictures or sounds it was trained on. redundant: as above."""

    encoder: VisionTransformerConfig | WhisperEncoderConfig
    media: MediaConfig
    redundant: frozenset[str] = field(default=frozenset())

    @property
    def patch(self) -> int:
        """Side of a patch of a picture, px."""
        assert not isinstance(self.media, LogMelConfig | TextLinesConfig), "sounds and text have no patches"
        return self.media.patch


AnySpec = TypeVar("AnySpec", ModelSpec, EncoderSpec)


@dataclass(frozen=True)
class KeyMap:
    """Where the official checkpoint keeps one of our tensors: names, and how their tensors make ours and back.

    shared: others of ours are kept in the same official tensor; each splits into one with zeros where the others are.
    """

    names: tuple[str, ...]
    join: Callable[[Sequence[Tensor]], Tensor]
    split: Callable[[Tensor], Sequence[Tensor]]
    shared: bool = False


class Layout(Protocol[AnySpec]):
    """A published layout, of a whole system or of an encoder alone."""

    LAYOUT: str
    """The official class."""

    def read(self, official: Official) -> AnySpec:
        """The official description in our words. Raises WeightsError for what we have no component for."""
        ...

    def canonical(self, name: str) -> str | None:
        """The name that `key_map` uses for an official tensor, whichever way of writing it is; None to pass it over."""
        ...

    def key_map(self, name: str, spec: AnySpec) -> KeyMap:
        """Where our tensor `name` is kept."""
        ...


class System(Layout[ModelSpec], Protocol):
    """The layout of a system, which models of ours can be written in."""

    def obstacles(self, spec: ModelSpec) -> list[str]:
        """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
        ...

    def write(self, spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
        """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
        ...


def differences(found: Any, layout: Any, free: Collection[str], where: str) -> list[str]:
    """In which settings, but the free ones, a component differs from the one that a layout has; a few words each."""
    return [
        f"{where}.{one.name} is {getattr(found, one.name)}, the layout has {getattr(layout, one.name)}"
        for one in fields(found)
        if one.name not in free and getattr(found, one.name) != getattr(layout, one.name)
    ]


def on_a_line(model: ModelConfig) -> list[str]:
    """Obstacles for models whose positions are on a grid, where a layout has none such; and `spliced_vision`."""
    kind = model.positions.kind
    found = [] if kind == "line" else [f"model.positions is {kind}, the layout has line"]
    return [*spliced_vision(model), *found]


def spliced_vision(model: ModelConfig) -> list[str]:
    """Obstacles for models that do more, or less, than splice one vision stream into text."""
    found = [f"model.streams has {name}, the layout has vision alone" for name in model.streams]
    if model.fusion.kind != "splice":
        found.append(f"model.fusion is {model.fusion.kind}, the layout has splice")
    return found


def kind_of(encoder: EncoderConfig | None) -> str:
    """An encoder's kind, for messages."""
    return "none" if encoder is None else encoder.kind


def in_block(name: str) -> tuple[str, str]:
    """`encoder.blocks.3.mlp.up.weight` to its block's number and what it is called in there."""
    start, number, part = name.removeprefix("encoder.").split(".", 2)
    assert start == "blocks", f"'{name}' is no tensor of this structure"
    return number, part


def same(name: str) -> KeyMap:
    """Kept as it is."""
    return KeyMap((name,), lambda tensors: tensors[0], lambda tensor: [tensor])


def rows(*names: str) -> KeyMap:
    """Equal parts, one below the other in ours; one alone is kept as it is."""
    if len(names) == 1:
        return same(*names)
    return KeyMap(names, lambda tensors: torch.cat(list(tensors)), lambda tensor: tensor.chunk(len(names)))


def shaped(name: str, shape: tuple[int, ...]) -> KeyMap:
    """Kept with other axes than ours, of which the first alone is the same."""
    return KeyMap((name,), lambda tensors: tensors[0].flatten(1), lambda tensor: [tensor.unflatten(1, shape)])


def within(name: str, axes: int) -> KeyMap:
    """Kept with so many axes of length 1 before ours."""

    def split(tensor: Tensor) -> list[Tensor]:
        return [tensor[(None,) * axes]]

    def join(tensors: Sequence[Tensor]) -> Tensor:
        assert tensors[0].shape[:axes] == (1,) * axes, f"'{name}' is {list(tensors[0].shape)}"
        return tensors[0][(0,) * axes]

    return KeyMap((name,), join, split)


def by_name(name: str, outside: Mapping[str, str], blocks: str, inside: Mapping[str, str | tuple[str, ...]]) -> KeyMap:
    """Where a tensor is kept that differs from ours in its name alone, or in several that lie below each other in ours.

    name: without `encoder.`. outside: our names of tensors (`class_token`) and modules (`stem`) beside the blocks, to
    theirs. blocks: what theirs begin with, but for the number. inside: the same as `outside`, within a block.
    """
    module, _, kind = name.rpartition(".")
    if name in outside:
        return same(outside[name])
    if module in outside:
        return same(f"{outside[module]}.{kind}")
    number, part = in_block(name)
    theirs, ending = (inside[part], "") if part in inside else (inside[part.rpartition(".")[0]], f".{kind}")
    names = [theirs] if isinstance(theirs, str) else theirs
    return rows(*(f"{blocks}.{number}.{one}{ending}" for one in names))


def before(prefix: str, kept: KeyMap) -> KeyMap:
    """The same, under longer names."""
    return replace(kept, names=tuple(prefix + name for name in kept.names))


def refused(wanted: Sequence[tuple[str, Any, Sequence[Any]]]) -> list[str]:
    """Of settings as (name, found, allowed), those that are not allowed, each in a few words."""
    return [
        f"{name} is {found!r}, supported: {', '.join(map(str, allowed))}"
        for name, found, allowed in wanted
        if found not in allowed
    ]


def square(size: Any, layout: str) -> int:
    """Sides may be given as one number or as two equal ones. Raises WeightsError for others."""
    sides = set(size.values() if isinstance(size, Mapping) else size if isinstance(size, list | tuple) else (size,))
    if len(sides) != 1:
        raise WeightsError(f"this model of {layout} has patches or pictures of {size} px, supported: squares")
    return int(sides.pop())

"""Weights on disk: safetensors, tied tensors once, checked by name and shape before anything is overwritten."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vitrail.contracts.errors import WeightsError
from vitrail.models.backbones.adapters import merged, without_adapters
from vitrail.models.config import LoraConfig

RENAMED = {"encoder.table": "encoder.position_table", "spotter.weight": "char_head.weight"}
"""Tensors that finished models and checkpoints of before called otherwise."""


def in_format(model: nn.Module, dtype: torch.dtype) -> None:
    """Brings the weights of a model into a number format.

    What a state dict leaves out is no weight and stays as it is: rotary frequencies of 8 bits would turn the 2,000th
    position by a radian too much.
    """
    buffers = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name in module._non_persistent_buffers_set
    ]
    model.to(dtype)
    for module, name, buffer in buffers:
        module.register_buffer(name, buffer, persistent=False)


def unshared(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with tied tensors once, as safetensors wants it; also of a model on `meta`, or sharded.

    Tied are the names that the model itself gives to one tensor; the first of them is kept.
    """
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach().contiguous()
    return tensors


def finished(model: nn.Module) -> dict[str, Tensor]:
    """`unshared` as of a model without adapters: those of a component are merged into it."""
    tensors = unshared(model)
    for component, child in model.named_children():
        if isinstance(lora := getattr(child, "lora", None), LoraConfig):
            own = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{component}.")}
            rest = {name: tensor for name, tensor in tensors.items() if name not in own}
            tensors = {**rest, **merged(own, lora)}
    return tensors


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file. Raises WeightsError when it is missing or torn."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"'{path}' does not exist") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"'{path}' is damaged: {error}") from error


def load_model(model: nn.Module, path: Path) -> None:
    """Loads weights into a model of the same make. Raises WeightsError naming the first tensor that does not fit."""
    fill(unshared(model), load_tensors(path), path)


def fill_model(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copies tensors that are at hand into a model of the same make; source: where they are from, for messages.

    Raises WeightsError naming the first tensor that does not fit.
    """
    fill(unshared(model), tensors, source)


def load_component(model: nn.Module, name: str, path: Path) -> None:
    """Loads one component's weights out of a finished model's. Raises WeightsError where they do not fit."""
    fill_component(model, name, load_tensors(path), path)


def fill_component(model: nn.Module, name: str, found: Mapping[str, Tensor], path: Path) -> None:
    """The same out of tensors that are at hand; path: where they are from."""
    tensors = {key: tensor for key, tensor in found.items() if key.startswith(f"{name}.")}
    if not tensors:
        raise WeightsError(f"'{path}' holds no component '{name}'")
    expected = {key: tensor for key, tensor in unshared(model).items() if key.startswith(f"{name}.")}
    if isinstance(getattr(model.get_submodule(name), "lora", None), LoraConfig):
        expected = without_adapters(expected)
    fill(expected, tensors, path)


def today(name: str, known: Container[str]) -> str:
    """The name that a model with the tensors `known` has for a tensor of that name in a file."""
    now = RENAMED.get(name, name)
    return name if name in known or now not in known else now


def fill(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copies tensors into those of a model, once every name and shape is found to fit.

    path: where they are from. Raises WeightsError naming the first that does not fit.
    """
    tensors = {today(name, expected): tensor for name, tensor in tensors.items()}
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        what = f"lacks '{missing[0]}'" if missing else f"has '{unknown[0]}', which the model has not"
        raise WeightsError(f"'{path}' is of another model: it {what}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise WeightsError(
                f"'{path}' is of another model: '{name}' is {list(tensor.shape)}, expected {list(expected[name].shape)}"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            expected[name].copy_(tensor)

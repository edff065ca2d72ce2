"""Weights on disk: safetensors, tied tensors once, checked by name and shape before anything is overwritten."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vitrail.contracts.errors import WeightsError


def unshared(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with tied tensors once, as safetensors wants it."""
    seen: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if seen.setdefault(tensor.data_ptr(), name) == name or tensor.numel() == 0:
            tensors[name] = tensor.contiguous()
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
    tensors = load_tensors(path)
    expected = unshared(model)
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

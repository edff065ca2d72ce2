"""An official folder opened and written anew, for systems that transformers has no class of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import vitrail
from vitrail.models.weights import unshared
from vitrail.systems import folder as systems


def written(system: Any, golden: Path, out: Path, names: Any) -> Path:
    """The folder in the system's official layout. names: as much of a tokenizer as its description asks for."""
    official = systems.read_folder(golden)
    described = systems.describe(system, official, golden)
    chat = vitrail.load(golden, device="cpu")
    described = replace(described, backbone=chat.model.backbone.lm.config.to_dict())
    assert system.obstacles(described) == []
    out.mkdir()
    for name, content in system.write(described, names, "float32").items():
        (out / name).write_text(json.dumps(content), encoding="utf-8")
    tensors = systems.to_official(system, described, unshared(chat.model))
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out


def check_tensors(golden: Path, out: Path) -> None:
    """Bit for bit what was read, whatever is passed over in computing included."""
    back, original = load_file(out / "model.safetensors"), load_file(golden / "model.safetensors")
    assert back.keys() == original.keys()
    for name, tensor in original.items():
        assert torch.equal(back[name], tensor.float()), name


def check_settings(system: Any, golden: Path, out: Path) -> None:
    """They mean the same."""
    first, second = (systems.describe(system, systems.read_folder(place), place) for place in (golden, out))
    for name in ("media", "encoder", "projector", "fusion"):
        assert getattr(first.model, name) == getattr(second.model, name)
    assert {key: second.backbone[key] for key in first.backbone} == dict(first.backbone)

"""Official folders: JSON files and safetensors, read and mapped; no code that lies in them is ever run.

Reading holds the checkpoint and the model in memory at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitrail.contracts.errors import WeightsError, nearest
from vitrail.models.weights import load_tensors
from vitrail.systems import (
    deepseek_vl,
    deepseek_vl_hybrid,
    deepseek_vl_official,
    internvl,
    internvl_1_5,
    mistral3,
    mllama,
    nvlm,
    qwen2_5_vl,
    qwen2_vl,
)
from vitrail.systems.accounting import accounted, canonical_names
from vitrail.systems.encoders import clip, sam, siglip, whisper
from vitrail.systems.settings import unread
from vitrail.systems.system import AnySpec, EncoderSpec, Layout, ModelSpec, Official, System

SYSTEMS: dict[str, System] = {
    "mistral3": mistral3,
    "mllama": mllama,
    "internvl": internvl,
    "internvl_chat": internvl_1_5,
    "NVLM_D": nvlm,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "deepseek_vl": deepseek_vl,
    "deepseek_vl_hybrid": deepseek_vl_hybrid,
    "multi_modality": deepseek_vl_official,
}
"""model_type in config.json -> the system. The next system is one file and one line here."""

ENCODERS: dict[str, Layout[EncoderSpec]] = {
    **dict.fromkeys(("clip_vision_model", "clip"), clip),
    **dict.fromkeys(("siglip_vision_model", "siglip"), siglip),
    **dict.fromkeys(("sam_vision_model", "sam"), sam),
    "whisper": whisper,
}
"""model_type -> the layout of an encoder without a language model of ours."""

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
DESCRIPTION = "vitrail.yaml"
"""What a finished model of our own says about itself."""
FILES = (
    *(CONFIG, "processor_config.json", "preprocessor_config.json", "generation_config.json"),
    *("adapter_config.json", "video_preprocessor_config.json"),
)


def own_folder(folder: Path) -> Path | None:
    """Where a finished model of our own lies: a run's `weights`, or the folder itself; None for neither."""
    return next((path for path in (folder / "weights", folder) if (path / DESCRIPTION).is_file()), None)


def is_official(folder: Path) -> bool:
    """Whether a folder may be one of an official layout."""
    return (folder / CONFIG).is_file()


def system_of(folder: Path) -> System:
    """The system whose layout a folder has. Raises WeightsError for a layout that is not known."""
    model_type = _json(folder / CONFIG).get("model_type")
    if model_type in ENCODERS:
        raise WeightsError(
            f"'{folder}' has model_type '{model_type}': taken for its encoder alone, without a language model"
        )
    if model_type not in SYSTEMS:
        raise WeightsError(
            f"'{folder}' has model_type '{model_type}'{nearest(str(model_type), SYSTEMS)}; known: {', '.join(SYSTEMS)}"
        )
    return SYSTEMS[model_type]


def is_encoder(folder: Path) -> bool:
    """Whether a folder holds, for us, an encoder alone, in a layout that is known."""
    return is_official(folder) and _json(folder / CONFIG).get("model_type") in ENCODERS


def encoder_of(folder: Path) -> Layout[EncoderSpec]:
    """The layout of a folder that holds an encoder alone. Raises WeightsError for one that is not known."""
    model_type = _json(folder / CONFIG).get("model_type")
    if model_type not in ENCODERS:
        raise WeightsError(
            f"'{folder}' has model_type '{model_type}'{nearest(str(model_type), ENCODERS)}; known encoders: "
            f"{', '.join(ENCODERS)}"
        )
    return ENCODERS[model_type]


def read_folder(folder: Path) -> Official:
    """Everything in an official folder that a system asks for. Raises WeightsError for what is missing or damaged."""
    tensors: dict[str, Tensor] = {}
    for shard in _shards(folder):
        tensors |= load_tensors(shard)
    return Official(read_settings(folder).files, tensors)


def tensor_names(folder: Path) -> list[str]:
    """Names of the tensors of an official folder, from the headers of its files alone. Raises WeightsError."""
    names: list[str] = []
    for shard in _shards(folder):
        try:
            with safe_open(shard, "pt") as file:
                names += file.keys()
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"'{shard}' cannot be read: {error}") from error
    return names


def _shards(folder: Path) -> list[Path]:
    """The files that hold an official folder's tensors. Raises WeightsError for an index that names others."""
    index = folder / INDEX
    if not index.is_file():
        return [folder / WEIGHTS]
    shards = sorted({str(shard) for shard in _json(index)["weight_map"].values()})
    elsewhere = next((shard for shard in shards if Path(shard).name != shard), None)
    if elsewhere is not None:
        raise WeightsError(f"'{index}' names '{elsewhere}', which is no file beside it")
    return [folder / shard for shard in shards]


def read_settings(folder: Path) -> Official:
    """The same without the weights, which need not be there."""
    return Official({name: _json(folder / name) for name in FILES if (folder / name).is_file()}, {})


def describe(system: Layout[AnySpec], official: Official, folder: Path) -> AnySpec:
    """The system's reading of a folder. Raises WeightsError for settings it does not have, or that make no sense."""
    try:
        found = unread(official.files)
        if found:
            raise WeightsError("; ".join(found))
        return system.read(official)
    except WeightsError as error:
        raise WeightsError(f"'{folder}': {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise WeightsError(f"'{folder / CONFIG}' is not as {system.LAYOUT} has it: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"'{path}' cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"'{path}' holds no JSON object")
    return found


def from_official(
    system: Layout[AnySpec], spec: AnySpec, tensors: Mapping[str, Tensor], names: Collection[str], source: Path
) -> dict[str, Tensor]:
    """Official tensors as ours. names: of our tensors. source: the folder they are from, for messages.

    Raises WeightsError for a tensor that is missing, left over or of another shape.
    """
    named = canonical_names(system, tensors, source)
    official = {name: tensors[found] for name, found in named.items()}
    accounted(system, spec, official, names, source)
    ours: dict[str, Tensor] = {}
    for name in names:
        kept = system.key_map(name, spec)
        parts = [official[part] for part in kept.names]
        try:
            ours[name] = kept.join(parts)
        except RuntimeError as error:
            shapes = ", ".join(f"'{part}' {list(one.shape)}" for part, one in zip(kept.names, parts, strict=True))
            raise WeightsError(f"'{source}' has tensors of a shape its config.json does not give: {shapes}") from error
    return ours


def to_official(system: Layout[AnySpec], spec: AnySpec, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their official names, as new contiguous tensors."""
    official: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        kept = system.key_map(name, spec)
        for part, piece in zip(kept.names, kept.split(tensor), strict=True):
            assert part not in official or kept.shared, f"two of our tensors are kept as '{part}'"
            piece = piece.detach().clone(memory_format=torch.contiguous_format)
            official[part] = official[part] + piece if part in official else piece
    return official


def fitting(spec: ModelSpec, model_type: str | None = None) -> System:
    """The first system whose layout can hold a model, or the one asked for.

    Raises WeightsError that says what stands in the way.
    """
    if model_type is not None and model_type not in SYSTEMS:
        known = ", ".join(SYSTEMS)
        raise WeightsError(f"'{model_type}' is no layout that is known{nearest(model_type, SYSTEMS)}; known: {known}")
    asked = [SYSTEMS[model_type]] if model_type else list(SYSTEMS.values())
    found = {system.LAYOUT: system.obstacles(spec) for system in asked}
    for system in asked:
        if not found[system.LAYOUT]:
            return system
    layout = min(found, key=lambda name: len(found[name]))
    raise WeightsError(f"this model does not fit {layout}: {'; '.join(found[layout])}")

"""The model before training: components from their own settings, or taken from finished models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vitrail.build.model import build_encoder, build_model
from vitrail.contracts.errors import WeightsError
from vitrail.contracts.samples import component
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones import adapters
from vitrail.models.backbones.construct import build_backbone, unset_backbone
from vitrail.models.backbones.weights_source import local_folder
from vitrail.models.config import ModelConfig
from vitrail.models.weights import fill, fill_component, in_format, load_component
from vitrail.systems.folder import DESCRIPTION, is_official, own_folder
from vitrail.systems.opening import official_weights
from vitrail.training.objectives import Objective

WEIGHTS = "model.safetensors"
ADAPTER = "adapter"
STARTER = Path(__file__).parents[1] / "starter"
"""The encoder and projector that come with the package."""


def starting_model(
    config: ModelConfig,
    vocabulary: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    objectives: Iterable[Objective] = (),
) -> MultimodalModel:
    """The model before training: as `build_model` makes it, with the components that `weights` takes from elsewhere.

    What is taken from elsewhere is never held in float32 where `dtype` is a shorter one.
    Raises WeightsError for a folder that holds no such component, or one of another structure.
    """
    # Random numbers for billions of weights take minutes; where others are drawn beside them, they stay the same.
    taken = {name for name in config.components if name != "fusion"} <= config.weights.keys()
    backbone = build_backbone(config.backbone, vocabulary, initialise=False) if taken else None
    model = build_model(config, vocabulary, seed, backbone, objectives)
    in_format(model, dtype)
    for folder in dict.fromkeys(config.weights.values()):
        components = [name for name, one in config.weights.items() if one == folder]
        _take(model, config, components, folder)
    lora = config.backbone.lora
    if lora and lora.weights:
        source = adapter_folder(lora.weights)
        tensors = model.get_submodule("backbone.lm").state_dict()
        pairs = {name: tensor for name, tensor in tensors.items() if adapters.of_adapter(name)}
        fill(pairs, adapters.read_adapter(source, lora), source)
    if config.backbone.quantised:
        model.language_model.quantise()
    return model


def _take(model: MultimodalModel, config: ModelConfig, components: Sequence[str], source: str) -> None:
    """Weights of components out of one finished model, ours or an official one."""
    folder = Path(source) if source == STARTER.name else local_folder(source)
    if own_folder(folder) or not is_official(folder):
        for name in components:
            load_component(model, name, weights_folder(source if not folder.exists() else folder) / WEIGHTS)
        return
    encoders = {component(name, "encoder"): tower.encoder for name, tower in config.towers.items()}
    wanted = {name: encoder for name, encoder in encoders.items() if name in components}
    tensors = official_weights(folder, unfilled, build_encoder, wanted)
    for name in components:
        fill_component(model, name, tensors, folder)


def unfilled(config: ModelConfig, settings: Mapping[str, Any]) -> MultimodalModel:
    """A model whose weights come from elsewhere; settings: transformers' own, of the language model."""
    backbone = unset_backbone(settings)
    return build_model(config, backbone.vocabulary, seed=0, backbone=backbone)


def adapter_folder(source: str) -> Path:
    """The folder of an adapter: a run's, the folder itself, or that of the bundled `starter`."""
    folder = weights_folder(source) if source == STARTER.name else Path(source)
    return folder / ADAPTER if (folder / ADAPTER).is_dir() else folder


def weights_folder(source: str | Path) -> Path:
    """The folder of a finished model: a run's `weights`, the folder itself, or the bundled `starter`.

    Raises WeightsError when there is none.
    """
    if source == STARTER.name:
        return STARTER
    found = own_folder(Path(source))
    if found is None:
        raise WeightsError(
            f"'{source}' holds no finished model: neither {DESCRIPTION} nor weights/{DESCRIPTION} is there"
        )
    return found

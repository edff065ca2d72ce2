"""A finished model to its folder, and back: ours, or one in the layout of a published system."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from vitrail.build.data import build_encode, build_tokenizer, generation_settings
from vitrail.build.model import build_model
from vitrail.build.starting import ADAPTER, WEIGHTS, starting_model, unfilled, weights_folder
from vitrail.build.training import objective_of
from vitrail.contracts.devices import DeviceName
from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.data.encode import Encode
from vitrail.disk import whole_folder
from vitrail.inference.chat_model import ChatModel
from vitrail.metrics.calibration import Calibration
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones import adapters
from vitrail.models.backbones.construct import unset_backbone
from vitrail.models.backbones.tokenizer import load_tokenizer
from vitrail.models.backbones.weights_source import local_folder, local_or_hub
from vitrail.models.config import CustomConfig, ModelConfig
from vitrail.models.weights import fill_model, finished, load_tensors
from vitrail.prompts.config import PromptConfig
from vitrail.recipe.code import code_named
from vitrail.recipe.renamed import LAYOUT, upgraded
from vitrail.recipe.strict import read, to_yaml
from vitrail.systems.folder import DESCRIPTION, is_official, own_folder
from vitrail.systems.opening import open_official
from vitrail.training.config import TrainingConfig
from vitrail.training.device import choose
from vitrail.training.objectives import ObjectiveConfig


@dataclass(frozen=True)
class Description:
    """What a folder of finished weights says about itself, in vitrail.yaml; backbone: transformers' own settings.

    objectives: those whose modules are among the weights.
    """

    layout: int
    model: ModelConfig
    prompt: PromptConfig
    backbone: Mapping[str, Any]
    objectives: tuple[ObjectiveConfig | CustomConfig, ...] = ()


def save_weights(
    model: MultimodalModel,
    encode: Encode,
    config: ModelConfig,
    prompt: PromptConfig,
    folder: Path,
    objectives: tuple[ObjectiveConfig | CustomConfig, ...] = (),
) -> None:
    """A finished model: weights, tokenizer, and a description from which `load` builds it without the recipe.

    objectives: those whose modules the model has. Adapters are merged: what is written is a model without.
    """
    settings = model.language_model.settings
    # Where components once came from, and how they learnt, is the run's business; the weights here are whole.
    backbone = replace(config.backbone, lora=None, quantised=None, recompute=False)
    described = replace(config, weights={}, backbone=backbone, generation=generation_settings(config))
    text = to_yaml(Description(LAYOUT, described, prompt, settings, objectives))
    with whole_folder(folder) as making:
        encode.tokenizer.save(str(making))
        save_file(finished(model), making / WEIGHTS)
        (making / DESCRIPTION).write_text(text, encoding="utf-8")


def save_adapter(model: MultimodalModel, config: ModelConfig, folder: Path) -> None:
    """The adapter of the language model alone, in peft's layout, beside the model it was trained on."""
    # Random weights, and those of another run, are nowhere that peft could open.
    base = config.backbone.id if "backbone" not in config.weights else None
    adapters.save_adapter(model.language_model.lm, base and local_or_hub(base), folder)


def load(source: str | Path, device: DeviceName = "auto", *, trust_code: bool = False) -> ChatModel:
    """Opens a finished model: a run's folder, its `weights` folder, components that were exported by themselves (such
    as the `starter` that comes with the package), a folder in the layout of a published system, or a hub id.

    trust_code: whether classes outside this package that the model's description names are imported and run. A folder
    of ours may name any (`package.module:Class`); an official one none.

    Raises WeightsError when there is none, it does not fit its description, or it names code that is not trusted;
    RecipeError for a device that is not there. A folder without a tokenizer, or with a chat format that is not ours,
    opens for its model alone: asking it raises WeightsError.
    """
    return load_described(source, device, trust_code=trust_code)[0]


def load_described(
    source: str | Path, device: DeviceName = "auto", *, trust_code: bool = False
) -> tuple[ChatModel, ModelConfig]:
    """The same, with the model's components."""
    name = choose(TrainingConfig(device=device)).name
    folder = local_folder(source)
    if own_folder(folder) is None and is_official(folder):
        model, encode, config, notes = _official_model(folder)
        return ChatModel(model.to(name).eval(), encode, name, notes), config
    folder = weights_folder(folder if folder.exists() else source)
    model, encode, config = _own_model(folder, trust_code)
    return ChatModel(model.to(name).eval(), encode, name, calibration=Calibration.read(folder)), config


def _own_model(folder: Path, trust_code: bool) -> tuple[MultimodalModel, Encode, ModelConfig]:
    try:
        description = read(Description, folder / DESCRIPTION, beneath=upgraded).value
    except RecipeError as error:
        raise WeightsError(f"this version cannot read the model's description: {error}") from error
    if description.layout != LAYOUT:
        raise WeightsError(f"'{folder}' has layout {description.layout}, this version reads up to {LAYOUT}")
    code = [] if trust_code else [f"{path}: {kind}" for path, kind in code_named(description)]
    if code:
        raise WeightsError(
            f"'{folder}' names code that is not part of vitrail, and opening it would run it: {', '.join(code)}; "
            "if you trust its author: trust_code=True, or --trust-code on the command line"
        )
    tensors = load_tensors(folder / WEIGHTS)
    held = {name.split(".")[0] for name in tensors}
    if "backbone" not in held:
        return _of_components(description, folder, held)
    tokenizer = load_tokenizer(str(folder))
    backbone = unset_backbone(description.backbone)
    objectives = [objective_of(one, "objectives") for one in description.objectives]
    model = build_model(description.model, backbone.vocabulary, seed=0, backbone=backbone, objectives=objectives)
    fill_model(model, tensors, folder / WEIGHTS)
    encode = build_encode(description.model, description.prompt, tokenizer, start=model.start)
    return model, encode, description.model


def _of_components(
    description: Description, folder: Path, held: Collection[str]
) -> tuple[MultimodalModel, Encode, ModelConfig]:
    """Components that were exported by themselves, and the adapter beside them, on the language model they were made
    for, from where it comes from. held: their names."""
    config = description.model
    lora = adapters.settings_of(folder / ADAPTER) if (folder / ADAPTER).is_dir() else None
    backbone = replace(config.backbone, lora=lora)
    begun = replace(config, weights={name: str(folder) for name in held}, backbone=backbone)
    tokenizer = build_tokenizer(backbone, description.prompt)
    model = starting_model(begun, tokenizer.vocabulary, seed=0)
    return model, build_encode(config, description.prompt, tokenizer, start=model.start), config


def _official_model(folder: Path) -> tuple[MultimodalModel, Encode, ModelConfig, tuple[str, ...]]:
    model, described, tokenizer = open_official(folder, unfilled)
    encode = build_encode(described.model, described.prompt, tokenizer, start=model.start)
    return model, encode, described.model, described.notes

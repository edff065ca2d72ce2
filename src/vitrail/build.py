"""Recipe to live objects: the only file that knows every component.

A component's `kind` is a name from the tables here, or `package.module:Class` of the user's own.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers.utils import logging as transformers_logging

from vitrail.contracts.devices import DeviceName
from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.contracts.protocols import MediaRule, Source, StreamedSource, Tokenizer
from vitrail.data.config import DialectName, SourceConfig
from vitrail.data.encode import Encode
from vitrail.data.loader import Stream
from vitrail.data.opening import Opened, Replay, open_mixture, sources_of
from vitrail.data.sources.opening import open_source
from vitrail.inference.chat_model import ChatModel
from vitrail.media.config import FetchConfig
from vitrail.media.rule import media_rule
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones import adapters
from vitrail.models.backbones.construct import build_backbone, transformers_config
from vitrail.models.backbones.decoder import Decoder, decoder_from_config
from vitrail.models.backbones.tokenizer import HFTokenizer, byte_tokenizer, load_tokenizer, small_tokenizer
from vitrail.models.backbones.weights_source import local_folder, local_or_hub
from vitrail.models.config import (
    CustomConfig,
    DecoderConfig,
    LinearProjectorConfig,
    MLPProjectorConfig,
    ModelConfig,
    PatchMergerConfig,
    VisionTransformerConfig,
)
from vitrail.models.contrast import Contrast
from vitrail.models.encoders.vision_transformer import VisionTransformer
from vitrail.models.fusion.splice import Splice
from vitrail.models.projectors.linear import LinearProjector
from vitrail.models.projectors.mlp import MLPProjector
from vitrail.models.projectors.patch_merger import PatchMerger
from vitrail.models.weights import fill, fill_component, finished, load_component, load_model
from vitrail.prompts.config import MRopePositionsConfig, PromptConfig
from vitrail.prompts.program import tokenizer_template
from vitrail.prompts.templates import TOKENIZER, Template, template
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import read, to_yaml
from vitrail.systems.folder import DESCRIPTION, is_official, own_folder
from vitrail.systems.opening import official_weights, open_official
from vitrail.training.config import (
    ContrastiveCaptionConfig,
    ListeningConfig,
    NextTokenConfig,
    ReadingConfig,
    StageConfig,
    TrainingConfig,
)
from vitrail.training.device import Device, choose
from vitrail.training.loop import Stage
from vitrail.training.objectives import ContrastiveCaption, NextToken, Objective
from vitrail.training.reading import Listening, Reading

transformers_logging.disable_progress_bar()

OWN_TOKENIZERS = {"bytes": byte_tokenizer, "small": small_tokenizer}
WEIGHTS = "model.safetensors"
ADAPTER = "adapter"
LAYOUT = 1
STARTER = Path(__file__).parent / "starter"
"""The encoder and projector that come with the package."""


def custom(kind: str, where: str, **arguments: Any) -> Any:
    """An object of the class behind `package.module:Class`; the working directory is searched too.

    Raises RecipeError when there is no such class, or it does not take the arguments.
    """
    module, _, name = kind.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"{where}: cannot load '{kind}': {error}") from error
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise RecipeError(f"{where}: {kind}: {error}") from error
    return found(**arguments)


def build_media(config: ModelConfig) -> MediaRule:
    """The media rule, stated once; data and prompts are handed the same object."""
    return media_rule(config.media)


def build_tokenizer(config: DecoderConfig, prompt: PromptConfig) -> HFTokenizer:
    """The backbone's tokenizer. Raises WeightsError when it lacks a special token of the prompt's template."""
    own = prompt.template == TOKENIZER
    specials = (*(() if own else template(prompt.template).specials), *prompt.specials)
    if config.tokenizer in OWN_TOKENIZERS:
        return OWN_TOKENIZERS[config.tokenizer](specials)
    place = config.tokenizer or config.id
    assert place, "a backbone without an id has a tokenizer of its own"
    tokenizer = load_tokenizer(local_or_hub(place))
    for name in specials:
        tokenizer.special(name)
    return tokenizer


def build_model(config: ModelConfig, vocabulary: int, seed: int, backbone: Decoder | None = None) -> MultimodalModel:
    """The assembled model in float32, on the default device. seed: of every random weight."""
    # The seed is this model's own business: a caller's stream of chance goes on as if nothing had been drawn.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _assembled(config, vocabulary, backbone)


def _assembled(config: ModelConfig, vocabulary: int, backbone: Decoder | None) -> MultimodalModel:
    if backbone is None:
        backbone = build_backbone(config.backbone, vocabulary)
    media = config.media
    encoder: Any
    match config.encoder:
        case VisionTransformerConfig() as chosen:
            encoder = VisionTransformer(chosen, patch_values=3 * media.patch**2)
        case CustomConfig(kind=kind, options=options):
            encoder = custom(kind, "model.encoder", patch_values=3 * media.patch**2, **options)
    projector: Any
    match config.projector:
        case MLPProjectorConfig() as mlp:
            projector = MLPProjector(mlp, encoder.width, backbone.width, media.merge)
        case LinearProjectorConfig() as linear:
            projector = LinearProjector(linear, encoder.width, backbone.width, media.merge)
        case PatchMergerConfig() as merger:
            projector = PatchMerger(merger, encoder.width, backbone.width, media.merge)
        case CustomConfig(kind=kind, options=options):
            widths = {"encoder_width": encoder.width, "backbone_width": backbone.width, "merge": media.merge}
            projector = custom(kind, "model.projector", **widths, **options)
    contrast = Contrast(config.contrast, backbone.width, backbone.width) if config.contrast else None
    spotter = torch.nn.Linear(encoder.width, backbone.vocabulary, bias=False) if config.spotter else None
    if isinstance(config.positions, MRopePositionsConfig):
        backbone.use_mrope(config.positions.sections)
    backbone.recompute = config.backbone.recompute
    if config.backbone.lora:
        # Last, so that what else is drawn by chance is the same without adapters.
        backbone.add_adapters(config.backbone.lora)
    return MultimodalModel(encoder, projector, Splice(), backbone, contrast, spotter)


def starting_model(
    config: ModelConfig, vocabulary: int, seed: int, dtype: torch.dtype = torch.float32
) -> MultimodalModel:
    """The model before training: as `build_model` makes it, with the components that `weights` takes from elsewhere.

    What is taken from elsewhere is never held in float32 where `dtype` is a shorter one.
    Raises WeightsError for a place that holds no such component, or one of another structure.
    """
    # Random numbers for billions of weights take minutes; where others are drawn beside them, they stay the same.
    taken = {"encoder", "projector", "backbone"} <= config.weights.keys()
    backbone = build_backbone(config.backbone, vocabulary, initialise=False) if taken else None
    model = build_model(config, vocabulary, seed, backbone).to(dtype)
    for place in dict.fromkeys(config.weights.values()):
        components = [component for component, one in config.weights.items() if one == place]
        _take(model, config, components, place)
    lora = config.backbone.lora
    if lora and lora.weights:
        folder = adapter_folder(lora.weights)
        pairs = {name: tensor for name, tensor in model.backbone.lm.state_dict().items() if adapters.of_adapter(name)}
        fill(pairs, adapters.read_adapter(folder, lora), folder)
    if config.backbone.quantised:
        model.backbone.quantise()
    return model


def _take(model: MultimodalModel, config: ModelConfig, components: Sequence[str], place: str) -> None:
    """Weights of components out of one finished model, ours or an official one."""
    folder = Path(place) if place == STARTER.name else local_folder(place)
    if own_folder(folder) or not is_official(folder):
        for component in components:
            load_component(model, component, weights_folder(place if not folder.exists() else folder) / WEIGHTS)
        return
    tensors = official_weights(folder, _to_fill, config.encoder if "encoder" in components else None)
    for component in components:
        fill_component(model, component, tensors, folder)


def adapter_folder(place: str) -> Path:
    """The folder of an adapter: a run's, the folder itself, or that of the bundled `starter`."""
    folder = weights_folder(place) if place == STARTER.name else Path(place)
    return folder / ADAPTER if (folder / ADAPTER).is_dir() else folder


def weights_folder(place: str | Path) -> Path:
    """The folder of a finished model: a run's `weights`, the folder itself, or the bundled `starter`.

    Raises WeightsError when there is none.
    """
    if place == STARTER.name:
        return STARTER
    found = own_folder(Path(place))
    if found is None:
        raise WeightsError(
            f"'{place}' holds no finished model: neither {DESCRIPTION} nor weights/{DESCRIPTION} is there"
        )
    return found


def build_encode(
    config: ModelConfig, prompt: PromptConfig, tokenizer: Tokenizer, fetch: FetchConfig | None = None
) -> Encode:
    """What turns a conversation into a sample, for this model."""
    chat = build_template(prompt, tokenizer)
    frames = config.encoder.frames if isinstance(config.encoder, VisionTransformerConfig) else 1
    return Encode(build_media(config), chat, tokenizer, prompt, fetch=fetch, positions=config.positions, frames=frames)


def build_template(prompt: PromptConfig, tokenizer: Tokenizer) -> Template:
    """The chat format by its name, or the tokenizer's own. Raises RecipeError for one that cannot be used."""
    if prompt.template != TOKENIZER:
        return template(prompt.template)
    if not isinstance(tokenizer, HFTokenizer):
        raise RecipeError(f"prompt.template: '{TOKENIZER}' needs a tokenizer that comes with a chat template")
    return tokenizer_template(
        tokenizer.chat_template, tokenizer.names, tokenizer.specials, tokenizer.whole, prompt.picture
    )


def build_source(config: SourceConfig) -> tuple[Source | StreamedSource, DialectName]:
    """A source and the dialect of its rows."""
    return open_source(config)


def build_objective(stage: StageConfig) -> Objective:
    """What the stage minimises."""
    match stage.objective:
        case NextTokenConfig():
            return NextToken()
        case ReadingConfig() as reading:
            return Reading(reading)
        case ListeningConfig() as listening:
            return Listening(listening)
        case ContrastiveCaptionConfig(contrastive=contrastive, caption=caption, spotting=spotting):
            return ContrastiveCaption(contrastive, caption, spotting)
    where = f"stages.{stage.name}.objective"
    objective: Objective = custom(stage.objective.kind, where, **stage.objective.options)
    return objective


def build_stages(recipe: Recipe, encode: Encode, device: Device, opened: Opened | None = None) -> list[Stage]:
    """The stages with their streams; each draws its order from a seed of its own.

    opened: sources that need not be opened again. Raises RecipeError for epochs of data that has no end.
    """
    data = {stage.name: stage.data or recipe.data.train for stage in recipe.stages}
    if opened is None:
        opened = {source: build_source(source) for chosen in data.values() for source in sources_of(chosen)}
    stages = []
    for number, config in enumerate(recipe.stages):
        replays = tuple(Replay(earlier, data[earlier], share) for earlier, share in config.replay.items())
        mixture = open_mixture(data[config.name], opened, recipe.seed * 1000 + number, replays)
        if config.epochs is not None and mixture.rows is None:
            raise RecipeError(f"stages.{config.name}.epochs: streamed data has no epochs; give steps or tokens")
        pack = recipe.data.pack
        written = config.objective.tokens if isinstance(config.objective, ReadingConfig | ListeningConfig) else 0
        stream = Stream(
            mixture,
            replace(encode, written=written),
            pack,
            max_lost=recipe.data.max_lost,
            resolution=config.resolution,
            lasts=config.lasts,
            pad_to=pack.length if device.compiled else 0,
            workers=recipe.data.workers,
        )
        stages.append(Stage(config, stream, build_objective(config)))
    return stages


@dataclass(frozen=True)
class Description:
    """What a folder of finished weights says about itself, in vitrail.yaml; backbone: transformers' own settings."""

    layout: int
    model: ModelConfig
    prompt: PromptConfig
    backbone: Mapping[str, Any]


def save_weights(
    model: MultimodalModel, encode: Encode, config: ModelConfig, prompt: PromptConfig, folder: Path
) -> None:
    """A finished model: weights, tokenizer, and a description from which `load` builds it without the recipe.

    Adapters are merged: what is written is a model without.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.loads(model.backbone.lm.config.to_json_string(use_diff=True))
    encode.tokenizer.save(str(folder))
    making = folder / "model.safetensors.part"
    save_file(finished(model), making)
    making.rename(folder / WEIGHTS)
    # Where components once came from, and how they learnt, is the run's business; the weights here are whole.
    backbone = replace(config.backbone, lora=None, quantised=None, recompute=False)
    described = replace(config, weights={}, backbone=backbone)
    text = to_yaml(Description(LAYOUT, described, prompt, settings))
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def save_adapter(model: MultimodalModel, config: ModelConfig, folder: Path) -> None:
    """The adapter of the language model alone, in peft's layout, beside the model it was trained on."""
    # Random weights, and those of another run, are nowhere that peft could open.
    base = config.backbone.id if "backbone" not in config.weights else None
    adapters.save_adapter(model.backbone.lm, base and local_or_hub(base), folder)


def load(place: str | Path, device: DeviceName = "auto") -> ChatModel:
    """Opens a finished model: a run's folder, its `weights` folder, a folder in the layout of a published system that
    is known, or a hub id of either.

    Raises WeightsError when there is none, or it does not fit its description; RecipeError for a device that is not
    there. A folder without a tokenizer, or with a chat format that is not ours, opens for its model alone: asking it
    raises WeightsError.
    """
    return load_described(place, device)[0]


def load_described(place: str | Path, device: DeviceName = "auto") -> tuple[ChatModel, ModelConfig]:
    """The same, with the model's components."""
    name = choose(TrainingConfig(device=device)).name
    folder = local_folder(place)
    if own_folder(folder) is None and is_official(folder):
        model, encode, config = _official_model(folder)
    else:
        model, encode, config = _own_model(weights_folder(folder if folder.exists() else place))
    return ChatModel(model.to(name).eval(), encode, name), config


def _own_model(folder: Path) -> tuple[MultimodalModel, Encode, ModelConfig]:
    try:
        description = read(Description, folder / DESCRIPTION).value
    except RecipeError as error:
        raise WeightsError(f"this version cannot read the model's description: {error}") from error
    if description.layout != LAYOUT:
        raise WeightsError(f"'{folder}' has layout {description.layout}, this version reads {LAYOUT}")
    tokenizer = load_tokenizer(str(folder))
    model = _to_fill(description.model, description.backbone)
    load_model(model, folder / WEIGHTS)
    return model, build_encode(description.model, description.prompt, tokenizer), description.model


def _official_model(folder: Path) -> tuple[MultimodalModel, Encode, ModelConfig]:
    model, described, tokenizer = open_official(folder, _to_fill)
    return model, build_encode(described.model, described.prompt, tokenizer), described.model


def _to_fill(config: ModelConfig, settings: Mapping[str, Any]) -> MultimodalModel:
    """A model whose weights come from elsewhere; settings: transformers' own, of the language model."""
    backbone = decoder_from_config(transformers_config(settings), initialise=False)
    return build_model(config, backbone.vocabulary, seed=0, backbone=backbone)

"""A recipe's words about the language model to the model itself: with trained weights, random ones, or none yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.models.backbones.checks import unread_settings
from vitrail.models.backbones.decoder import Decoder, decoder_from_config, decoder_from_pretrained, supported
from vitrail.models.backbones.weights_source import local_or_hub
from vitrail.models.config import DecoderConfig

ADAPTER = "adapter_config.json"
"""What a folder holds that is an adapter: transformers would open another model, its base, and lay it over."""

# Progress is ours to show.
transformers_logging.disable_progress_bar()


def build_backbone(config: DecoderConfig, vocabulary: int, *, initialise: bool = True) -> Decoder:
    """The language model, with its trained weights or with random ones; with unset ones that the caller fills."""
    if not config.id:
        return decoder_from_config(backbone_config(config, vocabulary), initialise=initialise)
    # Looked at before a file of weights is opened.
    settings = backbone_config(config, vocabulary)
    supported(settings)
    if (Path(config.id) / ADAPTER).is_file():
        raise WeightsError(f"model.backbone.id: '{config.id}' has an {ADAPTER}: merge the adapter into its base first")
    try:
        return decoder_from_pretrained(local_or_hub(config.id))
    except OSError as error:
        raise _cannot_load(config.id, error) from error


def untrained_backbone(config: DecoderConfig, vocabulary: int, layers: int | None = None) -> Decoder:
    """The same language model with random weights, cut to `layers` where given: to count and to time."""
    settings = backbone_config(config, vocabulary)
    if layers is not None:
        settings.num_hidden_layers = layers
        # Families that say of each layer what it attends to would refuse a list of another length.
        if getattr(settings, "layer_types", None):
            settings.layer_types = settings.layer_types[:layers]
    return decoder_from_config(settings)


def backbone_config(config: DecoderConfig, vocabulary: int) -> Any:
    """transformers' settings of the language model."""
    if not config.id:
        settings = transformers_config({"vocab_size": vocabulary, **config.config})
        if settings.vocab_size < vocabulary:
            raise RecipeError(
                f"model.backbone.config.vocab_size is {settings.vocab_size}, the tokenizer has {vocabulary} pieces; "
                "leave it out to have it set"
            )
        return settings
    place = local_or_hub(config.id)
    try:
        said, _ = PretrainedConfig.get_config_dict(place)
        settings = AutoConfig.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _cannot_load(config.id, error) from error
    found = unread_settings(said)
    if found:
        raise WeightsError(f"model.backbone.id: '{config.id}': {'; '.join(found)}")
    if settings.vocab_size < vocabulary:
        raise RecipeError(
            f"model.backbone.tokenizer: its ids go up to {vocabulary - 1}, and '{config.id}' has vocab_size "
            f"{settings.vocab_size}: the language model has no embedding for the last of them"
        )
    return settings


def _cannot_load(place: str, error: Exception) -> WeightsError:
    return WeightsError(f"model.backbone.id: cannot load '{place}': {str(error).strip().splitlines()[0]}")


def transformers_config(settings: Mapping[str, Any]) -> Any:
    """The settings as transformers' own object. Raises RecipeError for what it does not know or refuses."""
    rest = {key: value for key, value in settings.items() if key != "model_type"}
    found = unread_settings(settings)
    if found:
        raise RecipeError(f"model.backbone.config: {'; '.join(found)}")
    try:
        return AutoConfig.for_model(settings["model_type"], **rest)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        # Checks of transformers' settings say which one was wrong first, and what was expected of it last.
        lines = str(error).strip().splitlines()
        raise RecipeError(f"model.backbone.config: {' '.join(dict.fromkeys((lines[0], lines[-1].strip())))}") from error

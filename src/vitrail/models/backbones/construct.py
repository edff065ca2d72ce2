"""A recipe's words about the language model to the model itself: with trained weights, random ones, or none yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.models.backbones.decoder import Decoder, decoder_from_config, decoder_from_pretrained
from vitrail.models.backbones.weights_source import local_or_hub
from vitrail.models.config import DecoderConfig

# Progress is ours to show.
transformers_logging.disable_progress_bar()


def build_backbone(config: DecoderConfig, vocabulary: int, *, initialise: bool = True) -> Decoder:
    """The language model, with its trained weights or with random ones; with unset ones that the caller fills."""
    if not config.id:
        return decoder_from_config(backbone_config(config, vocabulary), initialise=initialise)
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
    try:
        return AutoConfig.from_pretrained(local_or_hub(config.id), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _cannot_load(config.id, error) from error


def _cannot_load(place: str, error: Exception) -> WeightsError:
    return WeightsError(f"model.backbone.id: cannot load '{place}': {str(error).strip().splitlines()[0]}")


def transformers_config(settings: Mapping[str, Any]) -> Any:
    """The settings as transformers' own object. Raises RecipeError for what it does not know or refuses."""
    rest = {key: value for key, value in settings.items() if key != "model_type"}
    try:
        return AutoConfig.for_model(settings["model_type"], **rest)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        # Checks of transformers' settings say which one was wrong first, and what was expected of it last.
        lines = str(error).strip().splitlines()
        raise RecipeError(f"model.backbone.config: {' '.join(dict.fromkeys((lines[0], lines[-1].strip())))}") from error

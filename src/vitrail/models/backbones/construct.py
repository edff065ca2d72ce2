"""A recipe's words about the language model to the model itself: with trained weights, random ones, or none yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.contracts.samples import TARGET, TEXT
from vitrail.models.backbones import decoder, encoder_decoder
from vitrail.models.backbones.checks import readable, unread_settings
from vitrail.models.backbones.config import LanguageModelConfig
from vitrail.models.backbones.decoder import decoder_from_config, decoder_from_pretrained
from vitrail.models.backbones.encoder_decoder import start_id, t5_from_config, t5_from_pretrained
from vitrail.models.backbones.language_model import LanguageModel
from vitrail.models.backbones.weights_source import local_or_hub
from vitrail.models.config import BackboneConfig, DecoderConfig, EncoderDecoderConfig

ADAPTER = "adapter_config.json"
"""What a folder holds that is an adapter: transformers would open another model, its base, and lay it over."""

# Progress is ours to show.
transformers_logging.disable_progress_bar()


class _Kind(NamedTuple):
    """How models of one kind come to be.

    supported: raises RecipeError for settings that it would not compute as transformers does. depths: the setting that
    counts the layers of each stream's stack.
    """

    from_config: Callable[..., LanguageModel]
    from_pretrained: Callable[[str], LanguageModel]
    supported: Callable[[PretrainedConfig], None]
    families: tuple[str, ...]
    depths: Mapping[str, str]


KINDS: Mapping[type[LanguageModelConfig], _Kind] = {
    DecoderConfig: _Kind(
        decoder_from_config,
        decoder_from_pretrained,
        decoder.supported,
        decoder.FAMILIES,
        {TEXT: "num_hidden_layers"},
    ),
    EncoderDecoderConfig: _Kind(
        t5_from_config,
        t5_from_pretrained,
        encoder_decoder.supported,
        encoder_decoder.FAMILIES,
        {TEXT: "num_layers", TARGET: "num_decoder_layers"},
    ),
}
"""Settings of a recipe to what makes the model."""


def build_backbone(config: BackboneConfig, vocabulary: int, *, initialise: bool = True) -> LanguageModel:
    """The language model, with its trained weights or with random ones; with unset ones that the caller fills."""
    kind = KINDS[type(config)]
    if not config.id:
        return kind.from_config(backbone_config(config, vocabulary), initialise=initialise)
    # Looked at before a file of weights is opened.
    kind.supported(backbone_config(config, vocabulary))
    if (Path(config.id) / ADAPTER).is_file():
        raise WeightsError(f"model.backbone.id: '{config.id}' has an {ADAPTER}: merge the adapter into its base first")
    try:
        return kind.from_pretrained(local_or_hub(config.id))
    except OSError as error:
        raise _cannot_load(config.id, error) from error


def unset_backbone(settings: Mapping[str, Any]) -> LanguageModel:
    """The language model of a finished model, by transformers' settings; its weights are to be filled in.

    Raises RecipeError for a family that is not known.
    """
    made = transformers_config(settings)
    kind = next((kind for kind in KINDS.values() if made.model_type in kind.families), KINDS[DecoderConfig])
    return kind.from_config(made, initialise=False)


def untrained_backbone(
    config: BackboneConfig, vocabulary: int, depths: Mapping[str, int] | None = None
) -> LanguageModel:
    """The same language model with random weights, to count and to time; depths: layers it is cut to, by stream."""
    settings = backbone_config(config, vocabulary)
    kind = KINDS[type(config)]
    for stream, layers in (depths or {}).items():
        setattr(settings, kind.depths[stream], layers)
        # Families that say of each layer what it attends to would refuse a list of another length.
        if getattr(settings, "layer_types", None):
            settings.layer_types = settings.layer_types[:layers]
    return kind.from_config(settings)


def backbone_depths(config: BackboneConfig, vocabulary: int) -> dict[str, int]:
    """How many layers the language model has for each stream that goes through it."""
    settings = backbone_config(config, vocabulary)
    return {stream: int(getattr(settings, name)) for stream, name in KINDS[type(config)].depths.items()}


def decoder_start(config: BackboneConfig, vocabulary: int) -> int | None:
    """The id that the decoder of an encoder-decoder begins with; None for a decoder alone."""
    if not isinstance(config, EncoderDecoderConfig):
        return None
    return start_id(backbone_config(config, vocabulary))


def backbone_config(config: BackboneConfig, vocabulary: int) -> Any:
    """transformers' settings of the language model."""
    if config.id:
        settings = _trained_config(config.id, vocabulary)
    else:
        settings = transformers_config({"vocab_size": vocabulary, **config.config})
        if readable(settings) < vocabulary:
            raise RecipeError(
                f"model.backbone.config.vocab_size is {settings.vocab_size}, the tokenizer has {vocabulary} pieces; "
                "leave it out to have it set"
            )
    for settings_class, kind in KINDS.items():
        if settings.model_type in kind.families and settings_class is not type(config):
            right = settings_class.__dataclass_fields__["kind"].default
            raise RecipeError(f"model.backbone.kind is {config.kind}, {settings.model_type} is of kind {right}")
    return settings


def _trained_config(place: str, vocabulary: int) -> Any:
    """transformers' settings of the language model that a folder or hub id holds, for that many pieces of text."""
    try:
        said, _ = PretrainedConfig.get_config_dict(local_or_hub(place))
        settings = AutoConfig.from_pretrained(local_or_hub(place), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _cannot_load(place, error) from error
    found = unread_settings(said)
    if found:
        raise WeightsError(f"model.backbone.id: '{place}': {'; '.join(found)}")
    if settings.vocab_size < vocabulary:
        raise RecipeError(
            f"model.backbone.tokenizer: its ids go up to {vocabulary - 1}, and '{place}' has vocab_size "
            f"{settings.vocab_size}: the language model has no embedding for the last of them"
        )
    if settings.model_type in encoder_decoder.FAMILIES:
        # transformers says of every T5 that it is tied; those that are not (1.1 and later) are those without a scale.
        settings.tie_word_embeddings = settings.scale_decoder_outputs
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
        made = AutoConfig.for_model(settings["model_type"], **rest)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        # Checks of transformers' settings say which one was wrong first, and what was expected of it last.
        lines = str(error).strip().splitlines()
        raise RecipeError(f"model.backbone.config: {' '.join(dict.fromkeys((lines[0], lines[-1].strip())))}") from error
    # transformers says of every T5 that it is tied, and would go by the checkpoint.
    made.tie_word_embeddings = rest.get("tie_word_embeddings", made.tie_word_embeddings)
    return made

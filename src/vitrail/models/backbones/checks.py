"""Settings that would be dropped in silence: rotary positions said twice and differently, quantised weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

QUANTISED = "quantization_config"
ROPE = ("rope_parameters", "rope_scaling")
THETA = "rope_theta"
KIND = ("type", "rope_type")
"""Names of the kind of rotary positions, which old files and new ones call differently."""

EXTRA = "extra_embeddings"
"""A setting of ours: rows of the embedding table beyond vocab_size, for ids that are read and never said."""


def readable(config: Any) -> int:
    """Ids that the language model of transformers' settings has embeddings for."""
    return int(config.vocab_size) + int(getattr(config, EXTRA, 0))


def unread_settings(settings: Mapping[str, Any], where: str = "") -> list[str]:
    """Why a component of such settings is not built, each in a few words. where: what stands before their names."""
    found = contradictions(settings, where)
    quantised = settings.get(QUANTISED)
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
        found.append(
            f"{where}{QUANTISED} is there ({method or 'of no known method'}): quantised weights are not read, take the "
            "folder with the unquantised ones"
        )
    return found


def contradictions(settings: Mapping[str, Any], where: str = "") -> list[str]:
    """Rotary positions that are said twice, and differently."""
    found = []
    theta = settings.get(THETA)
    for name in ROPE:
        for at, inner in _tables(settings.get(name), f"{where}{name}"):
            other = inner.get(THETA)
            if theta is not None and other is not None and float(theta) != float(other):
                found.append(f"{where}{THETA} is {theta} and {at}.{THETA} is {other}: leave one of them out")
    one, two = (settings.get(name) for name in ROPE)
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        found += [
            f"{where}rope_parameters.{key} is {one[key]} and {where}rope_scaling.{key} is {two[key]}: leave one out"
            for key in one
            if key not in KIND and key in two and one[key] != two[key]
        ]
    return found


def _tables(rope: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The settings of rotary positions, or of several kinds of layers."""
    if not isinstance(rope, Mapping):
        return
    yield where, rope
    for name, inner in rope.items():
        if isinstance(inner, Mapping):
            yield f"{where}.{name}", inner


def theta_of(settings: Any) -> float | None:
    """The base that settings say, wherever they say it; None where they say none."""
    if not isinstance(settings, Mapping):
        return None
    tables = [settings, *(settings[name] for name in ROPE if isinstance(settings.get(name), Mapping))]
    return next((float(one[THETA]) for one in tables if one.get(THETA) is not None), None)

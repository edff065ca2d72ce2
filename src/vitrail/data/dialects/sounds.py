"""Sounds as rows give them: paths, data URLs, bytes, samples, as `datasets` and OpenAI's chat API write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import AudioPart, Row
from vitrail.data.dialects.keys import inside
from vitrail.data.dialects.values import located, where


def audio(given: Any, row: Row, rate: Any = None) -> AudioPart:
    """A path, a data URL, {"path": ...}, {"bytes": ...} or {"array": ..., "sampling_rate": ...}, or an AudioPart.

    rate: samples a second, of samples that do not say it.
    """
    if isinstance(given, AudioPart):
        return given
    if isinstance(given, Mapping):
        given = inside(given, row, "a sound")
        rate = given.get("sampling_rate", rate)
        # An array may not be asked whether it is true.
        known = [given.get(name) for name in ("array", "bytes", "path", "url")]
        given = next((one for one in known if one is not None), None)
    if isinstance(given, str):
        return AudioPart(located(given, row, "sound"))
    if given is None:
        raise DataError(f"{where(row)}: a sound is null")
    if isinstance(given, bytes):
        return AudioPart(given)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or rate != int(rate):
        raise DataError(
            f"{where(row)}: samples of a sound need their 'sampling_rate', a whole number, got {rate!r:.60}"
        )
    import numpy as np  # here, since recipes are read without it

    try:
        samples = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where(row)}: a sound must be a file, bytes or samples, got {type(given).__name__}"
        ) from error
    return AudioPart(samples, int(rate))


def input_audio(given: Any, row: Row) -> AudioPart:
    """OpenAI's {"data": base64, "format": "wav"}; what the bytes are is for the decoder to find out."""
    if not isinstance(given, Mapping) or not isinstance(given.get("data"), str):
        raise DataError(f"{where(row)}: 'input_audio' must be {{'data': base64, 'format': 'wav'}}, got {given!r:.60}")
    given = inside(given, row, "'input_audio'")
    given.get("format")
    return AudioPart(located(f"data:audio/any;base64,{given['data']}", row, "sound"))

"""The errors a user can cause. One base class; the command line prints each as a single line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VitrailError(Exception):
    """Base of every error a user can cause. The message says what was wrong, where, and what is allowed."""


class RecipeError(VitrailError):
    """A recipe, or an override of it, cannot be read or does not fit together."""


class DataError(VitrailError):
    """A row of the user's data cannot be used."""


class MediaError(DataError):
    """A picture (later: video, audio) cannot be decoded, or is refused."""


class WeightsError(VitrailError):
    """Weights or a checkpoint are missing, truncated, or made for another model."""


class TrainingError(VitrailError):
    """Training cannot go on, for example because the loss is no number any more."""


class ElsewhereError(VitrailError):
    """What another process of the same run failed with. That one tells the user; this one ends with it."""


class MissingExtraError(VitrailError):
    """An optional library is not installed. The message carries the `pip install` line."""


def nearest(wrong: str, allowed: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` when a close name exists in `allowed`, else an empty string."""
    close = difflib.get_close_matches(wrong, list(allowed), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""

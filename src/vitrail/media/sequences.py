"""What media rules share whose views are sequences: a sound's frames, the tokens of a page's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.samples import View


class Sequences:
    """The part of a `MediaRule` that lays values of width F end to end; each stands at its number in its view."""

    def laid_out(self, views: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64], tuple[int, ...]]:
        """Values float32[P, F], the number of each in its view int64[P, 1], values of each view."""
        lengths = tuple(map(len, views))
        return np.concatenate(views), np.concatenate([_numbered(length) for length in lengths]), lengths

    def positions(self, view: View) -> NDArray[np.int64]:
        """The numbers of a view's values, int64[P, 1]."""
        return _numbered(view.columns)

    def normalised(self, values: NDArray[Any], lengths: Sequence[int]) -> NDArray[np.float32]:
        """As they are: whoever made the values, or the encoder, norms them."""
        return np.asarray(values, np.float32)


def _numbered(count: int) -> NDArray[np.int64]:
    return np.arange(count)[:, None]

"""Pictures and videos as a media stream: views from headers, decoded pixels, patches end to end, normalised values.

How large a picture's views are is the business of a picture rule (`media.native`, `media.tiling`), which frames of a
video are looked at that of `media.video`. Patches stay bytes until `normalised`: a quarter of what travels between
processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.messages import ImagePart, MediaPart, VideoPart
from vitrail.contracts.protocols import Alter, PictureRule
from vitrail.contracts.samples import View
from vitrail.media import image, video
from vitrail.media.native import normalise, patch_positions, patchify_frames, resized


@dataclass(frozen=True)
class Vision:
    """What pictures and videos become.

    frames: of a video that make one view. token_grid: rows and columns of tokens that a projector makes of every view,
    whatever its patches; None where merge x merge patches become one token. sampling: which frames of a video.
    """

    picture: PictureRule
    frames: int = 1
    token_grid: tuple[int, int] | None = None
    sampling: video.Sampling = field(default_factory=video.Sampling)

    @property
    def in_use(self) -> Vision:
        """With the picture rule for pictures that are asked about."""
        return replace(self, picture=self.picture.in_use)

    def reads(self, part: MediaPart) -> bool:
        """Pictures and videos."""
        return isinstance(part, ImagePart)

    def views(self, part: MediaPart, most_tokens: int | None = None) -> tuple[View, ...]:
        """From the header alone. most_tokens: of all together, in merged patches. Raises MediaError."""
        assert isinstance(part, ImagePart), "this stream reads pictures and videos"
        if isinstance(part, VideoPart):
            found = video.views(self.picture, video.clip(part), self._sampling(), self.frames, most_tokens)
        else:
            found = self.picture.views(*image.size(part.image), most_tokens)
        if self.token_grid is None:
            return found
        rows, columns = self.token_grid
        return tuple(replace(view, token_rows=rows, token_columns=columns) for view in found)

    def _sampling(self) -> video.Sampling:
        """With fewer frames where the fixed number of tokens of each view would make a video longer than it may be."""
        if self.token_grid is None:
            return self.sampling
        views = self.sampling.total_tokens // (self.token_grid[0] * self.token_grid[1])
        most = max(self.sampling.min_frames, views * self.frames)
        return replace(self.sampling, max_frames=min(self.sampling.max_frames, most))

    def decoded(self, part: MediaPart, views: Sequence[View], alter: Alter | None = None) -> list[NDArray[Any]]:
        """Each view uint8[h, w, 3], or of a video uint8[frames, h, w, 3]. Raises MediaError."""
        assert isinstance(part, ImagePart), "this stream reads pictures and videos"
        if isinstance(part, VideoPart):
            return self._frames(part, views, alter)
        pixels = image.load(part.image)
        resized_views: list[NDArray[Any]] = [*self.picture.resized(alter(pixels) if alter else pixels, views)]
        return resized_views

    def _frames(self, part: VideoPart, views: Sequence[View], alter: Alter | None) -> list[NDArray[Any]]:
        """The frames that each view shows, resized. Each is decoded once."""
        found = video.load(part, [frame for view in views for frame in view.shows])

        def shown(frame: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
            return resized(alter(frame) if alter else frame, view.width, view.height)

        return [np.stack([shown(found[frame], view) for frame in view.shows]) for view in views]

    def laid_out(self, views: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64], tuple[int, ...]]:
        """Patches uint8[P, 3 * frames * patch * patch], rows and columns int64[P, 2], patches of each view.

        Beside a video's pairs of frames a picture is a pair of equal ones; else the stem counts it as such.
        """
        patch, merge = self.picture.patch, self.picture.merge
        lengths = tuple(view.shape[-3] * view.shape[-2] // patch**2 for view in views)
        depth = max(len(view) if view.ndim == 4 else 1 for view in views)
        patches = np.empty((sum(lengths), 3 * depth * patch**2), np.uint8)
        positions, start = [], 0
        for view, length in zip(views, lengths, strict=True):
            frames = view if view.ndim == 4 else view[None]
            patches[start : start + length], where = patchify_frames(frames, patch, merge, depth)
            positions.append(where)
            start += length
        return patches, np.concatenate(positions), lengths

    def positions(self, view: View) -> NDArray[np.int64]:
        """Rows and columns of a view's patches in the order of `laid_out`, int64[P, 2]."""
        return patch_positions(view.rows, view.columns, self.picture.merge)

    def normalised(self, values: NDArray[Any], lengths: Sequence[int]) -> NDArray[np.float32]:
        """Bytes to (x / 255 - mean) / std, float32, view by view: what is converted is still in the cache."""
        patches = np.empty(values.shape, np.float32)
        start = 0
        for length in lengths:
            part = slice(start, start + length)
            patches[part] = values[part]
            normalise(patches[part], self.picture.mean, self.picture.std)
            start += length
        return patches

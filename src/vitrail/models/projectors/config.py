"""What can be said in a recipe about projectors. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class MLPProjectorConfig:
    """Pixel shuffle (merge x merge patches, or `merge` features of sound, become one token) and a two-layer MLP, with a
    norm before either."""

    token_grid: ClassVar[None] = None

    kind: Literal["mlp"] = "mlp"
    hidden: int | None = None
    """Width between the two layers; null means the backbone's."""
    bias: bool = True
    """Of the two layers."""
    norm: Literal["rms", "layer", "none"] = "rms"
    norm_at: Literal["patches", "merged"] = "patches"
    """Each patch is normed before they merge, or the merged ones."""
    norm_eps: float = 1e-5
    order: Literal["rows", "columns"] = "rows"
    """Of a view's tokens: row by row, or column by column (InternVL's `ps_version` v2 and v1)."""
    zero: bool = False
    """The last layer begins at nothing: what is added to text changes none of it at first."""


@dataclass(frozen=True)
class LinearProjectorConfig:
    """One linear layer over merge x merge patches, or `merge` features of sound.

    Source: MiniGPT-4 for Llama 2 (arXiv 2304.10592), LLaVA 1.
    """

    token_grid: ClassVar[None] = None

    kind: Literal["linear"] = "linear"
    bias: bool = True
    norm: Literal["rms", "layer", "none"] = "none"
    """Of the merged patches, before the layer."""
    norm_eps: float = 1e-5
    zero: bool = False
    """It begins at nothing, as above."""


@dataclass(frozen=True)
class PatchMergerConfig:
    """Norm, a linear merger of the patches of a token to the encoder's width, then a two-layer MLP.

    Source: Mistral Small 3.1, transformers `Mistral3MultiModalProjector`.
    """

    token_grid: ClassVar[None] = None

    kind: Literal["patch_merger"] = "patch_merger"
    bias: bool = False
    """Of the two layers."""
    norm_eps: float = 1e-5
    """transformers takes the backbone's rms_norm_eps, vLLM always 1e-5."""


@dataclass(frozen=True)
class ResamplerConfig:
    """Learnt queries look once at the patches of a view: the same number of tokens for a view of any size.

    The encoder's patches do not merge (`model.media.merge: 1`). Linear layers before and behind the attention have no
    bias; without one of them the widths must agree.
    Sources: Qwen-VL (arXiv 2308.12966), 256 queries, keys `resized`; MiniCPM-V 2.5 (arXiv 2408.01800), 96 queries
    without positions, keys `own`; both as released, with 32 heads of 128.
    """

    kind: Literal["resampler"] = "resampler"
    queries: tuple[int, int] = (8, 8)
    """Rows and columns of the tokens."""
    width: int | None = None
    """Of the attention, a multiple of heads and of 4; null means the backbone's."""
    heads: int = 8
    query_positions: bool = True
    """Whether sines of their row and column are added to the queries."""
    key_positions: Literal["resized", "own", "none"] = "resized"
    """Added to the patches, as keys alone: the sines of the queries' grid, resized to the view's;
    those of the view's own rows and columns; or none."""
    kv_projection: bool = True
    """A linear layer from the encoder's width."""
    out_projection: bool = True
    """A linear layer to the backbone's width."""
    bias: bool = True
    """Of the attention's own four layers."""
    query_norm: bool = True
    key_norm: bool = True
    """Of keys and values, behind `kv_projection`."""
    out_norm: bool = True
    """Of what comes out of the attention."""
    norm: Literal["rms", "layer"] = "layer"
    """Of all three."""
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if min(self.queries) < 1 or self.heads < 1:
            raise ValueError("queries, [rows, columns], and heads must be at least 1")

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of every view."""
        return self.queries


@dataclass(frozen=True)
class DownsampleConfig:
    """Features of a view, resized to four times a grid and halved twice by convolutions without a bias.

    Source: DeepSeek-VL, arXiv 2403.05525, section 3.1, and `sam.py` of its code: 64 x 64 features of SAM to 24 x 24.
    """

    kind: Literal["downsample"] = "downsample"
    grid: tuple[int, int] = (24, 24)
    """Rows and columns of the tokens."""
    channels: tuple[int, int] = (512, 1024)
    """Behind the first convolution, and of the tokens; the latter are of the backbone's width unless another projector
    joins them."""
    early: int | None = 256
    """The features come with those of an early block behind them (`encoder.early`): these go the same way, after a neck
    that makes them as wide as the others, so wide, and are added, times a learnt number that starts at 0. Null for
    features without."""

    def __post_init__(self) -> None:
        if min(*self.grid, *self.channels, self.early or 1) < 1:
            raise ValueError("grid, [rows, columns], channels and early must be at least 1")

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of every view."""
        return self.grid


@dataclass(frozen=True)
class JoinedConfig:
    """Tokens of two streams of the same pictures become one: a layer each to half of the backbone's width, side by
    side, the other stream's first; GELU; one more layer.

    Source: DeepSeek-VL's adaptor, `low_high_hybrid_split_mlp_gelu` in `projector.py` of its code.
    """

    token_grid: ClassVar[None] = None

    kind: Literal["joined"] = "joined"
    joins: str = "high"
    """The other stream, in `model.streams`: its projector's tokens, as many of each view, are seen nowhere else."""


@dataclass(frozen=True)
class PerceiverConfig:
    """Learnt queries look at the features of a view again and again, and each time at each other: Flamingo's resampler.

    The encoder's patches do not merge (`model.media.merge: 1`). No layer has a bias.
    Sources: Flamingo, arXiv 2204.14198, section 2.1; OpenFlamingo, helpers.py, whose queries are 64 and whose tokens
    are as wide as the encoder.
    """

    kind: Literal["perceiver"] = "perceiver"
    queries: int = 64
    """Tokens of every view."""
    depth: int = 6
    """Layers, each of attention and an MLP."""
    heads: int = 8
    head_width: int = 64
    mlp_width: int | None = None
    """Null means four times the encoder's."""
    frames: int | None = None
    """Embeddings of the first so many frames of a view; null for none."""
    media: int | None = None
    """Embeddings of the first so many views of a sample; null for none."""
    out_projection: bool = True
    """A linear layer to the width of media tokens; without one the encoder's must be that."""
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("queries", "depth", "heads", "head_width", "mlp_width", "frames", "media"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, must be at least 1")

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of every view."""
        return 1, self.queries

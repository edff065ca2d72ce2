"""What can be said in a recipe about encoders. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class VisionTransformerConfig:
    """A vision transformer over packed pictures of any size. Unless said otherwise Pixtral's: no biases, SwiGLU.

    Sources: `systems/encoders/presets.py` has the published sizes.
    """

    kind: Literal["vision_transformer"] = "vision_transformer"
    width: int = 384
    depth: int = 8
    heads: int = 6
    mlp_width: int = 1024
    """Inner width of the blocks' MLP."""
    activation: Literal["silu", "gelu", "gelu_tanh", "quick_gelu"] = "silu"
    """Of the blocks' MLP."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    absolute: Literal["none", "sinusoidal", "learnt"] = "none"
    """What is added to the patches: sinusoidal positions tell a small encoder where a patch is, which rotary ones alone
    make it work out; learnt ones are a `position_table`."""
    rope: Literal["alternate", "shared", "none"] = "alternate"
    """Rotary positions: rows and columns take every other frequency each (Pixtral), or all of them both (Qwen2-VL)."""
    position_table: tuple[int, int] | None = None
    """Rows x columns of the learnt positions, resized to grids of another shape."""
    class_token: Literal["none", "dropped", "kept"] = "none"
    """A first token of each view, with a row of the table; it is dropped from the features or kept."""
    norm: Literal["rms", "layer"] = "rms"
    """Of all norms."""
    norm_eps: float = 1e-5
    stem_norm: Literal["stem", "embeddings", "none"] = "stem"
    """Of the stem's output alone, or of it with positions and class token."""
    final_norm: bool = False
    """Of the features."""
    query_key_norm: bool = False
    """RMSNorm of queries and of keys, over all heads together."""
    mlp: Literal["gated", "plain"] = "gated"
    """`down(activation(gate(x)) * up(x))` or `down(activation(up(x)))`."""
    stem_bias: bool = False
    qkv_bias: bool = False
    """Of queries, keys and values."""
    bias: bool = False
    """Of every other linear layer."""
    layer_scale: float | None = None
    """What learnt scales of the blocks' two outputs start from; null for none."""
    frames: int = 1
    """Of one patch: 2 where a stem takes pairs of video frames; a picture is as many equal ones."""
    window: int | None = None
    """Blocks attend within squares of so many patches a side, but for `full_blocks`."""
    full_blocks: tuple[int, ...] = ()
    """Numbers of the blocks that attend within the whole view."""
    relative: bool = False
    """Learnt tables say what a query adds to keys so many rows, and so many columns, away; windows at the edge are
    filled up with zeros, which are seen (SAM). For views of the table's own shape."""
    neck: int | None = None
    """Width of the features behind two convolutions, each normed; null for those of the blocks (SAM)."""
    early: bool = False
    """Beside the features, behind them, lie those of the first full block, without a neck (DeepSeek-VL)."""
    layer: int = -1
    """Whose output the features are: -1 the last block's, -2 that of the one before it."""
    pooling: Literal["none", "class", "attention"] = "none"
    """Of `pooled`, one vector a view: the normed class token, or attention by a learnt query."""
    pooled_width: int | None = None
    dummy_heads: int = 0
    """Heads of zeros that an official checkpoint carries along; passed over, never computed."""

    def __post_init__(self) -> None:
        multiple = 4 if self.rope != "none" else 1
        if self.width % self.heads or (self.width // self.heads) % multiple:
            by = f" times a multiple of {multiple}" if multiple > 1 else " times a whole number"
            raise ValueError(f"width ({self.width}) must be heads ({self.heads}){by}")
        if (self.absolute == "learnt") != (self.position_table is not None):
            raise ValueError("position_table, [rows, columns], goes with absolute: learnt")
        if self.class_token != "none" and (self.rope != "none" or self.window):
            raise ValueError("a class token has no place on the grid: it needs rope: none, and no window")
        if self.pooling == "class" and self.class_token == "none":
            raise ValueError("pooling: class needs a class_token")
        if not -self.depth - 1 <= self.layer <= -1:
            raise ValueError(f"layer is {self.layer}, with a depth of {self.depth} it is from {-self.depth - 1} to -1")
        if self.frames < 1 or (self.window is not None and self.window < 1):
            raise ValueError("frames and window must be at least 1")
        if self.relative and (not self.position_table or self.rope != "none" or self.class_token != "none"):
            raise ValueError("relative: true needs a position_table, rope: none and no class token")
        if self.neck is not None and (self.final_norm or self.pooling != "none" or self.class_token != "none"):
            raise ValueError("a neck goes with no final_norm, no pooling and no class token")
        if self.early and (not self.full_blocks or self.class_token != "none"):
            raise ValueError("early: true needs full_blocks, and no class token")


@dataclass(frozen=True)
class MllamaEncoderConfig:
    """Llama 3.2 Vision's two encoders over the tiles of a canvas (`media.kind: canvas`): local blocks, then gated ones.

    Learnt positions of patches, and of tiles within each shape of canvas. Features are those of the last gated block
    beside those of some of the blocks before. Sizes unless said otherwise are those of the 11B and 90B.
    Source: transformers 5.23, `MllamaVisionModel`.
    """

    kind: Literal["mllama"] = "mllama"
    width: int = 1280
    depth: int = 32
    """Blocks before the gated ones."""
    global_depth: int = 8
    heads: int = 16
    mlp_width: int = 5120
    norm_eps: float = 1e-5
    """Of the blocks."""
    kept: tuple[int, ...] = (3, 7, 15, 23, 30)
    """The blocks, counted from 0, whose outputs stand beside the last."""
    side: int = 40
    """Patches along a side of a tile."""
    max_tiles: int = 4

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be heads ({self.heads}) times a whole number")
        if self.side < 1 or self.max_tiles < 1 or any(not 0 <= number < self.depth for number in self.kept):
            raise ValueError("side and max_tiles must be at least 1, kept numbers of blocks")


@dataclass(frozen=True)
class TextLinesEncoderConfig:
    """What a reader saw of each token of a page's text, as a projector may use it. It has no weights: the reader's are
    frozen, and belong to the media rule."""

    kind: Literal["text_lines"] = "text_lines"
    waves: int = 8
    """Sines and cosines of each edge of a token's box: of one wave a page, of two, of four, and so on."""

    def __post_init__(self) -> None:
        if not 1 <= self.waves <= 12:
            raise ValueError(f"waves is {self.waves}, must be from 1 to 12")


@dataclass(frozen=True)
class WhisperEncoderConfig:
    """Whisper's encoder over packed sounds: two convolutions, of which the second halves the frames, fixed sinusoidal
    positions, pre-norm blocks, a last norm. Sizes unless said otherwise are those of `tiny`.

    Source: Whisper, arXiv 2212.04356; sizes of the others: `systems/encoders/whisper.py`.
    """

    stride: ClassVar[int] = 2

    kind: Literal["whisper"] = "whisper"
    width: int = 384
    depth: int = 4
    heads: int = 6
    mlp_width: int = 1536
    """Inner width of the blocks' MLPs."""
    max_positions: int = 1500
    """Features of the longest view: 30 seconds."""
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "silu"] = "gelu"
    """Of the blocks' MLPs; the convolutions have an exact GELU."""

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width ({self.width}) must be heads ({self.heads}) times an even number")
        if self.max_positions < 1 or self.depth < 0:
            raise ValueError("max_positions must be at least 1, depth 0 or more")

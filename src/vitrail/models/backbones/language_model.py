"""What all language models of ours have in common: transformers' weights and key names, adapters, what is trained.

A family's own file has the loop over its layers. Nothing here costs anything but what is asked of it: opening trained
weights holds them once, in the format asked for.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Cache, Context
from vitrail.contracts.samples import Segments
from vitrail.models.backbones import adapters
from vitrail.models.backbones.checks import EXTRA, readable
from vitrail.models.backbones.config import LoraConfig
from vitrail.models.ops import nf4


class LanguageModel(nn.Module, ABC):
    """A `Backbone` over a model of transformers'. `lm` keeps the official key names.

    task: what peft calls models of this kind. lora: its adapters, if it has any. recompute: the inner values of a layer
    are computed again on the way back instead of kept.
    """

    task: ClassVar[str]

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm
        self.width: int = lm.config.hidden_size
        self.vocabulary: int = lm.config.vocab_size
        self.lora: LoraConfig | None = None
        self.recompute = False

    @property
    @abstractmethod
    def stacks(self) -> Mapping[str, nn.ModuleList]:
        """Its layers, by the stream that goes through them."""

    @property
    def layers(self) -> list[nn.Module]:
        """All its layers."""
        return [layer for stack in self.stacks.values() for layer in stack]

    @property
    def settings(self) -> dict[str, Any]:
        """transformers' own settings, from which the same model can be made again."""
        settings: dict[str, Any] = json.loads(self.lm.config.to_json_string(use_diff=True))
        return settings

    @abstractmethod
    def compilable(self) -> list[nn.Module]:
        """What `training.compiling` may compile."""

    @abstractmethod
    def forward(
        self,
        embeddings: Tensor,
        positions: Tensor,
        segments: Segments,
        *,
        context: Context | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """See `contracts.protocols.Backbone`."""

    def embed(self, ids: Tensor) -> Tensor:
        """int64[T] to float[T, D]."""
        embeddings: Tensor = self.lm.get_input_embeddings()(ids)
        return embeddings

    def head_weight(self) -> Tensor:
        """float[V, D]."""
        weight: Tensor = self.lm.get_output_embeddings().weight
        return weight

    def add_adapters(self, config: LoraConfig) -> None:
        """Gives the layers adapters, with random numbers drawn here. Raises RecipeError for unknown targets."""
        assert self.lora is None, "the layers have adapters already"
        adapters.inject(self.lm, self.layers, config, self.task)
        self.lora = config

    def quantise(self) -> None:
        """Keeps the matrices of the layers in 4 bits from now on, but for adapters; nothing else of it changes."""
        for layer in self.layers:
            nf4.quantise(layer)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What a stage moves that trains the backbone: with adapters, these alone."""
        named = self.lm.named_parameters()
        return [parameter for name, parameter in named if self.lora is None or adapters.of_adapter(name)]

    def _recomputed(self, cache: Cache | None) -> bool:
        """Whether this pass keeps no inner values of layers."""
        return self.recompute and cache is None and torch.is_grad_enabled()


def again(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a function makes of its arguments; its inner values are computed again on the way back, not kept."""
    # Layers have no dropout, so there are no random numbers to draw twice the same.
    return checkpoint(function, *given, use_reentrant=False, preserve_rng_state=False, **named)


def untrained(auto: Any, config: PretrainedConfig, attention: str, *, initialise: bool) -> PreTrainedModel:
    """A model with random weights, or with unset ones that the caller fills. auto: transformers' class for its kind."""
    with nullcontext() if initialise else no_init_weights():
        lm: PreTrainedModel = auto.from_config(config, attn_implementation=attention, trust_remote_code=False)
    lm.tie_weights()
    if getattr(config, EXTRA, 0):
        assert not config.tie_word_embeddings, "what is never said has no row in the head"
        table = nn.Embedding(readable(config), config.hidden_size)
        if initialise:
            nn.init.normal_(table.weight, std=config.initializer_range)
        lm.set_input_embeddings(table)
    return lm


def trained(auto: Any, folder: str, attention: str, dtype: torch.dtype, **settings: Any) -> PreTrainedModel:
    """A model with the weights of a folder or hub id (safetensors only; no remote code is run).

    auto: transformers' class for its kind. settings: that are to be other than the folder's. Raises WeightsError for
    weights that are not there, damaged or incomplete.
    """
    lm: PreTrainedModel
    try:
        lm, found = auto.from_pretrained(
            folder,
            attn_implementation=attention,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **settings,
        )
    except (OSError, ValueError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise WeightsError(f"model.backbone.id: cannot load '{folder}': {first}") from error
    if getattr(lm, "_hf_peft_config_loaded", False):
        raise WeightsError(f"model.backbone.id: '{folder}' is an adapter: merge it into its base first")
    # transformers would go on, with random numbers in the place of these.
    unset = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    if unset:
        raise WeightsError(f"model.backbone.id: '{folder}' lacks '{unset[0]}', or has it in another shape")
    # And without these, which may be what the missing ones are called now; frequencies of old files everyone computes.
    left = sorted(name for name in found["unexpected_keys"] if not name.endswith("inv_freq"))
    if left:
        raise WeightsError(
            f"model.backbone.id: '{folder}' has '{left[0]}', which a {lm.config.model_type} does not have "
            f"(unexpected: {len(left)})"
        )
    return lm

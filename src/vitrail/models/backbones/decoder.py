"""A causal language model whose layers are transformers' and whose loop is ours.

transformers gives configuration, weights, key names and decoder layers; the loop here gives them our positions, our
packed attention and our cache. Layers reach the packed attention through transformers' attention interface, where the
segments arrive as a keyword of the layer's call.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.contracts.protocols import Cache, Context
from vitrail.contracts.samples import Segments
from vitrail.models.backbones import adapters
from vitrail.models.config import LoraConfig
from vitrail.models.ops import nf4
from vitrail.models.ops.attention import packed_attention
from vitrail.models.ops.positions import by_sections

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Families whose layers this loop is tested with; their modules share names and the call of a layer."""

ATTENTION = "vitrail_packed"


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    *,
    segments: Segments,
    cache: Cache | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """[1, H, T, d] to [1, T, H, d], as transformers' attention interface has it."""
    assert attention_mask is None, "packed attention takes segments, no mask"
    assert dropout == 0.0, "packed attention has no dropout"
    if cache is None:
        out = packed_attention(query[0], key[0], value[0], segments, causal=True, scale=scaling, window=sliding_window)
    else:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        out = cache.attend(layer, query[0], key[0], value[0], scale=scaling, window=sliding_window)
    return out.transpose(0, 1)[None], None


AttentionInterface.register(ATTENTION, _attention)


class Decoder(nn.Module):
    """Embeddings float[T, D] to hidden states float[T, D]. `lm` keeps the official key names."""

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm
        self.width: int = lm.config.hidden_size
        self.vocabulary: int = lm.config.vocab_size
        self.lora: LoraConfig | None = None
        self.sections: tuple[int, ...] = ()
        self.recompute = False

    def use_mrope(self, sections: tuple[int, ...]) -> None:
        """Positions are on a grid from now on: so many rotary frequencies go with time, with row and with column.

        Raises RecipeError for sections that are not half the width of a head, and for frequencies that vary.
        """
        rotary: Any = self.lm.model.rotary_emb
        frequencies = rotary.inv_freq.shape[0]
        if sum(sections) != frequencies:
            shown = " + ".join(map(str, sections))
            raise RecipeError(f"model.positions.sections: {shown} is not {frequencies}, half the width of a head")
        if getattr(rotary, "rope_type", "") == "dynamic":
            raise RecipeError("model.positions: M-RoPE needs fixed frequencies, the backbone's rope_type is dynamic")
        self.sections = sections

    def add_adapters(self, config: LoraConfig) -> None:
        """Gives the layers adapters, with random numbers drawn here. Raises RecipeError for unknown targets."""
        assert self.lora is None, "the layers have adapters already"
        adapters.inject(self.lm, config)
        self.lora = config

    def quantise(self) -> None:
        """Keeps the matrices of the layers in 4 bits from now on, but for adapters; nothing else of it changes."""
        nf4.quantise(self.lm.model.layers)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What a stage moves that trains the backbone: with adapters, these alone."""
        named = self.lm.named_parameters()
        return [parameter for name, parameter in named if self.lora is None or adapters.of_adapter(name)]

    def embed(self, ids: Tensor) -> Tensor:
        """int64[T] to float[T, D]."""
        embeddings: Tensor = self.lm.get_input_embeddings()(ids)
        return embeddings

    def compilable(self) -> list[nn.Module]:
        """What `training.compiling` may compile."""
        layers = self.lm.model.layers
        return [
            piece for layer in layers for piece in (layer.input_layernorm, layer.post_attention_layernorm, layer.mlp)
        ]

    def shardable(self) -> list[nn.Module]:
        """What `training.parallel` may shard piece by piece: modules whose weights nobody reads but their call."""
        return list(self.lm.model.layers)

    def forward(
        self,
        embeddings: Tensor,
        positions: Tensor,
        segments: Segments,
        *,
        context: Context | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """positions: int64[T], from 0 in each segment; or int64[3, T], time, row and column, where M-RoPE has sections.

        segments: of these positions; what came before them is the cache's to know. context: of fusion.
        """
        hidden = embeddings[None]
        rope = self._rope(hidden, positions, segments)
        again = self.recompute and cache is None and torch.is_grad_enabled()
        # Layers have no dropout, so there are no random numbers to draw twice the same.
        recomputed = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
        for number, layer in enumerate(self.lm.model.layers):
            if context is not None:
                before = partial(context.before, number)
                hidden = (recomputed(before, hidden[0]) if again else before(hidden[0]))[None]
            call = partial(recomputed, layer) if again else layer
            hidden = call(
                hidden,
                attention_mask=None,
                position_embeddings=rope,
                past_key_values=None,
                use_cache=False,
                segments=segments,
                cache=cache,
            )
        out: Tensor = self.lm.model.norm(hidden)[0]
        return out

    def _rope(self, hidden: Tensor, positions: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
        """(cos, sin), each float[1, T, head width]."""
        rotary = self.lm.model.rotary_emb
        if positions.ndim == 2:
            assert self.sections, "positions on a grid need a backbone with M-RoPE"
            cos, sin = rotary(hidden, position_ids=positions)
            return by_sections(cos, self.sections)[None], by_sections(sin, self.sections)[None]
        if getattr(rotary, "rope_type", "") != "dynamic":
            rope: tuple[Tensor, Tensor] = rotary(hidden, position_ids=positions[None])
            return rope
        # Frequencies depend on the length: on each sample's own, not on that of another one beside or before it.
        ropes = [_forgetful(rotary)(hidden, position_ids=part[None]) for part in positions.split(segments.lengths)]
        cosines, sine_parts = zip(*ropes, strict=True)
        return torch.cat(cosines, dim=1), torch.cat(sine_parts, dim=1)

    def head_weight(self) -> Tensor:
        """float[V, D]."""
        weight: Tensor = self.lm.get_output_embeddings().weight
        return weight


def _forgetful(rotary: Any) -> Any:
    """Dynamic rotary positions as if nothing had been seen: transformers keeps those of the longest text so far."""
    rotary.max_seq_len_cached = rotary.original_max_seq_len
    rotary.register_buffer("inv_freq", rotary.original_inv_freq.to(rotary.inv_freq.device), persistent=False)
    return rotary


def decoder_from_config(config: PretrainedConfig, *, initialise: bool = True) -> Decoder:
    """A decoder with random weights, or with unset ones that the caller fills.

    Raises RecipeError for an untested family.
    """
    _supported(config)
    with nullcontext() if initialise else no_init_weights():
        lm = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)
    lm.tie_weights()
    return Decoder(lm)


def decoder_from_pretrained(folder: str, dtype: torch.dtype = torch.float32) -> Decoder:
    """A decoder with the weights of a folder or hub id (safetensors only; no remote code is run).

    Raises WeightsError for weights that are not there, damaged or incomplete, RecipeError for an untested family.
    """
    try:
        lm, found = AutoModelForCausalLM.from_pretrained(
            folder,
            attn_implementation=ATTENTION,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise WeightsError(f"model.backbone.id: cannot load '{folder}': {first}") from error
    _supported(lm.config)
    # transformers would go on, with random numbers in the place of these.
    unset = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    if unset:
        raise WeightsError(f"model.backbone.id: '{folder}' lacks '{unset[0]}', or has it in another shape")
    return Decoder(lm)


def _supported(config: PretrainedConfig) -> None:
    """Raises RecipeError for what the loop would not compute as transformers does."""
    if config.model_type not in FAMILIES:
        raise RecipeError(f"model.backbone: model_type '{config.model_type}' is not one of {', '.join(FAMILIES)}")
    if getattr(config, "attention_dropout", 0):
        raise RecipeError(f"model.backbone: attention_dropout is {config.attention_dropout}, only 0 is supported")

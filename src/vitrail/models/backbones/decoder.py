"""A causal language model whose layers are transformers' and whose loop is ours.

transformers gives configuration, weights, key names and decoder layers; the loop here gives them our positions, our
packed attention and our cache. Layers reach the packed attention through transformers' attention interface, where the
segments arrive as a keyword of the layer's call.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.protocols import Cache, Context
from vitrail.contracts.samples import TEXT, Segments
from vitrail.models.backbones.language_model import LanguageModel, again, trained, untrained
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


class LayerSizes(NamedTuple):
    """Of the decoder layers, for what stands between them and is to be like them."""

    heads: int
    key_value_heads: int
    head_width: int
    mlp_width: int
    norm_eps: float


class Decoder(LanguageModel):
    """Embeddings float[T, D] to hidden states float[T, D]."""

    task = "CAUSAL_LM"

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__(lm)
        self.sections: tuple[int, ...] = ()

    @property
    def stacks(self) -> Mapping[str, nn.ModuleList]:
        """Its layers, by the stream that goes through them."""
        return {TEXT: self.lm.model.layers}

    @property
    def depth(self) -> int:
        """Decoder layers."""
        return len(self.lm.model.layers)

    @property
    def sizes(self) -> LayerSizes:
        """Of its layers."""
        config: Any = self.lm.config
        heads: int = config.num_attention_heads
        head_width: int = getattr(config, "head_dim", None) or self.width // heads
        return LayerSizes(heads, config.num_key_value_heads, head_width, config.intermediate_size, config.rms_norm_eps)

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

    def compilable(self) -> list[nn.Module]:
        """What `training.compiling` may compile."""
        pieces = ("input_layernorm", "post_attention_layernorm", "mlp")
        return [layer.get_submodule(piece) for layer in self.layers for piece in pieces]

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
        recomputed = self._recomputed(cache)

        def between(number: int, hidden: Tensor) -> Tensor:
            if context is None:
                return hidden
            before = partial(context.before, number)
            return (again(before, hidden[0]) if recomputed else before(hidden[0]))[None]

        for number, layer in enumerate(self.layers):
            hidden = between(number, hidden)
            call = partial(again, layer) if recomputed else layer
            hidden = call(
                hidden,
                attention_mask=None,
                position_embeddings=rope,
                past_key_values=None,
                use_cache=False,
                segments=segments,
                cache=cache,
            )
        out: Tensor = self.lm.model.norm(between(self.depth, hidden))[0]
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


def _forgetful(rotary: Any) -> Any:
    """Dynamic rotary positions as if nothing had been seen: transformers keeps those of the longest text so far."""
    rotary.max_seq_len_cached = rotary.original_max_seq_len
    rotary.register_buffer("inv_freq", rotary.original_inv_freq.to(rotary.inv_freq.device), persistent=False)
    return rotary


def decoder_from_config(config: PretrainedConfig, *, initialise: bool = True) -> Decoder:
    """A decoder with random weights, or with unset ones that the caller fills.

    Raises RecipeError for an untested family.
    """
    supported(config)
    return Decoder(untrained(AutoModelForCausalLM, config, ATTENTION, initialise=initialise))


def decoder_from_pretrained(folder: str, dtype: torch.dtype = torch.float32) -> Decoder:
    """A decoder with the weights of a folder or hub id (safetensors only; no remote code is run).

    Raises WeightsError for weights that are not there, damaged or incomplete, RecipeError for an untested family.
    """
    lm = trained(AutoModelForCausalLM, folder, ATTENTION, dtype)
    supported(lm.config)
    return Decoder(lm)


def supported(config: PretrainedConfig) -> None:
    """Raises RecipeError for what the loop would not compute as transformers does."""
    if config.model_type not in FAMILIES:
        raise RecipeError(f"model.backbone: model_type '{config.model_type}' is not one of {', '.join(FAMILIES)}")
    if getattr(config, "attention_dropout", 0):
        raise RecipeError(f"model.backbone: attention_dropout is {config.attention_dropout}, only 0 is supported")

"""A causal language model whose layers are transformers' and whose loop is ours.

transformers gives configuration, weights, key names and decoder layers; the loop here gives them our positions, our packed
attention and our cache. Layers reach the packed attention through transformers' attention interface, where the
segments arrive as a keyword of the layer's call.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.protocols import LayerCache
from vitrail.contracts.samples import Segments
from vitrail.models.ops.attention import packed_attention

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
    *,
    segments: Segments,
    **_: Any,
) -> tuple[Tensor, None]:
    """[1, H, T, d] to [1, T, H, d], as transformers' attention interface has it."""
    assert attention_mask is None and dropout == 0.0, "packed attention takes segments, no mask and no dropout"
    out = packed_attention(query[0], key[0], value[0], segments, causal=True, scale=scaling)
    return out.transpose(0, 1)[None], None


AttentionInterface.register(ATTENTION, _attention)


class Decoder(nn.Module):
    """Embeddings float[T, D] to hidden states float[T, D]. `lm` keeps the official key names."""

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm
        self.width: int = lm.config.hidden_size
        self.vocabulary: int = lm.config.vocab_size

    def embed(self, ids: Tensor) -> Tensor:
        """int64[T] to float[T, D]."""
        embeddings: Tensor = self.lm.get_input_embeddings()(ids)
        return embeddings

    def forward(
        self, embeddings: Tensor, positions: Tensor, segments: Segments, cache: LayerCache | None = None
    ) -> Tensor:
        """positions: int64[T], from 0 in each segment. segments: of the keys, so with a cache they include the past."""
        hidden = embeddings[None]
        turn = self.lm.model.rotary_emb(hidden, position_ids=positions[None])
        for layer in self.lm.model.layers:
            hidden = layer(
                hidden,
                attention_mask=None,
                position_embeddings=turn,
                past_key_values=cache,
                use_cache=cache is not None,
                segments=segments,
            )
        out: Tensor = self.lm.model.norm(hidden)[0]
        return out

    def head_weight(self) -> Tensor:
        """float[V, D]."""
        weight: Tensor = self.lm.get_output_embeddings().weight
        return weight


def decoder_from_config(config: PretrainedConfig, *, initialise: bool = True) -> Decoder:
    """A decoder with random weights, or with unset ones that the caller fills. Raises RecipeError for an untested family."""
    if config.model_type not in FAMILIES:
        raise RecipeError(f"model.backbone: model_type '{config.model_type}' is not one of {', '.join(FAMILIES)}")
    with nullcontext() if initialise else no_init_weights():
        lm = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)
    lm.tie_weights()
    return Decoder(lm)


def decoder_from_pretrained(folder: str, dtype: torch.dtype = torch.float32) -> Decoder:
    """A decoder with the weights of a folder or hub id (safetensors only; no remote code is run)."""
    lm = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=ATTENTION, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    if lm.config.model_type not in FAMILIES:
        raise RecipeError(f"model.backbone: model_type '{lm.config.model_type}' is not one of {', '.join(FAMILIES)}")
    return Decoder(lm)

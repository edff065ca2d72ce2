"""An encoder-decoder whose layers are transformers' and whose loop is ours: T5 and Flan-T5.

transformers gives configuration, weights, key names, norms and matrices; the loops here put our packed attention and
our cache between them. Positions are relative: each stack adds to the scores what its first layer has learnt for the
distance of two positions, so attention needs a mask for every length of a segment. What the encoder makes of the text
is looked at by every layer of the decoder; with a cache, its keys and values are made once.

T5's dropout is not applied, neither here nor in training: packed layers have none, and its published rate (0.1) is that
of fine-tuning on small tasks.
Source: T5, arXiv 1910.10683; T5 1.1 and Flan-T5 (gated GELU, a head of its own without scale), transformers `t5`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.protocols import Cache, Context
from vitrail.contracts.samples import TARGET, TEXT, Segments
from vitrail.models.backbones.language_model import LanguageModel, again, trained, untrained
from vitrail.models.ops.attention import packed_attention

FAMILIES = ("t5",)
"""Families whose layers these loops are tested with; T5 1.1 and Flan-T5 are of the same name."""

ATTENTION = "eager"
"""What transformers' own forward would use; ours goes around it."""

SCALE = 1.0
"""Of T5's scores: the division by the root of a head's width is in its weights."""

Attend = Callable[..., Tensor]
"""Queries, keys and values, float[H, T, d] each, to what the queries see, float[H, T, d]."""


class T5(LanguageModel):
    """Text embeddings float[T, D] to encoder states float[T, D], and target embeddings float[U, D] with these to hidden
    states float[U, D]; see `contracts.protocols.EncoderDecoder`.
    """

    task = "SEQ_2_SEQ_LM"

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__(lm)
        self.start = start_id(lm.config)

    @property
    def stacks(self) -> Mapping[str, nn.ModuleList]:
        """The encoder's layers and the decoder's, by the stream that goes through them."""
        return {TEXT: self.lm.encoder.block, TARGET: self.lm.decoder.block}

    def compilable(self) -> list[nn.Module]:
        """What `training.compiling` may compile."""
        parts = [part for layer in self.layers for part in layer.get_submodule("layer").children()]
        inner = ("layer_norm", "DenseReluDense")
        return [child for part in parts for name, child in part.named_children() if name in inner]

    def forward(
        self,
        embeddings: Tensor,
        positions: Tensor,
        segments: Segments,
        *,
        context: Context | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """What the encoder makes of the text. positions: not looked at, T5's are relative. context: of fusion."""
        assert cache is None, "text is read once: the cache is the decoder's"
        stack, hidden = self.lm.encoder, embeddings
        call = again if self._recomputed(cache) else _called
        bias = _RelativeBias(stack, segments.lengths)
        attend = partial(packed_attention, segments=segments, causal=False, scale=SCALE, bias=bias)
        for number, block in enumerate(stack.block):
            if context is not None:
                hidden = call(partial(context.before, number), hidden)
            hidden = call(_read, block, hidden, attend)
        out: Tensor = stack.final_layer_norm(hidden)
        return out

    def decode(
        self,
        embeddings: Tensor,
        segments: Segments,
        states: Tensor,
        state_segments: Segments,
        *,
        cache: Cache | None = None,
    ) -> Tensor:
        """Target embeddings float[U, D] and encoder states float[T, D] to hidden states float[U, D], scaled for the
        head where the model's are.

        Segment i of the target sees segment i of the states. With a cache whose states are kept, `states` is empty.
        """
        stack, hidden = self.lm.decoder, embeddings
        call = again if self._recomputed(cache) else _called
        bias = _RelativeBias(stack, segments.lengths if cache is None else ())
        attend: Attend = partial(packed_attention, segments=segments, causal=True, scale=SCALE, bias=bias)
        for number, block in enumerate(stack.block):
            if cache is not None:
                attend = partial(cache.attend, number, scale=SCALE, bias=bias)
            look = partial(_look, number, segments, state_segments, cache)
            hidden = call(_say, block, hidden, attend, states, look)
        out: Tensor = stack.final_layer_norm(hidden)
        return out * self.width**-0.5 if self.lm.config.scale_decoder_outputs else out


def _called(function: Callable[..., Tensor], *given: Any) -> Tensor:
    return function(*given)


def _read(block: Any, hidden: Tensor, attend: Attend) -> Tensor:
    """A layer of the encoder."""
    itself, feed_forward = block.layer
    out: Tensor = feed_forward(_attended(itself, itself.SelfAttention, hidden, attend))
    return out


def _say(block: Any, hidden: Tensor, attend: Attend, states: Tensor, look: Callable[..., Tensor]) -> Tensor:
    """A layer of the decoder: what was said before, then the encoder's states, then the feed-forward layer."""
    itself, across, feed_forward = block.layer
    hidden = _attended(itself, itself.SelfAttention, hidden, attend)
    attention = across.EncDecAttention
    query = _heads(attention, attention.q(across.layer_norm(hidden)))
    seen = look(attention, query, states)
    out: Tensor = feed_forward(hidden + attention.o(seen.transpose(0, 1).flatten(1)))
    return out


def _attended(part: Any, attention: Any, hidden: Tensor, attend: Attend) -> Tensor:
    """float[T, D] to the same with what its positions see of each other."""
    normed = part.layer_norm(hidden)
    query, key, value = (_heads(attention, matrix(normed)) for matrix in (attention.q, attention.k, attention.v))
    out: Tensor = hidden + attention.o(attend(query, key, value).transpose(0, 1).flatten(1))
    return out


def _look(
    layer: int,
    segments: Segments,
    state_segments: Segments,
    cache: Cache | None,
    attention: Any,
    query: Tensor,
    states: Tensor,
) -> Tensor:
    """What queries float[H, U, d] see of the encoder's states float[T, D], or of those that the cache has kept."""
    if not len(states):
        assert cache is not None, "without a cache there are states to see"
        return cache.attend_media(layer, query, scale=SCALE)
    key, value = (_heads(attention, matrix(states)) for matrix in (attention.k, attention.v))
    if cache is not None:
        cache.keep_media(layer, key, value, state_segments)
    return packed_attention(query, key, value, segments, state_segments, causal=False, scale=SCALE)


def _heads(attention: Any, stream: Tensor) -> Tensor:
    """float[T, H * d] to float[H, T, d]."""
    heads: Tensor = stream.unflatten(-1, (attention.n_heads, -1)).transpose(0, 1)
    return heads


class _RelativeBias:
    """A `PositionBias` of one pass: what the first layer of a stack has learnt of distances, each pair of lengths once.

    lengths: of the segments of the pass. They are computed here, outside of any layer whose values are computed again.
    """

    def __init__(self, stack: Any, lengths: Iterable[int]) -> None:
        self._attention = stack.block[0].layer[0].SelfAttention
        self._made: dict[tuple[int, int], Tensor] = {}
        for length in lengths:
            self(length, length)

    def __call__(self, queries: int, keys: int) -> Tensor:
        """float[H, queries, keys]; the queries are the last positions."""
        if (queries, keys) not in self._made:
            bias = self._attention.compute_bias(queries, keys, past_seen_tokens=keys - queries)
            self._made[queries, keys] = bias[0]
        return self._made[queries, keys]


def start_id(config: PretrainedConfig) -> int:
    """The id that the decoder begins with: the one that is set, else that of padding, as T5 has it."""
    start = getattr(config, "decoder_start_token_id", None)
    return int(config.pad_token_id if start is None else start)


def t5_from_config(config: PretrainedConfig, *, initialise: bool = True) -> T5:
    """An encoder-decoder with random weights, or with unset ones that the caller fills.

    Its head is the table of embeddings where `config.tie_word_embeddings` says so. Raises RecipeError for an untested
    family.
    """
    supported(config)
    tied = config.tie_word_embeddings
    # transformers ties what it reads, whatever the settings say, and goes by the checkpoint for the head.
    config.tie_word_embeddings, config.dropout_rate = True, 0.0
    lm: Any = untrained(AutoModelForSeq2SeqLM, config, ATTENTION, initialise=initialise)
    if not tied:
        lm.lm_head.weight = nn.Parameter(torch.empty_like(lm.shared.weight))
        if initialise:
            # Without the scale that goes with tied ones. Source: T5X, whose dense layers start from 1 / fan-in.
            nn.init.normal_(lm.lm_head.weight, std=lm.config.d_model**-0.5)
    lm.config.tie_word_embeddings = tied
    return T5(lm)


def t5_from_pretrained(folder: str, dtype: torch.dtype = torch.float32) -> T5:
    """An encoder-decoder with the weights of a folder or hub id; see `language_model.trained`.

    Raises WeightsError, and RecipeError for an untested family.
    """
    before = logging.get_verbosity()
    # Of a head of its own transformers says that it does not fit settings which it has made up itself.
    logging.set_verbosity_error()
    try:
        lm: Any = trained(AutoModelForSeq2SeqLM, folder, ATTENTION, dtype, dropout_rate=0.0)
    finally:
        logging.set_verbosity(before)
    supported(lm.config)
    lm.config.tie_word_embeddings = lm.lm_head.weight is lm.shared.weight
    return T5(lm)


def supported(config: PretrainedConfig) -> None:
    """Raises RecipeError for what the loops would not compute as transformers does."""
    if config.model_type not in FAMILIES:
        raise RecipeError(
            f"model.backbone: of kind encoder_decoder, model_type '{config.model_type}' is not one of "
            f"{', '.join(FAMILIES)}"
        )

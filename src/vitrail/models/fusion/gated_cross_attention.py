"""Gated cross-attention: text sees media in blocks between the decoder layers.

A block adds, to the text that sees any media, what it attends to there and an MLP of it, each times the tanh of a gate
that starts at 0: at first, and for text that sees nothing, the model is its language model, bit for bit.
Costs: for a block about what a decoder layer costs, of the text that sees media; the text stays as short as it is, but
for what `hybrid` splices into it. Sources: see `models.config.CrossAttentionConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.protocols import Backbone, Cache, Context
from vitrail.contracts.samples import Batch
from vitrail.models.backbones.decoder import Decoder, LayerSizes
from vitrail.models.config import CrossAttentionConfig, HybridConfig
from vitrail.models.encoders.feed_forward import GatedMLP, PlainMLP
from vitrail.models.fusion.sight import Sight, crossing, sight
from vitrail.models.fusion.splice import spliced
from vitrail.models.ops.attention import packed_attention
from vitrail.models.ops.norms import norm

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries float[H, R, d], keys and values float[K, M, d] of all media tokens; what the queries see, float[H, R, d]."""


class Widths(NamedTuple):
    """Of a block: of text and of media tokens that come to it, and its own."""

    text: int
    media: int
    layers: LayerSizes


class GatedCrossAttention(nn.Module):
    """Leaves the embeddings as they are; its context runs the blocks. Block i stands before layer `layers[i]`."""

    def __init__(self, config: CrossAttentionConfig, backbone: Backbone) -> None:
        """Raises RecipeError for a backbone without decoder layers, or with so few that a block finds no layer."""
        super().__init__()
        if not isinstance(backbone, Decoder):
            raise RecipeError(f"model.fusion: {config.kind} stands between the layers of a decoder")
        self.layers = config.layers(backbone.depth)
        if not self.layers or self.layers[-1] > backbone.depth:
            wanted = self.layers[-1] if self.layers else config.first or config.every - 1
            raise RecipeError(
                f"model.fusion: a block stands before layer {wanted}, counted from 0, and the language model has "
                f"{backbone.depth}"
            )
        self.sees, self.blind = config.sees, config.blind
        self.tags_added = isinstance(config, HybridConfig) and config.tags == "added"
        widths = Widths(backbone.width, config.media_width or backbone.width, _sizes(config, backbone.sizes))
        self.blocks = nn.ModuleList(Block(config, widths) for _ in self.layers)
        # A method, and no module of this one: the embeddings are the language model's.
        self._embed = backbone.embed

    def forward(
        self, embeddings: Tensor, media: Mapping[str, Tensor], batch: Batch, cache: Cache | None = None
    ) -> tuple[Tensor, Context | None]:
        """What the backbone reads, float[T, D], and the context; None where no text sees anything."""
        embeddings = spliced(embeddings, media, batch)
        seen = sight(batch, self.sees, self.blind, added=self.tags_added)
        if seen is None:
            return embeddings, None
        tokens = None
        if batch.media:
            tags = {name: self._embed(stream.tags) for name, stream in batch.media.items() if stream.tags is not None}
            tokens = crossing(media, batch, tags, added=self.tags_added).to(embeddings.dtype)
        return embeddings, _Looking(self, tokens, seen, cache)

    def resumed(self, cache: Cache) -> Context | None:
        """A generated token sees what the last token of its prompt saw."""
        sees = cache.has_media()
        return _Resumed(self, cache, sees) if any(sees) or self.blind == "mlp" else None

    def before(self, layer: int) -> list[tuple[int, Block]]:
        """The blocks before that decoder layer, with their numbers."""
        found = []
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block), "there are no other modules in the list"
            if self.layers[number] == layer:
                found.append((number, block))
        return found

    def compilable(self) -> list[nn.Module]:
        """What `training.compiling` may compile."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        return [piece for block in blocks for piece in (block.attention_norm, block.mlp_norm, block.mlp)]


def _sizes(config: CrossAttentionConfig, layers: LayerSizes) -> LayerSizes:
    """Those of the decoder layers, with what the settings say. Raises RecipeError for heads that do not fit."""
    sizes = LayerSizes(
        config.heads or layers.heads,
        config.key_value_heads or config.heads or layers.key_value_heads,
        config.head_width or layers.head_width,
        config.mlp_width or layers.mlp_width,
        layers.norm_eps if config.norm_eps is None else config.norm_eps,
    )
    if sizes.heads % sizes.key_value_heads:
        raise RecipeError(
            f"model.fusion: heads ({sizes.heads}) must be a multiple of key_value_heads ({sizes.key_value_heads})"
        )
    return sizes


class Block(nn.Module):
    """Cross-attention, then an MLP; text is normed before both, and the tanh of a gate stands before what they add."""

    def __init__(self, config: CrossAttentionConfig, widths: Widths) -> None:
        super().__init__()
        text, media, (heads, key_value_heads, head_width, mlp_width, eps) = widths
        self.media_width, self.head_width = media, head_width
        self.attention_norm = norm(config.norm, text, eps)
        self.query = nn.Linear(text, heads * head_width, bias=False)
        self.key, self.value = (nn.Linear(media, key_value_heads * head_width, bias=False) for _ in range(2))
        self.query_norm, self.key_norm = (
            nn.RMSNorm(head_width, eps=eps) if config.query_key_norm else nn.Identity() for _ in range(2)
        )
        self.attention_out = nn.Linear(heads * head_width, text, bias=False)
        self.attention_gate = nn.Parameter(torch.zeros(1))
        self.mlp_norm = norm(config.norm, text, eps)
        mlp = GatedMLP if config.mlp == "gated" else PlainMLP
        self.mlp = mlp(text, mlp_width, config.activation, bias=False)
        self.mlp_gate = nn.Parameter(torch.zeros(1))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)

    def attended(self, hidden: Tensor, tokens: Tensor, attend: Attend) -> Tensor:
        """Text float[R, D] with what it sees of media tokens float[M, media width]; attend: which sees which."""
        query = self.query_norm(self._heads(self.query(self.attention_norm(hidden))))
        key, value = self.key_norm(self._heads(self.key(tokens))), self._heads(self.value(tokens))
        mixed = attend(query, key, value)
        out: Tensor = hidden + self.attention_gate.tanh() * self.attention_out(mixed.transpose(0, 1).flatten(1))
        return out

    def thought(self, hidden: Tensor) -> Tensor:
        """Text float[R, D] with what the MLP adds to it."""
        out: Tensor = hidden + self.mlp_gate.tanh() * self.mlp(self.mlp_norm(hidden))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """float[N, heads * d] to float[heads, N, d]."""
        heads: Tensor = x.unflatten(1, (-1, self.head_width)).transpose(0, 1)
        return heads


@dataclass(frozen=True)
class _Looking:
    """The context of a pass whose media are at hand, float[M, D]; None for a pass without."""

    fusion: GatedCrossAttention
    tokens: Tensor | None
    seen: Sight
    cache: Cache | None

    def before(self, layer: int, hidden: Tensor) -> Tensor:
        for number, block in self.fusion.before(layer):
            hidden = self._through(number, block, hidden)
        return hidden

    def _through(self, number: int, block: Block, hidden: Tensor) -> Tensor:
        seen = self.seen

        def attended(some: Tensor) -> Tensor:
            assert self.tokens is not None, "what is attended to is at hand"
            return block.attended(some, self.tokens, self._attend(number))

        if not seen.queries.lengths:
            return _at(seen.mlp, hidden, block.thought)
        if seen.mlp is seen.rows:
            return _at(seen.rows, hidden, lambda some: block.thought(attended(some)))
        return _at(seen.mlp, _at(seen.rows, hidden, attended), block.thought)

    def _attend(self, number: int) -> Attend:
        seen = self.seen

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            if self.cache is not None:
                self.cache.keep_media(number, _some(key, seen.last), _some(value, seen.last), seen.last_keys)
            key, value = _some(key, seen.seen), _some(value, seen.seen)
            return packed_attention(query, key, value, seen.queries, seen.keys, causal=False)

        return attend


@dataclass(frozen=True)
class _Resumed:
    """The context of a step whose media are in the cache. sees: of each of its positions, whether there are any."""

    fusion: GatedCrossAttention
    cache: Cache
    sees: tuple[bool, ...]

    def before(self, layer: int, hidden: Tensor) -> Tensor:
        for number, block in self.fusion.before(layer):
            hidden = self._through(number, block, hidden)
        return hidden

    def _through(self, number: int, block: Block, hidden: Tensor) -> Tensor:
        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return self.cache.attend_media(number, query)

        out = hidden
        if any(self.sees):
            # Their keys and values are in the cache: there are no tokens to make others of.
            out = block.attended(hidden, hidden.new_empty(0, block.media_width), attend)
        if self.fusion.blind == "mlp":
            return block.thought(out)
        out = block.thought(out)
        if all(self.sees):
            return out
        return torch.where(torch.tensor(self.sees, device=hidden.device)[:, None], out, hidden)


def _at(rows: Tensor | None, hidden: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """float[T, D] with some of its rows, or all for None, changed."""
    return change(hidden) if rows is None else hidden.index_copy(0, rows, change(hidden[rows]))


def _some(heads: Tensor, index: Tensor | None) -> Tensor:
    """float[K, M, d] to those of the indices."""
    return heads if index is None else heads[:, index]

"""Splice: media tokens take the positions that `render` left for them in the text, or are added to text there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitrail.contracts.protocols import Backbone, Cache, Context
from vitrail.contracts.samples import Batch
from vitrail.models.config import SpliceConfig


class Splice(nn.Module):
    """Puts the float[M, D] tokens of every stream into float[T, D] text embeddings; there is no context.

    Tokens of a stream whose views have text of their own (`View.ids`) are added to its embeddings.
    """

    def __init__(self, config: SpliceConfig, backbone: Backbone) -> None:
        """There is nothing to set, and nothing that depends on the backbone."""
        super().__init__()

    def forward(
        self, embeddings: Tensor, media: Mapping[str, Tensor], batch: Batch, cache: Cache | None = None
    ) -> tuple[Tensor, Context | None]:
        """Returns what the backbone reads, float[T, D]. The embeddings are left as they are."""
        return spliced(embeddings, media, batch), None

    def resumed(self, cache: Cache) -> Context | None:
        """What was spliced is in the past of the layers."""
        return None


def spliced(embeddings: Tensor, media: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Text float[T, D] with the tokens of every view that is spliced in the place of its placeholders.

    Tokens of a stream whose views have text of their own (`View.ids`) are added to its embeddings.
    """
    for name, stream in batch.media.items():
        tokens, index = media[name], stream.token_index
        if not all(view.spliced for view in stream.views):
            pieces = zip(stream.views, tokens.split([view.tokens for view in stream.views]), strict=True)
            tokens = torch.cat([tokens[:0], *(piece for view, piece in pieces if view.spliced)])
        assert len(tokens) == len(index), (
            f"{name}: the projector made {len(tokens)} tokens, the text holds {len(index)} placeholders"
        )
        if len(index):
            # A stream may be made without the views that it is of.
            added = any(view.ids for view in stream.views[:1])
            put = embeddings.index_add if added else embeddings.index_copy
            embeddings = put(0, index, tokens.to(embeddings.dtype))
    return embeddings

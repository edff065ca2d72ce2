"""Splice: picture tokens take the places that `render` left for them in the text stream."""

from __future__ import annotations

from torch import Tensor, nn

from vitrail.contracts.samples import VisionStream


class Splice(nn.Module):
    """Puts float[M, D] picture tokens into float[T, D] text embeddings."""

    def forward(self, embeddings: Tensor, pictures: Tensor, stream: VisionStream) -> Tensor:
        """Returns the stream the backbone reads, float[T, D]. The embeddings are left as they are."""
        assert len(pictures) == len(stream.token_index), (
            f"the projector made {len(pictures)} tokens, the text holds {len(stream.token_index)} places"
        )
        return embeddings.index_copy(0, stream.token_index, pictures.to(embeddings.dtype))

"""The assembled model: encode, project, fuse, run the backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from vitrail.contracts.protocols import (
    Backbone,
    Cache,
    Context,
    Encoder,
    EncoderDecoder,
    Fusion,
    JoiningProjector,
    Projector,
)
from vitrail.contracts.samples import TARGET, Batch, MediaStream, Segments, component
from vitrail.models.backbones.language_model import LanguageModel
from vitrail.models.ops.vocabulary_loss import VocabularyLoss


class MultimodalModel(nn.Module):
    """Encoders, projectors, fusion and backbone, each a child by the name of its component.

    The vision stream's are `encoder` and `projector`, those of a stream `audio` are `audio_encoder` and
    `audio_projector` (`contracts.samples.component`). heads: modules that objectives have of their own.
    """

    backbone: Backbone
    fusion: Fusion
    kept: Callable[[str, MediaStream, Encoder], Tensor] | None = None
    """Asked for an encoder's features where it is frozen, and may know them (`training.kept_features`)."""

    def __init__(
        self,
        towers: Mapping[str, tuple[Encoder, Projector]],
        fusion: Fusion,
        backbone: Backbone,
        heads: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """towers: encoder and projector of each media stream, by its name."""
        super().__init__()
        self.streams = tuple(towers)
        for name, (encoder, projector) in towers.items():
            self.add_module(component(name, "encoder"), cast(nn.Module, encoder))
            self.add_module(component(name, "projector"), cast(nn.Module, projector))
        self.fusion, self.backbone = fusion, backbone
        for name, head in (heads or {}).items():
            self.add_module(name, head)
        self.vocabulary_loss = VocabularyLoss()

    def encoder_of(self, stream: str) -> Encoder:
        """The encoder of a media stream."""
        return cast(Encoder, self.get_submodule(component(stream, "encoder")))

    def projector_of(self, stream: str) -> Projector:
        """The projector of a media stream."""
        return cast(Projector, self.get_submodule(component(stream, "projector")))

    @property
    def language_model(self) -> LanguageModel:
        """The backbone, for what is done to its layers and files."""
        assert isinstance(self.backbone, LanguageModel), "the backbone is one of ours"
        return self.backbone

    def head(self, name: str) -> nn.Module:
        """A module that an objective has of its own."""
        return self.get_submodule(name)

    def tokens(self, name: str, media: Mapping[str, MediaStream]) -> Tensor:
        """The tokens that the media of one of a batch's streams become, float[M, D]."""
        return self.projected(name, self.features(name, media[name]), media)

    def features(self, name: str, stream: MediaStream) -> Tensor:
        """What the encoder of a stream makes of it, float[F, encoder width]."""
        encoder = self.encoder_of(name)
        return encoder(stream) if self.kept is None else self.kept(name, stream, encoder)

    def projected(self, name: str, features: Tensor, media: Mapping[str, MediaStream]) -> Tensor:
        """The same, of the stream's features at hand, float[F, encoder width]."""
        projector, stream = self.projector_of(name), media[name]
        stream = strided(stream, getattr(self.encoder_of(name), "stride", 1))
        joins = getattr(projector, "joins", None)
        if joins is None:
            return projector(features, stream)
        return cast(JoiningProjector, projector)(features, stream, self.tokens(joins, media))

    def seen(self, batch: Batch) -> Batch:
        """A batch without the streams whose tokens another stream's projector joins: text sees them in no other way."""
        joined = {getattr(self.projector_of(name), "joins", None) for name in self.streams}
        return replace(batch, streams={name: one for name, one in batch.streams.items() if name not in joined})

    def media(self, batch: Batch) -> dict[str, Tensor]:
        """The tokens of every media stream of a batch that text may see, by name."""
        return {name: self.tokens(name, batch.media) for name in self.seen(batch).media}

    def fused(
        self, batch: Batch, media: Mapping[str, Tensor] | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, Context | None]:
        """What the backbone reads, float[T, D], and what is handed to its loop.

        media: tokens by stream, where they are at hand already.
        """
        vision = batch.vision
        on_a_grid = vision is None or batch.text.positions.ndim == 2 or not len(vision.token_index)
        assert on_a_grid or not getattr(self.backbone, "sections", None), "M-RoPE needs the grid of picture tokens"
        embeddings = self.backbone.embed(batch.text.ids)
        return self.fusion(embeddings, self.media(batch) if media is None else media, self.seen(batch), cache)

    def forward(self, batch: Batch, cache: Cache | None = None, media: Mapping[str, Tensor] | None = None) -> Tensor:
        """Hidden states after the last norm, float[T, D]: of the target stream where the batch has one, else the text.

        media: as in `fused`.
        """
        # The text of an encoder-decoder is read once, and whole: what is kept is the decoder's.
        reading = None if self.says else cache
        embeddings, context = self.fused(batch, media, reading)
        hidden = self.backbone(embeddings, batch.text.positions, batch.text.segments, context=context, cache=reading)
        if not self.says:
            return hidden
        target = batch.learnt
        assert TARGET in batch.streams, "an encoder-decoder has a target"
        assert isinstance(self.backbone, EncoderDecoder), "what says has a decoder"
        said = self.backbone.embed(target.ids)
        return self.backbone.decode(said, target.segments, hidden, batch.text.segments, cache=cache)

    @property
    def says(self) -> bool:
        """Whether the backbone is an encoder-decoder, whose decoder says what is learnt."""
        return isinstance(self.backbone, EncoderDecoder)

    @property
    def start(self) -> int | None:
        """The id that the decoder of an encoder-decoder begins with; None for a decoder alone."""
        return self.backbone.start if isinstance(self.backbone, EncoderDecoder) else None

    def read(self, ids: Tensor, positions: Tensor, segments: Segments, cache: Cache | None = None) -> Tensor:
        """Text alone, or, with a cache, the next tokens of what it holds: int64[T] to hidden states float[T, D]."""
        embeddings = self.backbone.embed(ids)
        if self.says and cache is not None:
            assert isinstance(self.backbone, EncoderDecoder), "an encoder-decoder"
            return self.backbone.decode(embeddings, segments, embeddings[:0], Segments(()), cache=cache)
        context = None if cache is None else self.fusion.resumed(cache)
        return self.backbone(embeddings, positions, segments, context=context, cache=cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """float[N, D] to float32[N, V]."""
        return (hidden @ self.backbone.head_weight().T).float()

    def token_losses(self, hidden: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sum of the vocabulary losses float32[], and what each position adds to it, float32[T], detached.

        hidden: float[T, D]. labels: int64[T]. weights: float32[T].
        """
        return self.vocabulary_loss.with_each(hidden, self.backbone.head_weight(), labels, weights)

    def loss_sum(self, batch: Batch, media: Mapping[str, Tensor] | None = None) -> Tensor:
        """Weighted sum of the vocabulary losses, float32[]; divide by `batch.label_weight` for the mean."""
        return self.losses(batch, media)[0]

    def losses(self, batch: Batch, media: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The same, with what each position of the learnt stream adds to it: float32[T], without a gradient."""
        learnt = batch.learnt
        return self.token_losses(self(batch, media=media), learnt.labels, learnt.weights)


def mean_tokens(tokens: Tensor, stream: MediaStream, segments: int) -> Tensor:
    """Media tokens float[M, D] to their mean by text segment, float[segments, D]; zeros where there are none."""
    counts = [view.tokens for view in stream.views]
    owner = torch.tensor([link.segment for link in stream.links], device=tokens.device)
    segment = owner.repeat_interleave(torch.tensor(counts, device=tokens.device), output_size=len(tokens))
    sums = tokens.new_zeros(segments, tokens.shape[1]).index_add(0, segment, tokens)
    return sums / torch.bincount(segment, minlength=segments).clamp(min=1)[:, None]


def strided(stream: MediaStream, stride: int) -> MediaStream:
    """The stream of an encoder's features, of which each is made of so many neighbours in each view."""
    if stride == 1:
        return stream
    lengths = tuple(length // stride for length in stream.segments.lengths)
    kept = slice(None, None, stride)
    return replace(
        stream, values=stream.values[kept], positions=stream.positions[kept] // stride, segments=Segments(lengths)
    )

"""Pictures against the texts of their answers, and the answers word by word, from one pass of the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import Character, ImagePart, MediaPart
from vitrail.contracts.protocols import MediaRule, Needs, Tokenizer
from vitrail.contracts.samples import IGNORE, VISION, Batch, MediaSlot, Segments, View
from vitrail.training.objectives.embedding_alignment import check_whole_pictures
from vitrail.training.objectives.objective import Objective, Term, Terms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vitrail.models.assembled import MultimodalModel
    from vitrail.models.config import ModelConfig
    from vitrail.training.config import StageConfig

TARGETS = "character_targets"
CONTRAST, CHAR_HEAD = "contrast", "char_head"


@dataclass(frozen=True)
class ContrastiveCaption(Objective):
    """A picture against the texts of a pack, and its own text word by word; contrastive, caption: weights of the terms.

    The text of a picture is every labelled token of its sample, read by the same backbone without the picture; its
    summary is the hidden state of the last one. The summary of a picture is the mean of its tokens. Both are compared
    in a space of `width`, in the head `contrast`. Every sample of the pack is a negative of every other, so the packs
    of a step may not be accumulated.
    characters: weight of a third term, for pictures whose characters are known: the head `char_head` names the
    character on each patch.
    Source: CoCa, arXiv 2205.01917, with SigLIP's loss in the place of the softmax, as MoonViT is trained (Kimi-VL,
    arXiv 2504.07491, section 2.3.1). The third term is ours: an encoder without convolutions learns glyphs from where
    they stand many times faster than through a decoder.
    """

    compares_samples: ClassVar[bool] = True
    learns_from: ClassVar[str] = "pictures that something is said about"

    kind: Literal["contrastive_caption"] = "contrastive_caption"
    contrastive: float = 1.0
    caption: float = 1.0
    characters: float = 0.0
    width: int = 256

    def __post_init__(self) -> None:
        weights = (self.contrastive, self.caption, self.characters)
        if min(weights) < 0 or not sum(weights):
            raise ValueError("contrastive, caption and characters are weights: 0 or more, and not all 0")
        if self.width < 1:
            raise ValueError(f"width is {self.width}, must be 1 or more")

    @property
    def needs(self) -> Needs:
        """The character on each patch, where that term is wanted."""
        return Needs((CharacterTargets(),)) if self.characters else Needs()

    def check(self, stage: StageConfig, stages: Sequence[StageConfig], model: ModelConfig) -> None:
        """Packs of a step are not accumulated, and characters are known of whole pictures."""
        if stage.accumulate > 1:
            raise RecipeError(
                f"stages.{stage.name}.accumulate is {stage.accumulate}; a contrastive objective compares the samples "
                "of one pack, so it must be 1: raise data.pack.length instead"
            )
        if self.characters:
            check_whole_pictures(stage.name, model)

    def blind(self) -> Objective | None:
        """Without pictures there are captions alone."""
        return self if self.caption else None

    @property
    def head_names(self) -> tuple[str, ...]:
        """`contrast` where there is such a term, `char_head` where there is that one."""
        return (*([CONTRAST] if self.contrastive else []), *([CHAR_HEAD] if self.characters else []))

    def heads(self, encoder_width: int, backbone_width: int, vocabulary: int) -> Mapping[str, partial[Any]]:
        """Where pictures and texts meet, and a linear layer from patches to characters."""
        from torch import nn

        from vitrail.models.contrast import Contrast

        made: dict[str, partial[Any]] = {
            CONTRAST: partial(Contrast, self.width, backbone_width, backbone_width),
            CHAR_HEAD: partial(nn.Linear, encoder_width, vocabulary, bias=False),
        }
        return {name: made[name] for name in self.head_names}

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Samples with a picture, summed loss weights, patches whose character is known; 0 for a term of no weight."""
        counts = dict.fromkeys(("contrastive", "caption", "characters"), 0.0)
        if self.contrastive:
            counts["contrastive"] = float(len(_pictured(batch)))
        if self.caption:
            counts["caption"] = batch.label_weight
        if self.characters and batch.vision is not None:
            counts["characters"] = float(batch.targets[TARGETS].ne(IGNORE).sum())
        return counts

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """Encodes the pictures once, then reads the texts once for each term."""
        from vitrail.models.assembled import mean_tokens
        from vitrail.models.contrast import Contrast

        counts = self.counts(batch)
        terms: dict[str, Term] = {}
        media: dict[str, Tensor] = {}
        vision = batch.vision
        if vision is not None:
            features = model.features(VISION, vision)
            media[VISION] = model.projected(VISION, features, batch.media)
            if counts["characters"]:
                loss = self._characters(model, features, batch.targets[TARGETS])
                terms["characters"] = Term(loss, counts["characters"], self.characters)
        if self.caption:
            loss, each = model.losses(batch, media)
            terms["caption"] = Term(loss, counts["caption"], self.caption, each)
        if vision is not None and counts["contrastive"]:
            contrast = model.head(CONTRAST)
            assert isinstance(contrast, Contrast), "a model with this objective has its head"
            seen = mean_tokens(media[VISION], vision, len(batch.text.segments.lengths))[_pictured(batch)]
            loss = contrast.loss_sum(seen, _summaries(model, batch))
            terms["contrastive"] = Term(loss, counts["contrastive"], self.contrastive)
        return terms

    def _characters(self, model: MultimodalModel, features: Tensor, targets: Tensor) -> Tensor:
        """Summed cross-entropy of the known patches' characters, float32[]. features: float[P, encoder width]."""
        import torch

        weight = model.head(CHAR_HEAD).weight
        assert isinstance(weight, torch.Tensor), "a linear layer"
        loss: Tensor = model.vocabulary_loss(features, weight, targets, torch.ones_like(targets).float())
        return loss


def _pictured(batch: Batch) -> list[int]:
    """The samples that have a picture and something said about it."""
    import torch

    if batch.vision is None:
        return []
    labelled = batch.learnt.labels.ne(IGNORE).nonzero().squeeze(1)
    ends = torch.tensor(batch.learnt.segments.lengths, device=labelled.device).cumsum(0)
    said: list[int] = torch.searchsorted(ends, labelled, right=True).unique().tolist()
    return sorted({link.segment for link in batch.vision.links} & set(said))


def _summaries(model: MultimodalModel, batch: Batch) -> Tensor:
    """What the backbone makes of each pictured sample's labelled tokens alone, float[N, D]."""
    import torch

    starts = [0, *torch.tensor(batch.learnt.segments.lengths).cumsum(0).tolist()]
    texts = [batch.learnt.labels[starts[number] : starts[number + 1]] for number in _pictured(batch)]
    texts = [text[text.ne(IGNORE)] for text in texts]
    lengths = tuple(len(text) for text in texts)
    positions = torch.cat([torch.arange(length, device=batch.learnt.labels.device) for length in lengths])
    hidden = model.read(torch.cat(texts), positions, Segments(lengths))
    last = torch.tensor(lengths, device=hidden.device).cumsum(0) - 1
    return hidden[last]


@dataclass(frozen=True)
class CharacterTargets:
    """The id of the character on each patch of pictures, by the name `character_targets`."""

    def __call__(
        self,
        media: Sequence[MediaPart],
        slots: Sequence[MediaSlot],
        tokenizer: Tokenizer,
        rules: Mapping[str, MediaRule],
    ) -> Mapping[str, NDArray[Any]]:
        """int64[P], IGNORE where none is known."""
        import numpy as np

        found = [np.zeros(0, np.int64)]
        for slot in slots:
            part = media[slot.media]
            if slot.view.stream == VISION and isinstance(part, ImagePart):
                grid = characters_on(part.characters, slot.view, tokenizer)
                row, column = rules[VISION].positions(slot.view).T
                found.append(grid[row, column])
        return {TARGETS: np.concatenate(found)}


def characters_on(characters: Sequence[Character], view: View, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """int64[rows, columns]: the id of the character that stands on each patch of a view, IGNORE where none is known.

    Where several stand on one patch, the one nearest to its middle counts. One of several tokens is known by its first.
    """
    import numpy as np

    found = np.full((view.rows, view.columns), IGNORE, np.int64)
    nearest = np.full((view.rows, view.columns), np.inf)
    for character in characters:
        across, down = character.x * view.columns, character.y * view.rows
        row, column = min(view.rows - 1, int(down)), min(view.columns - 1, int(across))
        away = (across - column - 0.5) ** 2 + (down - row - 0.5) ** 2
        if away < nearest[row, column]:
            found[row, column], nearest[row, column] = tokenizer.encode(character.text)[0], away
    return found

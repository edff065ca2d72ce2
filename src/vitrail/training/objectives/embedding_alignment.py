"""Pictures as a sum of words: each media token learns to be a mixture of the language model's own embeddings.

What stands in a drawn picture is known, character by character. A language model that only answers has to find, among
all tokens of a picture, the one that its next word stands on, before it can learn what a token says; here each is told
so itself, and the language model is not run, which takes a fraction of the time of `next_token`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import Character, ImagePart, MediaPart
from vitrail.contracts.protocols import MediaRule, Needs, Tokenizer
from vitrail.contracts.samples import IGNORE, VISION, Batch, MediaSlot, View
from vitrail.media.config import CanvasConfig, PaddedConfig, TextLinesConfig, TilesConfig
from vitrail.training.objectives.objective import Objective, Term, Terms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vitrail.models.assembled import MultimodalModel
    from vitrail.models.config import ModelConfig
    from vitrail.training.config import StageConfig

TARGETS = "token_targets"


@dataclass(frozen=True)
class Mixture(Objective):
    """What a media token is to be: a mixture of the embeddings of the tokens that begin where it stands.

    tokens: of so many that begin there. fade: share of each in the mixture, of that of the token before it; it is how
    their order is told.
    """

    learns_from: ClassVar[str] = "pictures whose characters are known"

    tokens: int = 4
    fade: float = 0.6

    def __post_init__(self) -> None:
        if self.tokens < 1 or not 0 < self.fade < 1:
            raise ValueError(f"tokens is {self.tokens}, fade {self.fade}: must be 1 or more, and between 0 and 1")

    @property
    def needs(self) -> Needs:
        """For each media token, the tokens that begin there, int64[M, tokens]."""
        return Needs((TokenTargets(self.tokens),))

    def check(self, stage: StageConfig, stages: Sequence[StageConfig], model: ModelConfig) -> None:
        """Mixtures are made of whole pictures, and by one rule in all stages."""
        check_whole_pictures(stage.name, model)
        for other in stages:
            if isinstance(other.objective, Mixture) and self._rule != other.objective._rule:
                raise RecipeError(
                    f"stages: mixtures of embeddings must have the same tokens and fade (got {stage.name} "
                    f"{self.tokens} and {self.fade}, {other.name} {other.objective.tokens} and {other.objective.fade})"
                )

    @property
    def _rule(self) -> tuple[int, float]:
        return self.tokens, self.fade

    def shares(self, targets: Tensor, model: MultimodalModel) -> Tensor:
        """What each token adds to its mixture, float[M, tokens, D]; zeros for IGNORE."""
        import torch

        there = targets.ne(IGNORE)
        directions = torch.nn.functional.normalize(model.backbone.embed(torch.where(there, targets, 0)), dim=2)
        faded = self.fade ** torch.arange(targets.shape[1], device=targets.device)
        return directions * (faded * there)[:, :, None]


@dataclass(frozen=True)
class EmbeddingAlignment(Mixture):
    """Encoder and projector alone, on pictures whose characters are known; the language model is not run.

    A media token is to point where its mixture does. The first text token is the one whose embedding is nearest by
    cosine; with its share taken away, the second is; and so on.
    sharpness: scale of the cosines that tokens are told apart by. among: a token is told apart from those of its pack
    and from one in so many of the vocabulary, in turn. length: weight of a second term, by which media tokens become
    as long as embeddings are.
    Source: ours; taking away what is known before the next is looked for is Mallat's and Zhang's (Matching Pursuits
    With Time-Frequency Dictionaries, 1993).
    """

    kind: Literal["embedding_alignment"] = "embedding_alignment"
    sharpness: float = 30.0
    among: int = 8
    length: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.among < 1 or self.sharpness <= 0 or self.length < 0:
            raise ValueError("among must be 1 or more, sharpness above 0, length 0 or more")

    def blind(self) -> Objective | None:
        """Nothing is left without pictures."""
        return None

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Tokens that are known, and media tokens with any."""
        tokens = known(batch)
        return {"embedding_alignment": float(tokens.sum()), "length": float(tokens[:, :1].sum())}

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """Encoder and projector alone; a pack without pictures adds nothing.

        Pictures of which nothing is known are encoded all the same, for nothing: ranks must run the same passes.
        """
        import torch
        from torch.nn.functional import normalize

        if batch.vision is None or TARGETS not in batch.targets:
            return {}
        counts, some = self.counts(batch), known(batch)[:, 0]
        tokens, targets = model.tokens(VISION, batch.media)[some], batch.targets[TARGETS][some]
        with torch.no_grad():
            shares = self.shares(targets, model)
            embeddings, labels = self._candidates(targets, model)
        mixtures = shares.sum(1)
        pointing = normalize(tokens, dim=1) * mixtures.norm(dim=1, keepdim=True)
        before = shares.cumsum(1) - shares
        rest = normalize(pointing[:, None] - before, dim=2).flatten(0, 1)
        aligned = model.vocabulary_loss(
            rest * self.sharpness, embeddings, labels, torch.ones_like(labels, dtype=torch.float32)
        )
        short = tokens.norm(dim=1) / mean_length(model) - 1
        return {
            "embedding_alignment": Term(aligned, counts["embedding_alignment"]),
            "length": Term(short.float().square().sum(), counts["length"], self.length),
        }

    def _candidates(self, targets: Tensor, model: MultimodalModel) -> tuple[Tensor, Tensor]:
        """Directions of the tokens that the labels are told apart from, and the labels as rows of them, int64[M * n].

        Which part of the vocabulary they are from follows from the labels: no chance, so nothing to resume.
        """
        import torch

        labels = targets.flatten()
        there = labels.ne(IGNORE)
        first = int(labels[there].sum()) % self.among
        others = torch.arange(first, model.backbone.vocabulary, self.among, device=labels.device)
        candidates = torch.cat([labels[there], others]).unique()
        directions = torch.nn.functional.normalize(model.backbone.embed(candidates), dim=1)
        return directions, torch.where(there, torch.searchsorted(candidates, labels), IGNORE)


def known(batch: Batch) -> Tensor:
    """bool[M, tokens]: which tokens of media tokens are known; of nothing where the batch has no such targets."""
    import torch

    targets = batch.targets.get(TARGETS)
    return torch.zeros((0, 1), dtype=torch.bool) if targets is None else targets.ne(IGNORE)


def mean_length(model: MultimodalModel) -> Tensor:
    """Mean length of the language model's embeddings, float[], without a gradient."""
    import torch

    with torch.no_grad():
        every = torch.arange(model.backbone.vocabulary, device=next(model.parameters()).device)
        length: Tensor = model.backbone.embed(every).norm(dim=1).mean()
    return length


def check_whole_pictures(stage: str, model: ModelConfig) -> None:
    """Raises RecipeError for media rules that cut or pad pictures: where characters stand is known of whole ones."""
    media = model.media
    if isinstance(media, TextLinesConfig):
        raise RecipeError(
            f"stages.{stage}.objective: patches learn what stands on them, and with model.media.kind: text_lines there "
            "are none: leave the stage out"
        )
    cut = isinstance(media, TilesConfig) and (media.max_tiles > 1 or media.fit == "crop")
    if cut or isinstance(media, PaddedConfig | CanvasConfig):
        raise RecipeError(
            f"stages.{stage}.objective: where characters stand is known of whole pictures, and model.media "
            f"{'cuts' if cut else 'pads'} them; allowed: kind native, or one squashed tile"
        )


@dataclass(frozen=True)
class TokenTargets:
    """`tokens_on` of every view of pictures, by the name `token_targets`. most: tokens of a media token."""

    most: int

    def __call__(
        self,
        media: Sequence[MediaPart],
        slots: Sequence[MediaSlot],
        tokenizer: Tokenizer,
        rules: Mapping[str, MediaRule],
    ) -> Mapping[str, NDArray[Any]]:
        """int64[M, most]."""
        import numpy as np

        found = [np.zeros((0, self.most), np.int64)]
        for slot in slots:
            part = media[slot.media]
            if slot.view.stream == VISION and isinstance(part, ImagePart):
                found.append(tokens_on(part.characters, slot.view, tokenizer, self.most))
        return {TARGETS: np.concatenate(found)}


def tokens_on(characters: Sequence[Character], view: View, tokenizer: Tokenizer, most: int) -> NDArray[np.int64]:
    """Ids of the first tokens that begin within each of a view's media tokens, at `most` so many, int64[tokens, most].

    IGNORE follows the last. A media token that nothing begins on has a blank, but for pictures of which nothing is
    known. The view shows the whole picture.
    """
    import numpy as np

    rows, columns = view.token_rows, view.token_columns
    found = np.full((view.tokens, most), IGNORE, np.int64)
    count = np.zeros(view.tokens, np.int64)
    for line in _lines(characters):
        # A blank belongs to the token of the word after it, and stands where that begins.
        text, at = "", list[Character]()
        for character in line:
            before = character.before if text else ""
            text += before + character.text
            at += [character] * len(before + character.text)
        for number, start in tokenizer.starts(text):
            character = at[start]
            row, column = min(rows - 1, int(character.y * rows)), min(columns - 1, int(character.x * columns))
            index = row * columns + column
            if count[index] < most:
                found[index, count[index]] = number
                count[index] += 1
    if characters:
        found[count == 0, 0] = tokenizer.encode(" ")[0]
    return found


def _lines(characters: Sequence[Character]) -> Iterator[list[Character]]:
    line: list[Character] = []
    for character in characters:
        if character.before == "\n" and line:
            yield line
            line = []
        line.append(character)
    if line:
        yield line

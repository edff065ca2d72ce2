"""What an objective is: settings, what it needs of the data, its checks, its modules, its terms, its blind form.

Each is one file of this folder, one dataclass whose fields are what a recipe may say of it, and one line of the table
in `training.objectives`. Recipes are read without torch, so these files import it where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from vitrail.contracts.protocols import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.contracts.samples import Batch
    from vitrail.models.assembled import MultimodalModel
    from vitrail.models.config import ModelConfig
    from vitrail.training.config import StageConfig


@dataclass(frozen=True)
class Term:
    """One summand of the loss. loss_sum: float32[]. count: what the sum is divided by, known before any forward pass.

    weight: of the term among the others. each: float32[T], what each position of the learnt stream adds to the sum,
    without a gradient; None where the sum is not over positions. The curves of single sources are drawn from it.
    figures: what else is worth a curve, by name: sums that are divided by the same count, and never minimised.
    """

    loss_sum: Tensor
    count: float
    weight: float = 1.0
    each: Tensor | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


Terms = Mapping[str, Term]


class Objective:
    """What a stage minimises. A user's own is a subclass, named `package.module:Class` in the recipe."""

    compares_samples: ClassVar[bool] = False
    """Whether the samples of a pack are compared with each other: then packs of a step cannot be accumulated."""

    encodes: ClassVar[bool] = True
    """Whether its passes run the encoders over the media of a batch: then every rank runs those that any rank runs."""

    remembers_start: ClassVar[bool] = False
    """Whether `prepare` keeps something of the model as the stage found it, which a resumed run must show it again."""

    unit: ClassVar[str] = ""
    """What the loss is counted in, for the chart of it; "" where that has no name."""

    learns_from: ClassVar[str] = "rows"
    """What rows must have to teach anything: packs of others add nothing, and a stage without any is a mistake."""

    @property
    def needs(self) -> Needs:
        """What is asked of the data."""
        return Needs()

    def check(self, stage: StageConfig, stages: Sequence[StageConfig], model: ModelConfig) -> None:
        """Raises RecipeError where the recipe's stages or model do not fit this objective."""

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the modules of its own, under which stages train them."""
        return ()

    def heads(self, encoder_width: int, backbone_width: int, vocabulary: int) -> Mapping[str, partial[Any]]:
        """The modules of `head_names`, each yet to be made.

        encoder_width: of the vision stream's encoder, 0 where there is none.
        """
        return {}

    def blind(self) -> Objective | None:
        """What the blind baseline minimises in a stage of this objective; None where nothing is left without media."""
        return self

    def live(self) -> Objective:
        """The objective of one run: itself, unless it keeps something between steps."""
        return self

    def prepare(self, model: MultimodalModel) -> None:
        """Shows it the model at the start of its stage, components frozen as the stage says."""

    def state(self) -> dict[str, Any]:
        """What it has kept, for a checkpoint; plain data that JSON can carry."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Each term's count for this batch, without running the model: the step's totals are known before its first
        pass. 0 for a term that the batch has nothing for."""
        raise AssertionError(f"{type(self).__name__} says what its terms are divided by")

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """Runs the model as often as it needs. Terms whose count is 0 may be left out, all of them too."""
        raise AssertionError(f"{type(self).__name__} says what its terms are")

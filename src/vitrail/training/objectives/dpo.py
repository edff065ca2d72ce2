"""Direct preference optimisation: of two answers to the same prompt, the one that people preferred.

A step costs one pass of the model with a gradient over both answers and twice the vocabulary head; the first time a
pair is met, also one pass without a gradient for the reference. The reference is not a second model: it is a copy of
the values that the stage trains, as they were at its start, put in the place of today's for that pass.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.protocols import Needs
from vitrail.data.dialects.pairs import chosen_and_rejected
from vitrail.training.objectives.objective import Objective, Term, Terms

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.contracts.samples import Batch
    from vitrail.models.assembled import MultimodalModel
    from vitrail.models.config import ModelConfig
    from vitrail.training.config import StageConfig

PAIR = 2
"""Segments of a sample: the chosen answer, then the rejected one."""


@dataclass(frozen=True)
class DPO(Objective):
    """How much likelier than at the stage's start the chosen answer has become, against the rejected one.

    With r = log p(answer) - log p_start(answer), a pair's loss is -log sigmoid(beta * (r_chosen - r_rejected)). Media
    and the prompt's turns are read and not learnt. Rows must be preference pairs (`data.dialects.pairs`).
    Source: Rafailov et al., arXiv 2305.18290, equation 7; label smoothing is conservative DPO (Mitchell, "A note on DPO
    with noisy preferences", 2023).
    """

    remembers_start: ClassVar[bool] = True
    unit: ClassVar[str] = "nats a pair"

    kind: Literal["dpo"] = "dpo"
    beta: float = 0.1
    """How closely the model is held to its start: less lets it go further."""
    label_smoothing: float = 0.0
    """Share of the pairs whose order is taken to be wrong."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta is {self.beta}, must be above 0")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing is {self.label_smoothing}, must be from 0 to below 0.5")

    @property
    def needs(self) -> Needs:
        """Both answers of every row, each a segment."""
        return Needs(variants=chosen_and_rejected)

    def check(self, stage: StageConfig, stages: Sequence[StageConfig], model: ModelConfig) -> None:
        """An encoder-decoder has one answer a sample."""
        if model.backbone.kind == "encoder_decoder":
            raise RecipeError(
                f"stages.{stage.name}.objective: dpo compares two answers in one sample, an encoder-decoder has one"
            )

    def live(self) -> Objective:
        """With the start that it remembers."""
        return LiveDPO(self)

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Pairs."""
        return {"dpo": float(len(batch.sample_ids) // PAIR)}

    def losses(self, gains: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability ratios of chosen and rejected answers, float[N, 2], to losses and reward margins, float[N].

        A ratio is log p(answer) - log p_start(answer).
        """
        from torch.nn.functional import logsigmoid

        margins = self.beta * (gains[:, 0] - gains[:, 1])
        right, wrong = -logsigmoid(margins), -logsigmoid(-margins)
        return (1 - self.label_smoothing) * right + self.label_smoothing * wrong, margins


@dataclass(eq=False)
class LiveDPO(Objective):
    """The objective in one stage of a run.

    start: the values of the stage's trainable parameters at its beginning, by name. known: log-probabilities under
    them, by a digest of what the model read (`digests`): a picture that is seen differently in another epoch has its
    own. A pair's two keep about 100 bytes in every checkpoint.
    """

    settings: DPO
    start: dict[str, Tensor] = field(default_factory=dict)
    known: dict[str, float] = field(default_factory=dict)

    remembers_start: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """Both answers of every row, each a segment."""
        return self.settings.needs

    def counts(self, batch: Batch) -> Mapping[str, float]:
        """Pairs."""
        return self.settings.counts(batch)

    def prepare(self, model: MultimodalModel) -> None:
        """Copies what the stage trains; an adapter's pairs alone, where nothing else learns."""
        trained = (pair for pair in model.named_parameters() if pair[1].requires_grad)
        self.start = {name: parameter.detach().clone() for name, parameter in trained}
        self.known = {}

    def state(self) -> dict[str, Any]:
        """The log-probabilities known so far. The start itself is in the checkpoint before the stage."""
        return {"known": dict(self.known)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.known = dict(state.get("known", {}))

    def __call__(self, model: MultimodalModel, batch: Batch) -> Terms:
        """One pass with a gradient; one more without, where a pair is met for the first time."""
        import torch

        assert not len(batch.sample_ids) % PAIR, "every sample is a pair"
        before = self._before(model, batch)
        learnt = batch.learnt
        hidden = model(batch)
        with torch.no_grad():
            now = sequence_logps(model, batch, hidden)
        with torch.enable_grad():
            # A loss of the sums: how it changes with each is all that the way back needs to know of it.
            now.requires_grad_()
            losses, margins = self.settings.losses((now - before).view(-1, PAIR))
            (slopes,) = torch.autograd.grad(losses.sum(), now)
        loss, margins = losses.detach().sum(), margins.detach()
        if hidden.requires_grad:
            # The summed losses of the tokens are -log p, so weights of -slope give them exactly this gradient.
            weights = learnt.weights * spread(-slopes, learnt.segments.lengths)
            carrier, _ = model.token_losses(hidden, learnt.labels, weights)
            loss = loss + (carrier - carrier.detach())
        figures = {"reward_margin": float(margins.sum()), "reward_accuracy": float((margins > 0).sum())}
        return {"dpo": Term(loss, self.counts(batch)["dpo"], figures=figures)}

    def _before(self, model: MultimodalModel, batch: Batch) -> Tensor:
        """Log-probabilities of the answers at the stage's start, float32[segments]."""
        import torch

        names = digests(batch)
        if any(name not in self.known for name in names):
            with torch.no_grad(), self._at_start(model):
                found = sequence_logps(model, batch, model(batch)).tolist()
            for name, value in zip(names, found, strict=True):
                self.known.setdefault(name, value)
        return torch.tensor([self.known[name] for name in names], device=batch.learnt.labels.device)

    @contextmanager
    def _at_start(self, model: MultimodalModel) -> Generator[None]:
        """The model as the stage found it, without dropout."""
        today = {name: parameter.data for name, parameter in model.named_parameters() if name in self.start}
        assert today.keys() == self.start.keys() != set(), "the objective has been shown the model at the stage's start"
        training = [module for module in model.modules() if module.training]
        try:
            for name, value in self.start.items():
                model.get_parameter(name).data = value
            model.eval()
            yield
        finally:
            for name, value in today.items():
                model.get_parameter(name).data = value
            for module in training:
                module.training = True


def sequence_logps(model: MultimodalModel, batch: Batch, hidden: Tensor) -> Tensor:
    """Log-probability of what is learnt of each sample's segments, float32[segments], without a gradient.

    hidden: float[T, D], of the learnt stream. Tokens count as often as their loss weights say.
    """
    learnt = batch.learnt
    _, each = model.token_losses(hidden.detach(), learnt.labels, learnt.weights)
    return -segment_sums(each, learnt.segments.lengths)[: len(batch.sample_ids)]


def segment_sums(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """Sums of float[T] over spans that lie end to end, float[len(lengths)].

    Each is taken by itself, so that it is the same bits whatever stands beside it.
    """
    import torch

    return torch.stack([part.sum() for part in values.split(tuple(lengths))])


def spread(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """One value for every position of spans that lie end to end; 0 for spans beyond the values. float[T]."""
    import torch

    counts = torch.tensor(tuple(lengths), device=values.device)
    every = torch.cat([values, values.new_zeros(len(lengths) - len(values))])
    return every.repeat_interleave(counts, output_size=sum(lengths))


def digests(batch: Batch) -> list[str]:
    """What tells the sample segments of a batch apart: a digest of all that the model reads of each, and learns.

    Equal segments are equal whatever pack they are in, whichever row they come from. Costs a pass over the pixels.
    """
    text = batch.text
    made = [blake2b(digest_size=12) for _ in batch.sample_ids]
    for values in (text.ids, text.labels, text.weights, text.positions.reshape(-1, len(text.ids)).mT):
        for digest, part in zip(made, values.cpu().split(text.segments.lengths), strict=False):
            digest.update(part.contiguous().numpy().tobytes())
    begins = [0]
    for length in text.segments.lengths:
        begins.append(begins[-1] + length)
    for name, stream in sorted(batch.media.items()):
        parts = [values.cpu().split(stream.segments.lengths) for values in (stream.values, stream.positions)]
        for link, *seen in zip(stream.links, *parts, strict=True):
            digest = made[link.segment]
            digest.update(f"{name} {link.start - begins[link.segment]}".encode())
            for values in seen:
                digest.update(values.contiguous().numpy().tobytes())
    return [digest.hexdigest() for digest in made]

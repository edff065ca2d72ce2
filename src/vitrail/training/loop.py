"""The training loop. There is one: stages, objectives and data change, the loop does not.

A step takes `accumulate` packs from the stream, the last one of an epoch those that are left, divides each term once by
its count over all of them, and moves the stage's components; several processes may share its packs
(`training.parallel`). After any step the run can be stopped and resumed bit for bit, given the same device, number
format, thread count and number of processes. A full disk only makes it wait; what the data cannot give ends it with a
checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.contracts.errors import RecipeError, TrainingError, VitrailError
from vitrail.contracts.samples import Batch
from vitrail.data.ledger import Ledger
from vitrail.data.loader import Cursor, End, Item, Stream, prefetched
from vitrail.models.assembled import MultimodalModel
from vitrail.models.weights import load_model, load_tensors, today, unshared
from vitrail.training import chance, checkpoint
from vitrail.training.checkpoint import State
from vitrail.training.compiling import compile_pieces
from vitrail.training.config import StageConfig
from vitrail.training.device import Device, memory_gib
from vitrail.training.files import RunFiles, newest_sound
from vitrail.training.kept_features import KeptFeatures
from vitrail.training.named_losses import NamedLosses, parts_of
from vitrail.training.objectives.objective import Objective
from vitrail.training.optimizer import Optimizer, freeze_all_but
from vitrail.training.parallel.single import Parallel
from vitrail.training.schedule import factor
from vitrail.training.stopping import Stopped, StopRequest, stop_request
from vitrail.training.taking import Taken, take

Record = dict[str, Any]

LEFT_OUT = "steps left out"
"""Counts those whose loss or gradient was not finite."""
REPLACED = "workers replaced"
"""Counts processes of the data that were lost, and made again."""
IDLE_STEPS = 10
"""So many steps in a row may move nothing: a pack without pictures can be chance, this many are a mistake."""


@dataclass(frozen=True)
class Stage:
    """A stage made live."""

    config: StageConfig
    stream: Stream
    objective: Objective


@dataclass
class Trainer:
    """Runs stages over a model, in a folder of its own.

    checkpoint_every: steps. on_step: told of every step's record, for a progress bar. parallel: who trains with us.
    skip_nonfinite: steps in a row that may be left out. seed: of what components draw while they train. say: takes what
    the user should know, a line at a time. kept: features of encoders that a stage freezes; None keeps none.
    """

    model: MultimodalModel
    stages: Sequence[Stage]
    folder: Path
    device: Device
    checkpoint_every: int
    on_step: Callable[[Record], None] = lambda record: None
    parallel: Parallel = field(default_factory=Parallel)
    skip_nonfinite: int = 0
    seed: int = 0
    say: Callable[[str], None] = lambda line: None
    kept: KeptFeatures | None = None
    state: State = field(default_factory=State)
    _moments: dict[str, Tensor] = field(default_factory=dict)
    _chance: dict[str, Tensor] = field(default_factory=dict)
    _request: StopRequest = field(default_factory=StopRequest)
    _files: RunFiles | None = None
    _idle: int = 0
    _taught: bool = True
    _skipped: int = 0

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are kept."""
        return self.folder / "checkpoints"

    def resume(self) -> bool:
        """Loads the newest checkpoint that is sound, if there is any; damaged ones are named, and set aside.

        Raises WeightsError when there are some and none of them is sound.
        """
        found = self.parallel.alone(lambda: newest_sound(self.checkpoints, self._start_of, self.say))
        if found is None:
            return False
        self.state = checkpoint.load_state(found)
        if self.state.step:
            self._prepare_again(self.stages[self.state.stage])
        load_model(self.model, found / checkpoint.MODEL)
        known = dict(self.model.named_parameters())
        for name, tensor in load_tensors(found / checkpoint.OPTIMIZER).items():
            moment, _, parameter = name.partition(".")
            self._moments[f"{moment}.{today(parameter, known)}"] = tensor
        if (found / checkpoint.CHANCE).is_file():
            self._chance = chance.of_rank(load_tensors(found / checkpoint.CHANCE), self.parallel.rank)
        return True

    def _start_of(self, state: State) -> int | None:
        """Number of the stage whose end the objective of a state must see again, if any."""
        if not (state.step and state.stage and self.stages[state.stage].objective.remembers_start):
            return None
        return state.stage - 1

    def _prepare_again(self, stage: Stage) -> None:
        """Shows the objective of a stage that was stopped in its middle what it was shown at its start."""
        objective = stage.objective
        if objective.remembers_start:
            # The end of the stage before; of the first one, the model as it was given.
            if (before := self._start_of(self.state)) is not None:
                load_model(self.model, checkpoint.ends(self.checkpoints)[before] / checkpoint.MODEL)
            freeze_all_but(self.model, stage.config.train, stage.config.name)
            objective.prepare(self.model)
        objective.load_state(self.state.objective)

    def run(self) -> State:
        """Goes from where the state stands to the end of the last stage.

        Raises Stopped when a signal ended it sooner.
        """
        self.state.device = asdict(self.device)
        if self.state.stage == len(self.stages):
            return self.state
        if self.device.compiled:
            compile_pieces(self.model)
        with chance.apart(), stop_request(repeated=self.parallel.ranks > 1) as self._request, ExitStack() as stack:
            if self._chance:
                chance.restore(self._chance)
            else:
                chance.seed(self.seed, self.parallel.rank)
            self.parallel.alone(lambda: self._open_files(stack))
            stack.callback(setattr, self.model, "kept", None)
            for number in range(self.state.stage, len(self.stages)):
                self._stage(self.stages[number])
        return self.state

    def _open_files(self, stack: ExitStack) -> None:
        self._files = RunFiles(self.folder, self.state, self.say, self._request)
        stack.callback(self._files.close)

    def _stage(self, stage: Stage) -> None:
        state = self.state
        freeze_all_but(self.model, stage.config.train, stage.config.name)
        if not state.step:
            stage.objective.prepare(self.model)
        if self.kept:
            self.kept.begin(self.model, stage.config)
        self.parallel.shard(self.model)
        optimizer = Optimizer(self.model, stage.config.train, stage.config.optimizer, self.parallel)
        optimizer.load_state(self._moments)
        self._moments, self._idle, self._skipped = {}, 0, 0
        ledger = Ledger.from_json(state.ledger)
        stream = self.parallel.dealt(stage.stream)
        items = prefetched(stream.marked(Cursor.from_json(state.cursor), ledger))
        saved = state.step
        try:
            while (done := progress(stage.config, state)) < 1:
                started = time.perf_counter()
                try:
                    taken = self._taken(stage, items)
                except (VitrailError, OSError):
                    # No step is half done: what the steps before have learnt need not be lost with it.
                    if state.step != saved:
                        self.say(
                            f"stopping at step {state.step}; checkpoint {self._save_within(stage, optimizer, ledger)}"
                        )
                    raise
                record = self._step(stage, optimizer, taken, ledger, done, started)
                number = max(self.parallel.exchanged(partial(self._told, record, ledger)))
                due = state.step != saved and state.step % self.checkpoint_every == 0
                if progress(stage.config, state) < 1 and (number or due):
                    path, saved = self._save_within(stage, optimizer, ledger), state.step
                    if number:
                        raise Stopped(number, f"stage {stage.config.name}, step {state.step}; checkpoint {path}")
            if state.step and self._idle == state.step:
                # All of a short stage.
                raise self._nothing_learnt(stage)
        finally:
            items.close()
        state.stage, state.step, state.tokens, state.epochs = state.stage + 1, 0, 0, 0.0
        state.cursor, state.objective = {}, {}
        path = self._save(stage.config.name, {}, ledger)
        if number := max(self.parallel.exchanged(lambda: self._request.number)):
            raise Stopped(number, f"stage {stage.config.name} is done; checkpoint {path}")

    def _taken(self, stage: Stage, items: Generator[Item | End]) -> Taken:
        """The packs of the next step."""
        with self._timed("data"):
            return take(items, self.parallel.share(stage.config.accumulate), self.parallel, stage.stream.encode)

    def _told(self, record: Record, ledger: Ledger) -> int:
        """Writes down and tells what a step came to; returns the signal that asks for the end, 0 for none."""
        if self._files is not None:
            self._files.step(record, ledger.rows, self.state.total_steps)
        ledger.rows.clear()
        if record:
            self.on_step(record)
        return self._request.number

    def _step(
        self, stage: Stage, optimizer: Optimizer, taken: Taken, ledger: Ledger, done: float, started: float
    ) -> Record:
        """One move of the optimizer; returns its record, an empty one where it is left out, or an epoch has no packs
        left for one.

        Raises TrainingError for a loss or gradient that is not finite, where no more steps may be left out.
        """
        state = self.state
        if not taken.handed:
            self._at(taken, ledger)
            return {}
        with self._timed("forward and backward"):
            values, figures, sources, tags = self._backward(stage, taken.batches, optimizer.collect)
        rate_factor = factor(stage.config.schedule, done)
        with self._timed("optimizer"):
            value = sum(values.values())
            norm = optimizer.step(rate_factor, moves=math.isfinite(value))
            left_out = self._left_out(stage, value, norm)
        tokens = self._at(taken, ledger)
        state.step, state.total_steps = state.step + 1, state.total_steps + 1
        seconds = time.perf_counter() - started
        state.counters["seconds"] = state.counters.get("seconds", 0.0) + seconds
        if left_out:
            return {}
        return {
            "stage": stage.config.name,
            "stage_number": state.stage,
            "step": state.step,
            "total_steps": state.total_steps,
            "progress": progress(stage.config, state),
            "loss": value if values else None,
            "terms": values,
            **({"figures": figures} if figures else {}),
            **({"loss_by_source": sources.means()} if len(stage.stream.mixture.parts) > 1 else {}),
            **({"loss_by_tag": tags.means()} if tags.sums else {}),
            "gradient_norm": norm,
            "lr": {component: rate * rate_factor for component, rate in stage.config.train.items()},
            "tokens": int(state.counters["tokens: text"] + state.counters["tokens: media"]),
            "tokens_per_second": tokens / seconds,
            "seconds": state.counters["seconds"],
            "rows": ledger.outcomes(),
            "memory_gib": memory_gib(self.device.name),
        }

    def _backward(
        self, stage: Stage, batches: Sequence[Batch], collect: Callable[[], None] = lambda: None
    ) -> tuple[dict[str, float], dict[str, float], NamedLosses, NamedLosses]:
        """Accumulates gradients over the packs of one step; each term is divided once, by its count over all.

        collect: called after each pass, to sum what it left in the parameters' gradients elsewhere.

        Returns each term's share of the loss, but for those that the step has nothing for; the figures beside them;
        and the losses of the tokens by source and tag.

        Raises RecipeError when nothing has moved for too long.
        """
        counts = self.parallel.exchanged(lambda: [stage.objective.counts(batch) for batch in batches])
        totals = {name: sum(count[name] for rank in counts for count in rank) for name in counts[0][0]}
        values, sources, idle = dict.fromkeys(totals, 0.0), NamedLosses(), True
        tags = NamedLosses()
        figures: dict[str, float] = {}
        if stage.objective.encodes:
            batches = self.parallel.level(batches, stage.stream.encode)
        for batch in batches:
            terms = self.parallel.forward(partial(stage.objective, self.model, batch.to(self.device.name)))
            shares = {name: term.weight * term.loss_sum / max(totals[name], 1e-9) for name, term in terms.items()}
            loss = sum(shares.values(), torch.zeros((), device=self.device.name))
            self.parallel.backward(loss)
            collect()
            idle = idle and not (loss.requires_grad and any(totals.values()))
            for name, share in shares.items():
                values[name] += float(share.detach())
                for figure, value in terms[name].figures.items():
                    figures[figure] = figures.get(figure, 0.0) + value / max(totals[name], 1e-9)
            if len(stage.stream.mixture.parts) > 1 or any(batch.tags):
                parts = parts_of(batch, terms)
                sources.add(batch.sources, parts)
                tags.add(batch.tags, parts)
        found = self.parallel.exchanged(lambda: (values, figures, sources, idle, tags))
        values = {name: sum(rank[0][name] for rank in found) for name, total in totals.items() if total}
        named = sorted({name for rank in found for name in rank[1]})
        figures = {name: sum(rank[1].get(name, 0.0) for rank in found) for name in named}
        sources, tags = NamedLosses.of(rank[2] for rank in found), NamedLosses.of(rank[4] for rank in found)
        idle = all(rank[3] for rank in found)
        self._idle = self._idle + 1 if idle else 0
        self._taught = any(totals.values())
        if self._idle == min(IDLE_STEPS, stage.config.steps or IDLE_STEPS):
            raise self._nothing_learnt(stage)
        return values, figures, sources, tags

    def _nothing_learnt(self, stage: Stage) -> Exception:
        """What to raise for a stage that moves nothing: its components, or its data, have nothing for the objective."""
        config = stage.config
        if self._taught:
            why = f"train: {', '.join(config.train)} take no part in the loss of this data"
        else:
            why = f"objective: '{config.objective.kind}' needs {stage.objective.learns_from}; this data has none"
        return self.parallel.everywhere(RecipeError(f"stages.{config.name}.{why}"))

    def _at(self, taken: Taken, ledger: Ledger) -> int:
        """Counts what was taken; the state stands behind it. Returns its tokens."""
        state, before = self.state, self.state.epochs
        for one in taken.handed:
            ledger.record(one.events)
            self._count(one.tokens)
            state.epochs = one.epochs
        if replaced := sum(one.replaced for one in taken.handed):
            state.counters[REPLACED] = state.counters.get(REPLACED, 0) + replaced
            self.say(f"{replaced} worker process(es) of the data were lost and replaced; the batches stay the same")
        ledger.record(taken.events)
        state.cursor = taken.after.to_json()
        state.tokens += sum(one.taken for one in taken.handed)
        if taken.handed or before > taken.epochs - 1:
            # An epoch without a single pack is none; the stream says so, if it goes on like that.
            state.epochs = taken.epochs
        return sum(one.tokens["text"] + one.tokens["media"] for one in taken.handed)

    def _left_out(self, stage: Stage, loss: float, norm: float) -> bool:
        """Whether the optimizer has not moved. Raises TrainingError where it must."""
        if math.isfinite(loss) and math.isfinite(norm):
            self._skipped = 0
            return False
        self._skipped += 1
        if self._skipped > self.skip_nonfinite:
            # Nothing has moved: the last checkpoint is sound, and going on from it with lower rates may be.
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
            raise self.parallel.everywhere(
                TrainingError(
                    f"stage {stage.config.name}, step {self.state.step + 1}: {what}; lower the learning rates of "
                    f"stages.{stage.config.name}.train, or leave out such steps with training.skip_nonfinite"
                )
            )
        self.state.counters[LEFT_OUT] = self.state.counters.get(LEFT_OUT, 0) + 1
        return True

    def _count(self, parts: dict[str, int]) -> None:
        for name, tokens in parts.items():
            key = f"tokens: {name}"
            self.state.counters[key] = self.state.counters.get(key, 0) + tokens

    @contextmanager
    def _timed(self, name: str) -> Generator[None]:
        started = time.perf_counter()
        yield
        key = f"seconds: {name}"
        self.state.counters[key] = self.state.counters.get(key, 0.0) + time.perf_counter() - started

    def _save_within(self, stage: Stage, optimizer: Optimizer, ledger: Ledger) -> Path:
        self.state.objective = stage.objective.state()
        return self._save("step", optimizer.state(), ledger)

    def _save(self, name: str, optimizer: dict[str, Tensor], ledger: Ledger) -> Path:
        with self._timed("checkpoint"):
            self.state.ledger = {**self.state.ledger, **ledger.to_json()}
            file = f"{self.state.total_steps:08d}-{name}"
            tensors = {key: self.parallel.whole(tensor, tensor) for key, tensor in unshared(self.model).items()}
            chances = chance.together(dict(enumerate(self.parallel.exchanged(chance.state))))

            def saved() -> Path:
                assert self._files is not None, "rank 0 has them"
                return self._files.save(file, tensors, optimizer, chances, self.state, ledger)

            return self.parallel.alone(saved)


def progress(stage: StageConfig, state: State) -> float:
    """Share of the stage that is done, in the unit it is counted in."""
    if stage.steps is not None:
        return state.step / stage.steps
    if stage.epochs is not None:
        return state.epochs / stage.epochs
    assert stage.tokens is not None
    return state.tokens / stage.tokens

"""Answers, token by token, to many prompts at once: they join and leave between steps.

A step gives every sequence under way its next token: one pass over all that have begun, and one over each pack of
prompts that has joined since. Each is answered as the prompt alone would be, up to rounding: sampled ones draw from a
generator of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitrail.contracts.samples import Batch, Segments
from vitrail.inference.cache import SlotCache
from vitrail.inference.config import GenerationConfig
from vitrail.models.assembled import MultimodalModel


@dataclass
class Sequence:
    """One answer under way.

    number: what it is known by. following: position of its next token. chance: what its tokens are drawn with.
    last: its newest token, which the model has not read yet. made: tokens so far.
    """

    number: int
    config: GenerationConfig
    following: int
    chance: torch.Generator
    last: int = 0
    made: int = 0


@dataclass
class Engine:
    """The sequences of one model. stop: ids that end an answer; they are not given out."""

    model: MultimodalModel
    stop: frozenset[int]
    _running: list[Sequence] = field(default_factory=list)
    _joining: list[tuple[Batch, list[Sequence]]] = field(default_factory=list)
    _cache: SlotCache = field(default_factory=SlotCache)
    _count: int = 0

    def add(self, prompts: Batch, config: GenerationConfig) -> list[int]:
        """Prompts, one a segment, to be answered from the next step on; returns their numbers.

        prompts: without padding, on the model's device.
        """
        assert prompts.padding == 0, "padding is not answered"
        assert config.max_tokens > 0, "an answer has a token at least"
        stream = prompts.learnt
        # Text goes on behind the largest position, whichever axis of a picture's grid it is on.
        ends = [int(span.max()) + 1 for span in stream.positions.split(stream.segments.lengths, dim=-1)]
        device = stream.ids.device
        joined = []
        for end in ends:
            chance = torch.Generator(device).manual_seed(config.seed)
            joined.append(Sequence(self._count, config, end, chance))
            self._count += 1
        self._joining.append((prompts, joined))
        return [sequence.number for sequence in joined]

    @property
    def under_way(self) -> list[int]:
        """Numbers of the sequences that are not finished."""
        joining = [sequence for _, joined in self._joining for sequence in joined]
        return [sequence.number for sequence in (*self._running, *joining)]

    @torch.inference_mode()
    def step(self) -> dict[int, int]:
        """The next token of every sequence under way, by its number; one that ends with a stop token gives none."""
        given: dict[int, int] = {}
        begun, joining, self._joining = list(self._running), self._joining, []
        if begun:
            self._choose(begun, self._next(begun), given)
        for prompts, joined in joining:
            self._running += joined
            self._choose(joined, self._first(prompts, joined), given)
        return given

    @torch.inference_mode()
    def finish(self, numbers: Iterable[int]) -> None:
        """These need no more tokens."""
        for number in set(numbers):
            slot = next((slot for slot, one in enumerate(self._running) if one.number == number), None)
            if slot is None:
                for _, joined in self._joining:
                    assert all(one.number != number for one in joined), "a prompt is read before it is finished"
                continue
            moved = self._cache.close(slot)
            last = self._running.pop()
            if moved is not None:
                self._running[slot] = last

    def _choose(self, sequences: list[Sequence], hidden: Tensor, given: dict[int, int]) -> None:
        """A token for each of the sequences, from its last hidden state float[N, D]."""
        ended = []
        for sequence, row in zip(sequences, self.model.logits(hidden), strict=True):
            token = choose(row, sequence.config, sequence.chance)
            sequence.last, sequence.made = token, sequence.made + 1
            if token in self.stop:
                ended.append(sequence.number)
                continue
            given[sequence.number] = token
            if sequence.made == sequence.config.max_tokens:
                ended.append(sequence.number)
        self.finish(ended)

    def _first(self, prompts: Batch, joined: list[Sequence]) -> Tensor:
        """The prompts in one pass: the last hidden state of each, float[N, D]."""
        spans = prompts.learnt.segments.lengths
        room = max(span + one.config.max_tokens for span, one in zip(spans, joined, strict=True))
        slots = self._cache.open(len(joined), room)
        with self._cache.covering(slots, spans):
            hidden: Tensor = self.model(prompts, self._cache)
        ends = torch.tensor(spans, device=hidden.device).cumsum(0) - 1
        return hidden[ends]

    def _next(self, sequences: list[Sequence]) -> Tensor:
        """One pass over the newest token of every sequence, float[N, D]."""
        device = next(self.model.parameters()).device
        tokens = torch.tensor([one.last for one in sequences], device=device)
        positions = torch.tensor([one.following for one in sequences], device=device)
        ones = (1,) * len(sequences)
        with self._cache.covering(range(len(sequences)), ones):
            hidden = self.model.read(tokens, positions, Segments(ones), self._cache)
        for one in sequences:
            one.following += 1
        return hidden


def generate(model: MultimodalModel, prompt: Batch, stop: frozenset[int], config: GenerationConfig) -> Iterator[int]:
    """Yields the ids of one answer until one of `stop` comes up (not yielded) or the limit is reached.

    prompt: one sample, no padding, on the model's device.
    """
    assert len(prompt.text.segments.lengths) == 1, "one prompt; an `Engine` takes several"
    engine = Engine(model, stop)
    if config.max_tokens:
        engine.add(prompt, config)
    while engine.under_way:
        yield from engine.step().values()


def choose(logits: Tensor, config: GenerationConfig, chance: torch.Generator) -> int:
    """float32[V] to one id: the likeliest at temperature 0, else drawn from the nucleus of mass `top_p`."""
    if config.temperature == 0:
        return int(logits.argmax())
    ranked, ids = (logits / config.temperature).softmax(-1).sort(descending=True)
    # A token is in the nucleus while the mass before it is below top_p; the likeliest always is, even for top_p = 0.
    outside = ranked.cumsum(-1) - ranked >= config.top_p
    outside[0] = False
    ranked = ranked.masked_fill(outside, 0.0)
    return int(ids[torch.multinomial(ranked, 1, generator=chance)])

"""Answers, token by token, to many prompts at once: they join and leave between steps.

A step gives every sequence under way its next token: one pass over all that have begun, and one over each pack of
prompts that has joined since. Each is answered as the prompt alone would be, up to rounding: sampled ones draw from a
generator of their own. Prompts that begin alike, such as several questions about one picture, share what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from vitrail.contracts.samples import Batch, Segments
from vitrail.inference.cache import SlotCache
from vitrail.inference.config import GenerationConfig
from vitrail.models.assembled import MultimodalModel

Endings: TypeAlias = "list[list[Tensor]]"


@dataclass
class Sequence:
    """One answer under way.

    number: what it is known by. following: position of its next token. chance: what its tokens are drawn with.
    last: its newest token, which the model has not read yet. made: tokens so far. least: probability of the least
    likely of them, and of what ended it.
    """

    number: int
    config: GenerationConfig
    following: int
    chance: torch.Generator
    last: int = 0
    made: int = 0
    least: float = 1.0


@dataclass
class _Joining:
    """Prompts that are to be read. endings: how each goes on, all of them together; None for prompts that are whole."""

    prompts: Batch
    endings: Endings | None
    sequences: list[Sequence]


@dataclass
class Engine:
    """The sequences of one model. stop: ids that end an answer; they are not given out."""

    model: MultimodalModel
    stop: frozenset[int]
    _running: list[Sequence] = field(default_factory=list)
    _joining: list[_Joining] = field(default_factory=list)
    _cache: SlotCache = field(default_factory=SlotCache)
    _count: int = 0
    _ended: dict[int, Sequence] = field(default_factory=dict)

    def least_likely(self, number: int) -> float:
        """Of a sequence that has ended, the probability of its least likely token, of its end too; asked once."""
        return self._ended.pop(number).least

    def add(self, prompts: Batch, config: GenerationConfig, endings: Endings | None = None) -> list[int]:
        """Prompts, one a segment, to be answered from the next step on; returns their numbers.

        prompts: without padding, on the model's device. endings: of each prompt the ways it goes on, one at least, each
        int64[E] of text alone; each is answered, and what stands before them is read once. Not for encoder-decoders.
        """
        assert prompts.padding == 0, "padding is not answered"
        assert config.max_tokens > 0, "an answer has a token at least"
        stream = prompts.learnt
        # Text goes on behind the largest position, whichever axis of a picture's grid it is on.
        ends = [int(span.max()) + 1 for span in stream.positions.split(stream.segments.lengths, dim=-1)]
        if endings is not None:
            assert stream is prompts.text, "an encoder-decoder reads its prompts whole"
            ends = [end for end, ways in zip(ends, endings, strict=True) for _ in ways]
        device = stream.ids.device
        joined = []
        for end in ends:
            chance = torch.Generator(device).manual_seed(config.seed)
            joined.append(Sequence(self._count, config, end, chance))
            self._count += 1
        self._joining.append(_Joining(prompts, endings, joined))
        return [sequence.number for sequence in joined]

    @property
    def under_way(self) -> list[int]:
        """Numbers of the sequences that are not finished."""
        joining = [sequence for joined in self._joining for sequence in joined.sequences]
        return [sequence.number for sequence in (*self._running, *joining)]

    @torch.inference_mode()
    def step(self) -> dict[int, int]:
        """The next token of every sequence under way, by its number; one that ends with a stop token gives none."""
        given: dict[int, int] = {}
        begun, joining, self._joining = list(self._running), self._joining, []
        if begun:
            self._choose(begun, self._next(begun), given)
        for joined in joining:
            self._running += joined.sequences
            self._choose(joined.sequences, self._first(joined), given)
        return given

    @torch.inference_mode()
    def finish(self, numbers: Iterable[int]) -> None:
        """These need no more tokens."""
        for number in set(numbers):
            slot = next((slot for slot, one in enumerate(self._running) if one.number == number), None)
            if slot is None:
                unread = [one.number for joined in self._joining for one in joined.sequences]
                assert number not in unread, "a prompt is read before it is finished"
                continue
            self._ended[number] = self._running[slot]
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
            sequence.least = min(sequence.least, float((row[token] - row.logsumexp(0)).exp()))
            if token in self.stop:
                ended.append(sequence.number)
                continue
            given[sequence.number] = token
            if sequence.made == sequence.config.max_tokens:
                ended.append(sequence.number)
        self.finish(ended)

    def _first(self, joined: _Joining) -> Tensor:
        """The prompts in one pass, and in another what they end with: the last hidden state of each, float[N, D]."""
        spans = joined.prompts.learnt.segments.lengths
        ways = [len(ends) for ends in joined.endings] if joined.endings else [1] * len(spans)
        longest = max(len(way) for ends in joined.endings for way in ends) if joined.endings else 0
        room = max(spans) + longest + max(one.config.max_tokens for one in joined.sequences)
        slots = self._cache.open(len(joined.sequences), room)
        firsts = [slots[sum(ways[:number])] for number in range(len(ways))]
        with self._cache.covering(firsts, spans):
            hidden: Tensor = self.model(joined.prompts, self._cache)
        if joined.endings is None:
            return _lasts(hidden, spans)
        for first, count in zip(firsts, ways, strict=True):
            self._cache.copy(first, range(first + 1, first + count))
        return self._read(slots, joined.sequences, [way for ends in joined.endings for way in ends])

    def _next(self, sequences: list[Sequence]) -> Tensor:
        """One pass over the newest token of every sequence, float[N, D]."""
        device = next(self.model.parameters()).device
        tokens = torch.tensor([one.last for one in sequences], device=device)
        return self._read(range(len(sequences)), sequences, tokens.split(1))

    def _read(self, slots: range, sequences: list[Sequence], texts: Collection[Tensor]) -> Tensor:
        """Text int64[E] for each of the sequences, in one pass: the last hidden state of each, float[N, D]."""
        tokens, spans = torch.cat([*texts]), tuple(map(len, texts))
        starts = zip(sequences, spans, strict=True)
        positions = torch.cat([torch.arange(one.following, one.following + span) for one, span in starts])
        with self._cache.covering(slots, spans):
            hidden = self.model.read(tokens, positions.to(tokens.device), Segments(spans), self._cache)
        for one, span in zip(sequences, spans, strict=True):
            one.following += span
        return _lasts(hidden, spans)


def _lasts(hidden: Tensor, spans: Collection[int]) -> Tensor:
    """Of states float[T, D], the last of each span."""
    return hidden[torch.tensor([*spans], device=hidden.device).cumsum(0) - 1]


def generate(
    model: MultimodalModel,
    prompt: Batch,
    stop: frozenset[int],
    config: GenerationConfig,
    on_end: Callable[[float], None] = lambda least: None,
) -> Generator[int]:
    """Yields the ids of one answer until one of `stop` comes up (not yielded) or the limit is reached.

    prompt: one sample, no padding, on the model's device. on_end: told `Engine.least_likely`.
    """
    assert len(prompt.text.segments.lengths) == 1, "one prompt; an `Engine` takes several"
    engine = Engine(model, stop)
    if config.max_tokens:
        engine.add(prompt, config)
    try:
        while engine.under_way:
            yield from engine.step().values()
    finally:
        # Also where who asks has had enough.
        engine.finish(engine.under_way)
        if config.max_tokens:
            on_end(engine.least_likely(0))


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

"""Answers, token by token: the prompts in one pass, then one pass a token over the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from vitrail.contracts.samples import Batch, Segments
from vitrail.inference.cache import PackedCache
from vitrail.inference.config import GenerationConfig
from vitrail.models.assembled import MultimodalModel


class Answering:
    """Answers to all prompts of a pack, side by side; one that is finished takes no part in what follows.

    Each is what the prompt alone would be answered, up to rounding: sampled ones draw from a generator of their own.
    """

    def __init__(self, model: MultimodalModel, prompts: Batch, stop: frozenset[int], config: GenerationConfig) -> None:
        """prompts: one a segment, no padding, on the model's device."""
        assert prompts.padding == 0, "padding is not answered"
        self._model, self._prompts, self._stop, self._config = model, prompts, stop, config
        # What goes on is the text, or what the decoder of an encoder-decoder says.
        lengths = prompts.learnt.segments.lengths
        self._cache = PackedCache(lengths)
        # Text goes on behind the largest position, whichever axis of a picture's grid it is on.
        spans = prompts.learnt.positions.split(lengths, dim=-1)
        self._following = {number: int(span.max()) + 1 for number, span in enumerate(spans)}
        self._chance = {number: torch.Generator(self._device).manual_seed(config.seed) for number in self._following}
        self._last: dict[int, int] = {}
        self._made = 0

    @torch.inference_mode()
    def step(self) -> dict[int, int]:
        """The next token of every prompt that is still being answered, by its number; {} when none is."""
        if self._made == self._config.max_tokens or not self._following:
            return {}
        hidden = self._go_on() if self._made else self._begin()
        logits = self._model.logits(hidden)
        chosen = {
            number: choose(row, self._config, self._chance[number])
            for number, row in zip(self._following, logits, strict=True)
        }
        self._made += 1
        self.finish(number for number, token in chosen.items() if token in self._stop)
        self._last = {number: chosen[number] for number in self._following}
        return dict(self._last)

    def finish(self, numbers: Iterable[int]) -> None:
        """These need no more tokens."""
        for number in numbers:
            del self._following[number], self._cache.sequences[number]
            self._last.pop(number, None)

    def _begin(self) -> Tensor:
        ends = torch.tensor(self._prompts.learnt.segments.lengths, device=self._device).cumsum(0) - 1
        hidden: Tensor = self._model(self._prompts, self._cache)
        return hidden[ends]

    def _go_on(self) -> Tensor:
        tokens = torch.tensor([self._last[number] for number in self._following], device=self._device)
        positions = torch.tensor(list(self._following.values()), device=self._device) + self._made - 1
        return self._model.read(tokens, positions, Segments((1,) * len(tokens)), self._cache)

    @property
    def _device(self) -> torch.device:
        return self._prompts.text.ids.device


def generate(model: MultimodalModel, prompt: Batch, stop: frozenset[int], config: GenerationConfig) -> Iterator[int]:
    """Yields the ids of one answer until one of `stop` comes up (not yielded) or the limit is reached.

    prompt: one sample, no padding, on the model's device.
    """
    assert len(prompt.text.segments.lengths) == 1, "one prompt; `Answering` takes several"
    answering = Answering(model, prompt, stop, config)
    while tokens := answering.step():
        yield tokens[0]


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

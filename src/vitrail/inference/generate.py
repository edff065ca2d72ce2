"""One answer, token by token: the prompt in one pass, then one pass a token over the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vitrail.contracts.samples import Batch, Segments
from vitrail.inference.cache import KeyValueCache
from vitrail.inference.config import GenerationConfig
from vitrail.models.assembled import MultimodalModel


@torch.inference_mode()
def generate(model: MultimodalModel, prompt: Batch, stop: frozenset[int], config: GenerationConfig) -> Iterator[int]:
    """Yields ids until one of `stop` comes up (not yielded) or the limit is reached.

    prompt: one sample, no padding, on the model's device.
    """
    assert len(prompt.text.segments.lengths) == 1, "generation takes one prompt at a time"
    cache = KeyValueCache()
    device = prompt.text.ids.device
    chance = torch.Generator(device).manual_seed(config.seed)
    # Text goes on behind the largest position, whichever axis of a picture's grid it is on.
    following = int(prompt.text.positions.max()) + 1
    hidden = model(prompt, cache)
    for number in range(config.max_tokens):
        token = choose(model.logits(hidden[-1:])[0], config, chance)
        if token in stop:
            return
        yield token
        position = torch.tensor([following + number], device=device)
        embedded = model.backbone.embed(torch.tensor([token], device=device))
        hidden = model.run(embedded, position, Segments((cache.length + 1,)), cache)


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

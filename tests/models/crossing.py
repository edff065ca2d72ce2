"""Small models of cross-attention, rows of every sort, and a plain masked reference of what text sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitrail import build
from vitrail.contracts.messages import Conversation, ImagePart, Message, Part, TextPart
from vitrail.contracts.protocols import Context
from vitrail.contracts.samples import Batch, MediaSlot, Pack, Sample
from vitrail.data.collate import collate
from vitrail.data.encode import Encode
from vitrail.media.config import NativeResolutionConfig, TilesConfig
from vitrail.models.assembled import MultimodalModel
from vitrail.models.config import (
    DecoderConfig,
    FusionConfig,
    GatedCrossAttentionConfig,
    ModelConfig,
    VisionTransformerConfig,
)
from vitrail.models.fusion.gated_cross_attention import Block, GatedCrossAttention
from vitrail.prompts.config import PromptConfig

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 40},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
}
SEES = ("sample", "before", "last", "tag")
TILES = TilesConfig(patch=8, merge=2, tile=32, max_tiles=4, tags="number")
OPEN = GatedCrossAttentionConfig(every=2)


def config(
    fusion: FusionConfig = OPEN,
    family: str = "llama",
    media: NativeResolutionConfig | TilesConfig = TILES,
    **settings: Any,
) -> ModelConfig:
    """Width 32, four layers."""
    sizes = {
        "model_type": family,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        **FAMILIES[family],
    }
    return ModelConfig(
        DecoderConfig(config=sizes, tokenizer="bytes"),
        media,
        VisionTransformerConfig(width=32, depth=1, heads=2, mlp_width=48, absolute="sinusoidal"),
        fusion=fusion,
        **settings,
    )


def encode_of(model: ModelConfig) -> Encode:
    prompt = PromptConfig("terse")
    return build.build_encode(model, prompt, build.build_tokenizer(model.backbone, prompt))


def model_of(model: ModelConfig, *, opened: bool = True) -> MultimodalModel:
    """opened: with its gates, which start at 0, at values that differ."""
    made = build.build_model(model, encode_of(model).tokenizer.vocabulary, seed=0)
    if opened and isinstance(made.fusion, GatedCrossAttention):
        with torch.no_grad():
            for number, parameter in enumerate(made.fusion.parameters()):
                if parameter.numel() == 1:
                    parameter.fill_(0.5 + 0.1 * number)
    return made


def picture(chance: np.random.Generator, height: int, width: int) -> ImagePart:
    return ImagePart(chance.integers(0, 256, (height, width, 3), dtype=np.uint8))


def conversation(number: int) -> Conversation:
    """Text alone; a picture before the words; words, a picture, words, two pictures; a picture in the second turn."""
    chance = np.random.default_rng(number)
    asked: list[list[Part]] = [
        [TextPart(f"Nothing to see in {number}.")],
        [picture(chance, 64, 64), TextPart(f"What is in number {number}?")],
        [TextPart("Is "), picture(chance, 32, 32), TextPart(" left of "), picture(chance, 64, 32), *_one(chance)],
        [TextPart("Listen first.")],
    ]
    second: list[Part] = [*_one(chance)] if number % 4 == 3 else []
    turns = [Message("user", tuple(asked[number % 4])), Message("assistant", (TextPart(f"A {number}."),))]
    turns.append(Message("user", (*second, TextPart("Sure?"))))
    return Conversation(f"row {number}", (*turns, Message("assistant", (TextPart("Yes, é 日本."),))))


def _one(chance: np.random.Generator) -> list[Part]:
    return [picture(chance, 32, 64), TextPart("?")]


def samples_of(encode: Encode, numbers: Sequence[int] = (0, 1, 2, 3, 4, 5)) -> list[Sample]:
    return [encode(conversation(number)) for number in numbers]


def batch_of(samples: Sequence[Sample], encode: Encode, pad_to: int = 0) -> Batch:
    batch, events = collate(Pack(tuple(samples)), encode.media, pad_to)
    assert batch is not None
    assert [event.outcome for event in events] == ["used"] * len(samples)
    return batch


def loss_and_gradients(model: MultimodalModel, batches: Sequence[Batch]) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = model.loss_sum(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-4, atol=2e-5 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def beside(slot: MediaSlot) -> int:
    """Media tokens of a view that text attends to."""
    if slot.view.spliced:
        return 0
    return slot.view.tokens + (len(slot.tag) if slot.view.tag_beside else 0)


def visible(samples: Sequence[Sample], sees: str) -> Tensor:
    """bool[T, M] by the definition: which media tokens a position of the text sees, sample by sample. Those of views
    that are spliced are not there, tags that are read beside a view stand before its own."""
    texts = sum(map(len, samples))
    media = sum(beside(slot) for sample in samples for slot in sample.slots)
    seen = torch.zeros(texts, media, dtype=torch.bool)
    text = token = 0
    for sample in samples:
        columns = []
        for slot in sample.slots:
            columns.append((slot.start, slice(token, token + beside(slot))))
            token += beside(slot)
        for position in range(len(sample)):
            latest = max((start for start, _ in columns if start <= position), default=-1)
            tagged = [slot.start for slot in sample.slots if slot.start <= position < slot.start + len(slot.tag)]
            for start, column in columns:
                own = start in tagged if tagged else start <= position
                sees_it = {"sample": True, "before": start <= position, "last": start == latest, "tag": own}[sees]
                seen[text + position, column] = sees_it
        text += len(sample)
    return seen


@dataclass
class Masked:
    """The same blocks with a mask of all positions and all media tokens, in float64 and one head at a time."""

    fusion: GatedCrossAttention
    tokens: Tensor
    seen: Tensor
    thinks: Tensor

    def before(self, layer: int, hidden: Tensor) -> Tensor:
        for number, block in enumerate(self.fusion.blocks):
            assert isinstance(block, Block)
            hidden = self.through(block, hidden) if self.fusion.layers[number] == layer else hidden
        return hidden

    def through(self, block: Block, hidden: Tensor) -> Tensor:
        looks = self.seen.any(1, keepdim=True)
        query, key, value = (
            made.double().unflatten(1, (-1, block.head_width))
            for made in (block.query(block.attention_norm(hidden)), block.key(self.tokens), block.value(self.tokens))
        )
        heads = []
        for head in range(query.shape[1]):
            of = head * key.shape[1] // query.shape[1]
            scores = query[:, head] @ key[:, of].T / block.head_width**0.5
            weights = scores.masked_fill(~self.seen, -torch.inf).softmax(1)
            heads.append(weights.masked_fill(~self.seen, 0.0) @ value[:, of])
        mixed = torch.cat(heads, 1).to(hidden.dtype)
        hidden = hidden + block.attention_gate.tanh() * block.attention_out(mixed) * looks
        return hidden + block.mlp_gate.tanh() * block.mlp(block.mlp_norm(hidden)) * self.thinks


def naive(model: MultimodalModel, samples: Sequence[Sample], batch: Batch, sees: str) -> Tensor:
    assert isinstance(model.fusion, GatedCrossAttention)
    seen = visible(samples, sees)
    thinks = seen.any(1, keepdim=True)
    if model.fusion.blind == "mlp":
        thinks = torch.ones_like(thinks)
    if model.fusion.blind == "attends":
        seen = torch.where(thinks, seen, visible(samples, "sample"))
    media = model.media(batch)["vision"]
    embeddings, tokens, start = model.backbone.embed(batch.text.ids), [], 0
    text = 0
    for sample in samples:
        for slot in sample.slots:
            own = media[start : start + slot.view.tokens]
            start += slot.view.tokens
            if slot.view.spliced:
                embeddings[text + slot.start : text + slot.end] = own
            else:
                before = slot.tag if slot.view.tag_beside else ()
                tokens += [model.backbone.embed(torch.tensor(before, dtype=torch.long)), own]
        text += len(sample)
    context: Context = Masked(model.fusion, torch.cat(tokens), seen, thinks)
    return model.backbone(embeddings, batch.text.positions, batch.text.segments, context=context)


def asked(number: int) -> Conversation:
    """The same conversations, waiting for their last answer."""
    whole = conversation(number)
    return dataclasses.replace(whole, messages=whole.messages[:-1])


def uncached(model: MultimodalModel, encode: Encode, number: int, count: int) -> str:
    """The answer to a conversation of so many tokens at most, the whole of it run anew for each of them."""
    sample = encode.question(asked(number))
    made: list[int] = []
    for _ in range(count):
        ids = np.concatenate([sample.ids, np.array(made, np.int64)])
        labels, weights = np.full(len(ids), -100), np.zeros(len(ids), np.float32)
        longer = dataclasses.replace(sample, ids=ids, labels=labels, weights=weights)
        made.append(int(model.logits(model(batch_of([longer], encode))[-1:]).argmax()))
    stop = encode.tokenizer.special(encode.template.stop.name) if encode.template.stop else -1
    made = made[: made.index(stop)] if stop in made else made
    return encode.template.said(encode.tokenizer.decode(made), whole=True)[0]

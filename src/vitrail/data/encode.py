"""A row to a sample that fits a pack: media sizes from headers, then the same `render` that chat and evaluation call.

What is longer than a pack meets a named policy of the recipe (`data.pack.overlong`): text may be cut; a medium is kept,
made smaller or left out as a whole. What was done to a row is in the ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import Conversation, ImagePart, MediaPart, Message, Part, TextPart, is_url
from vitrail.contracts.protocols import MediaRule, Needs, TextReading, Tokenizer
from vitrail.contracts.samples import IGNORE, MediaSlot, Sample, Spliced, TargetText, View
from vitrail.data.config import PackConfig
from vitrail.data.ledger import Event
from vitrail.media.config import FetchConfig
from vitrail.media.fetch import fetched, shown
from vitrail.prompts.config import LinePositionsConfig, PositionsConfig, PromptConfig
from vitrail.prompts.render import Rendered, positions_of, render
from vitrail.prompts.templates import Template

Shown: TypeAlias = Literal["media", "nothing", "text"]


@dataclass(frozen=True)
class Encode:
    """Everything a conversation needs to become a sample.

    media: the rule of each stream, by name. shown: what stands where media are; of a baseline that is asked nothing, or
    the text that the reader of a stream finds on them. withhold: the same once packs are made (`Sample.withheld`), of a
    baseline that is trained. fetch: which hosts may be asked for pictures; None for none. positions: of the tokens, as
    the model has them. needs: of the objective. spliced: which views have tokens in the text; the others the language
    model sees by cross-attention.
    start: the id that the decoder of an encoder-decoder begins with; None for a decoder alone.
    ends: ids that end an answer beside the one that the template closes it with.
    """

    media: Mapping[str, MediaRule]
    template: Template
    tokenizer: Tokenizer
    prompt: PromptConfig = field(default_factory=PromptConfig)
    shown: Shown = "media"
    fetch: FetchConfig | None = None
    positions: PositionsConfig = field(default_factory=LinePositionsConfig)
    needs: Needs = field(default_factory=Needs)
    spliced: Spliced = "all"
    start: int | None = None
    withhold: Shown = "media"
    ends: frozenset[int] = frozenset()

    def __call__(self, conversation: Conversation, source: str = "", most_tokens: int | None = None) -> Sample:
        """A training sample. Media are opened for their headers alone; no picture takes more than `most_tokens`.

        Raises DataError, with the row's location, for what cannot be used.
        """
        if self.withhold != "media":
            conversation = self._fetched(conversation)
            whole = replace(self, withhold="media")
            withheld = whole(self._shown(conversation, self.withhold), source, most_tokens)
            return replace(whole(conversation, source, most_tokens), withheld=withheld)
        conversation = self._shown(conversation, self.shown)
        if self.start is not None:
            return self._encoder_decoder(conversation, source, most_tokens)
        if self.needs.variants is None:
            return self._sample(conversation, [self._segment(conversation, most_tokens)], source)
        segments = [self._segment(one, most_tokens) for one in self.needs.variants(conversation)]
        begin = self._begin(conversation, segments, most_tokens)
        return self._sample(conversation, [(_learnt_from(one, begin), said) for one, said in segments], source)

    def question(self, conversation: Conversation) -> Sample:
        """A conversation that waits for its answer, as generation reads it: nothing in it is learnt."""
        asking = replace(self, media={name: rule.in_use for name, rule in self.media.items()}, needs=Needs())
        conversation = self._shown(conversation, self.shown)
        rendered, _ = asking._segment(conversation, ask=True)
        if self.start is None:
            return asking._sample(conversation, [(rendered, conversation)], "")
        begun = TargetText(np.array([self.start]), np.array([IGNORE]), np.zeros(1, np.float32))
        return replace(asking._sample(conversation, [(_only_read(rendered), conversation)], ""), target=begun)

    def _encoder_decoder(self, conversation: Conversation, source: str, most_tokens: int | None) -> Sample:
        """Every answer is said and learnt, each a segment of its own that reads what stands before it."""
        if self.needs.variants is not None:
            raise DataError(f"{_where(conversation)}: an encoder-decoder says one answer a row, two cannot be compared")
        messages = conversation.messages
        said_by = [number for number, message in enumerate(messages) if message.role == "assistant"]
        answers = [number for number in said_by if messages[number].weight]
        if not answers or not said_by[0]:
            raise DataError(f"{_where(conversation)}: an encoder-decoder learns answers, each to a question before it")
        asked, said = [], []
        for number in answers:
            question = replace(conversation, messages=messages[:number])
            prompt, _ = self._segment(question, most_tokens, ask=True)
            whole, _ = self._segment(replace(conversation, messages=messages[: number + 1]), most_tokens)
            asked.append((_only_read(prompt), question))
            said.append(self._said(conversation, prompt, whole))
        target = TargetText(
            np.concatenate([one.ids for one in said]),
            np.concatenate([one.labels for one in said]),
            np.concatenate([one.weights for one in said]),
            tuple(len(one.ids) for one in said) if len(said) > 1 else (),
        )
        return replace(self._sample(conversation, asked, source), target=target)

    def _said(self, conversation: Conversation, prompt: Rendered, whole: Rendered) -> TargetText:
        """The last answer of `whole`, which says what ids it has: `prompt` ends before them."""
        begin, end = len(prompt.ids), int(np.flatnonzero(whole.labels != IGNORE)[-1]) + 2
        if not np.array_equal(whole.ids[:begin], prompt.ids) or len(whole.slots) > len(prompt.slots):
            raise DataError(f"{_where(conversation)}: media, or what the template writes anew, cannot be said")
        assert self.start is not None, "an encoder-decoder begins with a token of its own"
        # Labels are shifted: the one at the prompt's last position is the answer's first id.
        learnt = slice(begin - 1, end - 1)
        ids = np.append(self.start, whole.ids[begin : end - 1])
        return TargetText(ids, whole.labels[learnt], whole.weights[learnt])

    def _begin(
        self, conversation: Conversation, segments: Sequence[tuple[Rendered, Conversation]], most_tokens: int | None
    ) -> int:
        """Where answers begin that follow the same prompt; 0 where nothing of it could be learnt.

        Raises DataError where the prompt is written in another way once an answer follows.
        """
        prompt = conversation.messages[: conversation.shared]
        if not any(message.role == "assistant" for message in prompt):
            return 0
        asked, _ = self._segment(replace(conversation, messages=prompt), most_tokens, ask=True)
        begin = len(asked.ids)
        if any(not np.array_equal(rendered.ids[:begin], asked.ids) for rendered, _ in segments):
            raise DataError(f"{_where(conversation)}: the template writes the prompt in another way before an answer")
        return begin

    def _segment(
        self, conversation: Conversation, most_tokens: int | None = None, *, ask: bool = False
    ) -> tuple[Rendered, Conversation]:
        try:
            views = [self.views(part, most_tokens) for part in conversation.media]
        except MediaError as error:
            raise MediaError(f"{_where(conversation)}: {error}") from error
        return render(conversation, views, self.template, self.tokenizer, self.prompt, ask=ask), conversation

    def _sample(
        self, conversation: Conversation, segments: Sequence[tuple[Rendered, Conversation]], source: str
    ) -> Sample:
        """Segments laid end to end."""
        slots: list[MediaSlot] = []
        media: list[MediaPart] = []
        start = 0
        for rendered, one in segments:
            moved = (replace(slot, start=slot.start + start, media=slot.media + len(media)) for slot in rendered.slots)
            slots += moved if len(segments) > 1 else rendered.slots
            media += one.media
            start += len(rendered.ids)
        parts = [rendered for rendered, _ in segments]
        positions = [positions_of(self.positions, len(one.ids), one.slots) for one in parts]
        made: dict[str, NDArray[Any]] = {}
        for maker in self.needs.targets:
            made |= maker(media, slots, self.tokenizer, self.media)
        return Sample(
            id=conversation.id,
            source=source,
            ids=np.concatenate([one.ids for one in parts]),
            labels=np.concatenate([one.labels for one in parts]),
            weights=np.concatenate([one.weights for one in parts]),
            slots=tuple(slots),
            media=tuple(media),
            positions=None
            if positions[0] is None
            else np.concatenate([p for p in positions if p is not None], axis=-1),
            lengths=tuple(len(one.ids) for one in parts) if len(parts) > 1 else (),
            targets=made,
            tag=str(conversation.extra.get("tag") or ""),
            location=conversation.location,
        )

    def views(self, part: MediaPart, most_tokens: int | None = None) -> tuple[View, ...]:
        """Of every stream that reads such media; of the first one's some or all are spliced. Raises MediaError."""
        found: list[View] = []
        for name, rule in self.media.items():
            if rule.reads(part):
                first = not found
                found += [view.placed(name, self.spliced, first=first) for view in rule.views(part, most_tokens)]
        if not found:
            what = type(part).__name__.removesuffix("Part").lower()
            raise MediaError(f"the model has no encoder for this kind of media: {what}")
        return tuple(found)

    def _shown(self, conversation: Conversation, shown: Shown) -> Conversation:
        """With what stands in the place of media. Raises MediaError for one that cannot be read."""
        if shown == "nothing":
            return without_media(conversation)
        conversation = self._fetched(conversation)
        return with_parts(conversation, self._read) if shown == "text" else conversation

    def _read(self, part: Part) -> Part:
        """What a stream's reader finds in a medium, as text; the medium itself where none reads it."""
        if isinstance(part, MediaPart):
            for rule in self.media.values():
                if isinstance(rule, TextReading) and rule.reads(part):
                    return TextPart(rule.text(part))
        return part

    def _fetched(self, conversation: Conversation) -> Conversation:
        """With the bytes of its pictures in the place of their addresses, so that each is fetched once."""
        parts = (part for message in (*conversation.messages, *conversation.rejected) for part in message.parts)
        if not any(isinstance(part, MediaPart) and is_url(part.content) for part in parts):
            return conversation
        return with_parts(conversation, partial(self._local, where=_where(conversation)))

    def _local(self, part: Part, where: str) -> Part:
        if not isinstance(part, MediaPart) or not is_url(part.content):
            return part
        address = str(part.content)
        if type(part) is not ImagePart:
            raise MediaError(f"{where}: {shown(address)} is not fetched: only pictures are, other media must be files")
        if self.fetch is None:
            raise MediaError(
                f"{where}: {shown(address)} is not fetched: data.fetch.hosts names no host that may be asked"
            )
        try:
            return replace(part, image=fetched(address, self.fetch))
        except MediaError as error:
            raise MediaError(f"{where}: {error}") from error


def with_parts(conversation: Conversation, change: Callable[[Part], Part | None]) -> Conversation:
    """The same messages with every part changed; None leaves it out."""

    def changed(messages: Iterable[Message]) -> tuple[Message, ...]:
        kept = ((message, [part for part in map(change, message.parts) if part is not None]) for message in messages)
        return tuple(replace(message, parts=tuple(parts)) for message, parts in kept)

    return replace(conversation, messages=changed(conversation.messages), rejected=changed(conversation.rejected))


def without_media(conversation: Conversation, keep: int = 0) -> Conversation:
    """The same words with the first `keep` media alone."""
    left = iter(range(keep))

    def kept(part: Part) -> Part | None:
        return part if not isinstance(part, MediaPart) or next(left, None) is not None else None

    return with_parts(conversation, kept)


def _where(conversation: Conversation) -> str:
    return conversation.location or conversation.id


def _only_read(rendered: Rendered) -> Rendered:
    """The same with nothing to learn in it."""
    return replace(rendered, labels=np.full_like(rendered.labels, IGNORE), weights=np.zeros_like(rendered.weights))


def _learnt_from(rendered: Rendered, begin: int) -> Rendered:
    """Without what is learnt of the ids before `begin`."""
    labels, weights = rendered.labels.copy(), rendered.weights.copy()
    # The last of them predicts the first that is learnt.
    labels[: max(0, begin - 1)], weights[: max(0, begin - 1)] = IGNORE, 0
    return replace(rendered, labels=labels, weights=weights)


def fitted(
    encode: Encode, conversation: Conversation, source: str, pack: PackConfig, most_tokens: int | None = None
) -> Sample | Event:
    """The sample, whole or made to fit a pack by the recipe's policy; or the event that it is too long.

    most_tokens: limit of each picture. Raises DataError for what cannot be used at all.
    """
    sample = encode(conversation, source, most_tokens)
    if _fits(sample, pack):
        return sample
    reason = _too_long(sample, pack)
    found: Sample | None = None
    if pack.overlong == "truncate_text":
        found = _with_shorter_text(encode, conversation, sample, pack, most_tokens)
        reason += "" if found else "; cut there, no answer is left, or not all of its media"
    elif pack.overlong == "shrink_media":
        found, why = _shrunk(encode, conversation, sample, pack)
        reason += why
    elif pack.overlong == "drop_media":
        found = _with_fewer(encode, conversation, sample, pack, most_tokens)
        reason += "" if found else "; too long with its first picture, or other medium, alone"
    return replace(found, reason=reason) if found else Event(sample.id, source, "too_long", reason)


def _with_shorter_text(
    encode: Encode, conversation: Conversation, sample: Sample, pack: PackConfig, most_tokens: int | None
) -> Sample | None:
    """Cut at the pack's end; of an encoder-decoder's answers the first ones that fit, the first cut if it must be."""
    if sample.target is not None:
        for count in range(len(sample.segments) - 1, 0, -1):
            sample = encode(conversation.up_to_answer(count), sample.source, most_tokens)
            if _fits(sample, pack):
                return replace(sample, outcome="text_cut")
    return cut(sample, pack.length) if sample.patches <= pack.patches else None


def cut(sample: Sample, length: int) -> Sample | None:
    """The first `length` tokens of a sample; None where media do not lie within them, or nothing is learnt, or
    it has several segments. Of an encoder-decoder's the question stays whole, and the answer is cut. What is withheld
    loses as many at its end."""
    short = _cut(sample, length)
    if short is None or sample.withheld is None:
        return short
    withheld = _cut(sample.withheld, sample.withheld.tokens - (sample.tokens - length))
    return replace(short, withheld=withheld or sample.withheld)


def _cut(sample: Sample, length: int) -> Sample | None:
    if sample.target is not None:
        return None if sample.lengths else _target_cut(sample, sample.target, length - len(sample))
    labels = sample.labels[:length].copy()
    labels[-1:] = IGNORE
    if sample.lengths or any(slot.end > length for slot in sample.slots) or not (labels != IGNORE).any():
        return None
    return replace(
        sample,
        ids=sample.ids[:length],
        labels=labels,
        weights=np.where(labels == IGNORE, np.float32(0), sample.weights[:length]),
        positions=None if sample.positions is None else sample.positions[..., :length],
        outcome="text_cut",
    )


def _target_cut(sample: Sample, target: TargetText, length: int) -> Sample | None:
    """With the first `length` tokens of what is said; None where nothing of it is left to learn."""
    weights = target.weights[: max(0, length)]
    if not weights.any():
        return None
    short = TargetText(target.ids[:length], target.labels[:length], weights)
    return replace(sample, target=short, outcome="text_cut")


def _fits(sample: Sample, pack: PackConfig) -> bool:
    return sample.tokens <= pack.length and sample.patches <= pack.patches


def _too_long(sample: Sample, pack: PackConfig) -> str:
    where = sample.location or sample.id
    if sample.tokens > pack.length:
        return f"{where}: {sample.tokens} tokens, a pack holds {pack.length} (data.pack.length)"
    return f"{where}: {sample.patches} patches, a pack holds {pack.patches} (data.pack.patches)"


def _shrunk(encode: Encode, conversation: Conversation, sample: Sample, pack: PackConfig) -> tuple[Sample | None, str]:
    """With the largest limit for its media under which it fits, by halving, and ""; or None, and why there is none.

    With its smallest media first, so that where they cannot help no other limit is tried.
    """
    if not sample.slots:
        return None, "; it has no media to shrink"
    best = encode(conversation, sample.source, 1)
    if not _fits(best, pack):
        if best.tokens == sample.tokens > pack.length:
            return None, "; its media take as many tokens at any size"
        return None, "; too long with the smallest pictures too"
    low, high = 1, _largest(sample)
    while high - low > 1:
        limit = (low + high) // 2
        smaller = encode(conversation, sample.source, limit)
        if _fits(smaller, pack):
            low, best = limit, smaller
        else:
            high = limit
    return replace(best, outcome="media_shrunk"), ""


def _largest(sample: Sample) -> int:
    """A limit that its largest medium is under: no token, merged or made by a projector, has less than a patch."""
    totals: Counter[int] = Counter()
    for slot in sample.slots:
        totals[slot.media] += max(slot.view.tokens, slot.view.patches)
    return max(totals.values())


def _with_fewer(
    encode: Encode, conversation: Conversation, sample: Sample, pack: PackConfig, most_tokens: int | None
) -> Sample | None:
    """Without its last media, as few of them as will do; one stays at least."""
    for keep in range(len(sample.media) - 1, 0, -1):
        fewer = encode(without_media(conversation, keep), sample.source, most_tokens)
        if _fits(fewer, pack):
            return replace(fewer, outcome="media_dropped")
    return None

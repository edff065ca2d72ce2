"""A row to a sample: dialect, picture sizes from headers, then the same `render` that chat and evaluation call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from vitrail.contracts.errors import DataError, MediaError
from vitrail.contracts.messages import Conversation, ImagePart, Row
from vitrail.contracts.protocols import MediaRule, Tokenizer
from vitrail.contracts.samples import IGNORE, Sample, View
from vitrail.data.config import DialectName, Overlong
from vitrail.data.dialects import to_conversation
from vitrail.media import image
from vitrail.prompts.config import PromptConfig
from vitrail.prompts.render import Rendered, render
from vitrail.prompts.templates import Template


@dataclass(frozen=True)
class Encode:
    """Everything a conversation needs to become a sample. withhold: leave pictures out, for the blind baseline."""

    media: MediaRule
    template: Template
    tokenizer: Tokenizer
    prompt: PromptConfig = field(default_factory=PromptConfig)
    withhold: bool = False

    def row(self, row: Row, source: str, dialect: DialectName) -> Sample:
        """Raises DataError, with the row's place, for what cannot be used."""
        return self.conversation(to_conversation(row, dialect), source)

    def conversation(self, conversation: Conversation, source: str = "") -> Sample:
        """A training sample. Pictures are opened for their size alone."""
        rendered, conversation = self.rendered(conversation)
        return Sample(
            id=conversation.id,
            source=source,
            ids=rendered.ids,
            labels=rendered.labels,
            weights=rendered.weights,
            slots=rendered.slots,
            pictures=conversation.pictures,
            marks=self._marks(conversation.pictures),
            place=conversation.place,
        )

    def rendered(self, conversation: Conversation, *, ask: bool = False) -> tuple[Rendered, Conversation]:
        """The prompt, and the conversation it was made from (without pictures when they are withheld)."""
        if self.withhold:
            conversation = without_pictures(conversation)
        views = [self._views(part, conversation) for part in conversation.pictures]
        prompt = render(conversation, views, self.template, self.tokenizer, self.prompt, ask=ask)
        return prompt, conversation

    def _marks(self, pictures: tuple[ImagePart, ...]) -> tuple[tuple[tuple[int, float, float], ...], ...]:
        """A character of several tokens is known by its first."""
        if not any(picture.marks for picture in pictures):
            return ()
        ids = self.tokenizer.encode
        return tuple(tuple((ids(mark.text)[0], mark.x, mark.y) for mark in picture.marks) for picture in pictures)

    def _views(self, part: ImagePart, conversation: Conversation) -> tuple[View, ...]:
        try:
            return self.media.views(*image.size(part.image))
        except MediaError as error:
            raise MediaError(f"{conversation.place or conversation.id}: {error}") from error


def without_pictures(conversation: Conversation) -> Conversation:
    """The same words, no picture."""
    messages = tuple(
        replace(message, parts=tuple(part for part in message.parts if not isinstance(part, ImagePart)))
        for message in conversation.messages
    )
    return replace(conversation, messages=messages)


def fit(sample: Sample, length: int, patches: int, policy: Overlong) -> tuple[Sample | None, str]:
    """Applies the length policy: (sample, "") when it is kept, whole or cut; (None, reason) when it is dropped.

    Text may be cut, a picture never: if one would be, or no label would be left, the sample is dropped.
    Raises DataError under the policy `error`.
    """
    where = sample.place or sample.id
    if len(sample) <= length and sample.patches <= patches:
        return sample, ""
    if len(sample) > length:
        reason = f"{where}: {len(sample)} tokens, a pack holds {length} (data.pack.length)"
    else:
        reason = f"{where}: {sample.patches} picture patches, a pack holds {patches} (data.pack.patches)"
    if policy == "error":
        raise DataError(reason)
    whole = all(slot.end <= length for slot in sample.slots)
    if policy == "truncate_text" and whole and sample.patches <= patches:
        labels = sample.labels[:length].copy()
        labels[-1] = IGNORE
        if (labels != IGNORE).any():
            weights = np.where(labels == IGNORE, np.float32(0), sample.weights[:length])
            return replace(sample, ids=sample.ids[:length], labels=labels, weights=weights, cut=reason), ""
        reason += "; cut there, no answer is left"
    return None, reason

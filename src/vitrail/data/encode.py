"""A row to a sample: dialect, picture sizes from headers, then the same `render` that chat and evaluation call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vitrail.contracts.errors import MediaError
from vitrail.contracts.messages import Conversation, ImagePart, Part, Row, VideoPart
from vitrail.contracts.protocols import MediaRule, Tokenizer
from vitrail.contracts.samples import Sample, View
from vitrail.data.config import DialectName
from vitrail.data.dialects import to_conversation
from vitrail.data.reading import tokens_on
from vitrail.media import image, video
from vitrail.media.config import FetchConfig
from vitrail.media.fetch import fetched, is_url, shown
from vitrail.prompts.config import LinePositionsConfig, PositionsConfig, PromptConfig
from vitrail.prompts.positions import positions_of
from vitrail.prompts.render import Rendered, render
from vitrail.prompts.templates import Template


@dataclass(frozen=True)
class Encode:
    """Everything a conversation needs to become a sample.

    drop_media: leave media out, for the blind baseline. fetch: which hosts may be asked for pictures; None for none.
    written: of so many tokens that begin on a place of a picture a sample says which they are.
    positions: of the tokens, as the model has them. frames: of a video that make one view; sampling: which frames.
    """

    media: MediaRule
    template: Template
    tokenizer: Tokenizer
    prompt: PromptConfig = field(default_factory=PromptConfig)
    drop_media: bool = False
    fetch: FetchConfig | None = None
    written: int = 0
    positions: PositionsConfig = field(default_factory=LinePositionsConfig)
    frames: int = 1
    sampling: video.Sampling = field(default_factory=video.Sampling)

    def row(self, row: Row, source: str, dialect: DialectName) -> Sample:
        """Raises DataError, with the row's place, for what cannot be used."""
        return self.conversation(to_conversation(row, dialect), source)

    def conversation(self, conversation: Conversation, source: str = "", most_tokens: int | None = None) -> Sample:
        """A training sample. Pictures are opened for their size alone; none takes more than `most_tokens`."""
        return self._sample(*self.rendered(conversation, most_tokens), source)

    def question(self, conversation: Conversation) -> Sample:
        """A conversation that waits for its answer, as generation reads it: nothing in it is learnt."""
        asking = replace(self, media=self.media.in_use)
        return asking._sample(*asking.rendered(conversation, ask=True), "")

    def _sample(self, rendered: Rendered, conversation: Conversation, source: str) -> Sample:
        return Sample(
            id=conversation.id,
            source=source,
            ids=rendered.ids,
            labels=rendered.labels,
            weights=rendered.weights,
            slots=rendered.slots,
            pictures=conversation.pictures,
            positions=positions_of(self.positions, len(rendered.ids), rendered.slots),
            marks=self._marks(conversation.pictures),
            written=self._written(rendered, conversation),
            location=conversation.location,
        )

    def _written(self, rendered: Rendered, conversation: Conversation) -> tuple[NDArray[np.int64], ...]:
        """For each slot, the tokens on its places."""
        if not self.written:
            return ()
        pictures = conversation.pictures
        return tuple(
            tokens_on(pictures[slot.picture].marks, slot, self.tokenizer, self.written) for slot in rendered.slots
        )

    def rendered(
        self, conversation: Conversation, most_tokens: int | None = None, *, ask: bool = False
    ) -> tuple[Rendered, Conversation]:
        """The prompt, and the conversation it was made from (without pictures when they are withheld)."""
        if self.drop_media:
            conversation = without_media(conversation)
        if any(is_url(part.image) for part in conversation.pictures):
            conversation = self._fetched(conversation)
        views = [self._views(part, conversation, most_tokens) for part in conversation.pictures]
        prompt = render(conversation, views, self.template, self.tokenizer, self.prompt, ask=ask)
        return prompt, conversation

    def _fetched(self, conversation: Conversation) -> Conversation:
        """With the bytes of its pictures in the place of their addresses, so that each is fetched once."""

        def local(part: Part) -> Part:
            if not isinstance(part, ImagePart) or not is_url(part.image):
                return part
            where = conversation.location or conversation.id
            if isinstance(part, VideoPart):
                raise MediaError(f"{where}: {shown(str(part.image))} is not fetched: videos must be files")
            if self.fetch is None:
                said = shown(str(part.image))
                raise MediaError(f"{where}: {said} is not fetched: data.fetch.hosts names no host that may be asked")
            try:
                return replace(part, image=fetched(str(part.image), self.fetch))
            except MediaError as error:
                raise MediaError(f"{where}: {error}") from error

        messages = (replace(message, parts=tuple(map(local, message.parts))) for message in conversation.messages)
        return replace(conversation, messages=tuple(messages))

    def _marks(self, pictures: tuple[ImagePart, ...]) -> tuple[tuple[tuple[int, float, float], ...], ...]:
        """A character of several tokens is known by its first."""
        if not any(picture.marks for picture in pictures):
            return ()
        ids = self.tokenizer.encode
        return tuple(tuple((ids(mark.text)[0], mark.x, mark.y) for mark in picture.marks) for picture in pictures)

    def _views(self, part: ImagePart, conversation: Conversation, most_tokens: int | None) -> tuple[View, ...]:
        try:
            if isinstance(part, VideoPart):
                return video.views(self.media, video.clip(part), self.sampling, self.frames, most_tokens)
            return self.media.views(*image.size(part.image), most_tokens)
        except MediaError as error:
            raise MediaError(f"{conversation.location or conversation.id}: {error}") from error


def without_media(conversation: Conversation, keep: int = 0) -> Conversation:
    """The same words with the first `keep` pictures alone."""
    seen = 0
    messages = []
    for message in conversation.messages:
        parts: list[Part] = []
        for part in message.parts:
            if isinstance(part, ImagePart):
                seen += 1
                if seen > keep:
                    continue
            parts.append(part)
        messages.append(replace(message, parts=tuple(parts)))
    return replace(conversation, messages=tuple(messages))

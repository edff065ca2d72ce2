"""The chat template that comes with a tokenizer (`prompt.template: tokenizer`), and what of its output is learnt.

Such a template is a program (jinja): what it writes can be seen, why it writes it cannot. So nothing is guessed. Each
conversation is written twice: as it is, and with a sentinel instead of every text. These show where each text went;
if the two do not agree to the letter, the template has changed what it was given, and the conversation is refused.
Whatever the sentinels stand for is text, so nobody can type a special token; what is around them is the template's.

Learnt is, of each turn of the assistant, everything from where a prompt that asks for it ends up to the special token
that closes it, or what `{% generation %}` blocks say. Both are held against the conversation cut short: its prompt must
be how the whole begins. A template that drops or rewrites what was said earlier fails here, and so does one that closes
an answer with nothing. In the end the ids of the pieces must be those of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vitrail.contracts.errors import DataError, RecipeError
from vitrail.prompts.config import PictureConfig
from vitrail.prompts.sandbox import GENERATED, GENERATED_END, run
from vitrail.prompts.sentinels import (
    SENTINEL,
    checked_calls,
    found_in,
    messages_of,
    sentinel,
    spelled_out,
    stretches,
)
from vitrail.prompts.turns import Chunk, Content, Slot, Span, Special, Template, Tools, Turn

WHERE = "prompt.template: the tokenizer's chat template"
REWRITTEN = (
    "the tokenizer's chat template writes a conversation in another way once it goes on (it may drop earlier thinking, "
    "or move the system text), so what is learnt from is not what is asked with"
)


@dataclass(frozen=True)
class ProgramTemplate(Template):
    """A tokenizer's own chat template. Made by `tokenizer_template`.

    source: the program. names: `bos_token` and its like. known: every special token of the tokenizer. whole: ids of a
    string in which special tokens are special. picture: the token that the template writes for a picture, and what
    stands around it; what the template has written of it itself is not written again.
    parts: whether it writes pictures; else they stand in the text as `picture` says. listed: whether it wants lists of
    parts even for text alone.
    """

    name: str
    end: Special
    source: str
    names: Mapping[str, str]
    known: tuple[str, ...]
    whole: Callable[[str], list[int]]
    picture: PictureConfig
    parts: bool = False
    listed: bool = False
    lead: str = ""
    tail: str = ""

    @property
    def specials(self) -> tuple[str, ...]:
        """The token that ends an answer; the others come with the tokenizer."""
        return (self.end.name,)

    def spans(self, turns: Sequence[Turn], tools: Tools = (), *, ask: bool = False) -> list[Span]:
        """The whole prompt; see `Template.spans`."""
        checked_calls(turns, tools, self.known)
        turns = self._agreeing(turns, tools, ask=ask)
        text = self._write(turns, tools, ask=ask, sentinels=True)
        whole = text.replace(GENERATED, "").replace(GENERATED_END, "")
        contents = [piece for turn in turns for piece in turn.content]
        found = found_in(whole, contents, self.known, self.picture if self.parts else None)
        learnt = [] if ask else self._learnt(turns, tools, text)
        weights = [turn.weight for turn in turns if turn.role == "assistant"]

        def span(position: int, piece: Content) -> Span:
            for (start, end), weight in zip(learnt, weights, strict=False):  # of none, when the model is asked
                if start <= position < end:
                    return Span(piece, True, weight)
            return Span(piece)

        cuts = [edge for pair in learnt for edge in pair]
        return [span(position, piece) for position, piece in stretches(whole, found, cuts)]

    def verify(self, chunks: Sequence[Chunk]) -> None:
        """Raises DataError when the ids of the pieces are not those of the whole.

        Where somebody has typed a special token they cannot be, since it is to stay text.
        """
        for chunk in chunks:
            texts = "".join("\0" if isinstance(piece, Special) else piece for piece, _ in chunk)
            if any(name in texts for name in self.known):
                continue
            text = "".join(piece.name if isinstance(piece, Special) else piece for piece, _ in chunk)
            if self.whole(text) != [number for _, ids in chunk for number in ids]:
                raise DataError(
                    "what is learnt of it cannot be told apart: the tokenizer joins characters across the border of an "
                    f"answer, or of a special token, in {text[-60:]!r}"
                )

    def _write(self, turns: Sequence[Turn], tools: Tools, *, ask: bool = False, sentinels: bool = False) -> str:
        messages = messages_of(turns, parts=self.parts, listed=self.listed, sentinels=sentinels)
        return run(self.source, self.names, messages, tools, ask=ask, sentinels=sentinels)

    def _agreeing(self, turns: Sequence[Turn], tools: Tools, *, ask: bool) -> Sequence[Turn]:
        """The turns as the template writes them. Raises DataError when it changes them.

        White space at the ends of a turn may be left out when the model is asked: nothing is learnt from it then, and
        every letter is accounted for.
        """
        plain = self._write(turns, tools, ask=ask)
        for candidate in (turns, [turn.stripped() for turn in turns] if ask else turns):
            text = self._write(candidate, tools, ask=ask, sentinels=True)
            text = text.replace(GENERATED, "").replace(GENERATED_END, "")
            if spelled_out(text, [piece for turn in candidate for piece in turn.content]) == plain:
                return candidate
        raise DataError(
            "the tokenizer's chat template changes the text of the conversation (drops, moves, strips or rewrites some "
            "of it), so what is learnt of it cannot be told"
        )

    def _learnt(self, turns: Sequence[Turn], tools: Tools, written: str) -> list[tuple[int, int]]:
        """From where to where the text of sentinels is learnt, without the characters of generation blocks."""
        whole = written.replace(GENERATED, "").replace(GENERATED_END, "")
        blocks = _blocks(written)
        learnt = []
        texts = 0
        for number, turn in enumerate(turns):
            first, texts = texts, texts + len(turn.content)
            if turn.role != "assistant":
                continue
            start = self._opened(turns[:number], tools, whole)
            end = self._closed(turns[: number + 1], tools, whole, start, texts - 1 if texts > first else None)
            if blocks:
                learnt.append(_block_of(blocks, start, end, whole))
            else:
                learnt.append((start, end))
        if len(blocks) > len(learnt):
            raise DataError("the chat template has a {% generation %} block around something that is no answer")
        return learnt

    def _opened(self, turns: Sequence[Turn], tools: Tools, whole: str) -> int:
        """Where the prompt that asks for an answer ends in the whole conversation."""
        prompt = self._write(turns, tools, ask=True, sentinels=True).replace(GENERATED, "").replace(GENERATED_END, "")
        if not whole.startswith(prompt):
            raise DataError(REWRITTEN)
        return len(prompt)

    def _closed(self, turns: Sequence[Turn], tools: Tools, whole: str, start: int, last: int | None) -> int:
        """Where the token ends that closes the last of these turns. last: the number of its last text, if any."""
        text = self._write(turns, tools, sentinels=True).replace(GENERATED, "").replace(GENERATED_END, "")
        after = start
        if last is not None and sentinel(last) in text:
            after = text.find(sentinel(last)) + len(sentinel(last))
        if turns[-1].calls:
            position = text.find(self.end.name, after)
            end = position + len(self.end.name) if position >= 0 else -1
        else:
            found = _any_of(self.known).search(text, after)
            end = found.end() if found else -1
        if end < 0 or SENTINEL.search(text, after, end):
            raise DataError("the tokenizer's chat template closes an answer with no special token of its own")
        if text[:end] != whole[:end]:
            raise DataError(REWRITTEN)
        return end


def tokenizer_template(
    source: str | None,
    names: Mapping[str, str],
    known: Sequence[str],
    whole: Callable[[str], list[int]],
    picture: PictureConfig,
) -> ProgramTemplate:
    """The chat template that came with a tokenizer, tried on a short conversation.

    Arguments are those of `ProgramTemplate`. Raises RecipeError when there is none, or none that can be used.
    """
    if not source:
        raise RecipeError(f"{WHERE} is asked for, but it has none; name one of ours")
    made = ProgramTemplate("tokenizer", Special(""), source, names, tuple(known), whole, picture)
    asked, answered = Turn("user", ("Hm?",)), Turn("assistant", ("Yes.",))
    try:
        made, written = _tried(made, [asked, answered])
        answer = written.index(sentinel(1))
        closing = _any_of(made.known).search(written, answer)
        if closing is None:
            raise DataError("it closes an answer with no special token, so nothing would end one")
        made = replace(made, end=Special(closing[0]), tail=written[answer + len(sentinel(1)) : closing.start()])
        lead = written[made._opened([asked], (), written) : answer]
        made = replace(made, lead="" if _any_of(made.known).search(lead) else lead)
        made = replace(made, parts=_writes_pictures(made))
        made.spans([asked, answered])
    except DataError as error:
        raise RecipeError(f"{WHERE} cannot be used: {error}") from error
    return made


def _tried(template: ProgramTemplate, turns: Sequence[Turn]) -> tuple[ProgramTemplate, str]:
    """The template, told whether it wants lists of parts, and what it then makes of a question and its answer."""
    errors = []
    for listed in (False, True):
        made = replace(template, listed=listed)
        try:
            written = made._write(turns, (), sentinels=True).replace(GENERATED, "").replace(GENERATED_END, "")
        except DataError as error:
            errors.append(error)
            continue
        if SENTINEL.findall(written) == ["0", "1"]:
            return made, written
    raise errors[0] if len(errors) == 2 else DataError("it does not write a question and then its answer")


def _writes_pictures(template: ProgramTemplate) -> bool:
    """Whether a picture among the parts of a message becomes its token, and the text beside it stays what it is."""
    token = template.picture.token
    if not token or token not in template.known:
        return False
    try:
        text = replace(template, parts=True)._write([Turn("user", (Slot(0, 0), "Hm?"))], (), sentinels=True)
    except DataError:
        return False
    return text.count(token) == 1 and SENTINEL.findall(text) == ["1"] and "{'" not in text


def _any_of(names: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or r"(?!)")


def _blocks(written: str) -> list[tuple[int, int]]:
    """From where to where `{% generation %}` blocks reach, in the text without their characters."""
    blocks: list[tuple[int, int]] = []
    opened: int | None = None
    position = 0
    for character in written:
        if character == GENERATED:
            opened = position
        elif character == GENERATED_END:
            assert opened is not None, "a block ends before it begins"
            blocks.append((opened, position))
        else:
            position += 1
    return blocks


def _block_of(blocks: Sequence[tuple[int, int]], start: int, end: int, whole: str) -> tuple[int, int]:
    """The block of a turn that reaches from `start` to `end`."""
    inside = [block for block in blocks if start <= block[0] < end]
    if len(inside) != 1:
        raise DataError(f"the chat template has {len(inside)} {{% generation %}} blocks in an answer; it takes one")
    block = inside[0]
    if SENTINEL.search(whole, start, block[0]) or block[1] < end:
        raise DataError(
            "the {% generation %} block of the chat template leaves out some of the answer, or the token that ends it; "
            "put both inside"
        )
    if SENTINEL.search(whole, end, block[1]):
        raise DataError("the {% generation %} block of the chat template reaches into the next turn")
    return block

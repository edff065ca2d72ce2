"""What a user calls: every form of asking, the answer in pieces, conversations, and clean errors."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.contracts.errors import DataError, MediaError, VitrailError
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart
from vitrail.contracts.replies import Reply
from vitrail.contracts.samples import Batch, Segments
from vitrail.data.encode import Encode
from vitrail.inference import chat_model
from vitrail.inference.chat_model import ChatModel, conversation
from vitrail.inference.config import GenerationConfig
from vitrail.inference.engine import Engine
from vitrail.media.config import TilesConfig
from vitrail.media.rule import media_rule
from vitrail.models.assembled import MultimodalModel

Make = Callable[..., MultimodalModel]
SHORT = GenerationConfig(max_tokens=12)


@pytest.fixture(scope="module")
def chat(tiny_model: Make, tiny_encode: Encode) -> ChatModel:
    return ChatModel(tiny_model(5).eval(), tiny_encode)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def file(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "a picture.png"
    Image.fromarray(pixels).save(path)
    return path


def same_prompt(chat: ChatModel, *parts: Any) -> bool:
    """Whether the model reads the same as for the array and "What?"."""
    ours, expected = chat.prompt(conversation(parts[1:])), chat.prompt(conversation((parts[0], "What?")))
    assert ours.vision is not None
    assert expected.vision is not None
    return torch.equal(ours.text.ids, expected.text.ids) and torch.equal(ours.vision.values, expected.vision.values)


def test_every_form_of_a_picture_is_the_same(chat: ChatModel, file: Path, pixels: np.ndarray) -> None:
    coded = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
    for picture in (str(file), file, file.read_bytes(), Image.open(file), pixels):
        assert same_prompt(chat, pixels, picture, "What?"), type(picture)
        content = [{"type": "image", "image": picture}, {"type": "text", "text": "\nWhat?"}]
        assert same_prompt(chat, pixels, [{"role": "user", "content": content}]), type(picture)
    for url in (coded, str(file), file.as_uri().replace("%20", " ")):
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "\nWhat?"}]
        assert same_prompt(chat, pixels, [{"role": "user", "content": content}]), url[:20]
    parts = (ImagePart(file), TextPart("\nWhat?"))
    assert same_prompt(chat, pixels, [Message("user", parts)])
    assert same_prompt(chat, pixels, (Message("user", parts),))


def test_a_question_and_its_answer(chat: ChatModel, pixels: np.ndarray) -> None:
    reply = chat.chat(pixels, "What?", generation=SHORT)
    assert isinstance(reply, Reply)
    assert 0 < reply.tokens <= 12
    assert reply.stopped == (reply.tokens < 12)
    assert str(reply) == "".join(chat.stream(pixels, "What?", generation=SHORT))
    assert reply.prompt_tokens == 20 + len("\nWhat?") + 1
    assert str(chat.chat(pixels, "What?", generation=SHORT)) == str(reply)


@pytest.mark.parametrize("together", [1, 2, 16])
def test_several_conversations_are_answered_as_each_alone(chat: ChatModel, pixels: np.ndarray, together: int) -> None:
    asked = [conversation(parts) for parts in ((pixels, "What?"), ("Hello",), (255 - pixels, "Which one?"))]
    assert list(chat.replies(asked, SHORT, together)) == [chat.reply(one, SHORT) for one in asked]
    assert list(chat.replies([], SHORT)) == []


def test_prompts_too_long_for_one_pass_are_read_one_after_another(
    chat: ChatModel, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    add = Engine.add

    def noted(engine: Engine, prompts: Batch, config: GenerationConfig) -> list[int]:
        passes.append(prompts.text.segments.lengths)
        return add(engine, prompts, config)

    monkeypatch.setattr(chat_model, "ROOM", 60)
    monkeypatch.setattr(Engine, "add", noted)
    shown = ((pixels, "What?"), (255 - pixels, "Which?"), (pixels, "?" * 70), ("Hi",))
    assert len(list(chat.replies(map(conversation, shown), SHORT))) == 4
    assert list(map(len, passes)) == [2, 1, 1]


def test_questions_about_one_picture_share_what_stands_before_them(
    chat: ChatModel, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered as each alone; what they have in common is read once for those that follow each other."""
    asked = [
        conversation(parts)
        for parts in (
            ("And without a picture?",),
            (pixels, "What is this?"),
            (pixels.copy(), "What?"),
            (pixels, "Why not?"),
            (255 - pixels, "What is this?"),
            (255 - pixels, "What is that?"),
            (pixels, "Once more, what is this?"),
        )
    ]
    alone = [chat.reply(one, SHORT) for one in asked]
    passes: list[tuple[list[str], int]] = []
    add = Engine.add

    def noted(engine: Engine, prompts: Batch, config: GenerationConfig, endings: Any = None) -> list[int]:
        heads = [
            chat.encode.tokenizer.decode(ids.tolist()) for ids in prompts.text.ids.split(prompts.text.segments.lengths)
        ]
        passes.append((heads, sum(map(len, endings or []))))
        return add(engine, prompts, config, endings)

    monkeypatch.setattr(Engine, "add", noted)
    assert list(chat.replies(asked, SHORT)) == alone
    assert [(len(heads), endings) for heads, endings in passes] == [(1, 0), (2, 5), (1, 0)]
    assert [head.rsplit("\n", 1)[-1] for head in passes[1][0]] == ["Wh", "What is th"]
    # Where only two are under way at once, what belongs together still joins together.
    passes.clear()
    assert list(chat.replies(asked[1:6], SHORT, 2)) == alone[1:6]
    assert [endings for _, endings in passes] == [2, 0, 2]


def test_a_damaged_picture_among_others_is_said(chat: ChatModel, pixels: np.ndarray, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    Image.fromarray(pixels).save(torn)
    torn.write_bytes(torn.read_bytes()[:-200])
    asked = [conversation((pixels, "What?")), conversation((torn, "What?"))]
    with pytest.raises(MediaError, match=r"torn\.png"):
        list(chat.replies(asked, SHORT))


def test_text_alone_and_several_pictures(chat: ChatModel, pixels: np.ndarray, file: Path) -> None:
    assert chat.prompt(conversation(("Hello",))).vision is None
    two = chat.prompt(conversation((file, pixels[:32, :32], "Which?"))).vision
    assert two is not None
    assert two.segments.lengths == (80, 16)


def test_it_matters_which_picture(chat: ChatModel, pixels: np.ndarray) -> None:
    asked, other = conversation((pixels, "What?")), conversation((255 - pixels, "What?"))
    with torch.no_grad():
        ours, theirs = (chat.model(chat.prompt(each))[-1] for each in (asked, other))
    assert (ours - theirs).abs().max() > 1e-4


def test_without_media_leaves_the_pictures_out(chat: ChatModel, pixels: np.ndarray) -> None:
    blind = chat.without_media()
    prompt = blind.prompt(conversation((pixels, "What?")))
    assert prompt.vision is None
    assert blind.encode.tokenizer.decode(prompt.text.ids.tolist(), show_special=True) == "\nWhat?<|answer|>"
    assert chat.prompt(conversation((pixels, "What?"))).vision is not None


def test_a_picture_that_is_asked_about_may_have_more_tiles(tiny_model: Make, tiny_encode: Encode) -> None:
    media = {"vision": media_rule(TilesConfig(patch=8, merge=2, tile=32, max_tiles=1, max_tiles_in_use=4))}
    chat = ChatModel(tiny_model(5).eval(), replace(tiny_encode, media=media))
    wide = np.zeros((64, 64, 3), np.uint8)
    asked = conversation((wide, "What?"))
    answered = replace(asked, messages=(*asked.messages, Message("assistant", (TextPart("Red."),))))
    assert len(chat.encode(answered).slots) == 1
    vision = chat.prompt(asked).vision
    assert vision is not None
    assert len(vision.segments.lengths) == 4 + 1
    assert chat.chat(wide, "What?", generation=SHORT)


def test_a_follow_up_question_sees_what_was_said(chat: ChatModel, pixels: np.ndarray) -> None:
    first = [{"role": "user", "content": [{"type": "image", "image": pixels}, {"type": "text", "text": "What?"}]}]
    said = str(chat.chat(first, generation=SHORT)) or "nothing"
    more = [*first, {"role": "assistant", "content": said}, {"role": "user", "content": "Sure?"}]
    before, after = chat.prompt(conversation((first,))), chat.prompt(conversation((more,)))
    length = len(before.text.ids)
    assert torch.equal(after.text.ids[:length], before.text.ids), "the first turn is read as it was"
    read = chat.encode.tokenizer.decode(after.text.ids[length:].tolist(), show_special=True)
    assert read == f"{said}<|end|>Sure?<|answer|>"
    assert chat.chat(more, generation=SHORT).prompt_tokens == len(after.text.ids)


@pytest.mark.parametrize(
    ("parts", "kind", "said"),
    [
        ((), DataError, "chat takes pictures and then a question, or one list of messages"),
        ((3,), DataError, "chat takes pictures and then a question"),
        (("a.png", Path("b.png")), DataError, "chat takes pictures and then a question"),
        (([],), DataError, "messages: 'messages' must be a list of turns"),
        ((["What?"],), DataError, "messages: 'messages' must be a list of turns"),
        (([{"role": "usr", "content": "What?"}],), DataError, "unknown role 'usr' (did you mean 'user'?)"),
        (([{"role": "user", "content": None}],), DataError, "a turn's text must be a string"),
        (([{"role": "user", "content": [{"type": "smell"}]}],), DataError, "unknown part type 'smell'"),
        (([{"role": "assistant", "content": "Hello."}],), DataError, "must end with a user's turn"),
        (([Message("system", (TextPart("Be kind."),))],), DataError, "must end with a user's turn"),
        (("no/such.png", "What?"), MediaError, "picture 'no/such.png' does not exist"),
        ((b"no picture", "What?"), MediaError, "is not a picture"),
        ((np.zeros((4, 4)), "What?"), MediaError, "a picture array must be uint8[H, W, 3], got float64[4, 4]"),
        ((7, "What?"), MediaError, "picture given as int"),
    ],
)
def test_mistakes_are_one_line(chat: ChatModel, parts: Sequence[Any], kind: type[VitrailError], said: str) -> None:
    with pytest.raises(kind) as caught:
        chat.chat(*parts, generation=SHORT)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_that_breaks_off(chat: ChatModel) -> None:
    """Its header is whole, so it is noticed only when its pixels are read; it is a picture's error all the same."""
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "JPEG")
    with pytest.raises(MediaError, match="is damaged") as caught:
        chat.chat(whole.getvalue()[:1500], "What?")
    assert "\n" not in str(caught.value)


def scripted(monkeypatch: pytest.MonkeyPatch, ids: list[int]) -> None:
    """Lets the model say something in particular; everything around it is real."""

    def generate(
        model: object, prompt: object, stop: object, config: GenerationConfig, on_end: object
    ) -> Iterator[int]:
        yield from ids[: config.max_tokens]

    monkeypatch.setattr(chat_model, "generate", generate)


@pytest.mark.parametrize("text", ["", "plain", "é", "日本 👍🏽!", "👨‍👩‍👧", "a\n\n é ", "ends in 日"])
def test_pieces_are_whole_characters_and_join_to_the_reply(
    text: str, chat: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens are bytes here, and most characters take several."""
    scripted(monkeypatch, chat.encode.tokenizer.encode(text))
    pieces = list(chat.stream("Say it."))
    assert pieces == list(text)
    reply = chat.chat("Say it.")
    assert str(reply) == text
    assert reply.tokens == len(text.encode())
    assert reply.stopped


@pytest.mark.parametrize("limit", range(8))
def test_an_answer_cut_inside_a_character(limit: int, chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = chat.encode.tokenizer.encode("日👍")
    scripted(monkeypatch, ids)
    generation = GenerationConfig(max_tokens=limit)
    pieces = list(chat.stream("Say it.", generation=generation))
    reply = chat.chat("Say it.", generation=generation)
    assert "".join(pieces) == str(reply) == chat.encode.tokenizer.decode(ids[:limit])
    assert reply.stopped == (limit > len(ids))


def test_bytes_that_are_no_text_do_not_stop_the_stream(chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model may say half a character and go on."""
    tokenizer = chat.encode.tokenizer
    torn = [*tokenizer.encode("日")[:2], *tokenizer.encode("ab"), *tokenizer.encode("👍")[:3], *tokenizer.encode("é")]
    scripted(monkeypatch, torn)
    pieces = list(chat.stream("Say it."))
    assert "".join(pieces) == str(chat.chat("Say it.")) == tokenizer.decode(torn)
    assert [piece.strip("\N{REPLACEMENT CHARACTER}") for piece in pieces] == ["a", "b", "é"]


def test_special_tokens_are_not_shown(chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = chat.encode.tokenizer
    scripted(monkeypatch, [tokenizer.special("<|answer|>"), *tokenizer.encode("yes"), tokenizer.special("<|answer|>")])
    assert list(chat.stream("Say it.")) == ["y", "e", "s"]


def test_the_end_of_turn_stops_the_reply(chat: ChatModel, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template's own token: with its weights made the likeliest, the model has nothing to say."""
    end = chat.encode.tokenizer.special("<|end|>")
    real = MultimodalModel.logits
    seen: list[int] = []

    def logits(self: MultimodalModel, hidden: torch.Tensor) -> torch.Tensor:
        out = real(self, hidden)
        if len(seen) == 3:
            out[:, end] = 1e6
        seen.append(1)
        return out

    monkeypatch.setattr(MultimodalModel, "logits", logits)
    reply = chat.chat(pixels, "What?", generation=SHORT)
    assert (reply.tokens, reply.stopped) == (3, True)
    assert "<|end|>" not in str(reply)


def test_the_loss_of_a_sample(chat: ChatModel, pixels: np.ndarray) -> None:
    """Summed, with its weight: the mean over the answer's letters and its end."""
    answered = Conversation(
        "x", (Message("user", (ImagePart(pixels), TextPart("What?"))), Message("assistant", (TextPart("Red."),)))
    )
    sample = chat.encode(answered)
    total, weight = chat.loss(sample)
    assert weight == len("Red.") + 1
    with torch.no_grad():
        prompt = chat.prompt(Conversation("x", answered.messages[:1]))
        ids = torch.tensor([*chat.encode.tokenizer.encode("Red."), chat.encode.tokenizer.special("<|end|>")])
        whole = torch.cat([chat.model.fused(prompt)[0], chat.model.backbone.embed(ids)])
        hidden = chat.model.backbone(whole, torch.arange(len(whole)), Segments((len(whole),)))
        logits = chat.model.logits(hidden[-len(ids) - 1 : -1])
    assert total == pytest.approx(float(torch.nn.functional.cross_entropy(logits, ids, reduction="sum")), rel=1e-5)

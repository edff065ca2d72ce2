"""Our formats and picture styles against the strings that the official code writes.

Each expected string was written by the official code of the system (its repository or the hub's remote code), with the
picture's own token once. Official tokenizers add a `<s>` or its like, which is no part of those strings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import Conversation, ImagePart, Message, Role, TextPart
from vitrail.contracts.samples import View
from vitrail.models.backbones.tokenizer import byte_tokenizer
from vitrail.prompts.config import PICTURES, PictureConfig, PromptConfig
from vitrail.prompts.official import PROMPTS
from vitrail.prompts.recognise import spelled
from vitrail.prompts.render import Rendered, render
from vitrail.prompts.templates import TEMPLATES, template
from vitrail.prompts.turns import Special

PICTURE = ImagePart("never opened here")
MINIGPT4 = (
    "Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I provide it to you. "
    "Please answer my questions."
)
DEEPSEEK = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def said(role: Role, *parts: str | ImagePart) -> Message:
    return Message(role, tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def asked(*turns: Sequence[str | ImagePart] | str, system: str = "") -> list[Message]:
    """Question, answer, question ... after a system turn."""
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = [said("system", system)] if system else []
    return messages + [
        said(roles[number % 2], *([turn] if isinstance(turn, str) else turn)) for number, turn in enumerate(turns)
    ]


CASES = {
    "chatml, one question": (
        "chatml",
        "qwen_vl",
        asked((PICTURE, "What is it?"), system="You are a helpful assistant."),
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "Picture 1: <img><imgpad></img>\nWhat is it?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "chatml, numbered through the conversation": (
        "chatml",
        "qwen_vl",
        asked("Hi", "Hello", (PICTURE, PICTURE, "Compare them.")),
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\n"
        "Picture 1: <img><imgpad></img>\nPicture 2: <img><imgpad></img>\nCompare them.<|im_end|>\n"
        "<|im_start|>assistant\n",
    ),
    "chatml, Qwen2-VL": (
        "chatml",
        "qwen2_vl",
        asked((PICTURE, "Describe."), system="You are a helpful assistant."),
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|>Describe.<|im_end|>\n<|im_start|>assistant\n",
    ),
    "chatml, Qwen2-VL numbered": (
        "chatml",
        "qwen2_vl_numbered",
        asked((PICTURE, PICTURE, "Compare.")),
        "<|im_start|>user\nPicture 1: <|vision_start|><|image_pad|><|vision_end|>"
        "Picture 2: <|vision_start|><|image_pad|><|vision_end|>Compare.<|im_end|>\n<|im_start|>assistant\n",
    ),
    "internlm2": (
        "internlm2",
        "internvl",
        asked(("Image-1: ", PICTURE, "\nImage-2: ", PICTURE, "\nWhich is larger?"), "The first.", "Why?", system="S."),
        "<s><|im_start|>system\nS.<|im_end|><|im_start|>user\nImage-1: <img><IMG_CONTEXT></img>\n"
        "Image-2: <img><IMG_CONTEXT></img>\nWhich is larger?<|im_end|><|im_start|>assistant\nThe first.<|im_end|>"
        "<|im_start|>user\nWhy?<|im_end|><|im_start|>assistant\n",
    ),
    "deepseek": (
        "deepseek",
        "deepseek_vl",
        asked("Hi", "Hello.", (PICTURE, "What is it?"), system=DEEPSEEK),
        f"<｜begin▁of▁sentence｜>{DEEPSEEK}\n\nUser: Hi\n\nAssistant: Hello.<｜end▁of▁sentence｜>"  # noqa: RUF001
        "User: <image_placeholder>What is it?\n\nAssistant:",
    ),
    "deepseek, pictures among words": (
        "deepseek",
        "deepseek_vl",
        asked((PICTURE, " is Figure 1.\n", PICTURE, " is Figure 2.\nWhich is brighter? ")),
        "<｜begin▁of▁sentence｜>User: <image_placeholder> is Figure 1.\n<image_placeholder> is Figure 2.\n"  # noqa: RUF001
        "Which is brighter?\n\nAssistant:",
    ),
    "minigpt4": (
        "minigpt4",
        "minigpt4",
        asked((PICTURE, "What?"), "A dog.", "And why?", system=MINIGPT4),
        f"<s>{MINIGPT4}###Human: <Img></Img> What?###Assistant: A dog.###Human: And why?###Assistant: ",
    ),
    "minigpt4, second stage": (
        "minigpt4_alignment",
        "minigpt4",
        asked((PICTURE, "Describe this image in detail.")),
        "<s>###Human: <Img></Img> Describe this image in detail. ###Assistant: ",
    ),
    "minigpt4, Llama 2": (
        "minigpt4_llama2",
        "minigpt4",
        asked((PICTURE, "What?"), "A dog.", "And why?", system=MINIGPT4),
        f"<s>{MINIGPT4}<s>[INST] <Img></Img> What? [/INST] A dog.<s>[INST] And why? [/INST] ",
    ),
    "minigptv2": (
        "minigptv2",
        "minigpt4",
        asked((PICTURE, "[identify] {<1><2><3><4>}"), "a sign", "what colour"),
        "<s><s>[INST] <Img></Img> [identify] {<1><2><3><4>} [/INST]a sign<s>[INST] what colour [/INST]",
    ),
    "kimi": (
        "kimi",
        "kimi_vl",
        asked((PICTURE, "Read it."), "A sign.", ("And this one?", PICTURE), system="You are a helpful assistant"),
        "<|im_system|>system<|im_middle|>You are a helpful assistant<|im_end|><|im_user|>user<|im_middle|>"
        "<|media_start|>image<|media_content|><|media_pad|><|media_end|>Read it.<|im_end|>"
        "<|im_assistant|>assistant<|im_middle|>A sign.<|im_end|><|im_user|>user<|im_middle|>And this one?"
        "<|media_start|>image<|media_content|><|media_pad|><|media_end|><|im_end|>"
        "<|im_assistant|>assistant<|im_middle|>",
    ),
    "llama3": (
        "llama3",
        "none",
        asked(" Hi ", "Hello.", "How?", system="Brief."),
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBrief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "Hello.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHow?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "llama2": (
        "llama2",
        "none",
        asked("Hi", "Hello.", "How?", system="Brief."),
        "<s>[INST] <<SYS>>\nBrief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] How? [/INST]",
    ),
    "vicuna": (
        "vicuna",
        "llava",
        asked((PICTURE, "\nHi"), "Hello.", "How?", system=VICUNA),
        f"<s>{VICUNA} USER: \nHi ASSISTANT: Hello.</s>USER: How? ASSISTANT:",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "style", "messages", "expected"), CASES.values(), ids=CASES)
def test_the_official_string(name: str, style: str, messages: list[Message], expected: str) -> None:
    chat = template(name)
    assert spelled(messages, chat, PICTURES[style]) == expected
    # What `render` makes of it says the same, with the picture's tokens in place of one.
    prompt = PromptConfig(name, picture=PICTURES[style])
    tokenizer = byte_tokenizer(tuple(dict.fromkeys((*chat.specials, *prompt.specials))))
    conversation = Conversation("talk", tuple(messages))
    views = [(View(8, 12, 2, 6, 1, 3),)] * len(conversation.media)
    made = render(conversation, views, chat, tokenizer, prompt, ask=True)
    token = PICTURES[style].token or chat.filler
    kept = [number for slot in made.slots for number in list(slot.indices)[1:]]
    ids = [int(number) for place, number in enumerate(made.ids) if place not in kept]
    if not PICTURES[style].token:
        ids = [int(n) for place, n in enumerate(made.ids) if not any(place in slot.indices for slot in made.slots)]
    assert tokenizer.decode(ids, show_special=True) == expected
    assert all(tokenizer.special(token) == made.ids[place] for slot in made.slots for place in slot.indices)


def picture_of(style: PictureConfig, views: Sequence[View], *around: str) -> tuple[str, Rendered]:
    """One picture between two words, in the format that costs least."""
    chat = template("terse")
    prompt = PromptConfig(picture=style)
    tokenizer = byte_tokenizer(tuple(dict.fromkeys((*chat.specials, *prompt.specials))))
    before, after = around or ("a", "b")
    conversation = Conversation("talk", (said("user", before, PICTURE, after),))
    made = render(conversation, [views], chat, tokenizer, prompt, ask=True)
    return tokenizer.decode(made.ids.tolist(), show_special=True).removesuffix("<|answer|>"), made


def tile(tag: str = "", tokens: int = 2) -> View:
    return View(8, 8 * tokens, 2, 2 * tokens, 1, tokens, tag)


def test_tiles_are_tagged_in_plain_text() -> None:
    """Source: the hub's NVLM-D-72B, modeling_nvlm_d.py."""
    pads = "<|vision_pad|>" * 2
    views = [tile("<tile_1>"), tile("<tile_2>"), tile("<tile_global_thumbnail>")]
    text, made = picture_of(PICTURES["nvlm"], views)
    assert text == f"a<Image><tile_1>{pads}<tile_2>{pads}<tile_global_thumbnail>{pads}</Image>b"
    assert [slot.view for slot in made.slots] == views
    tagged = PictureConfig(token="<pad>", tags="special")
    tokenizer = byte_tokenizer(("<pad>", "<tile_1>", *template("terse").specials))
    conversation = Conversation("talk", (said("user", PICTURE),))
    made = render(
        conversation, [[tile("<tile_1>")]], template("terse"), tokenizer, PromptConfig(picture=tagged), ask=True
    )
    assert made.ids[:3].tolist() == [tokenizer.special(name) for name in ("<tile_1>", "<pad>", "<pad>")]


def test_tiles_in_one_run() -> None:
    text, _ = picture_of(PICTURES["internvl"], [tile(), tile(), tile()])
    assert text == "a<img>" + "<IMG_CONTEXT>" * 6 + "</img>b"


def test_tiles_in_rows_each_in_its_own_tokens() -> None:
    """Source: the hub's MiniCPM-Llama3-V-2_5: 448 x 448, and 1024 x 768 in two rows of two."""
    one = "<image><unk><unk></image>"
    assert picture_of(PICTURES["minicpmv"], [tile()])[0] == f"a{one}b"
    views = [tile(), tile(), tile(), tile("\n"), tile()]
    assert picture_of(PICTURES["minicpmv"], views)[0] == f"a{one}<slice>{one}{one}\n{one}{one}</slice>b"


@pytest.mark.parametrize("after", ["What?", "\nWhat?", " \n\n What?"])
def test_white_space_after_a_picture_gives_way_to_the_styles_own(after: str) -> None:
    assert picture_of(PICTURES["qwen_vl"], [tile(tokens=1)], "", after)[0] == ("Picture 1: <img><imgpad></img>\nWhat?")
    assert picture_of(PICTURES["qwen2_vl"], [tile(tokens=1)], "", after)[0].endswith("<|vision_end|>" + after)


@pytest.mark.parametrize("style", PICTURES, ids=list(PICTURES))
@pytest.mark.parametrize("name", TEMPLATES, ids=list(TEMPLATES))
def test_any_template_takes_any_picture_style(name: str, style: str) -> None:
    chat, prompt = template(name), PromptConfig(name, picture=PICTURES[style])
    tokenizer = byte_tokenizer(tuple(dict.fromkeys((*chat.specials, *prompt.specials))))
    conversation = Conversation("talk", (said("user", PICTURE, "x", PICTURE), said("assistant", "y")))
    views = [(tile(), tile("t")), (tile(),)]
    made = render(conversation, views, chat, tokenizer, prompt)
    assert [(slot.media, slot.view) for slot in made.slots] == [(0, tile()), (0, tile("t")), (1, tile())]
    places = [place for slot in made.slots for place in slot.indices]
    assert places == sorted(set(places))
    assert not made.weights[[place - 1 for place in places]].any()
    assert made.weights.sum() == len(tokenizer.encode(f"{chat.lead}y{chat.tail}")) + (
        1 if isinstance(chat.end, Special) else len(chat.end)
    )


def test_prompts_of_systems_are_whole() -> None:
    for prompt in PROMPTS.values():
        chat = template(prompt.template)
        tokenizer = byte_tokenizer(tuple(dict.fromkeys((*chat.specials, *prompt.specials))))
        conversation = Conversation("talk", (said("user", PICTURE, "x"), said("assistant", "y")))
        made = render(conversation, [(tile(),)], chat, tokenizer, prompt)
        assert prompt.system in tokenizer.decode(made.ids.tolist())


def test_what_a_model_says_ends_where_its_answer_does() -> None:
    """An answer that ends in plain text may come in pieces."""
    human = template("minigpt4")
    assert human.stop is None
    assert [human.said(text) for text in ("A dog", "A dog.#", "A dog.##", "A dog.###", "A dog.###Human: ")] == [
        ("A dog", False), ("A dog.", False), ("A dog.", False), ("A dog.", True), ("A dog.", True),
    ]  # fmt: skip
    assert human.said("A dog.##", whole=True) == ("A dog.##", False)
    assert template("vicuna").said(" A dog.") == ("A dog.", False)
    assert template("llama2").said(" A dog. ") == ("A dog.", False)
    assert template("chatml").said(" A dog.") == (" A dog.", False)


def test_a_style_has_a_name_in_a_recipe() -> None:
    assert PictureConfig.from_scalar("qwen2_vl") == PICTURES["qwen2_vl"]
    known = re.escape(", ".join(PICTURES))
    with pytest.raises(RecipeError, match=rf"unknown picture style 'qwen2_vll' \(did you mean 'qwen2_vl'\?\).*{known}"):
        PictureConfig.from_scalar("qwen2_vll")

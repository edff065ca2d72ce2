"""The chat formats we write ourselves: what stands before and after each turn, by name."""

from __future__ import annotations

from collections.abc import Mapping

from vitrail.contracts.errors import RecipeError, nearest
from vitrail.contracts.messages import Role
from vitrail.prompts.tools import hermes
from vitrail.prompts.turns import Piece, Special, Template, TurnTemplate

__all__ = ["TEMPLATES", "TOKENIZER", "Piece", "Special", "Template", "TurnTemplate", "known", "template"]

TOKENIZER = "tokenizer"
"""The name under which a recipe asks for the chat template that comes with the tokenizer; see `prompts.program`."""

Rows = Mapping[Role, tuple[Piece, ...]]

_OPEN, _CLOSE = Special("<|im_start|>"), Special("<|im_end|>")
_BOS, _EOS = Special("<s>"), Special("</s>")
_HEADER, _HEADER_END = Special("<|start_header_id|>"), Special("<|end_header_id|>")
_MIDDLE = Special("<|im_middle|>")

_NOTHING: Rows = {"system": (), "user": (), "assistant": ()}
_CHATML: Rows = {"system": (_OPEN, "system\n"), "user": (_OPEN, "user\n"), "assistant": (_OPEN, "assistant\n")}
_HUMAN: Rows = {"system": (), "user": ("###Human: ",), "assistant": ("###Assistant: ",)}

_FORMATS = (
    # Source: the chat template of HuggingFaceTB/SmolLM2-135M-Instruct, which is ChatML as OpenAI published it; those of
    # Qwen/Qwen-VL-Chat (qwen_generation_utils.py, make_context), Qwen/Qwen2-VL-7B-Instruct and nvidia/NVLM-D-72B.
    TurnTemplate(
        "chatml",
        before=_CHATML,
        after={"system": (_CLOSE, "\n"), "user": (_CLOSE, "\n"), "assistant": ("\n",)},
        end=_CLOSE,
        tools=hermes,
    ),
    # ChatML on one line. Source: OpenGVLab/InternVL, internvl_chat, conversation.py, `internlm2-chat` and `Hermes-2`.
    TurnTemplate(
        "internlm2",
        before=_CHATML,
        after={"system": (_CLOSE,), "user": (_CLOSE,), "assistant": ()},
        end=_CLOSE,
        start=(_BOS,),
    ),
    # Source: lm-sys/FastChat, conversation.py, `vicuna_v1.1`; haotian-liu/LLaVA, conversation.py, `v1`; InternVL-Chat
    # 1.0 is trained with the latter. The tokenizer writes the `<s>` there.
    TurnTemplate(
        "vicuna",
        before={"system": (), "user": ("USER: ",), "assistant": ("ASSISTANT:",)},
        after={"system": (" ",), "user": (" ",), "assistant": ()},
        end=_EOS,
        start=(_BOS,),
        lead=" ",
    ),
    # Source: meta-llama/llama, llama/generation.py, chat_completion; the chat template of Llama-2-7b-chat-hf.
    TurnTemplate(
        "llama2",
        before={"system": (_BOS, "[INST] <<SYS>>\n"), "user": (_BOS, "[INST] "), "assistant": ()},
        after={"system": ("\n<</SYS>>\n\n",), "user": (" [/INST]",), "assistant": ()},
        end=_EOS,
        joined={("system", "user"): ()},
        lead=" ",
        tail=" ",
        strips=True,
    ),
    # Source: meta-llama/llama3, llama/tokenizer.py, ChatFormat. MiniCPM-Llama3-V 2.5 has it too.
    TurnTemplate(
        "llama3",
        before={
            "system": (_HEADER, "system", _HEADER_END, "\n\n"),
            "user": (_HEADER, "user", _HEADER_END, "\n\n"),
            "assistant": (_HEADER, "assistant", _HEADER_END, "\n\n"),
        },
        after={"system": (Special("<|eot_id|>"),), "user": (Special("<|eot_id|>"),), "assistant": ()},
        end=Special("<|eot_id|>"),
        start=(Special("<|begin_of_text|>"),),
        strips=True,
    ),
    # Source: the chat template of mistralai/Mistral-Small-3.1-24B-Instruct-2503 (the format "V7-Tekken").
    TurnTemplate(
        "mistral",
        before={"system": (Special("[SYSTEM_PROMPT]"),), "user": (Special("[INST]"),), "assistant": ()},
        after={"system": (Special("[/SYSTEM_PROMPT]"),), "user": (Special("[/INST]"),), "assistant": ()},
        end=_EOS,
        start=(_BOS,),
    ),
    # Source: deepseek-ai/DeepSeek-VL, utils/conversation.py and processing_vlm.py; DeepSeek-LLM's chat is the same.
    TurnTemplate(
        "deepseek",
        before={"system": (), "user": ("User: ",), "assistant": ("Assistant:",)},
        after={"system": ("\n\n",), "user": ("\n\n",), "assistant": ()},
        end=Special("<｜end▁of▁sentence｜>"),  # noqa: RUF001, as DeepSeek has it
        start=(Special("<｜begin▁of▁sentence｜>"),),  # noqa: RUF001
        lead=" ",
        strips=True,
    ),
    # Source: the chat template of moonshotai/Kimi-VL-A3B-Instruct.
    TurnTemplate(
        "kimi",
        before={
            "system": (Special("<|im_system|>"), "system", _MIDDLE),
            "user": (Special("<|im_user|>"), "user", _MIDDLE),
            "assistant": (Special("<|im_assistant|>"), "assistant", _MIDDLE),
        },
        after={"system": (_CLOSE,), "user": (_CLOSE,), "assistant": ()},
        end=_CLOSE,
    ),
    # Answers end with plain text. Source: Vision-CAIR/MiniGPT-4, conversation/conversation.py, CONV_VISION_Vicuna0.
    TurnTemplate(
        "minigpt4",
        before=_HUMAN,
        after=_NOTHING,
        end="###",
        start=(_BOS,),
        joined={("assistant", "user"): ("Human: ",)},
    ),
    # The same with the space that the second stage is trained with. Source: train_configs/minigpt4_stage2_finetune.yaml
    # there, prompt_template. How it goes on after an answer is a default of ours: that stage has one answer a picture.
    TurnTemplate(
        "minigpt4_alignment",
        before=_HUMAN,
        after={**_NOTHING, "user": (" ",)},
        end="###",
        start=(_BOS,),
        joined={("assistant", "user"): ("Human: ",)},
    ),
    # The tokenizer writes one `<s>`, the format another. Source: conversation.py there, CONV_VISION_LLama2.
    TurnTemplate(
        "minigpt4_llama2",
        before={**_NOTHING, "user": (_BOS, "[INST] ")},
        after={**_NOTHING, "user": (" [/INST] ",)},
        end=_EOS,
        start=(_BOS,),
        end_last_only=True,
    ),
    # Source: conversation.py there, CONV_VISION_minigptv2.
    TurnTemplate(
        "minigptv2",
        before={**_NOTHING, "user": (_BOS, "[INST] ")},
        after={**_NOTHING, "user": (" [/INST]",)},
        end=_EOS,
        start=(_BOS,),
        end_last_only=True,
    ),
    # For encoder-decoders, which have no tokens of chat: what is read ends with `</s>`, and so does what is said.
    # Source: google-research/text-to-text-transfer-transformer, whose inputs and targets end so; Flan-T5's are the
    # same. Several turns in one input are a default of ours.
    TurnTemplate(
        "text_to_text",
        before=_NOTHING,
        after={**_NOTHING, "system": ("\n",), "user": (_EOS,)},
        end=_EOS,
    ),
    # For models trained from nothing on bytes, where every token of format is a token to pay for.
    TurnTemplate(
        "terse",
        before={"system": (), "user": (), "assistant": (Special("<|answer|>"),)},
        after={"system": (Special("<|end|>"),), "user": (), "assistant": ()},
        end=Special("<|end|>"),
    ),
)

TEMPLATES: Mapping[str, TurnTemplate] = {one.name: one for one in _FORMATS}


def template(name: str) -> TurnTemplate:
    """The chat format of that name. Raises RecipeError for an unknown one, and for the tokenizer's own."""
    known(name)
    if name == TOKENIZER:
        raise RecipeError(f"prompt.template: '{TOKENIZER}' is known once the tokenizer is; see `prompts.program`")
    return TEMPLATES[name]


def known(name: str) -> None:
    """Raises RecipeError for a name that `prompt.template` cannot have."""
    names = (*TEMPLATES, TOKENIZER)
    if name not in names:
        raise RecipeError(
            f"prompt.template: unknown template '{name}'{nearest(name, names)}; known: {', '.join(names)}"
        )

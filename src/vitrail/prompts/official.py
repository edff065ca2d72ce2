"""The prompts of published systems, whole: template, system text, what stands around pictures, how boxes are written.

Each is what the official chat code writes when nobody says anything else; a stage of training may differ.
"""

from __future__ import annotations

from collections.abc import Mapping

from vitrail.prompts.config import PICTURES, PromptConfig

ASSISTANT = "You are a helpful assistant."

MINIGPT4 = (
    "Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I provide it to you. "
    "Please answer my questions."
)
DEEPSEEK_VL = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
# What the first release said; the repository's text since then is INTERNVL.
INTERNVL_1_5 = "You are an AI assistant whose name is InternLM (书生·浦语)."
INTERNVL = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，"  # noqa: RUF001, Chinese
    "英文名叫InternVL, 是一个有用无害的人工智能助手。"
)

PROMPTS: Mapping[str, PromptConfig] = {
    # Source: Vision-CAIR/MiniGPT-4, minigpt4/conversation/conversation.py.
    "minigpt4": PromptConfig("minigpt4", MINIGPT4, PICTURES["minigpt4"]),
    "minigpt4_llama2": PromptConfig("minigpt4_llama2", MINIGPT4, PICTURES["minigpt4"]),
    "minigptv2": PromptConfig("minigptv2", "", PICTURES["minigpt4"], "minigptv2"),
    # Source: the hub's Qwen-VL-Chat, modeling_qwen.py and tokenization_qwen.py.
    "qwen_vl": PromptConfig("chatml", ASSISTANT, PICTURES["qwen_vl"], "qwen_vl"),
    # Source: haotian-liu/LLaVA, conversation.py, `v1`, which InternVL-Chat 1.0 is trained with. The line break after a
    # picture is in its rows; that it is written for every picture is a default of ours.
    "internvl_1_0": PromptConfig("vicuna", VICUNA, PICTURES["llava"]),
    # Source: OpenGVLab/InternVL, internvl_chat, conversation.py.
    "internvl_1_5": PromptConfig("internlm2", INTERNVL_1_5, PICTURES["internvl"], "internvl"),
    "internvl_1_5_later": PromptConfig("internlm2", INTERNVL, PICTURES["internvl"], "internvl"),
    # Source: deepseek-ai/DeepSeek-VL, utils/conversation.py.
    "deepseek_vl": PromptConfig("deepseek", DEEPSEEK_VL, PICTURES["deepseek_vl"]),
    # Source: the chat templates of Qwen/Qwen2-VL-7B-Instruct and moonshotai/Kimi-VL-A3B-Instruct.
    "qwen2_vl": PromptConfig("chatml", ASSISTANT, PICTURES["qwen2_vl"], "qwen2_vl"),
    "kimi_vl": PromptConfig("kimi", "You are a helpful assistant", PICTURES["kimi_vl"]),
    # Source: the hub's MiniCPM-Llama3-V-2_5, processing_minicpmv.py. How it writes boxes is not published.
    "minicpmv_2_5": PromptConfig("llama3", "", PICTURES["minicpmv"]),
    # Source: the hub's NVLM-D-72B, modeling_nvlm_d.py; NVIDIA/Megatron-LM, examples/multimodal, for the system text.
    "nvlm_d": PromptConfig("chatml", "Answer the questions.", PICTURES["nvlm"], "nvlm"),
}
"""By the name of the system."""

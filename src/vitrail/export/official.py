"""A finished model in the layout of a published system: the folder that transformers and what builds on it open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from torch import Tensor

from vitrail.contracts.errors import WeightsError
from vitrail.data.encode import Encode
from vitrail.disk import whole_folder
from vitrail.export.chat_template import chat_template
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.generation import GENERATION, ends_of, with_ends
from vitrail.models.config import ModelConfig
from vitrail.models.weights import unshared
from vitrail.systems.accounting import Account, accounted
from vitrail.systems.folder import describe, fitting, read_settings, system_of, tensor_names, to_official
from vitrail.systems.system import Json, ModelSpec

Dtype = Literal["float32", "bfloat16"]

UNUSED = ("contrast.", "char_head.")
"""Heads of training objectives: an answer does not need them, and no official layout has them."""


def export(
    model: MultimodalModel,
    encode: Encode,
    config: ModelConfig,
    folder: Path,
    dtype: Dtype = "float32",
    layout: str | None = None,
) -> str:
    """Writes `folder`: weights, configuration, processor, tokenizer, chat template. Returns the official class.

    layout: a system's model_type, where the model's structure fits several; None for the first that it fits.
    Holds a second copy of the weights in memory. Raises WeightsError when the folder is there already, or the model
    does not fit the layout.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"'{folder}' exists already and is not empty; choose another")
    stop = encode.template.stop
    if stop is None:
        raise WeightsError(
            f"the template '{encode.template.name}' ends answers with no special token; readers need one"
        )
    end = encode.tokenizer.special(stop.name)
    spec = ModelSpec(config, encode.prompt, _language_settings(model, end))
    system = fitting(spec, layout)
    files = {**system.write(spec, encode.tokenizer, dtype)}
    files[GENERATION] = _generation(files.get(GENERATION, {}), config.generation)
    tensors = to_official(system, spec, _to_write(model))
    try:
        with whole_folder(folder) as making:
            encode.tokenizer.save(str(making))
            for name, content in files.items():
                (making / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            program = chat_template(encode.template, encode.prompt)
            (making / "chat_template.jinja").write_text(program, encoding="utf-8")
            kind = getattr(torch, dtype)
            save_torch_state_dict({name: tensor.to("cpu", kind) for name, tensor in tensors.items()}, making)
            read_back(making, model)
            if folder.is_dir():
                folder.rmdir()
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write to '{folder}': {getattr(error, 'strerror', None) or error}") from error
    return system.LAYOUT


def _to_write(model: MultimodalModel) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in unshared(model).items() if not name.startswith(UNUSED)}


def read_back(folder: Path, model: MultimodalModel) -> Account:
    """The account of what was written, from its settings and the headers of its weights, against the model's tensors.

    Raises WeightsError for a folder that would not open, or not whole.
    """
    system, official = system_of(folder), read_settings(folder)
    spec = describe(system, official, folder)
    return accounted(system, spec, tensor_names(folder), _to_write(model), folder)


def _generation(written: Json, base: Json) -> Json:
    """What the system writes, over which lies what the base said of generation; every end token of both."""
    ends = ends_of(written, GENERATION)
    ends += [end for end in ends_of(base, GENERATION) if end not in ends]
    return with_ends({**written, **base}, ends) if ends else {**written, **base}


# What transformers keeps for every model there is, language models or not.
GENERIC = {
    *("architectures", "chunk_size_feed_forward", "dtype", "id2label", "is_encoder_decoder"),
    *("label2id", "output_attentions", "output_hidden_states", "problem_type", "return_dict", "transformers_version"),
}


def _language_settings(model: MultimodalModel, end: int) -> dict[str, object]:
    """transformers' settings of the language model. end: id of the token that closes an answer."""
    lm = model.language_model.lm
    settings: dict[str, Any] = json.loads(lm.config.to_json_string(use_diff=False))
    settings = {key: value for key, value in settings.items() if key not in GENERIC and key[0] != "_"}
    # Readers of before transformers 5 look for the base of the rotary positions by itself.
    theta = (settings.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None:
        settings.setdefault("rope_theta", theta)
    # vLLM looks for the class of a language model that is no Mistral.
    return {**settings, "architectures": [type(lm).__name__], "eos_token_id": end}

"""An official folder to a model, its description and its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.tokenizer import HFTokenizer, NoTokenizer, load_tokenizer
from vitrail.models.config import CustomConfig, ModelConfig, VisionTransformerConfig
from vitrail.models.encoders.vision_transformer import VisionTransformer
from vitrail.models.weights import fill_model, unshared
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.prompts.program import tokenizer_template
from vitrail.prompts.recognise import recognise
from vitrail.prompts.templates import TOKENIZER, template
from vitrail.systems.folder import (
    describe,
    encoder_of,
    from_official,
    is_encoder,
    read_folder,
    read_settings,
    system_of,
)
from vitrail.systems.system import Json, ModelSpec, differences

Assemble = Callable[[ModelConfig, Json], MultimodalModel]
"""Components, and transformers' settings of the language model, to a model whose weights are yet to be filled in."""


def open_official(folder: Path, assemble: Assemble) -> tuple[MultimodalModel, ModelSpec, HFTokenizer | NoTokenizer]:
    """A model in the layout of a published system, with its whole description. Raises WeightsError.

    Where it cannot be asked, the tokenizer is one that says why.
    """
    system, official = system_of(folder), read_folder(folder)
    spec = describe(system, official, folder)
    try:
        model = assemble(spec.model, spec.backbone)
    except RecipeError as error:
        raise WeightsError(f"'{folder}': {error}") from error
    fill_model(model, from_official(system, spec, official.tensors, unshared(model), folder), folder)
    tokenizer, prompt = _prompt(folder, official.files, spec.prompt.picture)
    components = replace(spec.model, backbone=replace(spec.model.backbone, tokenizer=str(folder)))
    return model, replace(spec, model=components, prompt=prompt), tokenizer


def official_settings(folder: Path) -> ModelSpec:
    """What an official folder says of its model, but for the weights, which need not be there. Raises WeightsError.

    The tokenizer is the folder itself; null where it holds none, or none that our prompts can be made with.
    """
    official = read_settings(folder)
    spec = describe(system_of(folder), official, folder)
    picture = spec.prompt.picture
    tokenizer, prompt = _prompt(folder, official.files, picture)
    if isinstance(tokenizer, NoTokenizer):
        prompt = PromptConfig(picture=picture)
    place = "bytes" if isinstance(tokenizer, NoTokenizer) else str(folder)
    backbone = replace(spec.model.backbone, config=spec.backbone, tokenizer=place)
    return replace(spec, model=replace(spec.model, backbone=backbone), prompt=prompt)


def official_weights(
    folder: Path, assemble: Assemble, encoder: VisionTransformerConfig | CustomConfig | None = None
) -> dict[str, Tensor]:
    """The tensors of an official folder by our names: of a whole model, or of a vision encoder alone.

    encoder: what its encoder must be, where that is wanted. Raises WeightsError, for another encoder too.
    """
    official = read_folder(folder)
    if is_encoder(folder):
        layout = encoder_of(folder)
        alone = describe(layout, official, folder)
        _same_encoder(encoder, alone.encoder, folder)
        with torch.device("meta"):
            tower = VisionTransformer(alone.encoder, 3 * alone.media.patch**2)
        names = [f"encoder.{name}" for name in tower.state_dict()]
        return from_official(layout, alone, official.tensors, names, folder)
    system = system_of(folder)
    spec = describe(system, official, folder)
    _same_encoder(encoder, spec.model.encoder, folder)
    with torch.device("meta"):
        model = assemble(spec.model, spec.backbone)
    # Tied tensors once: tensors without storage cannot be told apart by their address.
    own = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    names = [name for name in model.state_dict() if name in own]
    return from_official(system, spec, official.tensors, names, folder)


READ_OUT = ("layer", "pooling", "pooled_width", "dummy_heads")
"""Settings of an encoder that say how its features are taken, not what its weights are."""


def _same_encoder(wanted: Any, found: Any, folder: Path) -> None:
    """Raises WeightsError where an encoder of the same shapes would compute something else."""
    if wanted is None:
        return
    if not isinstance(wanted, VisionTransformerConfig):
        raise WeightsError(f"model.weights.encoder: '{folder}' holds no {wanted.kind}")
    other = differences(wanted, found, READ_OUT, "model.encoder")
    if other:
        more = f", and {len(other) - 1} more" if len(other) > 1 else ""
        raise WeightsError(f"model.weights.encoder: '{folder}' is of another structure: {other[0]}{more}")


def _prompt(
    folder: Path, files: Mapping[str, Json], picture: PictureConfig
) -> tuple[HFTokenizer | NoTokenizer, PromptConfig]:
    """The tokenizer, and the prompt that its chat template shows; one that says why, where there is no asking."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return NoTokenizer(f"'{folder}' holds no tokenizer: its model runs on ids, but cannot be asked"), PromptConfig()
    tokenizer = load_tokenizer(str(folder))
    if not tokenizer.hf.chat_template:
        # Processors of before transformers 5 keep it in a file of its own.
        tokenizer.hf.chat_template = files.get("chat_template.json", {}).get("chat_template")
    prompt = recognise(tokenizer.formatted, picture)
    if prompt is None:
        try:
            tokenizer_template(tokenizer.chat_template, tokenizer.names, tokenizer.specials, tokenizer.whole, picture)
        except RecipeError as error:
            reason = f"the chat template of '{folder}' is none of ours, and as a program it cannot be run ({error}): "
            return NoTokenizer(f"{reason}its model runs on ids, but cannot be asked"), PromptConfig()
        return tokenizer, PromptConfig(TOKENIZER, picture=picture)
    for special in (*template(prompt.template).specials, *prompt.specials):
        tokenizer.special(special)
    return tokenizer, prompt

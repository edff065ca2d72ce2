"""An official folder to a model, its description and its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.contracts.protocols import Encoder
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.checks import readable
from vitrail.models.backbones.construct import transformers_config
from vitrail.models.backbones.generation import generation_of
from vitrail.models.backbones.tokenizer import HFTokenizer, NoTokenizer, load_tokenizer
from vitrail.models.config import EncoderConfig, ModelConfig
from vitrail.models.weights import fill_model, unshared
from vitrail.prompts.config import PromptConfig
from vitrail.prompts.program import tokenizer_template
from vitrail.prompts.recognise import recognise
from vitrail.prompts.sandbox import run
from vitrail.prompts.templates import TOKENIZER, template
from vitrail.systems.accounting import accounted
from vitrail.systems.folder import (
    describe,
    encoder_of,
    from_official,
    is_encoder,
    read_folder,
    read_settings,
    system_of,
)
from vitrail.systems.settings import ignored
from vitrail.systems.system import Json, ModelSpec, differences

Assemble = Callable[[ModelConfig, Json], MultimodalModel]
"""Components, and transformers' settings of the language model, to a model whose weights are yet to be filled in."""

BuildEncoder = Callable[[EncoderConfig, int], Encoder]
"""An encoder's settings, and the numbers in one patch or frame, to the encoder."""


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
    names = unshared(model)
    account = accounted(system, spec, official.tensors, names, folder)
    fill_model(model, from_official(system, spec, official.tensors, names, folder), folder)
    tokenizer, prompt = _prompt(folder, spec)
    components = replace(
        spec.model,
        backbone=replace(spec.model.backbone, tokenizer=str(folder)),
        generation=generation_of(official.files),
    )
    notes = (f"{folder} is {system.LAYOUT}, {account}", *ignored(official.files))
    return model, replace(spec, model=components, prompt=prompt, notes=notes), tokenizer


def official_settings(folder: Path) -> ModelSpec:
    """What an official folder says of its model, but for the weights, which need not be there. Raises WeightsError.

    The tokenizer is the folder itself; null where it holds none, or none that our prompts can be made with.
    """
    official = read_settings(folder)
    spec = describe(system_of(folder), official, folder)
    tokenizer, prompt = _prompt(folder, spec)
    if isinstance(tokenizer, NoTokenizer):
        prompt = PromptConfig(picture=spec.prompt.picture)
    place = "bytes" if isinstance(tokenizer, NoTokenizer) else str(folder)
    backbone = replace(spec.model.backbone, config=spec.backbone, tokenizer=place)
    components = replace(spec.model, backbone=backbone, generation=generation_of(official.files))
    return replace(spec, model=components, prompt=prompt)


def official_weights(
    folder: Path, assemble: Assemble, tower: BuildEncoder, wanted: Mapping[str, EncoderConfig]
) -> dict[str, Tensor]:
    """The tensors of an official folder by our names: of a whole model, or of an encoder alone.

    wanted: encoders that are taken from it, by component (`encoder`, `audio_encoder`), and what they must be. Raises
    WeightsError, for another encoder too.
    """
    official = read_folder(folder)
    if is_encoder(folder):
        layout = encoder_of(folder)
        alone = describe(layout, official, folder)
        for name, config in wanted.items():
            _same_encoder(name, config, alone.encoder, folder)
        with torch.device("meta"):
            made = cast(nn.Module, tower(alone.encoder, alone.media.patch_values))
        names = [f"encoder.{name}" for name in made.state_dict()]
        tensors = from_official(layout, alone, official.tensors, names, folder)
        # The same tensors for each component that is such an encoder, and under its own name for messages.
        components = list(wanted) or ["encoder"]
        return {one + name.removeprefix("encoder"): tensor for one in components for name, tensor in tensors.items()}
    system = system_of(folder)
    spec = describe(system, official, folder)
    if "encoder" in wanted:
        _same_encoder("encoder", wanted["encoder"], spec.model.encoder, folder)
    with torch.device("meta"):
        model = assemble(spec.model, spec.backbone)
    # Tied tensors once: tensors without storage cannot be told apart by their address.
    own = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    names = [name for name in model.state_dict() if name in own]
    return from_official(system, spec, official.tensors, names, folder)


READ_OUT = ("layer", "pooling", "pooled_width", "dummy_heads")
"""Settings of an encoder that say how its features are taken, not what its weights are."""


def _same_encoder(name: str, wanted: EncoderConfig, found: Any, folder: Path) -> None:
    """Raises WeightsError where an encoder of the same shapes would compute something else."""
    if type(wanted) is not type(found):
        raise WeightsError(f"model.weights.{name}: '{folder}' holds no {wanted.kind}")
    where = "model.encoder" if name == "encoder" else f"model.streams.{name.removesuffix('_encoder')}.encoder"
    other = differences(wanted, found, READ_OUT, where)
    if other:
        more = f", and {len(other) - 1} more" if len(other) > 1 else ""
        raise WeightsError(f"model.weights.{name}: '{folder}' is of another structure: {other[0]}{more}")


def _prompt(folder: Path, spec: ModelSpec) -> tuple[HFTokenizer | NoTokenizer, PromptConfig]:
    """The tokenizer, and the prompt that its chat template shows; one that says why, where there is no asking.

    Raises WeightsError for a tokenizer that makes ids beyond the language model's table.
    """
    picture = spec.prompt.picture
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return NoTokenizer(f"'{folder}' holds no tokenizer: its model runs on ids, but cannot be asked"), PromptConfig()
    tokenizer = load_tokenizer(str(folder))
    rows = readable(transformers_config(spec.backbone))
    if tokenizer.vocabulary > rows:
        raise WeightsError(
            f"'{folder}' has a tokenizer whose ids go up to {tokenizer.vocabulary - 1}, and vocab_size {rows}: the "
            "language model has no embedding for the last of them"
        )
    program = tokenizer.chat_template or ""
    prompt = recognise(lambda messages: run(program, tokenizer.names, messages, ask=True), picture)
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

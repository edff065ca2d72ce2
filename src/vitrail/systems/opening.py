"""An official folder to a model, its description and its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.models.assembled import MultimodalModel
from vitrail.models.backbones.tokenizer import HFTokenizer, NoTokenizer, load_tokenizer
from vitrail.models.config import ModelConfig
from vitrail.models.weights import fill_model, unshared
from vitrail.prompts.config import PictureConfig, PromptConfig
from vitrail.prompts.program import tokenizer_template
from vitrail.prompts.recognise import recognise
from vitrail.prompts.templates import TOKENIZER, template
from vitrail.systems.folder import describe, from_official, read_folder, system_of
from vitrail.systems.system import Described, Json

Assemble = Callable[[ModelConfig, Json], MultimodalModel]
"""Components, and transformers' settings of the language model, to a model whose weights are yet to be filled in."""


def open_official(folder: Path, assemble: Assemble) -> tuple[MultimodalModel, Described, HFTokenizer | NoTokenizer]:
    """A model in the layout of a published system, with its whole description. Raises WeightsError.

    Where it cannot be asked, the tokenizer is one that says why.
    """
    system, official = system_of(folder), read_folder(folder)
    described = describe(system, official, folder)
    try:
        model = assemble(described.model, described.backbone)
    except RecipeError as error:
        raise WeightsError(f"'{folder}': {error}") from error
    fill_model(model, from_official(system, described, official.tensors, unshared(model), folder), folder)
    tokenizer, prompt = _prompt(folder, official.files, described.prompt.picture)
    components = replace(described.model, backbone=replace(described.model.backbone, tokenizer=str(folder)))
    return model, replace(described, model=components, prompt=prompt), tokenizer


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

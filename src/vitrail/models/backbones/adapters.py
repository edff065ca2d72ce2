"""LoRA on the language model's layers, by peft: a pair of small matrices learns beside each frozen one.

In a run the pairs stay apart, so that their gradients and optimizer state are all that training costs; a finished model
has them merged. Importing peft takes seconds, so it is imported only where a model gets adapters or writes them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from vitrail.contracts.errors import RecipeError, WeightsError, nearest
from vitrail.disk import whole_folder
from vitrail.models.backbones.config import LoraConfig
from vitrail.models.ops import nf4

ADAPTER = "default"
"""peft's name for the only adapter of a model."""
DOWN, UP, FROZEN = f".lora_A.{ADAPTER}.weight", f".lora_B.{ADAPTER}.weight", ".base_layer."
"""How peft names the pair float[rank, in], float[out, rank], and what it puts before the names of the frozen layer."""
OFF: tuple[Any, ...] = (None, False, {}, [])
PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""How pairs begin: of other ways, the base's own weights are changed too."""
ANYTHING = (
    *("r", "lora_alpha", "lora_dropout", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path"),
    *("revision", "inference_mode", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("megatron_core", "qalora_group_size", "runtime_config", "ensure_weight_tying"),
)
"""Settings of peft that change nothing of what pairs do: which layers have them, their names say."""
PREFIX = "base_model.model."
"""Of names in a file. Source: peft's `PeftModel`, which holds its tuner as base_model, and that the language model."""


def inject(lm: PreTrainedModel, layers: Iterable[nn.Module], config: LoraConfig, task: str) -> None:
    """Gives every matrix of the layers that `targets` names its pair: the first random, the second zero, so nothing
    changes yet.

    task: what peft calls models of this kind. Raises RecipeError for a target that the layers have not.
    """
    inner = (pair for layer in layers for pair in layer.named_modules())
    linear = (name for name, module in inner if isinstance(module, nn.Linear))
    known = list(dict.fromkeys(name.rpartition(".")[2] for name in linear))
    for target in config.targets:
        if target not in known:
            raise RecipeError(
                f"model.backbone.lora.targets: the layers of the language model have no '{target}'"
                f"{nearest(target, known)}; they have: {', '.join(known)}"
            )
    import peft

    settings = peft.LoraConfig(
        task_type=task, r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets)
    )
    peft.inject_adapter_in_model(settings, lm, adapter_name=ADAPTER)


@contextmanager
def switched_off(model: nn.Module) -> Generator[None]:
    """Within it the layers compute as if they had no pairs, whatever these were trained to."""
    if not any(of_adapter(name) for name, _ in model.named_parameters()):
        yield
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def read_adapter(folder: Path, config: LoraConfig) -> dict[str, Tensor]:
    """The pairs of an adapter that peft or `save_adapter` wrote, by their names in the language model.

    Raises WeightsError when there is none, its pairs count otherwise than `config` says, or a setting of it is one that
    changes what they do: `use_rslora`, `use_dora`, `alpha_pattern` and their like.
    """
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise WeightsError(f"model.backbone.lora.weights: '{folder}' holds no adapter (no {path.name})")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        found = _unknown(settings)
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"'{path}' cannot be read: {error}") from error
    for name, ours, theirs in (("alpha", config.alpha, "lora_alpha"), ("rank", config.rank, "r")):
        if settings.get(theirs) != ours:
            raise WeightsError(
                f"model.backbone.lora.{name} is {ours}, the adapter in '{folder}' has {settings.get(theirs)}"
            )
    if found:
        raise WeightsError(f"model.backbone.lora.weights: the adapter in '{folder}' is not plain LoRA: {found}")
    try:
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"'{folder / 'adapter_model.safetensors'}' cannot be read: {error}") from error
    return {
        name.removeprefix(PREFIX).replace(".weight", f".{ADAPTER}.weight"): tensor for name, tensor in tensors.items()
    }


def settings_of(folder: Path) -> LoraConfig:
    """An adapter as a recipe would begin with it. Raises WeightsError where there is none."""
    try:
        found = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return LoraConfig(found["r"], found["lora_alpha"], tuple(found["target_modules"]), weights=str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"'{folder}' holds no adapter that can be read: {error}") from error


def _unknown(settings: Mapping[str, Any]) -> str:
    """The settings of an adapter by which its pairs count otherwise than alpha / rank times, in a few words each.

    A setting that is not known, of a later version, is one of them unless it is off.
    """
    plain = {"peft_type": ("LORA",), "bias": ("none",), "init_lora_weights": PLAIN_STARTS}
    wanted = [(name, value, plain.get(name, OFF)) for name, value in settings.items() if name not in ANYTHING]
    return "; ".join(
        f"{name} is {value!r}, supported: {allowed[0]}" for name, value, allowed in wanted if value not in allowed
    )


def of_adapter(name: str) -> bool:
    """Whether a parameter is one of a pair."""
    return name.endswith((DOWN, UP))


def without_adapters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the language model, or of what holds it, under the official names; the tensors are the same."""
    return {name.replace(FROZEN, "."): tensor for name, tensor in tensors.items() if not of_adapter(name)}


def merged(tensors: Mapping[str, Tensor], config: LoraConfig) -> dict[str, Tensor]:
    """`without_adapters`, with every pair added to its matrix, which comes out on the CPU.

    Quantised matrices come out as what their codes stand for: it is beside these that the pairs have learnt.
    A matrix with a pair is float32 whatever the model computes in: bfloat16 weights lie on a coarse grid, and a small
    sum would fall back onto the point it started from.
    """
    found = without_adapters(nf4.unquantised(tensors))
    for name, down in tensors.items():
        if name.endswith(DOWN):
            layer = name.removesuffix(DOWN)
            change = tensors[layer + UP].float() @ down.float() * (config.alpha / config.rank)
            found[f"{layer}.weight"] = (found[f"{layer}.weight"].float() + change).cpu()
    return found


def save_adapter(lm: PreTrainedModel, base: str | None, folder: Path) -> None:
    """Writes the pairs in peft's layout; base: where transformers finds the model they belong to, if anywhere."""
    import peft

    settings = copy.copy(lm.peft_config[ADAPTER])
    settings.base_model_name_or_path, settings.inference_mode = base, True
    # peft keeps the targets as a set, whose order differs from process to process.
    settings.target_modules = sorted(settings.target_modules)
    # The vocabulary is as it was; unless told so, peft asks the hub.
    tensors = peft.get_peft_model_state_dict(lm, adapter_name=ADAPTER, save_embedding_layers=False)
    named = {PREFIX + name: tensor.contiguous() for name, tensor in tensors.items()}
    with whole_folder(folder) as making:
        settings.save_pretrained(str(making))
        save_file(named, making / "adapter_model.safetensors", metadata={"format": "pt"})

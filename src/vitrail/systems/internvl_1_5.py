"""The layout of InternVL 1.5, and of those after it that kept it: `InternVLChatModel`, `model_type: internvl_chat`.

    tiles -> InternViT -> pixel shuffle -> LayerNorm, two layers -> splice -> InternLM2 (or Llama, Qwen2)

InternLM2 runs as Llama: its layers are the same but for names, and for queries, keys and values, which lie in one
matrix, group by group of the heads that share a key.
Source: OpenGVLab/InternVL, `internvl_chat`; arXiv 2404.16821.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.models.backbones.checks import theta_of
from vitrail.models.config import DecoderConfig, MLPProjectorConfig, ModelConfig
from vitrail.prompts.config import PICTURES, PromptConfig
from vitrail.systems import composite
from vitrail.systems.composite import NOTES
from vitrail.systems.encoders import intern_vit
from vitrail.systems.system import Json, KeyMap, ModelSpec, Official, refused, same

LAYOUT = "InternVLChatModel"

FAMILIES = {
    "InternLM2ForCausalLM": "llama",
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
"""Class of the language model -> the family whose layers we run."""
GROUPED, WRITTEN_AS = "InternLM2ForCausalLM", "written_as"
"""The class whose matrices are grouped, and the setting under which a Llama of ours keeps that it came from one."""
PROJECTOR = MLPProjectorConfig(norm="layer", norm_at="merged")

SETTINGS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "max_position_embeddings", "rms_norm_eps", "hidden_act", "bos_token_id", "eos_token_id"),
    *("pad_token_id", "initializer_range", "tie_word_embeddings"),
)
"""InternLM2's settings that Llama has under the same names."""
OUTSIDE = {
    "model.embed_tokens": "model.tok_embeddings",
    "model.norm": "model.norm",
    "lm_head": "output",
}
IN_LAYER = {
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
QUERY, KEY, VALUE = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"


def read(official: Official) -> ModelSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    config = official.config
    vision = {**intern_vit.VISION, **config.get("vision_config", {})}
    unknown = [*intern_vit.unknown(vision), *language_unknown(config["llm_config"])]
    if config.get("pad2square"):
        unknown.append("pad2square is True, supported: False")
    if unknown:
        raise WeightsError(f"this model of {LAYOUT} has settings that are not supported: {'; '.join(unknown)}")
    backbone = language_settings(config["llm_config"])
    model = ModelConfig(
        backbone=DecoderConfig(config=backbone, tokenizer="bytes"),
        media=intern_vit.media_of(config, vision),
        encoder=intern_vit.encoder_of(vision, config.get("select_layer", -1)),
        projector=intern_vit.projector_of(config, backbone["hidden_size"], bias=True),
    )
    return ModelSpec(model, PromptConfig(picture=PICTURES["internvl"]), backbone)


def family_class(language: Json) -> str:
    """The class of the language model; `model_type` may name another one."""
    return str((language.get("architectures") or [""])[0])


def language_unknown(language: Json) -> list[str]:
    """Settings of the language model that ours does not have, each in a few words."""
    wanted: list[tuple[str, Any, Sequence[Any]]] = [
        ("llm_config.architectures", family_class(language), tuple(FAMILIES)),
        ("llm_config.attention_dropout", language.get("attention_dropout", 0), (0,)),
    ]
    return refused(wanted)


def language_settings(language: Json) -> dict[str, Any]:
    """`llm_config` as transformers' settings of the family that runs it."""
    found = family_class(language)
    rope = {"rope_type": "default", **_scaling(language), "rope_theta": theta_of(language) or 10_000.0}
    settings: dict[str, Any] = {"tie_word_embeddings": False}
    if found == GROUPED:
        settings |= {name: language[name] for name in SETTINGS if name in language}
        settings |= {"attention_bias": bool(language.get("bias", True)), WRITTEN_AS: GROUPED}
    else:
        left_out = (*NOTES, "rope_scaling", "rope_theta")
        settings |= {key: value for key, value in language.items() if key not in left_out}
    return {**settings, "model_type": FAMILIES[found], "rope_parameters": rope}


def written_language(backbone: Json, dtype: str) -> dict[str, Any]:
    """transformers' settings as `llm_config`, which keeps the rotary positions' apart."""
    rope = {key: value for key, value in (backbone.get("rope_parameters") or {}).items() if key != "rope_theta"}
    kind = rope.pop("rope_type", "default")
    rotary = {
        "rope_scaling": None if kind == "default" else {"type": kind, **rope},
        "rope_theta": (backbone.get("rope_parameters") or backbone)["rope_theta"],
        "torch_dtype": dtype,
    }
    if backbone.get(WRITTEN_AS) == GROUPED:
        kept = {name: backbone[name] for name in SETTINGS if name in backbone}
        bias = {"bias": backbone.get("attention_bias", False)}
        return {**kept, **rotary, **bias, "architectures": [GROUPED], "model_type": "internlm2"}
    rest = {key: value for key, value in backbone.items() if key not in (*NOTES, "rope_parameters")}
    classes = [name for name, family in FAMILIES.items() if family == backbone["model_type"] and name != GROUPED]
    return {**rest, **rotary, "architectures": classes}


def _scaling(language: Json) -> dict[str, Any]:
    """Of old files, which call the kind `type`."""
    scaling = dict(language.get("rope_scaling") or language.get("rope_parameters") or {})
    kind = scaling.pop("type", None)
    return {**({"rope_type": kind} if kind else {}), **scaling}


def obstacles(spec: ModelSpec) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    found = intern_vit.obstacles(spec.model, PROJECTOR)
    projector, width = spec.model.projector, spec.backbone["hidden_size"]
    if isinstance(projector, MLPProjectorConfig) and projector.hidden not in (None, width):
        found.append(f"model.projector.hidden is {projector.hidden}, the layout has the backbone's width, {width}")
    family = spec.backbone.get("model_type")
    if family not in FAMILIES.values():
        found.append(f"the language model is a {family}, the layout has {', '.join(sorted(set(FAMILIES.values())))}")
    if not spec.prompt.picture.token:
        found.append("prompt.picture.token names no token, the layout has one")
    return found


def write(spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    config = {
        "architectures": [LAYOUT],
        "llm_config": written_language(spec.backbone, dtype),
        "model_type": "internvl_chat",
        "template": "internlm2-chat",
        "torch_dtype": dtype,
        **intern_vit.outer_settings(spec.model),
    }
    end = composite.end_of_answer(spec, tokenizer)
    return {"config.json": config, "generation_config.json": {"eos_token_id": end, "pad_token_id": end}}


def canonical(name: str) -> str | None:
    """The official name; None for frequencies of rotary positions, which everyone computes."""
    return None if name.endswith("inv_freq") else name


def key_map(name: str, spec: ModelSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    if not name.startswith("backbone.lm."):
        return intern_vit.key_map(name, spec)
    inside = name.removeprefix("backbone.lm.")
    if spec.backbone.get(WRITTEN_AS) != GROUPED:
        return same(f"language_model.{inside}")
    module, _, kind = inside.rpartition(".")
    if module in OUTSIDE:
        return same(f"language_model.{OUTSIDE[module]}.{kind}")
    _, _, number, part = module.split(".", 3)
    layer = f"language_model.model.layers.{number}"
    if part in IN_LAYER:
        return same(f"{layer}.{IN_LAYER[part]}.{kind}")
    heads, groups = spec.backbone["num_attention_heads"], spec.backbone["num_key_value_heads"]
    which = {
        QUERY: slice(None, heads // groups),
        KEY: slice(heads // groups, heads // groups + 1),
        VALUE: slice(heads // groups + 1, None),
    }[part]
    join = partial(_of_groups, heads=heads, groups=groups, which=which)
    split = partial(_into_groups, heads=heads, groups=groups, which=which)
    return KeyMap((f"{layer}.attention.wqkv.{kind}",), join, split, shared=True)


def _of_groups(tensors: Sequence[Tensor], heads: int, groups: int, which: slice) -> Tensor:
    """Some heads of every group; a group is its queries, its key and its value."""
    ours: Tensor = tensors[0].unflatten(0, (groups, heads // groups + 2, -1))[:, which].flatten(0, 2)
    return ours


def _into_groups(tensor: Tensor, heads: int, groups: int, which: slice) -> list[Tensor]:
    """The grouped matrix, zeros where the other heads are."""
    count = heads // groups + 2
    mine = len(range(count)[which])
    apart = tensor.unflatten(0, (groups, mine, -1))
    whole = apart.new_zeros(groups, count, *apart.shape[2:])
    whole[:, which] = apart
    return [torch.flatten(whole, 0, 2)]

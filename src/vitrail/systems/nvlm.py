"""The layout of NVLM-D: `NVLM_D_Model`, `model_type: NVLM_D`.

    tiles, each after a tag that numbers it -> InternViT -> pixel shuffle -> LayerNorm, two layers -> splice -> Qwen2

Its checkpoint carries heads of zeros in the encoder, seven beside 25, which are read over and written back.
Source: arXiv 2409.11402; vLLM, `nvlm_d.py`; NVIDIA/Megatron-LM, `examples/multimodal`.
"""

from __future__ import annotations

from vitrail.contracts.errors import WeightsError
from vitrail.contracts.protocols import Tokenizer
from vitrail.models.config import DecoderConfig, MLPProjectorConfig, ModelConfig, VisionTransformerConfig
from vitrail.prompts.config import PICTURES, PromptConfig
from vitrail.systems import composite, internvl_1_5
from vitrail.systems.encoders import intern_vit
from vitrail.systems.system import Json, KeyMap, ModelSpec, Official, same

LAYOUT = "NVLM_D_Model"

SHARDS = 8
"""Devices among which the official encoder's heads are divided; heads of zeros make up their number."""
PROJECTOR = MLPProjectorConfig(norm="layer", norm_at="merged", bias=False)


def read(official: Official) -> ModelSpec:
    """The official description in our words. Raises WeightsError for what we have no component for."""
    config = official.config
    vision = {**intern_vit.VISION, **config.get("vision_config", {})}
    unknown = [*intern_vit.unknown(vision), *internvl_1_5.language_unknown(config["llm_config"])]
    if unknown:
        raise WeightsError(f"this model of {LAYOUT} has settings that are not supported: {'; '.join(unknown)}")
    # Not every file says how many there are.
    dummies = vision.get("num_dummy_heads", -vision["num_attention_heads"] % SHARDS)
    backbone = internvl_1_5.language_settings(config["llm_config"])
    model = ModelConfig(
        backbone=DecoderConfig(config=backbone, tokenizer="bytes"),
        media=intern_vit.media_of(config, vision, tags="number"),
        encoder=intern_vit.encoder_of(vision, config.get("select_layer", -1), dummies),
        projector=intern_vit.projector_of(config, backbone["intermediate_size"], bias=False),
    )
    return ModelSpec(model, PromptConfig(picture=PICTURES["nvlm"]), backbone)


def obstacles(spec: ModelSpec) -> list[str]:
    """Why a model of ours cannot be written in this layout, each in a few words; empty when it can."""
    found = intern_vit.obstacles(spec.model, PROJECTOR)
    projector, inner = spec.model.projector, spec.backbone.get("intermediate_size")
    if isinstance(projector, MLPProjectorConfig) and projector.hidden != inner:
        found.append(
            f"model.projector.hidden is {projector.hidden}, the layout has the backbone's inner width, {inner}"
        )
    if spec.backbone.get("model_type") != "qwen2":
        found.append(f"the language model is a {spec.backbone.get('model_type')}, the layout has a qwen2")
    if not spec.prompt.picture.token:
        found.append("prompt.picture.token names no token, the layout has one")
    return found


def write(spec: ModelSpec, tokenizer: Tokenizer, dtype: str) -> dict[str, Json]:
    """The JSON files of the official folder, for a model without obstacles. dtype: of the tensors."""
    encoder, outer = spec.model.encoder, intern_vit.outer_settings(spec.model)
    assert isinstance(encoder, VisionTransformerConfig), obstacles(spec)
    config = {
        **outer,
        "architectures": [LAYOUT],
        "llm_config": internvl_1_5.written_language(spec.backbone, dtype),
        "model_type": "NVLM_D",
        "template": "chatml",
        "torch_dtype": dtype,
        "vision_config": {**outer["vision_config"], "num_dummy_heads": encoder.dummy_heads},
    }
    end = composite.end_of_answer(spec, tokenizer)
    return {"config.json": config, "generation_config.json": {"eos_token_id": end, "pad_token_id": end}}


canonical = internvl_1_5.canonical


def key_map(name: str, spec: ModelSpec) -> KeyMap:
    """Where our tensor `name` is kept."""
    if name.startswith("backbone.lm."):
        return same(name.replace("backbone.lm.", "language_model.", 1))
    return intern_vit.key_map(name, spec)

"""What any official folder may say, whatever its system: settings that nothing here reads, and such as contradict.

Refused by name is what would change what the model computes; named is what only its reader's habits depend on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vitrail.media.video import Sampling
from vitrail.models.backbones.checks import QUANTISED, THETA, theta_of, unread_settings
from vitrail.models.backbones.generation import GENERATION, LANGUAGE, choices
from vitrail.systems.system import Json

VISION = ("vision_config", "high_res_vision_config")
READ = frozenset(
    (
        # Sizes and structure, by all of their names.
        *("hidden_size", "embed_dim", "width", "depth", "layers", "num_hidden_layers", "num_heads", "out_hidden_size"),
        *("num_attention_heads", "head_dim", "intermediate_size", "mlp_dim", "mlp_ratio", "hidden_act", "norm_type"),
        *("layer_norm_eps", "qkv_bias", "attention_bias", "qk_normalization", "use_qk_norm", "num_dummy_heads"),
        *("layer_scale_init_value", "use_absolute_position_embeddings", "use_mask_token", "use_mean_pooling"),
        *("vision_use_head", "projection_dim", "cls", "params", "output_channels", "num_pos_feats"),
        *("attention_heads", "norm_eps", "num_global_layers", "intermediate_layers_indices", "vision_output_dim"),
        *("use_abs_pos", "use_rel_pos", "global_attn_indexes", "window_size", "fullatt_block_indexes", "scale"),
        # What a picture is cut into.
        *("image_size", "patch_size", "num_channels", "in_channels", "in_chans", "merge_size", "spatial_merge_size"),
        *("max_num_tiles", "supported_aspect_ratios"),
        *("temporal_patch_size", "spatial_patch_size", "merge_kernel_size", "tokens_per_second"),
        *("rope_parameters", "rope_scaling", "rope_theta", "max_position_embeddings"),
        # Of no effect on a model that is asked or begun with.
        *("attention_dropout", "dropout", "hidden_dropout_prob", "projection_dropout", "drop_path_rate"),
        *("initializer_range", "initializer_factor", "use_flash_attn", "model_type", "architectures", "torch_dtype"),
        *("dtype", "transformers_version", "auto_map", "attn_implementation", "gradient_checkpointing", "use_cache"),
    )
)
"""Settings of encoders that are read here, refused by value, or change nothing that is computed."""

HABITS = frozenset(
    (
        *("max_length", "min_length", "num_beams", "num_beam_groups", "num_return_sequences", "temperature", "top_k"),
        *("top_p", "typical_p", "repetition_penalty", "length_penalty", "diversity_penalty", "return_dict", "id2label"),
        *("label2id", "chunk_size_feed_forward", "encoder_no_repeat_ngram_size", "no_repeat_ngram_size"),
        "tie_word_embeddings",
    )
)
"""What old versions of transformers write into every component's settings, whatever it is."""

VIDEO = "video_preprocessor_config.json"
PICTURE_FILES = ("preprocessor_config.json", "processor_config.json")
SAMPLED: Mapping[str, Any] = {
    "fps": Sampling.fps,
    "min_frames": Sampling.min_frames,
    "max_frames": Sampling.max_frames,
    "num_frames": None,
    "do_sample_frames": (True, False),
    "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
    "min_pixels": 128 * 28 * 28,
    "max_pixels": 28 * 28 * 768,
}
"""How videos are looked at, as `media/video.py` has it; a tuple holds several values that make no difference."""


def unread(files: Mapping[str, Json]) -> list[str]:
    """Why a folder cannot be opened whatever its system is, each in a few words; empty for nothing."""
    config = files.get("config.json", {})
    found = [said for where, settings in _parts(config) for said in unread_settings(settings, where)]
    outer = theta_of(config)
    for name in LANGUAGE:
        inner = theta_of(config.get(name))
        if outer is not None and inner is not None and outer != inner:
            found.append(f"{THETA} is {outer:g} and {name}'s is {inner:g}: leave one of them out")
    if "adapter_config.json" in files:
        found.append("adapter_config.json is there: an adapter in the folder is not read, merge it with peft first")
    return found


def _parts(config: Json) -> Iterator[tuple[str, Json]]:
    """The configuration itself, and what stands in it of its components, each with what comes before its settings."""
    yield "", config
    for name, value in config.items():
        if name.endswith("_config") and name != QUANTISED and isinstance(value, Mapping):
            yield f"{name}.", value


def ignored(files: Mapping[str, Json]) -> list[str]:
    """What is there and has no effect here, a line each."""
    found = []
    named = choices(files.get(GENERATION, {}))
    if named:
        found.append(
            f"{GENERATION}: {', '.join(named)} {'is' if len(named) == 1 else 'are'} kept for `export` and not used: "
            "answers are sampled as the call says"
        )
    inside = files.get("processor_config.json", {}).get("image_processor")
    if inside is not None and "preprocessor_config.json" in files:
        found.append("preprocessor_config.json is not read: processor_config.json has an image_processor")
    for where in VISION:
        found += _not_known(files.get("config.json", {}).get(where), where)
    return found + _of_videos(files)


def _not_known(settings: Any, where: str) -> list[str]:
    """Settings of an encoder that no layout here reads."""
    if not isinstance(settings, Mapping):
        return []
    known = READ | HABITS
    said = [name for name, value in settings.items() if value not in (None, False, "", [], {})]
    strange = [name for name in said if name not in known and not name.startswith("_")]
    return [f"{where}: {', '.join(strange)} {'is' if len(strange) == 1 else 'are'} not read"] if strange else []


def _of_videos(files: Mapping[str, Json]) -> list[str]:
    """Settings of videos that are others than ours, which alone are used."""
    settings = files.get(VIDEO, {})
    shared = {name: value for file in PICTURE_FILES for name, value in files.get(file, {}).items()}
    differing = [
        f"{name} {settings[name]}"
        for name, ours in SAMPLED.items()
        if settings.get(name) is not None and not _same(settings[name], ours)
    ]
    differing += [
        f"{name} {value}"
        for name, value in settings.items()
        if name not in SAMPLED and name in shared and isinstance(value, int | float | list) and value != shared[name]
    ]
    if not differing:
        return []
    return [f"{VIDEO}: {', '.join(differing)} not read: videos are looked at alike in all models (docs/video.md)"]


def _same(theirs: Any, ours: Any) -> bool:
    return theirs in ours if isinstance(ours, tuple) else bool(theirs == ours)

"""Published vision transformers as configurations: sizes, structure, and which features their systems read.

Each is a function of what varies between its versions. Numbers of parameters are those of the official
configurations; tests count them. Imports no torch.
"""

from __future__ import annotations

from typing import Any

from vitrail.models.config import VisionTransformerConfig

CLASSIC: dict[str, Any] = {
    "absolute": "learnt",
    "rope": "none",
    "norm": "layer",
    "mlp": "plain",
    "qkv_bias": True,
    "bias": True,
}
"""The vision transformer of arXiv 2010.11929: LayerNorm, plain MLP, biases, a learnt table of positions."""


def clip_large(side: int = 224, layer: int = -2) -> VisionTransformerConfig:
    """CLIP ViT-L/14, 303 M. Its readers take patches alone, of the block before the last. Source: arXiv 2103.00020."""
    return VisionTransformerConfig(
        **CLASSIC,
        width=1024,
        depth=24,
        heads=16,
        mlp_width=4096,
        activation="quick_gelu",
        position_table=(side // 14, side // 14),
        class_token="dropped",
        norm_eps=1e-5,
        stem_norm="embeddings",
        layer=layer,
    )


def siglip_large(side: int = 384) -> VisionTransformerConfig:
    """SigLIP ViT-L/16 as DeepSeek-VL reads it, 304 M: normed, exact GELU, without the pooling head.

    Source: deepseek-ai/DeepSeek-VL, `siglip_vit.py`; arXiv 2303.15343.
    """
    return _siglip(1024, 24, 16, 4096, (side // 16, side // 16), "gelu")


def siglip_so400m(side: int = 384) -> VisionTransformerConfig:
    """SigLIP SoViT-400M/14, 413 M without its pooling head. Source: arXiv 2303.15343, 2305.13035."""
    return _siglip(1152, 27, 16, 4304, (side // 14, side // 14), "gelu_tanh")


def _siglip(
    width: int, depth: int, heads: int, mlp_width: int, table: tuple[int, int], activation: Any
) -> VisionTransformerConfig:
    return VisionTransformerConfig(
        **CLASSIC,
        width=width,
        depth=depth,
        heads=heads,
        mlp_width=mlp_width,
        activation=activation,
        position_table=table,
        norm_eps=1e-6,
        stem_norm="none",
        stem_bias=True,
        final_norm=True,
    )


def sam_base(side: int = 1024) -> VisionTransformerConfig:
    """SAM ViT-B/16, 89.7 M: windows of 14 x 14 patches but for every third block, relative positions, a neck.

    Source: arXiv 2304.02643; facebookresearch/segment-anything, `image_encoder.py`.
    """
    return VisionTransformerConfig(
        **CLASSIC,
        width=768,
        depth=12,
        heads=12,
        mlp_width=3072,
        activation="gelu",
        position_table=(side // 16, side // 16),
        norm_eps=1e-6,
        stem_norm="none",
        stem_bias=True,
        relative=True,
        window=14,
        full_blocks=(2, 5, 8, 11),
        neck=256,
    )


def eva_clip_g(side: int = 224) -> VisionTransformerConfig:
    """EVA-CLIP ViT-g/14 as BLIP-2 and MiniGPT-4 run it, 986 M: 39 of its 40 blocks, class token kept, normed after.

    The official norm after it, `ln_vision`, has an epsilon of its own (1e-5), and keys have no bias: one of zeros here.
    Source: salesforce/LAVIS, `eva_vit.py`.
    """
    return VisionTransformerConfig(
        **CLASSIC,
        width=1408,
        depth=39,
        heads=16,
        mlp_width=6144,
        activation="gelu",
        position_table=(side // 14, side // 14),
        class_token="kept",
        norm_eps=1e-6,
        stem_norm="none",
        stem_bias=True,
    )


def openclip_big_g(side: int = 224) -> VisionTransformerConfig:
    """OpenCLIP ViT-bigG/14 as Qwen-VL runs it, 1.84 B: no class token, normed before the first block, not after.

    side: of the table; Qwen-VL resizes the one of 224 px to its 448. Source: QwenLM/Qwen-VL, `visual.py`.
    """
    return VisionTransformerConfig(
        **CLASSIC,
        width=1664,
        depth=48,
        heads=16,
        mlp_width=8192,
        activation="gelu",
        position_table=(side // 14, side // 14),
        norm_eps=1e-6,
        stem_norm="embeddings",
    )


def intern_vit_6b(depth: int = 45, side: int = 448) -> VisionTransformerConfig:
    """InternViT-6B, 5.54 B with 45 blocks (InternVL 1.2 on, NVLM), 5.90 B with 48. Source: arXiv 2312.14238."""
    return VisionTransformerConfig(
        **{**CLASSIC, "norm": "rms", "qkv_bias": False},
        width=3200,
        depth=depth,
        heads=25,
        mlp_width=12800,
        activation="gelu",
        position_table=(side // 14, side // 14),
        class_token="dropped",
        norm_eps=1e-6,
        stem_norm="none",
        stem_bias=True,
        query_key_norm=True,
        layer_scale=0.1,
    )


def intern_vit_300m(side: int = 448) -> VisionTransformerConfig:
    """InternViT-300M, 304 M: distilled from the one of 6B, LayerNorm, biases. Source: arXiv 2410.16261."""
    return VisionTransformerConfig(
        **CLASSIC,
        width=1024,
        depth=24,
        heads=16,
        mlp_width=4096,
        activation="gelu",
        position_table=(side // 14, side // 14),
        class_token="dropped",
        norm_eps=1e-6,
        stem_norm="none",
        stem_bias=True,
        layer_scale=0.1,
    )


def pixtral_large() -> VisionTransformerConfig:
    """The encoder of Pixtral 12B and of Mistral Small 3.1, 400 M. Source: arXiv 2410.07073."""
    return VisionTransformerConfig(width=1024, depth=24, heads=16, mlp_width=4096)


def qwen2_vit() -> VisionTransformerConfig:
    """Qwen2-VL's encoder, 631 M, for patches of two frames. Source: arXiv 2409.12191."""
    return VisionTransformerConfig(
        **{**CLASSIC, "absolute": "none", "rope": "shared"},
        width=1280,
        depth=32,
        heads=16,
        mlp_width=5120,
        activation="quick_gelu",
        norm_eps=1e-6,
        stem_norm="none",
        frames=2,
    )


def qwen2_5_vit() -> VisionTransformerConfig:
    """Qwen2.5-VL's encoder, 632 M: windows of 112 px, but for every eighth block. Source: arXiv 2502.13923."""
    return VisionTransformerConfig(
        width=1280,
        depth=32,
        heads=16,
        mlp_width=3420,
        rope="shared",
        norm_eps=1e-6,
        stem_norm="none",
        qkv_bias=True,
        bias=True,
        frames=2,
        window=8,
        full_blocks=(7, 15, 23, 31),
    )


def moon_vit() -> VisionTransformerConfig:
    """Kimi-VL's encoder, 417 M: SigLIP's, with a table of 64 x 64 resized to each picture, and rotary positions.

    Its own rotary positions rotate neighbouring channels, columns before rows: ours, once the rows of queries and keys
    are put in another order. Source: arXiv 2504.07491, `modeling_kimi_vl.py`.
    """
    return VisionTransformerConfig(
        **{**CLASSIC, "rope": "shared"},
        width=1152,
        depth=27,
        heads=16,
        mlp_width=4304,
        activation="gelu_tanh",
        position_table=(64, 64),
        norm_eps=1e-5,
        stem_norm="none",
        stem_bias=True,
        final_norm=True,
    )

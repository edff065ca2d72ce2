"""A recipe of Qwen2-VL's structure, small enough for tests, and what makes each of its layouts of it."""

from __future__ import annotations

from vitrail.systems import qwen2_5_vl, qwen2_vl

RECIPE = """
run: runs/tiny
model:
  media:
    patch: 4
    merge: 2
    min_tokens: 2
    max_tokens: 64
    mean: [0.48145466, 0.4578275, 0.40821073]
    std: [0.26862954, 0.26130258, 0.27577711]
  encoder:
    {width: 32, depth: 3, heads: 2, mlp_width: 64, mlp: plain, activation: quick_gelu, rope: shared, norm: layer,
     norm_eps: 1.0e-6, stem_norm: none, qkv_bias: true, bias: true, frames: 2}
  projector: {kind: mlp, hidden: 128, norm: layer, norm_eps: 1.0e-6}
  positions: {kind: mrope, sections: [2, 3, 3]}
  backbone:
    tokenizer: small
    config:
      model_type: qwen2
      hidden_size: 48
      intermediate_size: 64
      num_hidden_layers: 2
      num_attention_heads: 3
      num_key_value_heads: 1
      tie_word_embeddings: true
prompt: {template: chatml, picture: qwen2_vl, system: You are a helpful assistant.}
data: {train: {kind: drawn, rows: 16, size: [64, 128]}}
stages: [{name: align, train: {projector: 1.0e-2}, steps: 5}]
"""
LAYOUTS = {
    qwen2_vl.LAYOUT: [],
    qwen2_5_vl.LAYOUT: [
        "model.encoder.norm=rms",
        "model.encoder.mlp=gated",
        "model.encoder.activation=silu",
        "model.encoder.window=4",
        "model.encoder.full_blocks=[1]",
        "model.projector.norm=rms",
        "model.positions.tokens_per_second=2",
        "model.backbone.config.tie_word_embeddings=false",
    ],
}

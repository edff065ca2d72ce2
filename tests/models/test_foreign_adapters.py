"""Adapters that peft wrote elsewhere: what their settings say is held, or refused by its name; never dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from vitrail.contracts.errors import WeightsError
from vitrail.models.backbones.adapters import DOWN, read_adapter
from vitrail.models.config import LoraConfig

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning", "ignore::UserWarning")
"""Of what peft calls when it wraps a whole model, as we never do."""

CONFIG = LoraConfig(rank=2, alpha=6, targets=("q_proj",))


def written(folder: Path, **settings: Any) -> Path:
    """An adapter as peft writes it."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=16, **sizes))
    torch.manual_seed(0)
    made = peft.LoraConfig(**{"r": 2, "lora_alpha": 6, "target_modules": ["q_proj"], **settings})
    peft.get_peft_model(base, made).save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("settings", [{}, {"lora_dropout": 0.1}, {"init_lora_weights": "gaussian"}])
def test_a_plain_one_is_read(settings: dict[str, Any], tmp_path: Path) -> None:
    pairs = read_adapter(written(tmp_path, **settings), CONFIG)
    assert [name.endswith(DOWN) for name in sorted(pairs)] == [True, False]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_rslora": True}, "use_rslora is True"),
        ({"use_dora": True}, "use_dora is True"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern is {'q_proj': 3}"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern is {'q_proj': 4}"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is ['lm_head']"),
        ({"bias": "lora_only"}, "bias is 'lora_only', supported: none"),
        ({"lora_bias": True}, "lora_bias is True"),
        ({"init_lora_weights": "olora"}, "init_lora_weights is 'olora'"),
        ({"r": 3}, "model.backbone.lora.rank is 2, the adapter in"),
        ({"lora_alpha": 5}, "model.backbone.lora.alpha is 6, the adapter in"),
    ],
)
def test_what_is_not_plain_lora_is_named(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    written(tmp_path, **settings)
    with pytest.raises(WeightsError) as raised:
        read_adapter(tmp_path, CONFIG)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"of_a_later_version": {"a": 1}}, "of_a_later_version is {'a': 1}"),
    ],
)
def test_so_is_what_is_not_known(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = written(tmp_path) / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}), encoding="utf-8")
    with pytest.raises(WeightsError) as raised:
        read_adapter(tmp_path, CONFIG)
    assert says in str(raised.value)


def test_a_later_setting_that_is_off_is_nothing(tmp_path: Path) -> None:
    path = written(tmp_path) / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "of_a_later_version": None}), encoding="utf-8")
    assert read_adapter(tmp_path, CONFIG)


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors' cannot be read"):
        read_adapter(tmp_path, CONFIG)
    (tmp_path / "adapter_config.json").write_text("[", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"adapter_config\.json' cannot be read"):
        read_adapter(tmp_path, CONFIG)

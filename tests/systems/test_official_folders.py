"""What an official folder says is read as transformers reads it, refused by its name, or named as ignored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_qwen2_vl import RECIPE
from transformers import AutoModelForCausalLM, Qwen2Config
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

import vitrail
from vitrail import build
from vitrail.build.data import generation_settings
from vitrail.contracts.errors import RecipeError, WeightsError
from vitrail.export.official import export
from vitrail.models.backbones.construct import build_backbone
from vitrail.models.backbones.tokenizer import byte_tokenizer, load_tokenizer
from vitrail.models.config import DecoderConfig, ModelConfig
from vitrail.recipe.read import read_recipe
from vitrail.systems import internvl_1_5, qwen2_vl
from vitrail.systems.folder import read_settings
from vitrail.systems.system import Official

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in the layout of Qwen2-VL, as `export` writes it."""
    folder = tmp_path_factory.mktemp("official")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = read_recipe(str(folder / "recipe.yaml")).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    model = build.build_model(recipe.model, tokenizer.vocabulary, seed=3).eval()
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    export(model, encode, recipe.model, folder / "out")
    return folder / "out"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to be changed."""
    shutil.copytree(whole, tmp_path / "folder")
    return tmp_path / "folder"


def changed(path: Path, change: Change) -> None:
    said = json.loads(path.read_text()) if path.is_file() else {}
    change(said)
    path.write_text(json.dumps(said), encoding="utf-8")


def test_all_end_tokens(folder: Path, tmp_path: Path) -> None:
    """The template's, those of generation_config.json and those of config.json; all are written again."""
    said = {"eos_token_id": [7, 9], "temperature": 0.3, "do_sample": True, "repetition_penalty": 1.05}
    changed(folder / "generation_config.json", lambda old: (old.clear(), old.update(said)))
    changed(folder / "config.json", lambda old: old["text_config"].update(eos_token_id=11))
    chat, config = build.load_described(folder, "cpu")
    end = chat.encode.tokenizer.special("<|im_end|>")
    assert chat._stop == {7, 9, 11, end}
    assert any("repetition_penalty, temperature are kept" in note for note in chat.notes)
    export(chat.model, chat.encode, config, tmp_path / "out")
    again = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert set(again.pop("eos_token_id")) == {7, 9, 11, end}
    assert {name: again[name] for name in said if name in again} == {
        name: value for name, value in said.items() if name != "eos_token_id"
    }
    assert vitrail.load(tmp_path / "out", "cpu")._stop == chat._stop


def test_all_end_tokens_through_a_run_of_our_own(folder: Path, tmp_path: Path) -> None:
    """`model.from`, the run's description, and the export of the run carry them."""
    changed(folder / "generation_config.json", lambda old: old.update(eos_token_id=[5, 6], top_p=0.9))
    text = f"run: runs/x\nmodel: {{from: {folder}}}\ndata: {{train: {{kind: drawn, rows: 4}}}}\n"
    text += "stages: [{name: a, train: {projector: 1.0e-3}, steps: 1}]\n"
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    recipe = read_recipe(str(tmp_path / "recipe.yaml"), ["model.media.max_tokens=64"]).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    assert {5, 6} <= encode.ends
    model = build.starting_model(recipe.model, tokenizer.vocabulary, 0)
    build.save_weights(model, encode, recipe.model, recipe.prompt, tmp_path / "run" / "weights")
    chat, config = build.load_described(tmp_path / "run", "cpu")
    assert {5, 6} <= chat._stop
    export(chat.model, chat.encode, config, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert {5, 6} < set(said["eos_token_id"])
    assert said["top_p"] == 0.9


def test_end_tokens_that_are_no_numbers(folder: Path) -> None:
    changed(folder / "generation_config.json", lambda old: old.update(eos_token_id="</s>"))
    with pytest.raises(WeightsError, match=r"generation_config\.json: eos_token_id is '</s>', expected"):
        vitrail.load(folder, "cpu")


SIZES = {
    "min_pixels and max_pixels before size": {
        "size": {"shortest_edge": 64, "longest_edge": 10**6},
        "min_pixels": 64,
        "max_pixels": 4096,
    },
    "max_pixels alone": {"size": {"shortest_edge": 64, "longest_edge": 10**6}, "max_pixels": 4096},
    "size alone": {"size": {"shortest_edge": 640, "longest_edge": 6400}, "min_pixels": None, "max_pixels": None},
    "nothing": {"size": None, "min_pixels": None, "max_pixels": None},
    "no whole tokens": {"size": None, "min_pixels": 1000, "max_pixels": 5000},
    "no whole tokens, many": {"size": None, "min_pixels": 5001, "max_pixels": 99_999},
    "the same": {"size": None, "min_pixels": 6400, "max_pixels": 6400},
    "the same, no whole tokens": {"size": None, "min_pixels": 6500, "max_pixels": 6500},
    "less than a token": {"size": None, "min_pixels": 10, "max_pixels": 50},
}
SHAPES = [(200, 200), (9, 100), (50, 77), (700, 300), (3, 500), (500, 3), (1, 1), (64, 64), (33, 31), (1000, 999)]


@pytest.mark.parametrize("images", SIZES.values(), ids=SIZES.keys())
def test_limits_of_pictures(images: dict[str, Any], folder: Path) -> None:
    """The same grids as transformers' own processor, read from the same file."""
    path = folder / "preprocessor_config.json"
    changed(path, lambda old: ([old.pop(name, None) for name in ("size", *images)], old.update(images)))
    changed(path, lambda old: [old.pop(name) for name in images if old[name] is None])
    theirs = Qwen2VLImageProcessorPil.from_pretrained(folder)
    rule = build.build_media(qwen2_vl.read(read_settings(folder)).model, byte_tokenizer(()))["vision"]
    for height, width in SHAPES:
        limits = {"min_pixels": theirs.size["shortest_edge"], "max_pixels": theirs.size["longest_edge"]}
        (view,) = rule.picture.views(width, height)  # type: ignore[attr-defined]
        assert (view.height, view.width) == smart_resize(height, width, factor=8, **limits), (height, width)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ({"size": {"longest_edge": 4096}, "min_pixels": None, "max_pixels": None}, "image processor's size is"),
        (
            {"size": {"min_pixels": 64, "max_pixels": 128}, "min_pixels": None, "max_pixels": None},
            "supported: shortest",
        ),
        ({"min_pixels": 128, "max_pixels": 64}, "with min_pixels 128 and max_pixels 64"),
        ({"patch_size": 16}, "image processor's patch_size is 16, supported: 4"),
        ({"merge_size": 1}, "image processor's merge_size is 1, supported: 2"),
    ],
)
def test_limits_that_transformers_refuses_too(images: dict[str, Any], says: str, folder: Path) -> None:
    changed(folder / "preprocessor_config.json", lambda old: old.update(images))
    with pytest.raises(WeightsError, match="not supported") as raised:
        vitrail.load(folder, "cpu")
    assert says in str(raised.value)


def test_the_processors_own_image_settings_are_taken_whole(folder: Path) -> None:
    images = json.loads((folder / "preprocessor_config.json").read_text())
    images = {**images, "image_mean": [0.1, 0.2, 0.3]}
    changed(folder / "processor_config.json", lambda old: old.update(image_processor=images))
    changed(folder / "preprocessor_config.json", lambda old: old.update(image_std=[9, 9, 9]))
    chat, config = build.load_described(folder, "cpu")
    assert config.media.mean == (0.1, 0.2, 0.3)
    assert config.media.std == tuple(images["image_std"])
    assert any("preprocessor_config.json is not read" in note for note in chat.notes)


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ANSWER = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.mark.parametrize(
    ("files", "winner"),
    [
        ({"chat_template.json": {"chat_template": "one"}, "chat_template.jinja": "two"}, "one"),
        ({"processor_config.json": {"chat_template": "one"}, "chat_template.json": {"chat_template": "two"}}, "one"),
        ({"chat_template.jinja": "one", "tokenizer_config.json": {"chat_template": "two"}}, "one"),
        ({"chat_template.json": {"chat_template": "one"}, "tokenizer_config.json": {"chat_template": "two"}}, "one"),
        ({"tokenizer_config.json": {"chat_template": "one"}}, "one"),
    ],
)
def test_the_processors_chat_template_wins(files: dict[str, Any], winner: str, folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    for name, content in files.items():
        if isinstance(content, str):
            (folder / name).write_text(content, encoding="utf-8")
        else:
            changed(folder / name, lambda old, content=content: old.update(content))  # type: ignore[misc]
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.chat_template == winner


def test_a_chat_template_that_transformers_refuses_too(folder: Path) -> None:
    changed(folder / "chat_template.json", lambda old: old.update(chat_template=CHATML + ANSWER))
    vitrail.load(folder, "cpu")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text(CHATML)
    with pytest.raises(WeightsError, match=r"chat_template\.json beside additional_chat_templates"):
        vitrail.load(folder, "cpu")


REFUSED: dict[str, tuple[Change, str]] = {
    "rope_theta beside rope_parameters": (
        lambda old: old["text_config"].update(rope_theta=5.0, rope_parameters={"rope_theta": 7.0}),
        "text_config.rope_theta is 5.0 and text_config.rope_parameters.rope_theta is 7.0",
    ),
    "rope_scaling beside rope_parameters": (
        lambda old: old["text_config"].update(rope_parameters={"mrope_section": [1, 1, 1]}),
        "rope_parameters.mrope_section is [1, 1, 1] and text_config.rope_scaling.mrope_section is [2, 3, 3]",
    ),
    "rope_theta at the top": (lambda old: old.update(rope_theta=5.0), "rope_theta is 5 and text_config's is 10000"),
    "of the tower": (
        lambda old: old["vision_config"].update(rope_theta=5.0, rope_parameters={"rope_theta": 7.0}),
        "vision_config.rope_theta is 5.0 and vision_config.rope_parameters.rope_theta is 7.0",
    ),
    "quantization_config": (
        lambda old: old.update(quantization_config={"quant_method": "awq", "bits": 4}),
        "quantization_config is there (awq)",
    ),
    "quantization_config of the language model": (
        lambda old: old["text_config"].update(quantization_config={"quant_method": "gptq"}),
        "text_config.quantization_config is there (gptq)",
    ),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_settings_that_contradict_or_are_not_read(change: Change, says: str, folder: Path) -> None:
    changed(folder / "config.json", change)
    with pytest.raises(WeightsError) as raised:
        vitrail.load(folder, "cpu")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    (folder / "recipe.yaml").write_text(f"run: x\nmodel: {{from: {folder}}}\n", encoding="utf-8")
    with pytest.raises(RecipeError) as raised_from:
        read_recipe(str(folder / "recipe.yaml"))
    assert says in str(raised_from.value)


def test_an_adapter_in_the_folder_is_refused(folder: Path) -> None:
    changed(folder / "adapter_config.json", lambda old: old.update(peft_type="LORA"))
    with pytest.raises(WeightsError, match=r"adapter_config\.json is there"):
        vitrail.load(folder, "cpu")


def test_rotary_base_is_read_wherever_it_stands() -> None:
    """Flat in the tower's settings, as `export` writes it; and within llm_config's rope_parameters."""
    vision = {"rope_theta": 123.0}
    config = {"rope_scaling": {"mrope_section": [16, 24, 24]}, "vision_config": vision}
    spec = qwen2_vl.read(Official({"config.json": config}, {}))
    assert spec.model.encoder.rope_theta == 123.0  # type: ignore[union-attr]
    language = {"architectures": ["Qwen2ForCausalLM"], "rope_parameters": {"rope_theta": 321.0}}
    assert internvl_1_5.language_settings(language)["rope_parameters"]["rope_theta"] == 321.0


def test_more_tokens_than_embeddings(folder: Path) -> None:
    tokens = json.loads((folder / "tokenizer.json").read_text())
    last = max(token["id"] for token in tokens["added_tokens"])
    tokens["added_tokens"].append({**tokens["added_tokens"][-1], "id": last + 1, "content": "<|one more|>"})
    (folder / "tokenizer.json").write_text(json.dumps(tokens), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"a tokenizer whose ids go up to \d+, and vocab_size \d+"):
        vitrail.load(folder, "cpu")


def test_every_tensor_is_accounted_for(folder: Path) -> None:
    (note,) = vitrail.load(folder, "cpu").notes
    assert "Qwen2VLForConditionalGeneration, tensors: encoder " in note
    assert "missing 0, unexpected 0" in note
    counts = dict(part.split() for part in note.partition("tensors: ")[2].partition(";")[0].split(", "))
    assert sum(map(int, counts.values())) == len(load_file(folder / "model.safetensors"))
    assert set(counts) == {"encoder", "projector", "backbone"}


@pytest.mark.parametrize("tower", ["visual.", "model."])
def test_a_tower_of_another_name_is_refused(tower: str, folder: Path) -> None:
    """As a new version of transformers may write it: neither left random nor left out."""
    path = folder / "model.safetensors"
    tensors = {name.replace(tower, "renamed_" + tower, 1): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    with pytest.raises(WeightsError) as raised:
        vitrail.load(folder, "cpu")
    said = str(raised.value)
    assert "lacks '" in said
    assert "missing: " in said
    assert "has 'renamed_" in said
    assert "unexpected: " in said
    assert "\n" not in said


def test_a_tensor_lost_on_export_is_noticed(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat, config = build.load_described(whole, "cpu")
    from vitrail.export import official

    right = official.save_torch_state_dict

    def loses(tensors: dict[str, torch.Tensor], folder: Path) -> None:
        right(dict(list(tensors.items())[1:]), folder)

    monkeypatch.setattr(official, "save_torch_state_dict", loses)
    with pytest.raises(WeightsError, match="missing: "):
        export(chat.model, chat.encode, config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class TestLanguageModelAlone:
    """The same of the folder behind `model.backbone.id`."""

    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        config = Qwen2Config(
            vocab_size=300,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            eos_token_id=4,
        )
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
        changed(tmp_path / "base" / "generation_config.json", lambda old: old.update(eos_token_id=[3, 5], top_k=7))
        return tmp_path / "base"

    def test_end_tokens(self, base: Path) -> None:
        config = ModelConfig(backbone=DecoderConfig(id=str(base), tokenizer="bytes"))
        found = generation_settings(config)
        assert found["eos_token_id"] == [3, 5, 4]
        assert found["top_k"] == 7

    def test_settings(self, base: Path) -> None:
        config = DecoderConfig(id=str(base))
        changed(base / "config.json", lambda old: old.update(rope_theta=5.0, rope_parameters={"rope_theta": 7.0}))
        with pytest.raises(WeightsError, match=r"rope_theta is 5\.0 and rope_parameters\.rope_theta is 7\.0"):
            build_backbone(config, 300)
        changed(base / "config.json", lambda old: (old.pop("rope_theta"), old.update(quantization_config={"bits": 4})))
        with pytest.raises(WeightsError, match="quantization_config is there"):
            build_backbone(config, 300)

    def test_tensors(self, base: Path) -> None:
        tensors = load_file(base / "model.safetensors")
        save_file({**tensors, "model.layers.0.extra": torch.zeros(1)}, base / "model.safetensors", {"format": "pt"})
        with pytest.raises(WeightsError, match=r"has 'model\.layers\.0\.extra', which a qwen2 does not have"):
            build_backbone(DecoderConfig(id=str(base)), 300)

    def test_more_tokens_than_embeddings(self, base: Path) -> None:
        with pytest.raises(RecipeError, match="its ids go up to 300"):
            build_backbone(DecoderConfig(id=str(base)), 301)

    def test_an_adapter(self, base: Path) -> None:
        changed(base / "adapter_config.json", lambda old: old.update(peft_type="LORA"))
        with pytest.raises(WeightsError, match=r"has an adapter_config\.json: merge"):
            build_backbone(DecoderConfig(id=str(base)), 300)

    def test_settings_in_a_recipe(self) -> None:
        said = {"model_type": "qwen2", "rope_theta": 5.0, "rope_parameters": {"rope_theta": 7.0}}
        with pytest.raises(RecipeError, match=r"model\.backbone\.config: rope_theta is 5\.0"):
            build_backbone(DecoderConfig(config=said, tokenizer="bytes"), 300)

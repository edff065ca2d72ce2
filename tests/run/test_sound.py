"""A whole run on sound, with nothing to see: trained, stopped and resumed, planned, verified, asked, shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import vitrail
from vitrail import build
from vitrail.cli.main import app
from vitrail.contracts.errors import MediaError, RecipeError
from vitrail.contracts.samples import Segments
from vitrail.inference.chat_model import ChatModel, conversation
from vitrail.inference.config import GenerationConfig
from vitrail.inference.engine import Engine
from vitrail.media import wav
from vitrail.media.config import SOUND_SUFFIXES
from vitrail.recipe.read import read_recipe
from vitrail.report import data_page
from vitrail.run.data_check import Wanted, check_data
from vitrail.run.folder import RunFolder
from vitrail.run.plan import make_plan
from vitrail.run.train import train
from vitrail.run.verify import verify
from vitrail.training.device import choose
from vitrail.training.loop import Trainer

RECIPE = """
run: {run}
model:
  encoder: null
  streams:
    audio:
      media: {{kind: log_mel, bands: 20, seconds: 1, padded: false, merge: 5}}
      encoder: {{kind: whisper, width: 24, depth: 1, heads: 2, mlp_width: 32, max_positions: 50}}
      projector: {{kind: mlp}}
  backbone:
    tokenizer: bytes
    config:
      model_type: llama
      hidden_size: 24
      intermediate_size: 32
      num_hidden_layers: 1
      num_attention_heads: 2
      num_key_value_heads: 1
      initializer_range: 0.2
prompt: {{template: terse}}
data:
  train: {{kind: spoken, rows: 24}}
  held_out: {{kind: spoken, split: test, rows: 4}}
  pack: {{length: 300, patches: 1000, window: 12}}
stages:
  - name: listen
    train: {{audio_encoder: 1.0e-2, audio_projector: 1.0e-2, backbone: 1.0e-2}}
    steps: 6
training: {{device: cpu, dtype: float32, compile: 'off', threads: 1, checkpoint_every: 2}}
evaluate: {{before: false, blind: false, losses: true, max_tokens: 4}}
"""
TONE = (0.4 * np.sin(np.arange(24_000) / 8)).astype(np.float32)


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    (folder / "recipe.yaml").write_text(RECIPE.format(run=folder / "run"), encoding="utf-8")
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def run(recipe_file: Path) -> RunFolder:
    """A run from its start to its end."""
    return train(read_recipe(str(recipe_file)))


@pytest.fixture(scope="module")
def model(run: RunFolder) -> ChatModel:
    return vitrail.load(run.path, "cpu")


def test_a_run_measures_whether_the_model_listens(run: RunFolder) -> None:
    losses = run.results()["losses"]
    assert losses["right"]["n"] == losses["shuffled"]["n"] == losses["withheld"]["n"] == 4
    assert losses["right"]["value"] != losses["shuffled"]["value"] != losses["withheld"]["value"]


def test_the_report_plays_what_was_asked_about(run: RunFolder) -> None:
    text = run.report.read_text(encoding="utf-8")
    assert len(re.findall(r'<audio controls preload="none" src="data:audio/wav;base64,UklGR', text)) == 4
    assert '<p class="soft">no picture</p>' not in text


def test_a_run_goes_on_bit_for_bit(recipe_file: Path, run: RunFolder, tmp_path: Path) -> None:
    """Stopped on a checkpoint and between two; the position table is part of what is kept."""
    recipe = read_recipe(str(recipe_file)).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    device = choose(recipe.training)

    class Unplugged(Exception):  # noqa: N818
        """Ends a run."""

    def unplug(record: dict[str, int]) -> None:
        if record["total_steps"] == stop:
            raise Unplugged

    for stop in (3, 4, 0):
        model = build.build_model(recipe.model, tokenizer.vocabulary, recipe.seed).train()
        trainer = Trainer(model, build.build_stages(recipe, encode, device), tmp_path, device, 2, unplug)
        trainer.resume()
        if stop:
            with pytest.raises(Unplugged):
                trainer.run()
        else:
            trainer.run()
    undisturbed = vitrail.load(run.path, "cpu").model
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


@torch.inference_mode()
def test_the_cache_changes_nothing(model: ChatModel) -> None:
    prompt = model.prompt(conversation((vitrail.AudioPart(TONE, 16_000), "What is said?")))
    engine = Engine(model.model, frozenset())
    (number,) = engine.add(prompt, GenerationConfig(max_tokens=12))
    ours = [engine.step()[number] for _ in range(12)]
    media = model.model.media(prompt)
    embeddings, _ = model.model.fused(prompt, media)
    found: list[int] = []
    for _ in range(12):
        length = len(embeddings)
        hidden = model.model.backbone(embeddings, torch.arange(length), Segments((length,)))
        found.append(int(model.model.logits(hidden[-1:]).argmax()))
        embeddings = torch.cat([embeddings, model.model.backbone.embed(torch.tensor(found[-1:]))])
    assert ours == found


def test_sounds_are_asked_about_together_as_alone(model: ChatModel) -> None:
    asked = [conversation((vitrail.AudioPart(TONE[: 4000 * n], 16_000), "What is said?")) for n in range(1, 6)]
    settings = GenerationConfig(max_tokens=6)
    assert [str(reply) for reply in model.replies(asked, settings)] == [
        str(model.reply(one, settings)) for one in asked
    ]


def test_a_file_is_a_sound_by_its_name(model: ChatModel, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(wav.wav_bytes(TONE, 16_000))
    reply = model.chat(str(path), "What is said?")
    message = {
        "role": "user",
        "content": [{"type": "audio", "path": str(path)}, {"type": "text", "text": "\nWhat is said?"}],
    }
    assert str(model.chat([message])) == str(reply)
    with pytest.raises(MediaError, match="no encoder for this kind of media: image"):
        model.chat(np.zeros((8, 8, 3), np.uint8), "What is this?")


def test_on_the_command_line(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(wav.wav_bytes(TONE, 16_000))
    said = CliRunner().invoke(app, ["chat", str(run.path), str(path), "What is said?", "--max-tokens", "3"])
    assert said.exit_code == 0, said.output
    from vitrail.cli.chat import split

    assert all(split([f"a{suffix}"]) == ([f"a{suffix}"], None) for suffix in SOUND_SUFFIXES)


@pytest.mark.usefixtures("quick_plan")
def test_a_plan_counts_sound(recipe_file: Path) -> None:
    for overrides in ([], ["data.train=gone.jsonl"]):
        recipe = read_recipe(str(recipe_file), overrides).value
        plan = make_plan(recipe, choose(recipe.training))
        assert set(plan.parameters) == {"audio_encoder", "audio_projector", "backbone"}
        assert bool(plan.stages[0].missing) == bool(overrides)
    shown = CliRunner().invoke(app, ["plan", str(recipe_file)])
    assert "of a sound (audio): 1 s -> 10, 10 s -> 100, 60 s -> 600" in shown.output
    assert "of a picture" not in shown.output


def test_no_sample_hears_its_neighbour(recipe_file: Path) -> None:
    found = verify(read_recipe(str(recipe_file)).value)
    assert found.finding == ""
    assert {"audio_encoder", "audio_projector", "backbone"} <= set(found.packs[0].components)
    assert found.packs[0].pictured >= 2


@pytest.mark.parametrize("hop", ["row", "conversation", "sample", "pack", "batch", "terms"])
def test_every_hop_is_shown(recipe_file: Path, hop: str) -> None:
    shown = CliRunner().invoke(app, ["show", str(recipe_file), "--at", hop])
    assert shown.exit_code == 0, shown.output
    assert {"row": "AudioPart(float32[", "conversation": "<float32[", "sample": "[audio ", "pack": "[audio ",
            "batch": "audio.values: float32[", "terms": "next_token: sum"}[hop] in shown.output  # fmt: skip


@pytest.mark.parametrize("with_recipe", [True, False])
def test_data_is_looked_at(recipe_file: Path, tmp_path: Path, with_recipe: bool) -> None:
    """Sounds are counted on their own; one that cannot be read costs its row."""
    rows = []
    for name, data in (("a", wav.wav_bytes(TONE, 16_000)), ("again", wav.wav_bytes(TONE, 16_000)), ("torn", b"RIFF")):
        (tmp_path / f"{name}.wav").write_bytes(data)
        said = [{"role": "user", "content": "<audio>What?"}, {"role": "assistant", "content": name}]
        rows.append(json.dumps({"messages": said, "audios": [f"{name}.wav"]}) + "\n")
    (tmp_path / "rows.jsonl").write_text("".join(rows), encoding="utf-8")
    recipe = str(recipe_file) if with_recipe else None
    found = check_data(Wanted(str(tmp_path / "rows.jsonl"), recipe=recipe))
    assert (found.sounds, found.pictures, found.videos) == (2, 0, 0)
    assert found.milliseconds.most == 1500
    assert found.sound_tokens.most == (15 if with_recipe else 1500)
    assert found.names_again.count == 1
    assert [one.reason.split(": ", 1)[1] for one in found.told] == [
        f"sound {str(tmp_path / 'torn.wav')!a} is no WAV, FLAC, Ogg or MP3 file"
    ]
    page = data_page.render(found)
    assert "Sounds" in page
    assert page.count("<audio ") == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "data.pack.patches=50",
            "data.pack.patches (50) holds no view of model.streams.audio.media.seconds (1 s are 100 frames)",
        ),
        (
            "model.streams.audio.media.merge=3",
            "seconds (1) are 100 frames, must be stride x merge (6) times a whole number",
        ),
        ("model.streams.audio.encoder.max_positions=9", "encoder.max_positions is 9"),
        (
            "model.streams.audio.media={kind: native}",
            "encoder.kind is whisper, which reads media.kind: log_mel; got native",
        ),
        ("stages.0.train={encoder: 1.0}", "unknown component 'encoder'"),
    ],
)
def test_recipes_that_do_not_fit_together(recipe_file: Path, override: str, said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        read_recipe(str(recipe_file), [override])

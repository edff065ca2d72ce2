"""The resampler: any grid of patches in, a fixed grid of tokens out; the two published ones, by settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import vitrail
from vitrail import build
from vitrail.cli.plan import tokens_of
from vitrail.contracts.errors import RecipeError
from vitrail.contracts.messages import Conversation, ImagePart, Message, TextPart, VideoPart
from vitrail.contracts.samples import Batch, MediaStream, Pack, Sample, Segments
from vitrail.data.collate import collate
from vitrail.data.config import PackConfig
from vitrail.data.encode import Encode, fitted
from vitrail.data.ledger import Event
from vitrail.media.native import patch_positions
from vitrail.models.config import ResamplerConfig
from vitrail.models.ops.attention import packed_attention
from vitrail.models.projectors.resampler import Resampler
from vitrail.prompts.render import grids
from vitrail.recipe.read import read_recipe
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import Resolved
from vitrail.run.train import train
from vitrail.run.verify import verify

QWEN_VL = ResamplerConfig(queries=(16, 16), width=4096, heads=32)
MINICPM = ResamplerConfig(queries=(8, 12), width=4096, heads=32, query_positions=False, key_positions="own")
GRIDS = ((5, 3), (1, 1), (2, 7), (2, 7))

NATIVE = "model.media={patch: 8, merge: 1, min_tokens: 1, max_tokens: 256}"
TILES = "model.media={kind: tiles, patch: 8, merge: 1, tile: 16, max_tiles: 6}"
MROPE = "model.positions={kind: mrope, sections: [1, 1, 2]}"


def recipe_of(folder: Path, text: str, *overrides: str, queries: tuple[int, int] = (2, 3)) -> Resolved[Recipe]:
    path = folder / "resampler.yaml"
    path.write_text(text, encoding="utf-8")
    projector = f"model.projector={{kind: resampler, queries: {list(queries)}, heads: 2}}"
    return read_recipe(str(path), [NATIVE, projector, *overrides])


def encode_of(recipe: Recipe) -> Encode:
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    return build.build_encode(recipe.model, recipe.prompt, tokenizer)


def batch_of(encode: Encode, *samples: Sample) -> Batch:
    batch, _ = collate(Pack(samples), encode.media)
    assert batch is not None
    return batch


def talk(*sizes: tuple[int, int], name: str = "row") -> Conversation:
    """sizes: height and width of its pictures, px."""
    chance = np.random.default_rng(len(name))
    pictures = (ImagePart(chance.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes)
    return Conversation(name, (Message("user", tuple(pictures)), Message("assistant", (TextPart("That is it."),))))


def stream_of(*grids_: tuple[int, int]) -> MediaStream:
    positions = np.concatenate([patch_positions(rows, columns, 1) for rows, columns in grids_])
    lengths = tuple(rows * columns for rows, columns in grids_)
    nothing = torch.zeros(0, dtype=torch.int64)
    return MediaStream(torch.zeros(sum(lengths), 1), torch.from_numpy(positions), Segments(lengths), nothing)


def official(resampler: Resampler, features: Tensor, rows: int, columns: int) -> Tensor:
    """One view, as the released modules compute it: torch's own attention, positions made by numpy."""
    config, width = resampler.config, resampler.queries.shape[1]

    def sines(along: Any, size: int) -> Any:
        omega = 1 / 10000 ** (np.arange(size // 2, dtype=np.float32) / (size / 2))
        angles = np.einsum("m,d->md", along.reshape(-1), omega)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    def grid(rows: int, columns: int) -> Tensor:
        across, down = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
        both = [sines(across, width // 2), sines(down, width // 2)]
        return torch.from_numpy(np.concatenate(both, axis=1)).float()

    attention = nn.MultiheadAttention(width, config.heads)
    parts = (resampler.query, resampler.key, resampler.value)
    attention.load_state_dict(
        {
            "in_proj_weight": torch.cat([part.weight for part in parts]),
            "in_proj_bias": torch.cat([part.bias for part in parts]),
            "out_proj.weight": resampler.attention_out.weight,
            "out_proj.bias": resampler.attention_out.bias,
        }
    )
    seen = resampler.key_norm(resampler.kv_projection(features))
    queries = resampler.query_norm(resampler.queries)
    if config.query_positions:
        queries = queries + grid(*config.queries)
    if config.key_positions == "own":
        where = grid(rows, columns)
    else:
        plane = grid(*config.queries).reshape(1, *config.queries, width).permute(0, 3, 1, 2)
        plane = nn.functional.interpolate(plane, size=(rows, columns), mode="bicubic", align_corners=False)
        where = plane.permute(0, 2, 3, 1).flatten(0, 2)
    out = attention(queries[:, None], (seen + where)[:, None], seen[:, None])[0][:, 0]
    tokens: Tensor = resampler.out_norm(out) @ resampler.out_projection.weight.T
    return tokens


@pytest.mark.parametrize("published", [QWEN_VL, MINICPM], ids=["Qwen-VL", "MiniCPM-V 2.5"])
def test_it_is_the_published_one_view_by_view(published: ResamplerConfig) -> None:
    torch.manual_seed(0)
    resampler = Resampler(dataclasses.replace(published, width=32, heads=4), 20, 24, patches_per_token=1)
    for parameter in resampler.parameters():
        nn.init.normal_(parameter, std=0.3)
    features, stream = torch.randn(44, 20), stream_of(*GRIDS)
    tokens = resampler(features, stream).split(len(resampler.queries))
    for made, view, (rows, columns) in zip(tokens, features.split(stream.segments.lengths), GRIDS, strict=True):
        torch.testing.assert_close(made, official(resampler, view, rows, columns), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("published", "encoder", "parameters"),
    # Qwen-VL states 76.05 M, with a stored table of 256 x 4096 sines and without ln_post and proj, 16.79 M.
    [(QWEN_VL, 1664, 76_054_528 - 256 * 4096 + 16_785_408), (MINICPM, 1152, 89_038_848)],
    ids=["Qwen-VL", "MiniCPM-V 2.5"],
)
def test_published_sizes(published: ResamplerConfig, encoder: int, parameters: int) -> None:
    with torch.device("meta"):
        made = Resampler(published, encoder, 4096, patches_per_token=1)
    assert sum(parameter.numel() for parameter in made.parameters()) == parameters


def test_the_order_of_patches_says_nothing_and_their_positions_all() -> None:
    torch.manual_seed(0)
    features, stream, order = torch.randn(15, 8), stream_of((5, 3)), torch.randperm(15)
    moved = dataclasses.replace(stream, positions=stream.positions[order])
    for where in ("resized", "own", "none"):
        resampler = Resampler(ResamplerConfig(queries=(2, 2), heads=2, key_positions=where), 8, 16, patches_per_token=1)
        tokens = resampler(features, stream)
        torch.testing.assert_close(resampler(features[order], moved), tokens, atol=1e-5, rtol=1e-5)
        assert torch.allclose(resampler(features, moved), tokens, atol=1e-3) == (where == "none")


def test_queries_learn(tmp_path: Path, tiny_recipe_text: str) -> None:
    recipe = recipe_of(tmp_path, tiny_recipe_text).value
    encode = encode_of(recipe)
    model = build.build_model(recipe.model, encode.tokenizer.vocabulary, seed=0)
    model.loss_sum(batch_of(encode, encode(talk((64, 24))))).backward()
    for name, parameter in model.get_submodule("projector").named_parameters():
        # The same number added to all keys changes no attention.
        assert parameter.grad is not None
        assert name == "key.bias" or parameter.grad.abs().max() > 1e-7, name


@pytest.mark.parametrize("queries", [(8, 8), (8, 12), (20, 20), (1, 5)])
@pytest.mark.parametrize("media", [NATIVE, TILES], ids=["native", "tiles"])
def test_as_many_placeholders_as_tokens(
    tmp_path: Path, tiny_recipe_text: str, media: str, queries: tuple[int, int]
) -> None:
    long = ("data.pack={length: 4096, patches: 4096}", *(["model.media.max_tokens=2048"] if media == NATIVE else []))
    recipe = recipe_of(tmp_path, tiny_recipe_text, media, *long, queries=queries).value
    encode = encode_of(recipe)
    # 30 x 34 patches; one sliver; one smaller than a patch.
    sizes = (240, 272), (8, 200), (5, 5)
    sample = encode(talk(*sizes))
    batch = batch_of(encode, sample)
    assert batch.vision is not None
    model = build.build_model(recipe.model, encode.tokenizer.vocabulary, seed=0)
    each = queries[0] * queries[1]
    assert len(model.tokens("vision", batch.media)) == len(batch.vision.token_index) == each * len(sample.slots)
    assert all((slot.view.token_rows, slot.view.token_columns) == queries for slot in sample.slots)
    assert sample.slots[0].view.patches == (30 * 34 if media == NATIVE else 4)
    assert len(sample.slots) == 3 if media == NATIVE else len(sample.slots) > 3
    assert len(sample) == sum(slot.view.tokens for slot in sample.slots) + len(encode(talk()))
    assert tokens_of(recipe, 272, 240) == each * sum(slot.media == 0 for slot in sample.slots)
    assert torch.isfinite(model.loss_sum(batch))


@pytest.mark.parametrize("overrides", [(NATIVE,), (TILES,), (NATIVE, MROPE)], ids=["native", "tiles", "mrope"])
def test_a_pack_is_its_samples_one_by_one(tmp_path: Path, tiny_recipe_text: str, overrides: tuple[str, ...]) -> None:
    recipe = recipe_of(tmp_path, tiny_recipe_text, *overrides).value
    encode = encode_of(recipe)
    model = build.build_model(recipe.model, encode.tokenizer.vocabulary, seed=0)
    samples = [
        encode(talk(*sizes, name="x" * number))
        for number, sizes in enumerate([((40, 24),), (), ((24, 40), (16, 16)), ((40, 24), (40, 24))])
    ]
    packed = model(batch_of(encode, *samples)).split([len(sample) for sample in samples])
    for together, sample in zip(packed, samples, strict=True):
        torch.testing.assert_close(together, model(batch_of(encode, sample)), atol=1e-5, rtol=1e-5)
    assert verify(recipe).finding == ""


def test_positions_of_text_follow_the_grid_of_tokens(tmp_path: Path, tiny_recipe_text: str) -> None:
    encode = encode_of(recipe_of(tmp_path, tiny_recipe_text, MROPE).value)
    sample = encode(talk((64, 128)))
    (grid,) = grids(sample.slots)
    assert (grid.times, grid.rows, grid.columns) == (1, 2, 3)
    assert sample.positions is not None
    (slot,) = sample.slots
    assert sample.positions[:, slot.end].tolist() == [slot.start + 3] * 3


def test_a_video_has_no_more_views_than_its_tokens_allow(tmp_path: Path, tiny_recipe_text: str) -> None:
    encode = encode_of(recipe_of(tmp_path, tiny_recipe_text, "data.pack.length=4096", queries=(20, 20)).value)
    views = encode.views(VideoPart(np.zeros((100, 16, 16, 3), np.uint8), fps=2.0))
    assert len(views) == 16_384 // 400
    assert all(view.tokens == 400 for view in views)


def test_saved_and_opened_again(finished_run: Callable[..., Path], tiny_recipe_text: str) -> None:
    projector = "model.projector={kind: resampler, queries: [2, 3], heads: 2, key_positions: own, width: 16}"
    run = finished_run(tiny_recipe_text, NATIVE, projector)
    model = vitrail.load(str(run))
    again = build.load(run / "weights")
    kept = {name: value for name, value in model.model.state_dict().items() if name.startswith("projector.")}
    assert kept["projector.queries"].shape == (6, 16)
    picture = np.zeros((40, 24, 3), np.uint8)
    assert str(model.chat(picture, "what?")) == str(vitrail.load(str(run)).chat(picture, "what?"))
    assert again is not None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model.media.merge=2",), "media.merge is 2, with projector.kind resampler it must be 1"),
        (("data.pack.length=6",), r"data.pack.length \(6\) holds no picture: model.projector makes 2 x 3 tokens"),
        ((TILES, "data.pack.length=40"), "2 x 3 tokens of a view of any size, 42 of a picture of 7 views"),
        (("model.projector.queries=[0, 3]",), "queries"),
        (
            ("model.encoder.rope=none", "model.encoder.class_token=kept"),
            "class_token: kept, but a resampler looks at patches alone",
        ),
    ],
)
def test_recipes_that_cannot_be(tmp_path: Path, tiny_recipe_text: str, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_of(tmp_path, tiny_recipe_text, *overrides)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"heads": 3}, "must be a multiple of heads"),
        ({"kv_projection": False}, "kv_projection: without one the encoder's width, 8, must be the resampler's, 16"),
        ({"out_projection": False, "width": 32}, "out_projection: without one the backbone's width, 16"),
    ],
)
def test_widths_that_do_not_fit_together(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Resampler(ResamplerConfig(**{"heads": 2, **settings}), 8, 16, patches_per_token=1)


def test_parts_may_be_left_out() -> None:
    without = dict.fromkeys(("kv_projection", "out_projection", "query_norm", "key_norm", "out_norm"), False)
    config = ResamplerConfig(queries=(1, 2), heads=2, **without)
    resampler = Resampler(config, 16, 16, patches_per_token=1)
    assert {name.partition(".")[0] for name, _ in resampler.named_parameters()} == {
        "queries", "query", "key", "value", "attention_out"
    }  # fmt: skip
    assert resampler(torch.randn(15, 16), stream_of((5, 3))).shape == (2, 16)


def test_where_shrinking_cannot_help_it_is_not_tried(tmp_path: Path, tiny_recipe_text: str) -> None:
    encode = encode_of(recipe_of(tmp_path, tiny_recipe_text).value)
    pack, asked = PackConfig(length=20, patches=10_000, overlong="shrink_media"), []

    class Counted(Encode):
        def __call__(self, conversation: Conversation, source: str = "", most_tokens: int | None = None) -> Sample:
            asked.append(most_tokens)
            return super().__call__(conversation, source, most_tokens)

    counted = Counted(**{field.name: getattr(encode, field.name) for field in dataclasses.fields(encode)})
    found = fitted(counted, talk((64, 64), (64, 64)), "mine", pack)
    assert isinstance(found, Event)
    assert found.reason.endswith("its media take as many tokens at any size")
    assert asked == [None, 1]
    # Too many patches, which shrinking does make fewer.
    patches = PackConfig(length=200, patches=70, overlong="shrink_media")
    fits = fitted(encode, talk((64, 64), (64, 64)), "mine", patches)
    assert isinstance(fits, Sample)
    assert fits.outcome == "media_shrunk"
    assert fits.patches == 50, "two pictures of 5 x 5 patches, since two of 6 x 6 are too many"


def test_fewer_tiles_are_fewer_tokens(tmp_path: Path, tiny_recipe_text: str) -> None:
    encode = encode_of(recipe_of(tmp_path, tiny_recipe_text, TILES).value)
    whole = encode(talk((64, 96)))
    fits = fitted(encode, talk((64, 96)), "mine", PackConfig(length=len(whole) - 6, overlong="shrink_media"))
    assert isinstance(fits, Sample)
    assert fits.outcome == "media_shrunk"
    assert len(fits) < len(whole)


def test_attention_to_other_lengths_is_counted_without_storage() -> None:
    query, key = torch.empty(2, 12, 8, device="meta"), torch.empty(2, 7, 8, device="meta")
    out = packed_attention(query, key, key, Segments((6, 6)), Segments((4, 3)), causal=False)
    assert (out.shape, out.device.type) == (query.shape, "meta")


def test_a_short_training_beats_the_blind_one(tmp_path: Path, tiny_recipe_text: str) -> None:
    """Which corner is lit, in pictures of any shape: to be read from where patches are."""
    chance = np.random.default_rng(0)

    def rows(name: str, count: int) -> Path:
        lines = []
        for number in range(count):
            height, width = (8 * int(side) for side in chance.integers(2, 7, 2))
            picture, corner = np.zeros((height, width, 3), np.uint8), number % 4
            picture[
                slice(height // 2) if corner < 2 else slice(height - height // 2, None),
                slice(width // 2) if corner % 2 == 0 else slice(width - width // 2, None),
            ] = 255
            Image.fromarray(picture).save(tmp_path / f"{name}{number}.png")
            said = [{"role": "user", "content": "<image>"}, {"role": "assistant", "content": "PQRS"[corner]}]
            lines.append(json.dumps({"messages": said, "images": [f"{name}{number}.png"]}))
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    learning, held_out = rows("train", 64), rows("test", 24)
    resolved = recipe_of(
        tmp_path,
        tiny_recipe_text,
        f"run={tmp_path / 'run'}",
        f"data.train={learning}",
        f"data.held_out={held_out}",
        "model.encoder.absolute=sinusoidal",
        "model.backbone.config.initializer_range=0.15",
        "data.pack={length: 128, patches: 512, window: 64}",
        "stages=[{name: all, train: {encoder: 3.0e-3, projector: 3.0e-3, backbone: 3.0e-3}, steps: 90}]",
        "evaluate={answers: true, losses: true, before: false, blind: true, max_tokens: 2}",
    )
    results = train(resolved).results()
    assert results["after"]["exact_match"]["value"] > 0.6
    assert results["blind"]["exact_match"]["value"] < 0.4
    assert results["losses"]["right"]["value"] < 0.5 * results["losses"]["shuffled"]["value"]

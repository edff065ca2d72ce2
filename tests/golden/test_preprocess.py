"""Pictures to pixels, against transformers' processors: sizes, grids of tiles, token counts, pixels, frames.

The root may hold a folder `preprocess`, with a JSON file for each processor and its tensors, and pictures in `images`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from vitrail.contracts.errors import MediaError
from vitrail.media import image
from vitrail.media.config import NativeResolutionConfig, PaddedConfig, TilesConfig
from vitrail.media.native import NativeResolution, patchify, patchify_frames
from vitrail.media.padded import Padded
from vitrail.media.rule import picture_rule
from vitrail.media.rule import pixels as pixels_of
from vitrail.media.tiling import Tiling
from vitrail.media.video import Sampling, sampled


class File:
    """One processor's expectations; about: what its JSON file says."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root / "preprocess" / f"preprocess_{name}.json"
        if not self.path.is_file():
            pytest.skip(f"NOT COVERED: '{self.path}' is not there")
        self.about: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        tensors = self.path.with_suffix(".safetensors")
        self.tensors = load_file(tensors) if tensors.is_file() else {}
        self.root = root

    def pictures(self) -> list[tuple[str, NDArray[np.uint8], str, dict[str, Any]]]:
        """(setting, picture, key, what is expected of it)."""
        found = []
        for key, expected in self.about["tensors"].items():
            setting, name = key.split("/")
            found.append((setting, image.load(str(self.root / "images" / name)), key, expected))
        return found

    def close(self, key: str, pixels: NDArray[np.float32], expected: dict[str, Any]) -> bool:
        """Whether pixels are those expected, of which a sample may be stored."""
        sample = self.tensors.get(f"{key}@flat")
        whole = self.tensors.get(key)
        if list(pixels.shape) != expected["shape"]:
            return False
        if whole is not None:
            return bool(np.abs(pixels - whole).max() <= 1e-6)
        assert sample is not None, key
        return bool(np.abs(pixels.reshape(-1)[:: expected["stride"]] - sample).max() <= 1e-6)

    def statistics(self) -> dict[str, Any]:
        return {"mean": tuple(self.about["mean"]), "std": tuple(self.about["std"])}


def tiled(setting: str, statistics: dict[str, Any]) -> Tiling:
    """`tile448_max12`, `tile28_min2_max4`, `tile448_nocrop`."""
    numbers = {word: int(number) for word, number in re.findall(r"(tile|min|max)(\d+)", setting)}
    return Tiling(
        TilesConfig(
            patch=numbers["tile"],
            merge=1,
            tile=numbers["tile"],
            min_tiles=numbers.get("min", 1),
            max_tiles=numbers.get("max", 1),
            **statistics,
        )
    )


def test_tiles_are_internvls(root: Path) -> None:
    file = File(root, "internvl")
    for setting, picture, key, expected in file.pictures():
        rule = tiled(setting, file.statistics())
        height, width = picture.shape[:2]
        views = rule.views(width, height)
        assert list(rule.grid(width, height)) == expected["grid_cols_rows"], key
        assert len(views) == expected["num_tiles_incl_thumbnail"], key
        pixels = np.stack(pixels_of(rule, picture, views)).transpose(0, 3, 1, 2)
        assert file.close(key, pixels, expected), key


def test_grids_are_internvls(root: Path) -> None:
    table = File(root, "internvl").about["canvas_table"]
    for row in table["rows"]:
        case = dict(zip(table["columns"], row, strict=True))
        tile = case["tile"]
        config = TilesConfig(
            patch=tile, merge=1, tile=tile, min_tiles=case["min_patches"], max_tiles=case["max_patches"]
        )
        assert Tiling(config).grid(case["width"], case["height"]) == (case["cols"], case["rows"]), case


def smart(about: dict[str, Any], least: int, most: int, statistics: dict[str, Any]) -> NativeResolution:
    patch, merge = about.get("patch_size", 14), about.get("merge_size", 2)
    token = (patch * merge) ** 2
    config = NativeResolutionConfig(
        patch=patch, merge=merge, min_tokens=least // token, max_tokens=most // token, **statistics
    )
    return NativeResolution(config)


def limits(text: str) -> tuple[int, int]:
    """`min_pixels 3136, max_pixels 28*28*1280 (...)`."""
    least, most = (re.search(rf"{name}_pixels ([\d*]+)", text) for name in ("min", "max"))
    assert least is not None, text
    assert most is not None, text
    return tuple(int(np.prod([int(one) for one in found[1].split("*")])) for found in (least, most))  # type: ignore[return-value]


def test_pictures_are_qwen2_vls(root: Path) -> None:
    """A still picture fills all frames of a patch."""
    file = File(root, "qwen2_vl")
    frames = file.about["temporal_patch_size"]
    for setting, picture, key, expected in file.pictures():
        rule = smart(file.about, *limits(file.about["settings"][setting]), file.statistics())
        (view,) = rule.views(picture.shape[1], picture.shape[0])
        assert [view.height, view.width] == expected["resized_hw"], key
        assert [1, view.rows, view.columns] == expected["image_grid_thw"], key
        assert view.tokens == expected["num_image_tokens"], key
        (pixels,) = pixels_of(rule, picture, (view,))
        patches, _ = patchify_frames(pixels[None], rule.patch, rule.merge, frames)
        assert file.close(key, patches, expected), key
        once, _ = patchify(pixels, rule.patch, rule.merge)
        apart = patches.reshape(len(patches), 3, frames, -1)
        assert (apart == once.reshape(len(once), 3, 1, -1)).all()


def test_sizes_are_qwen2_vls(root: Path) -> None:
    about = File(root, "qwen2_vl").about
    table = about["smart_resize_table"]
    for row in table["rows"]:
        case = dict(zip(table["columns"], row, strict=True))
        rule = smart({"patch_size": table["factor"], "merge_size": 1}, case["min_pixels"], case["max_pixels"], {})
        try:
            (view,) = rule.views(case["width"], case["height"])
        except MediaError:
            assert max(case["width"], case["height"]) > 200 * min(case["width"], case["height"]), case
            continue
        assert (view.height, view.width) == (case["out_height"], case["out_width"]), case


def test_sampled_frames_are_qwen2_vls(root: Path) -> None:
    """Where a rate is asked for; a number of frames of one's own is not among our settings."""
    path = root / "preprocess" / "video_sampling.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    found = json.loads(path.read_text(encoding="utf-8"))["qwen2_vl"]
    asked = [row for row in found["rows"] if "fps" in row["args"]]
    assert asked
    for row in asked:
        sampling = Sampling(**row["args"])
        assert sampled(row["total_num_frames"], row["video_fps"], sampling, 2) == row["indices"], row


def test_frames_are_qwen2_vls(root: Path) -> None:
    """In pairs; the last of an odd number is repeated."""
    file = File(root, "qwen2_vl_video_patchify")
    for key, expected in file.about["tensors"].items():
        name = key.split("/")[1]
        frames = file.tensors[f"in.frames_normalized/{name}"].transpose(0, 2, 3, 1).astype(np.float32)
        times, rows, _ = expected["video_grid_thw"]
        depth = -(-expected["num_frames"] // times)
        patch = frames.shape[1] // rows
        patches, positions = patchify_frames(frames, patch, 2, depth)
        assert np.array_equal(patches, file.tensors[key].astype(np.float32)), key
        assert np.array_equal(positions.reshape(times, -1, 2)[0], positions.reshape(times, -1, 2)[-1])


@pytest.mark.parametrize("name", ["siglip", "clip"])
def test_squares_are_the_towers(root: Path, name: str) -> None:
    """SigLIP squashes a picture to its square, CLIP cuts the middle out."""
    file = File(root, name)
    for _, picture, key, expected in file.pictures():
        side = expected["shape"][-1]
        config = TilesConfig(
            patch=side,
            merge=1,
            tile=side,
            max_tiles=1,
            fit="crop" if name == "clip" else "squash",
            **file.statistics(),
        )
        rule = picture_rule(config)
        pixels = np.stack(pixels_of(rule, picture, rule.views(picture.shape[1], picture.shape[0])))
        assert file.close(key, pixels.transpose(0, 3, 1, 2), expected), key


def square_of(setting: str, side: int, **changes: Any) -> PaddedConfig:
    """`half_mean384` has values of its own, other settings CLIP's."""
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3} if setting.startswith("half_mean") else {}
    return PaddedConfig(patch=side, side=side, **half, **changes)


def test_squares_are_deepseek_vls(root: Path) -> None:
    file = File(root, "deepseek_vl")
    for setting, picture, key, expected in file.pictures():
        config = square_of(setting, expected["shape"][-1])
        rule = picture_rule(config)
        assert config.colour == tuple(expected["background"]), key
        assert Padded(config).inner(picture.shape[1], picture.shape[0])[::-1] == tuple(expected["resized_hw"]), key
        pixels = np.stack(pixels_of(rule, picture, rule.views(picture.shape[1], picture.shape[0])))
        assert file.close(key, pixels.transpose(0, 3, 1, 2), expected), key


def test_both_squares_are_the_hybrids(root: Path) -> None:
    """The small one is the large one, shrunk; what fills it follows from the large one's mean, which is CLIP's."""
    file = File(root, "deepseek_vl_hybrid")
    sides = {key.rsplit("/", 1)[0]: one["shape"][-1] for key, one in file.about["tensors"].items()}
    for key, expected in file.about["tensors"].items():
        setting, stream, name = key.split("/")
        picture = image.load(str(root / "images" / name))
        side, large = expected["shape"][-1], sides[f"{setting}/high_res_pixel_values"]
        config = PaddedConfig(patch=side, side=side)
        if stream == "pixel_values":
            config = square_of(setting, side, larger=large, background=config.colour)
        rule = picture_rule(config)
        pixels = np.stack(pixels_of(rule, picture, rule.views(picture.shape[1], picture.shape[0])))
        assert file.close(key, pixels.transpose(0, 3, 1, 2), expected), key

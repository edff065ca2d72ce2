"""Videos in Qwen2-VL and Qwen2.5-VL: frames in, transformers' logits out; in rows, in chat, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_qwen2_vl import LAYOUTS, RECIPE
from transformers import AutoModelForImageTextToText

import vitrail
from vitrail import build
from vitrail.contracts.errors import MediaError
from vitrail.contracts.messages import Row, VideoPart
from vitrail.contracts.protocols import PictureRule
from vitrail.contracts.samples import Pack
from vitrail.data.collate import collate
from vitrail.data.dialects import to_conversation
from vitrail.export.official import export
from vitrail.inference.chat_model import ChatModel, conversation
from vitrail.media.vision import Vision
from vitrail.recipe.read import read_recipe
from vitrail.systems import qwen2_vl

QUESTION = "What happens?"
SIDE = 64  # already whole tokens, and as many as the rule allows: nobody resizes


def frames(count: int = 6) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def opened(layout: str, folder: Path) -> tuple[ChatModel, Any]:
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = read_recipe(str(folder / "recipe.yaml"), LAYOUTS[layout]).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    model = build.build_model(recipe.model, tokenizer.vocabulary, seed=3).eval()
    return ChatModel(model, build.build_encode(recipe.model, recipe.prompt, tokenizer)), recipe.model


def picture_rule_of(chat: ChatModel) -> PictureRule:
    rule = chat.encode.media["vision"]
    assert isinstance(rule, Vision)
    return rule.picture


def pairs(clip: NDArray[np.uint8], media: PictureRule) -> torch.Tensor:
    """Patches of pairs of frames as official code lays them out, written anew here: rows of (channel, frame, y, x)."""
    pixels = (clip.astype(np.float32) / 255 - np.float32(media.mean)) / np.float32(media.std)
    side, unit = media.patch, media.patch * media.merge
    rows = []
    for time in range(0, len(clip), 2):
        for top in range(0, SIDE, unit):
            for left in range(0, SIDE, unit):
                for y in range(top, top + unit, side):
                    for x in range(left, left + unit, side):
                        block = pixels[time : time + 2, y : y + side, x : x + side]
                        rows.append(block.transpose(3, 0, 1, 2).ravel())
    return torch.from_numpy(np.stack(rows))


@torch.inference_mode()
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rate", [2.0, 1.5])
def test_frames_in_transformers_logits_out(layout: str, rate: float, tmp_path: Path) -> None:
    # No time comes after the last row: transformers 5.23 counts rows and columns alone when text goes on.
    chat, config = opened(layout, tmp_path)
    assert export(chat.model, chat.encode, config, tmp_path / "out") == layout
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").eval()
    asked = chat.prompt(conversation((VideoPart(frames(), fps=rate), QUESTION)))
    picture = chat.encode.tokenizer.special("<|image_pad|>")
    count, side = len(frames()) // 2, SIDE // picture_rule_of(chat).patch
    assert asked.text.ids.eq(picture).sum() == count * (side // 2) ** 2
    # Theirs tells videos from pictures by the kinds of tokens; what stands there is overwritten.
    ids = asked.text.ids[None].masked_fill(asked.text.ids.eq(picture), model.config.video_token_id)
    inputs = {
        "input_ids": ids,
        "pixel_values_videos": pairs(frames(), picture_rule_of(chat)),
        "video_grid_thw": torch.tensor([[count, side, side]]),
        "mm_token_type_ids": 2 * asked.text.ids.eq(picture).long()[None],
    }
    if "2_5" in layout:
        inputs["second_per_grid_ts"] = torch.tensor([2 / rate])
    elif rate != 2.0:
        pytest.skip("Qwen2-VL does not know of seconds")
    ours, theirs = chat.model.logits(chat.model(asked)), model(**inputs).logits[0]
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def test_a_file_is_a_video_by_its_suffix(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="pip install 'vitrail[video]'")
    path = tmp_path / "clip.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for pixels in frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    chat, _ = opened(qwen2_vl.LAYOUT, tmp_path)
    generation = vitrail.GenerationConfig(max_tokens=3)
    assert chat.chat(path, QUESTION, generation=generation) == chat.chat(str(path), QUESTION, generation=generation)
    asked = chat.encode.question(conversation((path, QUESTION)))
    assert [slot.view.shows for slot in asked.slots] == [(0, 1), (2, 3), (4, 5)]


ROWS: dict[str, dict[str, Any]] = {
    "openai": {
        "messages": [
            {"role": "user", "content": [{"type": "video", "video": "CLIP"}, {"type": "text", "text": QUESTION}]},
            {"role": "assistant", "content": "Noise."},
        ]
    },
    "tags": {
        "messages": [
            {"role": "user", "content": f"<video>{QUESTION}"},
            {"role": "assistant", "content": "A <video> of noise."},
        ],
        "videos": ["CLIP"],
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": f"<video>\n{QUESTION}"}, {"from": "gpt", "value": "Noise."}],
        "video": "CLIP",
    },
    "vqa": {"question": QUESTION, "answer": "Noise.", "videos": ["CLIP"]},
    "both": {
        "messages": [
            {"role": "user", "content": f"<image> and <video>: {QUESTION}"},
            {"role": "assistant", "content": "Noise."},
        ],
        "videos": ["CLIP"],
        "images": [np.zeros((SIDE, SIDE, 3), np.uint8)],
    },
}


def with_frames(value: Any) -> Any:
    """The row with frames instead of their name."""
    if isinstance(value, dict):
        return {key: with_frames(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_frames(one) for one in value]
    return frames() if isinstance(value, str) and value == "CLIP" else value


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_every_dialect_become_batches(name: str, tmp_path: Path) -> None:
    chat, _ = opened(qwen2_vl.LAYOUT, tmp_path)
    sample = chat.encode(to_conversation(Row("one", with_frames(ROWS[name]))), "rows")
    moving = [slot.view.shows for slot in sample.slots if slot.view.shows]
    assert moving == [(0, 1), (2, 3), (4, 5)]
    assert len(sample.media) == (2 if name == "both" else 1)
    batch, (event,) = collate(Pack((sample,)), chat.encode.media)
    assert batch is not None
    assert event.outcome == "used"
    assert torch.isfinite(chat.model.loss_sum(batch))


def test_a_video_that_cannot_be_read_is_in_the_ledger(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="pip install 'vitrail[video]'")
    chat, _ = opened(qwen2_vl.LAYOUT, tmp_path)
    bad = {**ROWS["tags"], "videos": ["gone.mp4"]}
    with pytest.raises(MediaError, match=r"rows\.jsonl:3: video .*gone\.mp4"):
        chat.encode(to_conversation(Row("one", bad, tmp_path, "rows.jsonl:3")), "rows")
    sample = chat.encode(to_conversation(Row("one", with_frames(ROWS["tags"]), None, "rows.jsonl:3")), "rows")
    sample.media[0].image.resize((0, 0, 0, 3), refcheck=False)
    batch, (event,) = collate(Pack((sample,)), chat.encode.media)
    assert batch is None
    assert event.outcome == "unreadable"
    assert event.reason.startswith("rows.jsonl:3: video")


def test_videos_are_not_fetched(tmp_path: Path) -> None:
    chat, _ = opened(qwen2_vl.LAYOUT, tmp_path)
    with pytest.raises(MediaError, match="is not fetched: only pictures are, other media must be files"):
        chat.encode(to_conversation(Row("one", {**ROWS["tags"], "videos": ["https://example.org/a.mp4"]})), "rows")


def test_a_tag_is_text_where_no_video_is(tmp_path: Path) -> None:
    chat, _ = opened(qwen2_vl.LAYOUT, tmp_path)
    row = {key: value for key, value in ROWS["tags"].items() if key != "videos"}
    assert chat.encode(to_conversation(Row("one", row)), "rows").slots == ()

"""Which files a row goes through from disk to loss: traced, and compared with the page that describes them.

Trains two steps of the demo's recipe on eight rows of a .jsonl file with a picture each, and notes every function of
the package that runs between the row and its loss: inside the stream (`data/loader.py`), and inside `_backward` of the
loop. What happens beside them (optimizer, checkpoints, logs) is not part of the way. Takes some seconds.

    python docs/life_of_a_sample.py            the files and their lines, as they are
    python docs/life_of_a_sample.py --check    fails where docs/life-of-a-sample.md says something else
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image

from vitrail import build
from vitrail.data import loader
from vitrail.recipe.read import read_recipe
from vitrail.training.device import Device
from vitrail.training.loop import Trainer

PAGE = Path(__file__).with_name("life-of-a-sample.md")
PACKAGE = Path(build.__file__).parents[1]
ENTRIES = ((loader.__file__, None), (Trainer._backward.__code__.co_filename, "_backward"))
"""Files, and functions in them, that a sample's way leads through; None for every function."""
ROUGHLY = 0.2
"""The page's numbers of lines may be off by this share: it is not to be mended at every change."""
LINE = re.compile(r"^\| `([\w/]+\.py)` \| (\d+) \| \S.*\|$", re.MULTILINE)


def rows(folder: Path, count: int = 8) -> Path:
    """A .jsonl file and its pictures."""
    lines = []
    for number in range(count):
        picture = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
        turns = [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "Noise."}]
        lines.append(json.dumps({"images": [f"{number}.png"], "messages": turns}))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def traced() -> list[str]:
    """The package's files on the way, in the order in which they are first entered."""
    found: dict[str, None] = {}
    depth = threading.local()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return"):
            return
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        within = getattr(depth, "value", 0)
        if any(file == entry and only in (None, name) for entry, only in ENTRIES):
            depth.value = within = within + (1 if event == "call" else -1)
            within = max(within, event == "call")
        if within and event == "call" and file.startswith(str(PACKAGE)):
            found.setdefault(Path(file).relative_to(PACKAGE).as_posix())

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = [f"data.train={rows(folder)}", "data.held_out=null", "data.pack.window=8", "stages.1.epochs=null"]
        recipe = read_recipe("demo", [*overrides, "stages.1.steps=2"]).value
        tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
        encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
        model = build.build_model(recipe.model, tokenizer.vocabulary, recipe.seed)
        device = Device("cpu", "float32", 1, compiled=False)
        stage = build.build_stages(recipe, encode, device)[1]
        trainer = Trainer(model.train(), [stage], folder / "run", device, checkpoint_every=100)
        before = sys.getprofile()
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            trainer.run()
        finally:
            sys.setprofile(before)
            threading.setprofile(None)
    return list(found)


def lines(file: str) -> int:
    """Lines of a file of the package."""
    return len((PACKAGE / file).read_text(encoding="utf-8").splitlines())


def differences(page: str) -> list[str]:
    """What the page says otherwise than it is; empty where it is right."""
    stated = {file: int(count) for file, count in LINE.findall(page)}
    files = traced()
    wrong = [f"{file}: not on the page" for file in files if file not in stated]
    wrong += [f"{file}: on the page, but not on the way" for file in stated if file not in files]
    counts = {file: lines(file) for file in files}
    wrong += [
        f"{file}: {counts[file]} lines, the page says {said}"
        for file, said in stated.items()
        if file in counts and abs(said - counts[file]) > ROUGHLY * counts[file]
    ]
    total = re.search(r"([\d,]+) files of together about ([\d,]+) lines", page)
    said_files, said_lines = (int(one.replace(",", "")) for one in total.groups()) if total else (0, 0)
    if said_files != len(files) or abs(said_lines - sum(counts.values())) > ROUGHLY * sum(counts.values()):
        wrong.append(f"{len(files)} files of {sum(counts.values())} lines, the page says {said_files} of {said_lines}")
    return wrong


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit("\n".join(differences(PAGE.read_text(encoding="utf-8"))) or None)
    for name in traced():
        print(f"{lines(name):5}  {name}")

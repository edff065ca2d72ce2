"""Some components of a finished run, for other recipes to begin with: how the bundled starter is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from vitrail.contracts.errors import WeightsError
from vitrail.disk import whole_folder
from vitrail.metrics.calibration import Calibration
from vitrail.models.weights import load_tensors

PARTS = ("encoder", "projector", "fusion")
"""How the names of components end that are kept by themselves."""


def export(weights: Path, adapter: Path, folder: Path, dtype: torch.dtype) -> tuple[list[str], int]:
    """Writes `folder`: every encoder, projector and fusion that has weights, the description, and the adapter in peft's
    layout where there is one.

    weights: folder of a finished model. adapter: folder of its adapter, there or not. Returns the components' names,
    and the bytes written. Raises WeightsError for a model that has none.
    """
    tensors = load_tensors(weights / "model.safetensors")
    names = sorted({name for key in tensors if (name := key.split(".")[0]).endswith(PARTS)})
    if not names:
        raise WeightsError(f"'{weights}' holds no encoder, projector or fusion with weights")
    chosen = {key: tensor.to(dtype) for key, tensor in tensors.items() if key.split(".")[0] in names}
    with whole_folder(folder) as making:
        save_file(chosen, making / "model.safetensors")
        shutil.copy2(weights / "vitrail.yaml", making)
        if (calibration := Calibration.read(weights)) is not None:
            calibration.write(making)
        if (adapter / "adapter_config.json").is_file():
            (making / "adapter").mkdir()
            pairs = {
                key: tensor.to(dtype) for key, tensor in load_tensors(adapter / "adapter_model.safetensors").items()
            }
            save_file(pairs, making / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
            settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
            # A folder of the machine it was trained on means nothing elsewhere.
            if Path(settings["base_model_name_or_path"] or "").is_absolute():
                settings["base_model_name_or_path"] = None
            (making / "adapter" / "adapter_config.json").write_text(
                json.dumps(settings, indent=2) + "\n", encoding="utf-8"
            )
    return names, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

"""`vitrail env`: what this machine has, to paste into a bug report."""

from __future__ import annotations

import os
import platform

import typer

PACKAGES = ("vitrail", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "pillow", "typer", "gguf")


def env() -> None:
    """Versions, device, number format and memory."""
    from importlib.metadata import PackageNotFoundError, version

    typer.echo(f"python        {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in PACKAGES:
        try:
            typer.echo(f"{name:<13} {version(name)}")
        except PackageNotFoundError:
            typer.echo(f"{name:<13} not installed")

    from vitrail.training.config import TrainingConfig
    from vitrail.training.device import choose, fast_bfloat16, has_compiler, limited_by, machine_memory_gib
    from vitrail.training.parallel.environment import launched
    from vitrail.training.waiting import said

    device = choose(TrainingConfig())
    limit = f" (by {limited_by()})" if limited_by() else ""
    typer.echo(f"device        {device.name}, {device.threads} threads{limit}, trains in {device.dtype}")
    waits = f"asleep ({said()})" if said().endswith("passive") else said() or "as the library does"
    typer.echo(f"waiting       {waits}")
    typer.echo(f"processes     {launched()[1]}, this is number {launched()[0]}")
    typer.echo(f"bfloat16      {'in hardware' if fast_bfloat16(device.name) else 'emulated, not used'}")
    typer.echo(f"compiler      {'found' if has_compiler() else 'none'}")
    typer.echo(f"memory        {machine_memory_gib():.1f} GiB")
    typer.echo(f"cache         {os.environ.get('VITRAIL_CACHE', '~/.cache/vitrail')}")

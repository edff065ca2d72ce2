"""Device, number format and threads: chosen once at the start of a run, written into its checkpoint."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from vitrail.contracts.errors import RecipeError
from vitrail.training.config import TrainingConfig
from vitrail.training.parallel.environment import ranks_here


@dataclass(frozen=True)
class Device:
    """Where and in which format a run computes. Two runs agree bit for bit only if these agree."""

    name: str
    dtype: str
    threads: int
    compiled: bool

    @property
    def torch_dtype(self) -> torch.dtype:
        """The format of weights and activations; optimizer state is float32 always."""
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype


def choose(config: TrainingConfig) -> Device:
    """Resolves every `auto`. Raises RecipeError for a device that is not there."""
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if (name == "cuda" and not torch.cuda.is_available()) or (name == "mps" and not torch.backends.mps.is_available()):
        raise RecipeError(f"training.device: '{name}' is not available on this machine")
    dtype = config.dtype
    if dtype == "auto":
        dtype = "bfloat16" if fast_bfloat16(name) else "float32"
    threads = config.threads or max(1, cores() // ranks_here())
    compiled = config.compile == "on" or (config.compile == "auto" and name == "cuda" and has_compiler())
    if compiled and not has_compiler():
        print("no C++ compiler found: running eagerly", file=sys.stderr)
        compiled = False
    return Device(name, dtype, threads, compiled)


CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What the system lets this process's group use: microseconds of work in so many microseconds, or `max`."""


def cores() -> int:
    """Cores this process may use: by its affinity, its group's share of the machine, and OMP_NUM_THREADS."""
    return min(_limits().values())


def limited_by() -> str:
    """What `cores` goes by, for messages; empty where it is the machine itself."""
    limits = _limits()
    name = min(limits, key=lambda name: limits[name])
    return "" if limits[name] == limits["cores"] else name


def _limits() -> dict[str, int]:
    found = {"cores": os.cpu_count() or 1}
    if hasattr(os, "sched_getaffinity"):
        found["affinity"] = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        used, period = CPU_QUOTA.read_text(encoding="ascii").split()
        if used != "max":
            found["CPU quota"] = max(1, int(used) // int(period))
    # "4,2" is for nested loops: the first number is the outermost's.
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if said.isdecimal() and int(said):
        found["OMP_NUM_THREADS"] = int(said)
    return found


def fast_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware.

    A CPU that does not is a hundred times slower at it than at float32.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16"))
    return False


def has_compiler() -> bool:
    """Whether torch.compile can build kernels for the CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl") if name)


def memory_gib(device: str) -> float:
    """Most memory in use so far, GiB: the device's, or on the CPU the process's; 0 where the system does not say."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def machine_memory_gib() -> float:
    """Memory of the machine, GiB; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        return 0.0

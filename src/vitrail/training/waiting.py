"""How threads wait for each other: spinning on their cores, or asleep. Imports no torch, and must come before it.

The OpenMP library reads its settings when torch is loaded. Left to itself it spins: fastest where nobody else wants the
cores, and ten times slower than one thread where somebody does (`benchmarks/waiting.py`), since each waits for one that
is not running. So the command line asks for sleep where the machine is busy as it starts. What the environment says is
left as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping

SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What tells OpenMP libraries how to wait: any one's, GNU's, Intel's."""
BUSY = 0.5
"""Processes that want a core, on average over the last minute, above which somebody else is at work."""


def choose(environment: MutableMapping[str, str] | None = None) -> bool:
    """Asks for sleep where it pays and nothing is said yet; returns whether it did.

    environment: None for that of this process.
    """
    environment = os.environ if environment is None else environment
    if "torch" in sys.modules or said(environment) or environment.get("OMP_NUM_THREADS") == "1" or load() < BUSY:
        return False
    environment["OMP_WAIT_POLICY"] = "passive"
    return True


def said(environment: Mapping[str, str] | None = None) -> str:
    """What the environment says about waiting; "" for nothing."""
    environment = os.environ if environment is None else environment
    return next((f"{name}={environment[name]}" for name in SETTINGS if name in environment), "")


def load() -> float:
    """Processes that want a core, on average over the last minute; 0 where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0

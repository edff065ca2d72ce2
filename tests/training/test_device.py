"""Threads: what the environment allows is not exceeded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vitrail.training import device
from vitrail.training.config import TrainingConfig


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of that many, none of them taken; the file that tells the quota."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(device, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path / "cpu.max"


@pytest.mark.parametrize(
    ("threads", "affinity", "quota", "expected", "limit"),
    [
        ("", 8, "max 100000", 8, ""),
        ("3", 8, "", 3, "OMP_NUM_THREADS"),
        ("4,2", 8, "max 100000", 4, "OMP_NUM_THREADS"),
        ("many", 8, "", 8, ""),
        ("", 5, "", 5, "affinity"),
        ("6", 5, "250000 100000", 2, "CPU quota"),
        ("", 8, "50000 100000", 1, "CPU quota"),
        ("16", 8, "nonsense", 8, ""),
    ],
)
def test_threads_are_as_many_as_the_least_allows(
    eight_cores: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: str,
    affinity: int,
    quota: str,
    expected: int,
    limit: str,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    if quota:
        eight_cores.write_text(quota, encoding="ascii")
    assert (device.cores(), device.limited_by()) == (expected, limit)
    assert device.choose(TrainingConfig(device="cpu", dtype="float32", compile="off")).threads == expected
    assert device.choose(TrainingConfig(device="cpu", dtype="float32", compile="off", threads=7)).threads == 7

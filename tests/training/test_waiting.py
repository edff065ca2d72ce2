"""Threads sleep while they wait where the machine is busy; what the environment says is left as it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vitrail.training import waiting


@pytest.mark.parametrize(
    ("load", "given", "chosen"),
    [
        (0.1, {}, False),
        (1.2, {}, True),
        (9.0, {"OMP_NUM_THREADS": "2"}, True),
        (9.0, {"OMP_NUM_THREADS": "1"}, False),
        (9.0, {"OMP_WAIT_POLICY": "active"}, False),
        (9.0, {"GOMP_SPINCOUNT": "100"}, False),
        (9.0, {"KMP_BLOCKTIME": "200"}, False),
    ],
)
def test_sleep_is_asked_for_beside_load_alone(
    load: float, given: dict[str, str], chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "load", lambda: load)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    environment = dict(given)
    assert waiting.choose(environment) is chosen
    assert environment == {**given, **({"OMP_WAIT_POLICY": "passive"} if chosen else {})}


def test_torch_is_loaded_with_it_or_nothing_is_said() -> None:
    """The library reads it once: set any later it would say what is not so."""
    asked = (
        "import sys; from vitrail.training import waiting; waiting.load = lambda: 3.0\n"
        "from vitrail.cli.main import main; sys.argv = ['vitrail', 'env']; main()"
    )
    environment = {name: value for name, value in os.environ.items() if name not in waiting.SETTINGS}
    environment["OMP_NUM_THREADS"] = "2"
    for before, line in (("", "asleep (OMP_WAIT_POLICY=passive)"), ("import torch\n", "as the library does")):
        done = subprocess.run(
            [sys.executable, "-c", before + asked], env=environment, capture_output=True, text=True, check=True
        )
        assert f"waiting       {line}" in done.stdout, done.stdout

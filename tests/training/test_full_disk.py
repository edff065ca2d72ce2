"""A disk that is full makes a run wait and costs it nothing: on a real one, as small as the run."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vitrail import disk
from vitrail.contracts.errors import WeightsError
from vitrail.disk import Lines, is_full, with_room, write_whole

OWN_DISK = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
MOUNT = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'


def has_own_disks(folder: Path) -> bool:
    """Whether this user may mount something that nobody else sees."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*OWN_DISK, MOUNT, str(folder), "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, tiny_recipe_text: str) -> dict[str, Any]:
    """What came of each run on the small disk."""
    folder = tmp_path_factory.mktemp("disk")
    if not has_own_disks(folder):
        pytest.skip("no disk of its own can be mounted here")
    recipe = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    recipe.write_text(tiny_recipe_text, encoding="utf-8")
    script = Path(__file__).with_name("full_disk.py")
    command = [*OWN_DISK, MOUNT, str(folder), sys.executable, str(script), str(recipe), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("where", ["save", "log"])
def test_a_full_disk_makes_a_run_wait(where: str, told: dict[str, Any]) -> None:
    """It says so once, goes on when there is room, and ends as if nothing had been."""
    found, whole = told[f"{where}, room again"], told["undisturbed"]
    waiting, going_on = found["said"]
    assert waiting.startswith("waiting for room on the disk: ")
    assert "No space left on device" in waiting
    assert going_on == "there is room again: going on"
    assert found["ended"] == ""
    assert found["weights"] == whole["weights"]
    assert found["losses"] == whole["losses"]
    assert set(found["damage"].values()) == {""}


@pytest.mark.parametrize("where", ["save", "log"])
def test_asked_to_end_while_it_waits(where: str, told: dict[str, Any]) -> None:
    """It ends cleanly, with what it had; with room it ends where an undisturbed run ends."""
    found, afterwards, whole = told[f"{where}, asked"], told[f"{where}, afterwards"], told["undisturbed"]
    assert found["ended"].startswith("15: step ")
    assert "on a full disk" in found["ended"]
    assert "\n" not in found["ended"]
    assert set(found["damage"].values()) <= {""}
    assert afterwards["weights"] == whole["weights"]
    assert afterwards["losses"] == whole["losses"]


def test_what_counts_as_a_full_disk() -> None:
    assert is_full(OSError(errno.ENOSPC, "no room"))
    assert is_full(OSError(errno.EDQUOT, "over quota"))
    assert not is_full(OSError(errno.EACCES, "not yours"))
    assert is_full(ValueError("I/O error: No space left on device (os error 28)")), "as safetensors says it"
    wrapped = WeightsError("cannot write")
    wrapped.__cause__ = OSError(errno.ENOSPC, "no room")
    assert is_full(wrapped)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_line_that_does_not_fit_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not half of it either: written once, when there is room."""
    lines = Lines(tmp_path / "log", 0)
    lines.write("first\n")
    write, full = os.write, os.open("/dev/full", os.O_WRONLY)
    left = [3]

    def short(descriptor: int, data: memoryview) -> int:
        """Half of the data fits, then nothing."""
        left[0] -= 1
        return write(descriptor, data[: len(data) // 2]) if left[0] == 2 else write(full, data)

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="No space left"):
        lines.write("second\n")
    assert (tmp_path / "log").read_bytes() == b"first\n"
    monkeypatch.setattr(os, "write", write)
    lines.write("second\n")
    lines.close()
    os.close(full)
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"


def test_waiting_ends_with_room_or_when_someone_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "FIRST_PAUSE", 0.01)
    said: list[str] = []
    left = [3]

    def work() -> str:
        left[0] -= 1
        if left[0]:
            raise OSError(errno.ENOSPC, "no room")
        return "done"

    assert with_room(work, said.append) == "done"
    assert said == ["waiting for room on the disk: [Errno 28] no room", "there is room again: going on"]
    left[0] = 10**9
    with pytest.raises(OSError, match="no room"):
        with_room(work, said.append, lambda: left[0] < 10**9 - 2)
    with pytest.raises(ZeroDivisionError):
        with_room(lambda: 1 / 0, said.append)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file"
    write_whole(path, "before")

    def broken(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="no room"):
        write_whole(path, "after")
    assert [one.name for one in path.parent.iterdir()] == ["file"]
    assert path.read_text(encoding="utf-8") == "before"
    monkeypatch.undo()
    write_whole(path, "half a pair \ud83d")
    assert path.read_bytes() == b"half a pair \\ud83d"

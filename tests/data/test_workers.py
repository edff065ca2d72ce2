"""Workers: results in order, and no process left behind by a parent that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitrail.data.workers import Workers

PARENT = """
import os
from vitrail.data.workers import Workers

def work(job):
    return os.getpid()

if __name__ == "__main__":
    workers = Workers(work, 1)
    print(*workers.all([0]), flush=True)
    import time
    time.sleep(60)
"""


@pytest.mark.parametrize("count", [0, 2])
def test_results_come_in_the_order_of_the_jobs(count: int) -> None:
    workers = Workers(abs, count)
    assert list(workers.all(range(-40, 0))) == list(range(40, 0, -1))
    assert list(workers.ahead(iter(range(-9, 0)), 3)) == list(range(9, 0, -1))
    workers.close()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks the kernel about another process")
def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert alive(worker), "it waits for jobs"
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    for _ in range(200):
        if not alive(worker):
            return
        time.sleep(0.05)
    raise AssertionError("the worker is still there ten seconds after its parent")


def alive(process: int) -> bool:
    """A process that ended and was not yet asked for its status counts as ended."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"

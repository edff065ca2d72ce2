"""Workers: results in order, and no process left behind by a parent that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from vitrail.contracts.errors import DataError, TrainingError
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


POISON, SLOW = -1, -2


def careful(job: int) -> int:
    """Its process for a job of 0; kills it for POISON, fails for a number over 1000, and takes its time for SLOW."""
    if job == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    if job == SLOW:
        time.sleep(0.5)
    if job > 1000:
        raise DataError(f"job {job} is too large")
    return os.getpid() if job == 0 else job


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_lost_worker_is_replaced() -> None:
    """By kill -9, as a kernel does that needs memory: idle or at work. The signals of a group do not reach it. What it
    is asked to do again and again in vain is named."""
    with closing(Workers(careful, 1, lambda job: f"job number {job}")) as workers:
        (first,) = workers.all([0])
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(first, number)
        assert list(workers.all([0, 5])) == [first, 5]
        assert workers.lost == 0
        os.kill(first, signal.SIGKILL)
        answers = workers.ahead(iter([0, SLOW, 7]), 1)
        second = next(answers)
        assert second != first
        assert workers.lost == 1
        os.kill(second, signal.SIGKILL)
        assert list(answers) == [SLOW, 7]
        assert workers.lost == 2
        with pytest.raises(DataError, match=r"^job 1001 is too large$"):
            list(workers.all([3, 1001, 4]))
        assert list(workers.all([3, 4])) == [3, 4]
        said = r"^3 worker processes in a row were lost while preparing job number -1 \(signal SIGKILL\); "
        with pytest.raises(TrainingError, match=said) as caught:
            list(workers.all([3, POISON, 4]))
        assert "\n" not in str(caught.value)
        third = next(workers.all([0]))
    assert not alive(third), "it ends when it is let go"

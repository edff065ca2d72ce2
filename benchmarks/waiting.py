"""How threads wait for each other: spinning, or asleep; alone, and beside a process that takes a core.

A step of the demo's model (forward, backward, AdamW on a pack of 512 tokens, drawn pictures among them), in processes
that differ in nothing but what the OpenMP library is told before torch is loaded. All of them are alive all the time
and take turns: a round is one turn of each without load and one beside it, so that what else the machine does falls on
all alike. Prints the median of steps a second over the rounds, and ratios to what the library does by itself.

    python benchmarks/waiting.py --threads 2 --rounds 7 --seconds 2

What a policy wins is largest where others work too; what it costs shows where nobody else does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

POLICIES: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "short": {"GOMP_SPINCOUNT": "10000"},
}
"""What is set before torch is loaded. short: GNU's library alone, about ten microseconds of spinning."""
KNOWN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


def worker(threads: int) -> None:
    """Says `ready`; then, for every line of so many seconds, as many steps as fit, and prints steps a second."""
    import dataclasses

    import torch

    from vitrail import build
    from vitrail.data.ledger import Ledger
    from vitrail.data.loader import Cursor
    from vitrail.recipe.read import read_recipe
    from vitrail.training.device import Device
    from vitrail.training.optimizer import Optimizer, freeze_all_but

    torch.set_num_threads(threads)
    recipe = read_recipe("demo", ["data.train.rows=64", "data.pack={length: 512, window: 64}"]).value
    tokenizer = build.build_tokenizer(recipe.model.backbone, recipe.prompt)
    encode = build.build_encode(recipe.model, recipe.prompt, tokenizer)
    stage = dataclasses.replace(recipe.stages[1], epochs=None, steps=1)
    stream = build.build_stages(recipe, encode, Device("cpu", "float32", threads, compiled=False), stages=[stage])[0]
    batch = next(stream.stream.items(Cursor(), Ledger())).batch
    model = build.build_model(recipe.model, tokenizer.vocabulary, seed=0).train()
    freeze_all_but(model, stage.train, stage.name)
    optimizer = Optimizer(model, stage.train, stage.optimizer)

    def step() -> None:
        (model.loss_sum(batch) / batch.label_weight).backward()
        optimizer.step(1.0)

    step()
    print("ready", flush=True)
    for line in sys.stdin:
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < float(line):
            step()
            steps += 1
        print(steps / (time.perf_counter() - started), flush=True)


@contextmanager
def started(threads: int, settings: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A worker that comes up."""
    environment = {name: value for name, value in os.environ.items() if name not in KNOWN}
    command = [sys.executable, __file__, "--worker", "--threads", str(threads)]
    process = subprocess.Popen(
        command, env={**environment, **settings}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def measured(process: subprocess.Popen[str], seconds: float) -> float:
    """Steps a second of one turn."""
    assert process.stdin is not None, "it is a pipe"
    assert process.stdout is not None, "it is a pipe"
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many processes that take a core each."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()


def main() -> None:
    """Takes the rounds and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="Of every worker but the one that has one.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="Of a turn.")
    parser.add_argument("--busy", type=int, default=1, help="Processes beside, where there is load.")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.threads)
        return
    contestants = {**{name: (given.threads, settings) for name, settings in POLICIES.items()}, "one thread": (1, {})}
    found: dict[str, dict[str, list[float]]] = {"alone": {}, "beside load": {}}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(started(*how)) for name, how in contestants.items()}
        for name, process in workers.items():
            assert process.stdout is not None, "it is a pipe"
            assert process.stdout.readline().strip() == "ready", f"{name} has not come up"
        for number in range(given.rounds):
            for where, processes in (("alone", 0), ("beside load", given.busy)):
                with load(processes):
                    for name, process in workers.items():
                        found[where].setdefault(name, []).append(measured(process, given.seconds))
            print(
                f"round {number + 1} of {given.rounds}, load of the machine {os.getloadavg()[0]:.1f}", file=sys.stderr
            )
    result = {where: {name: statistics.median(speeds) for name, speeds in of.items()} for where, of in found.items()}
    for where, speeds in result.items():
        said = (f"{name} {speed:.2f} ({speed / speeds['default']:.2f})" for name, speed in speeds.items())
        print(f"{where}: steps a second (ratio to default): {', '.join(said)}")
    print(json.dumps({**result, "threads": given.threads, "rounds": given.rounds, "busy": given.busy}))


if __name__ == "__main__":
    main()

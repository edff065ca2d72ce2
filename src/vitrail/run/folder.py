"""Where a run keeps what, and whether it is the run that a recipe describes.

<run>/recipe.yaml  log.jsonl  ledger.jsonl  results.json  report.html
      answers/  checkpoints/  weights/  adapter/  blind/  pasted/
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vitrail.contracts.errors import RecipeError
from vitrail.data import ledger
from vitrail.disk import write_whole
from vitrail.recipe.annotated import annotated
from vitrail.recipe.renamed import upgraded_recipe
from vitrail.recipe.schema import Recipe
from vitrail.recipe.strict import Resolved, differences, read
from vitrail.training import checkpoint


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def lock(self) -> Path:
        """Held by the process that trains here."""
        return self.path / ".lock"

    @property
    def blind(self) -> RunFolder:
        """The blind baseline's own folder."""
        return self.baseline("blind")

    def baseline(self, name: str) -> RunFolder:
        """A baseline's own folder."""
        return RunFolder(self.path / name)

    @property
    def weights(self) -> Path:
        """The finished model."""
        return self.path / "weights"

    @property
    def adapter(self) -> Path:
        """The adapter of its language model alone, where it has one."""
        return self.path / "adapter"

    @property
    def checkpoints(self) -> Path:
        """What a resumed run needs."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def answers(self, which: str) -> Path:
        """Held-out answers of the `before`, `after`, `blind` or `pasted` model, or of `after` with media `swapped`."""
        return self.path / "answers" / f"{which}.jsonl"

    @contextmanager
    def claimed(self, resolved: Resolved[Recipe]) -> Generator[None]:
        """Makes the folder the run's own and keeps every other process out; the system lifts the lock when this one
        ends, however it ends.

        Raises RecipeError when it holds another recipe's run that has begun, or something else, cannot be written, or
        another process trains here: nothing in the folder has changed then.
        """
        new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.lock, timeout=0)
            # Before anything is looked at or written: another run's recipe must not be lost to this one's.
            lock.acquire()
        except Timeout:
            raise RecipeError(
                f"another process is training in '{self.path}': wait for it, or choose another folder with run=..."
            ) from None
        except OSError as error:
            raise RecipeError(f"run: cannot write to '{self.path}': {error.strerror or error}") from error
        try:
            try:
                self._claim(resolved)
            except OSError as error:
                raise RecipeError(f"run: cannot write to '{self.path}': {error.strerror or error}") from error
            yield
        finally:
            lock.release()
            if not self.recipe.is_file():
                self.lock.unlink(missing_ok=True)
                if new:
                    self.path.rmdir()

    def _claim(self, resolved: Resolved[Recipe]) -> None:
        if self.recipe.is_file() and self._begun():
            started = read(Recipe, self.recipe, beneath=upgraded_recipe).value
            # Where the run lies may change (a folder moved or copied), and how many processes prepare its data, which
            # changes no batch; what it is may not.
            data = dataclasses.replace(started.data, workers=resolved.value.data.workers)
            changed = differences(dataclasses.replace(started, run=resolved.value.run, data=data), resolved.value)
            if changed:
                raise RecipeError(
                    f"'{self.path}' holds a run of another recipe ({'; '.join(changed[:3])}); "
                    "choose another folder with run=..., or delete it"
                )
            return
        if self._begun():
            raise RecipeError(f"'{self.path}' is not empty and holds no run; choose another folder with run=...")
        write_whole(self.recipe, annotated(resolved))

    def _begun(self) -> bool:
        made = (path for path in self.path.iterdir() if path not in (self.recipe, self.lock))
        return any(not path.name.endswith(".part") for path in made)  # as a kill leaves them

    def results(self) -> dict[str, Any]:
        """What was measured so far."""
        path = self.path / "results.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    def add_result(self, name: str, value: Any) -> None:
        """Adds one entry to results.json, replacing the file at once."""
        write_whole(self.path / "results.json", json.dumps({**self.results(), name: value}, indent=2) + "\n")

    def write_ledger(self, kept: dict[str, Any]) -> None:
        """Writes ledger.jsonl: the counts and rows of a checkpoint's ledger."""
        ledger.write(self.path / "ledger.jsonl", self.checkpoints / checkpoint.LEDGER, kept)

"""What a run report shows, as plain data: anything that can be read back from a run's JSON files can be reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Example:
    """One held-out question with its picture or sound and what each model answered.

    picture_png: the file's bytes (PNG; JPEG, GIF and WebP are shown too); b"" when there is no picture. sound_wav: of a
    WAV file; b"" when there is no sound.
    answers: of the model "after" training, and of the others of `scores.RUNS` that were asked, by their names.
    score: 0 to 1; 1 is shown as right, 0 as wrong, anything between as its number.
    """

    picture_png: bytes
    question: str
    truth: str
    answers: Mapping[str, str]
    kind: str
    score: float
    sound_wav: bytes = b""


@dataclass(frozen=True)
class Report:
    """Everything the page shows. Any collection may be empty: its section is left out.

    title: the run's name.
    summary: facts in one line each, name → text, in the order in which they are shown.
    steps, blind_steps: run-log records of the run and of the blind baseline, oldest first. Read where present: stage,
    step (counted from the start of the run or of the stage), loss, loss_by_source, loss_by_tag, figures (name → value,
    what an objective reports beside its loss), lr (group → rate), tokens_per_second, gradient_norm, seconds, tokens
    and rows (outcome → rows; since the run began), memory_gib.
    results: `metrics.scoring.summarise` of the "before", "blind", "pasted" and "after" models, and of the last with the
    media "swapped", which has besides the share of answers "changed" by that; any may be missing.
    recipe_yaml: the resolved recipe; comments (the origin of each value) are set apart from the values.
    ledger: "counts" (outcome → rows), "by_source" (source → outcome → rows), "rows" (records of id, source, outcome,
    reason; some of each source and outcome, see `ledger.chosen`).
    time: seconds by activity.
    tokens: positions by sort, over the whole run: text, picture, padding; "labelled" is the part of the text that is
    learned from, and is counted in text as well.
    captions: held-out loss (nats a token) as `Score.to_json` with the "right", a "shuffled" and a "withheld" picture.
    pairs: stage -> share of held-out preference pairs ranked right after it, as `Score.to_json` with the "right" media
    and with them "withheld" (`evaluation.pairs`).
    units: what the loss of each stage is counted in, "" for what has no name (`Objective.unit`).
    text: loss on plain text "before" and "after" training (`plain_text.text_loss`) and its "change" (`text_change`).
    """

    title: str
    summary: Mapping[str, str]
    steps: Sequence[Mapping[str, Any]]
    blind_steps: Sequence[Mapping[str, Any]]
    results: Mapping[str, Any]
    examples: Sequence[Example]
    recipe_yaml: str
    ledger: Mapping[str, Any]
    time: Mapping[str, float]
    tokens: Mapping[str, int]
    captions: Mapping[str, Any] | None = None
    pairs: Mapping[str, Any] | None = None
    text: Mapping[str, Any] | None = None
    units: Mapping[str, str] | None = None

"""Answers to held-out questions → exact match, ANLS, box IoU and clicks, overall and by kind, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.contracts.errors import DataError
from vitrail.metrics.boxes import Box, hits, iou, parse_box, parse_point
from vitrail.metrics.intervals import Score, bootstrap, wilson
from vitrail.metrics.text import anls, exact_match, fields_right, json_object

METRICS = ("exact_match", "fields", "anls", "box_iou", "box_half", "click")
"""The metrics of `summarise`, in the order in which they are shown; all are 0 to 1, more is better."""

COUNTED = ("exact_match", "box_half", "click")
"""The metrics of which an answer has all or nothing."""

HALF = 0.5
"""Overlap from which a box is counted as found; the field's custom since PASCAL VOC."""
_SEED = 0  # of the bootstrap: the same answers give the same interval on every machine


@dataclass(frozen=True)
class Answer:
    """What a model said to one question, and what it should have said.

    kind: the question's kind, by which scores are grouped; "" when the data does not say.
    truths: every accepted answer, at least one; the best one counts. Boxes are in thousandths (`metrics.boxes`).
    target: of a click; where it falls is all that counts then. likelihood: as `Reply` has it.
    """

    id: str
    kind: str
    question: str
    prediction: str
    truths: tuple[str, ...]
    target: Box | None = None
    likelihood: float = 1.0

    @property
    def right(self) -> bool:
        """By the metrics that are all or nothing."""
        scores = measure(self)
        return max(scores.get(metric, 0.0) for metric in COUNTED) == 1.0


def measure(answer: Answer) -> dict[str, float]:
    """Scores one answer by the metrics that apply to it: metric → 0 to 1.

    Truths that are boxes count in `box_iou`, and in `box_half` where they overlap by half (a prediction without a
    readable box scores 0), the others in `exact_match` and `anls`; an answer with truths of both sorts is scored
    against each. A click counts in `click` only. A truth that is a JSON object counts in `fields`, the share of its
    fields that are right, and exactly where all of them are.
    Raises DataError, naming the answer, when it has no truth.
    """
    if isinstance(answer.truths, str) or not answer.truths:
        raise DataError(f"answer {answer.id!r}: truths must hold at least one accepted text, got {answer.truths!r}")
    if answer.target is not None:
        return {"click": float(hits(parse_point(answer.prediction), answer.target))}
    boxes = [(truth, parse_box(truth, whole=True)) for truth in answer.truths]
    texts = [truth for truth, box in boxes if box is None]
    scores: dict[str, float] = {}
    objects = [found for found in map(json_object, texts) if found]
    if objects:
        shares = [fields_right(answer.prediction, one) for one in objects]
        scores["fields"] = max(sum(right.values()) / len(right) for right in shares)
        scores["exact_match"] = float(scores["fields"] == 1.0)
        scores["anls"] = anls(answer.prediction, texts)
    elif texts:
        scores["exact_match"] = exact_match(answer.prediction, texts)
        scores["anls"] = anls(answer.prediction, texts)
    wanted = [box for _, box in boxes if box is not None]
    if wanted:
        given = parse_box(answer.prediction)
        scores["box_iou"] = 0.0 if given is None else max(iou(given, box) for box in wanted)
        scores["box_half"] = float(scores["box_iou"] >= HALF)
    return scores


def summarise(answers: Iterable[Answer]) -> dict[str, Any]:
    """Returns `{metric: score for METRICS, "by_kind": {kind: {metric: score}}}`.

    A score is `Score.to_json()`. Overall, a metric that no answer has is present with value None and n 0; by kind it
    is left out. Kinds come in alphabetical order, the fields of JSON answers among them. Raises DataError when an
    answer has no truth.
    """
    everything: list[dict[str, float]] = []
    by_kind: dict[str, list[dict[str, float]]] = {}
    for answer in answers:
        scores = measure(answer)
        everything.append(scores)
        by_kind.setdefault(answer.kind, []).append(scores)
        # Each field is a kind of its own: one may be read well, another never.
        if (truth := json_object(answer.truths[0])) and "fields" in scores:
            for name, right in fields_right(answer.prediction, truth).items():
                by_kind.setdefault(name, []).append({"exact_match": right})
    overall = _averages(everything)
    kinds = {
        kind: {metric: score.to_json() for metric, score in _averages(by_kind[kind]).items() if score.n}
        for kind in sorted(by_kind)
    }
    return {**{metric: score.to_json() for metric, score in overall.items()}, "by_kind": kinds}


def _averages(scores: Sequence[dict[str, float]]) -> dict[str, Score]:
    """Metric → its mean over the answers that have it."""
    columns = {metric: [one[metric] for one in scores if metric in one] for metric in METRICS}
    return {
        metric: wilson(int(sum(values)), len(values)) if metric in COUNTED else bootstrap(values, _SEED)
        for metric, values in columns.items()
    }

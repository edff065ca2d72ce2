"""Scores of answers: exact match, ANLS, box IoU, and their 95 % intervals. Plain Python and numpy, no torch."""

from __future__ import annotations

from vitrail.metrics.boxes import Box, hits, iou, parse_box, parse_point
from vitrail.metrics.intervals import Score, bootstrap, wilson
from vitrail.metrics.scoring import Answer, measure, summarise
from vitrail.metrics.text import anls, exact_match, levenshtein, normalise

__all__ = [
    "Answer",
    "Box",
    "Score",
    "anls",
    "bootstrap",
    "exact_match",
    "hits",
    "iou",
    "levenshtein",
    "measure",
    "normalise",
    "parse_box",
    "parse_point",
    "summarise",
    "wilson",
]

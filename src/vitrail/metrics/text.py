"""Text answers against their truths: normalised exact match, and ANLS as DocVQA's published script computes it.

ANLS takes time proportional to the length of the longer text (bit-parallel edit distance): microseconds an answer.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.contracts.errors import DataError

_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb", "\u201e": "\u201c"}


def normalise(text: str) -> str:
    """Returns `text` as exact match compares it; applying it twice changes nothing.

    In order: Unicode NFKC and case folding (full-width digits, ligatures and capitals no longer matter); runs of
    white space become one blank, none at the ends; then, as often as they occur, one trailing period and one pair of
    surrounding quotes are taken off. A text of punctuation alone keeps its last mark, so it never equals the empty
    answer. Thousands separators, units and articles stay: `1,000` is not `1000`.
    """
    # Folding can undo NFKC and the other way round for a few letters: Unicode's own recipe runs the pair twice.
    folded = unicodedata.normalize("NFD", text).casefold()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())
    bare = " ".join(folded.split())
    while (shorter := _without_wrapping(bare)) != bare:
        bare = shorter
    return bare


def _without_wrapping(text: str) -> str:
    """Takes off one trailing period or one pair of quotes, unless nothing would be left."""
    if text.endswith("."):
        shorter = text[:-1].rstrip()
        return shorter or text
    if len(text) > 2 and _QUOTES.get(text[0]) == text[-1]:
        inside = text[1:-1]
        # `"a" or "b"` begins and ends with quotes that are not a pair.
        if text[0] not in inside and text[-1] not in inside:
            return inside.strip() or text
    return text


def exact_match(prediction: str, truths: Sequence[str]) -> float:
    """1.0 if the normalised prediction equals any normalised truth, else 0.0.

    Raises DataError when there is no truth.
    """
    _require_truths(truths)
    wanted = normalise(prediction)
    return float(any(normalise(truth) == wanted for truth in truths))


def json_object(text: str, *, whole: bool = True) -> dict[str, Any] | None:
    """The JSON object that a text is; or None. whole: or else that it holds between its first and last brace."""
    start, end = (0, len(text)) if whole else (text.find("{"), text.rfind("}") + 1)
    try:
        found = json.loads(text[start:end]) if 0 <= start < end else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def fields_right(prediction: str, truth: Mapping[str, Any]) -> dict[str, float]:
    """Of each field of the truth, 1.0 where the predicted object says the same there, as exact match compares it.

    A field that only the prediction has counts nowhere; null is right only where null is the truth.
    """
    given = json_object(prediction, whole=False) or {}
    return {name: float(name in given and _same(given[name], value)) for name, value in truth.items()}


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, dict | list) or isinstance(one, dict | list) or one is None or other is None:
        return bool(one == other)
    return normalise(str(one)) == normalise(str(other))


def anls(prediction: str, truths: Sequence[str], threshold: float = 0.5) -> float:
    """Average normalised Levenshtein similarity of one answer, 0 to 1: the best over its truths, 0 below `threshold`.

    Both texts are stripped, lower-cased and their white space collapsed; the distance is divided by the length of the
    longer *original* text, and a similarity of exactly `threshold` is kept. That is what DocVQA's script does and what
    published numbers mean; the paper's formula differs in dropping the tie. A trailing period costs here what any
    letter costs, so `anls` can be below `exact_match`.

    Raises DataError when there is no truth or when `threshold` is outside 0 to 1.
    Source: Biten et al. 2019 (arXiv 1907.00490), section 5; the evaluation script of DocVQA.
    """
    _require_truths(truths)
    if not 0.0 <= threshold <= 1.0:
        raise DataError(f"anls: threshold must be between 0 and 1, got {threshold}")
    best = max(_similarity(prediction, truth) for truth in truths)
    return best if best >= threshold else 0.0


def _similarity(prediction: str, truth: str) -> float:
    """1 minus the normalised distance; two empty texts are equal."""
    longest = max(len(prediction), len(truth))
    if longest == 0:
        return 1.0
    distance = levenshtein(" ".join(prediction.lower().split()), " ".join(truth.lower().split()))
    # Lower-casing can lengthen a text (a dotted capital I), so the ratio may pass 1.
    return max(0.0, 1.0 - distance / longest)


def levenshtein(a: str, b: str) -> int:
    """Fewest insertions, deletions and substitutions of characters that turn `a` into `b`.

    One column of the distance table is two integers (where it rises, where it falls), updated by a handful of
    whole-word operations: the cost is len(longer) steps on integers of len(shorter) bits.
    Source: Myers 1999 (J. ACM 46), in Hyyrö's 2003 form.
    """
    pattern, text = (a, b) if len(a) <= len(b) else (b, a)
    if not pattern:
        return len(text)
    positions: dict[str, int] = {}
    for index, character in enumerate(pattern):
        positions[character] = positions.get(character, 0) | 1 << index
    full = (1 << len(pattern)) - 1
    last = 1 << (len(pattern) - 1)
    rises, falls, distance = full, 0, len(pattern)
    for character in text:
        same = positions.get(character, 0)
        across = (((same & rises) + rises) ^ rises) | same
        up = falls | ~(across | rises) & full
        down = rises & across
        distance += bool(up & last) - bool(down & last)
        up = up << 1 | 1
        reached = same | falls
        rises = (down << 1 | ~(reached | up)) & full
        falls = up & reached & full
    return distance


def _require_truths(truths: Sequence[str]) -> None:
    """A single string would silently be compared letter by letter, and no truth would score 0 for ever."""
    if isinstance(truths, str):
        raise DataError(f"truths must be a sequence of strings, got one string: {truths!r}")
    if not truths:
        raise DataError("an answer needs at least one truth, got none")

"""What happens to a sample longer than a pack. Text may be cut; a medium is kept, made smaller or left out as a whole.

Each way is a named policy of the recipe (`data.pack.overlong`), and what it did to a row is in the ledger.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from vitrail.contracts.messages import Conversation
from vitrail.contracts.samples import IGNORE, Sample, TargetText
from vitrail.data.config import PackConfig
from vitrail.data.encode import Encode, first_answers, without_media
from vitrail.data.ledger import Event


def fitted(
    encode: Encode, conversation: Conversation, source: str, pack: PackConfig, most_tokens: int | None = None
) -> Sample | Event:
    """The sample, whole or made to fit a pack by the recipe's policy; or the event that it is too long.

    most_tokens: limit of each picture. Raises DataError for what cannot be used at all.
    """
    sample = encode(conversation, source, most_tokens)
    if _fits(sample, pack):
        return sample
    reason = _too_long(sample, pack)
    found: Sample | None = None
    if pack.overlong == "truncate_text":
        found = _with_shorter_text(encode, conversation, sample, pack, most_tokens)
        reason += "" if found else "; cut there, no answer is left, or not all of its media"
    elif pack.overlong == "shrink_media":
        found, why = _shrunk(encode, conversation, sample, pack)
        reason += why
    elif pack.overlong == "drop_media":
        found = _with_fewer(encode, conversation, sample, pack, most_tokens)
        reason += "" if found else "; too long with its first picture, or other medium, alone"
    return replace(found, reason=reason) if found else Event(sample.id, source, "too_long", reason)


def _with_shorter_text(
    encode: Encode, conversation: Conversation, sample: Sample, pack: PackConfig, most_tokens: int | None
) -> Sample | None:
    """Cut at the pack's end; of an encoder-decoder's answers the first ones that fit, the first cut if it must be."""
    if sample.target is not None:
        for count in range(len(sample.segments) - 1, 0, -1):
            sample = encode(first_answers(conversation, count), sample.source, most_tokens)
            if _fits(sample, pack):
                return replace(sample, outcome="text_cut")
    return cut(sample, pack.length) if sample.patches <= pack.patches else None


def cut(sample: Sample, length: int) -> Sample | None:
    """The first `length` tokens of a sample; None where media do not lie within them, or nothing is learnt, or
    it has several segments. Of an encoder-decoder's the question stays whole, and the answer is cut."""
    if sample.target is not None:
        return None if sample.lengths else _target_cut(sample, sample.target, length - len(sample))
    labels = sample.labels[:length].copy()
    labels[-1:] = IGNORE
    if sample.lengths or any(slot.end > length for slot in sample.slots) or not (labels != IGNORE).any():
        return None
    return replace(
        sample,
        ids=sample.ids[:length],
        labels=labels,
        weights=np.where(labels == IGNORE, np.float32(0), sample.weights[:length]),
        positions=None if sample.positions is None else sample.positions[..., :length],
        outcome="text_cut",
    )


def _target_cut(sample: Sample, target: TargetText, length: int) -> Sample | None:
    """With the first `length` tokens of what is said; None where nothing of it is left to learn."""
    weights = target.weights[: max(0, length)]
    if not weights.any():
        return None
    short = TargetText(target.ids[:length], target.labels[:length], weights)
    return replace(sample, target=short, outcome="text_cut")


def _fits(sample: Sample, pack: PackConfig) -> bool:
    return sample.tokens <= pack.length and sample.patches <= pack.patches


def _too_long(sample: Sample, pack: PackConfig) -> str:
    where = sample.location or sample.id
    if sample.tokens > pack.length:
        return f"{where}: {sample.tokens} tokens, a pack holds {pack.length} (data.pack.length)"
    return f"{where}: {sample.patches} patches, a pack holds {pack.patches} (data.pack.patches)"


def _shrunk(encode: Encode, conversation: Conversation, sample: Sample, pack: PackConfig) -> tuple[Sample | None, str]:
    """With the largest limit for its media under which it fits, by halving, and ""; or None, and why there is none.

    With its smallest media first, so that where they cannot help no other limit is tried.
    """
    if not sample.slots:
        return None, "; it has no media to shrink"
    best = encode(conversation, sample.source, 1)
    if not _fits(best, pack):
        if len(best) == len(sample) > pack.length:
            return None, "; its media take as many tokens at any size"
        return None, "; too long with the smallest pictures too"
    low, high = 1, _largest(sample)
    while high - low > 1:
        limit = (low + high) // 2
        smaller = encode(conversation, sample.source, limit)
        if _fits(smaller, pack):
            low, best = limit, smaller
        else:
            high = limit
    return replace(best, outcome="media_shrunk"), ""


def _largest(sample: Sample) -> int:
    """A limit that its largest medium is under: no token, merged or made by a projector, has less than a patch."""
    totals: Counter[int] = Counter()
    for slot in sample.slots:
        totals[slot.media] += max(slot.view.tokens, slot.view.patches)
    return max(totals.values())


def _with_fewer(
    encode: Encode, conversation: Conversation, sample: Sample, pack: PackConfig, most_tokens: int | None
) -> Sample | None:
    """Without its last media, as few of them as will do; one stays at least."""
    for keep in range(len(sample.media) - 1, 0, -1):
        fewer = encode(without_media(conversation, keep), sample.source, most_tokens)
        if _fits(fewer, pack):
            return replace(fewer, outcome="media_dropped")
    return None

"""Every tensor accounted for: which of a folder's tensors each component is made of, which are missing or left over.

A folder of which a tower was renamed opens with none of its weights lost or left random: it does not open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from vitrail.contracts.errors import WeightsError
from vitrail.systems.system import AnySpec, Layout


@dataclass(frozen=True)
class Account:
    """Official tensors. loaded: by component of ours that is made of them. redundant: those that say again what another
    says. passed_over: those that everyone computes, or that belong to a tower that was not asked for."""

    loaded: Mapping[str, int]
    redundant: int
    passed_over: int

    def __str__(self) -> str:
        """One line; missing and unexpected are 0 in an account that exists."""
        parts = ", ".join(f"{component} {count}" for component, count in self.loaded.items())
        more = f", said twice {self.redundant}" if self.redundant else ""
        more += f", passed over {self.passed_over}" if self.passed_over else ""
        return f"tensors: {parts}; missing 0, unexpected 0{more}"


def canonical_names(system: Layout[AnySpec], names: Collection[str], source: Path) -> dict[str, str]:
    """Official names as `key_map` has them -> as they are on disk. Raises WeightsError for one that is there twice."""
    found: dict[str, str] = {}
    for name in names:
        canonical = system.canonical(name)
        if canonical is not None:
            if canonical in found:
                raise WeightsError(f"'{source}' has '{canonical}' twice, under two names")
            found[canonical] = name
    return found


def accounted(
    system: Layout[AnySpec], spec: AnySpec, official: Collection[str], names: Collection[str], source: Path
) -> Account:
    """The account of a folder. official: names on disk, or as `key_map` has them. names: of our tensors.

    Raises WeightsError, with the numbers by component, for tensors that are missing and for those that nothing takes.
    """
    there = canonical_names(system, official, source)
    wanted, missing = dict[str, str](), dict[str, str]()
    for name in names:
        component = name.partition(".")[0]
        for part in system.key_map(name, spec).names:
            (wanted if part in there else missing).setdefault(part, component)
    left = sorted(there.keys() - wanted.keys() - spec.redundant)
    loaded = Counter(wanted.values())
    if missing or left:
        said = []
        if missing:
            lost = Counter(missing.values())
            counts = ", ".join(f"{name} {count} of {count + loaded[name]}" for name, count in lost.items())
            said.append(f"lacks '{next(iter(missing))}' (missing: {counts})")
        if left:
            said.append(f"has '{left[0]}', which {system.LAYOUT} does not have (unexpected: {len(left)})")
        raise WeightsError(f"'{source}' {' and '.join(said)}")
    redundant = len(there.keys() & spec.redundant - wanted.keys())
    return Account(dict(loaded), redundant, len(official) - len(there))

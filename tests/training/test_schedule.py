"""Learning-rate schedules at their ends and in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.training.config import ConstantConfig, CosineConfig, ScheduleConfig, WSDConfig
from vitrail.training.schedule import factor

shares = st.floats(0, 1)
schedules: st.SearchStrategy[ScheduleConfig] = st.one_of(
    st.builds(CosineConfig, warmup=st.floats(0, 0.9), floor=shares),
    st.builds(ConstantConfig, warmup=st.floats(0, 0.9)),
    st.builds(WSDConfig, warmup=st.floats(0, 0.5), decay=st.floats(0, 0.5), floor=shares),
)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (CosineConfig(warmup=0.1, floor=0.2), {0.0: 0.01, 0.05: 0.5, 0.1: 1.0, 0.55: 0.6, 1.0: 0.2}),
        (CosineConfig(warmup=0.0, floor=0.0), {0.0: 1.0, 0.5: 0.5, 1.0: 0.0}),
        (ConstantConfig(warmup=0.5), {0.0: 0.01, 0.25: 0.5, 0.5: 1.0, 1.0: 1.0}),
        (ConstantConfig(warmup=0.0), {0.0: 1.0, 1.0: 1.0}),
        (WSDConfig(warmup=0.1, decay=0.4), {0.0: 0.01, 0.1: 1.0, 0.6: 1.0, 0.8: 0.5, 1.0: 0.0}),
        (WSDConfig(warmup=0.1, decay=0.5, floor=0.2), {0.5: 1.0, 0.75: 0.6, 1.0: 0.2}),
        (WSDConfig(warmup=0.1, decay=0.0), {0.5: 1.0, 1.0: 1.0}),
    ],
)
def test_values(schedule: ScheduleConfig, values: dict[float, float]) -> None:
    assert {progress: pytest.approx(factor(schedule, progress), abs=1e-9) for progress in values} == values


@given(schedule=schedules, progress=st.floats(0, 1))
def test_it_stays_between_nothing_and_the_full_rate(schedule: ScheduleConfig, progress: float) -> None:
    assert 0 <= factor(schedule, progress) <= 1 + 1e-9
    if progress < 0.999:
        assert factor(schedule, progress) > 0, "every step moves"


@given(schedule=schedules, one=st.floats(0, 1), other=st.floats(0, 1))
def test_it_rises_to_the_end_of_the_warm_up_and_never_again(schedule: ScheduleConfig, one: float, other: float) -> None:
    early, late = sorted((one, other))
    if late < schedule.warmup:
        assert factor(schedule, early) <= factor(schedule, late)
    elif early >= schedule.warmup:
        assert factor(schedule, early) >= factor(schedule, late) - 1e-12


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (CosineConfig, {"warmup": 100}, "warmup is 100, must be from 0 to 1"),
        (CosineConfig, {"floor": -0.1}, "floor is -0.1, must be from 0 to 1"),
        (ConstantConfig, {"warmup": float("nan")}, "warmup is nan"),
        (WSDConfig, {"decay": 2.0}, "decay is 2.0"),
        (WSDConfig, {"warmup": 0.6, "decay": 0.5}, r"warmup \(0.6\) and decay \(0.5\) together must be at most 1"),
    ],
)
def test_what_is_no_share_is_refused(kind: type, values: dict[str, float], said: str) -> None:
    """A warm-up of 100 steps, say, would hold the rate at a hundredth for ever."""
    with pytest.raises(ValueError, match=said):
        kind(**values)

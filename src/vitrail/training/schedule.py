"""Learning-rate schedules: functions of the share of the stage that is done, whatever unit the stage is counted in."""

from __future__ import annotations

import math

from vitrail.training.config import ConstantConfig, CosineConfig, ScheduleConfig, WSDConfig


def factor(schedule: ScheduleConfig, progress: float) -> float:
    """What the learning rate is multiplied by; never 0 before the end. progress: share of the stage done, 0 to 1."""
    if progress < schedule.warmup:
        # The first step has progress 0 and must still move.
        return max(progress / schedule.warmup, 0.01)
    match schedule:
        case ConstantConfig():
            return 1.0
        case CosineConfig(warmup=warmup, floor=floor):
            rest = (progress - warmup) / max(1e-9, 1 - warmup)
            return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))
        case WSDConfig(decay=decay, floor=floor):
            left = max(0.0, 1 - progress)
            return 1.0 if left >= decay else floor + (1 - floor) * left / decay

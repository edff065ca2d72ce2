"""What a recipe may say: each folder's own configuration, put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vitrail.data.config import DataConfig
from vitrail.evaluation.config import EvaluationConfig
from vitrail.models.config import ModelConfig
from vitrail.prompts.config import PromptConfig
from vitrail.training.config import StageConfig, TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """A model and how it comes to be. run: the run's folder. seed: of weights, order and all else drawn by chance."""

    run: Path
    model: ModelConfig
    data: DataConfig
    stages: tuple[StageConfig, ...]
    prompt: PromptConfig = field(default_factory=PromptConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluate: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0

"""Vitrail: assemble, train, measure and talk to multimodal language models.

    import vitrail

    model = vitrail.load("runs/demo")
    print(model.chat("picture.png", "How many red circles are there?"))

Importing this package does not import torch; the first use of a name that needs it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitrail.contracts.errors import (
    DataError,
    ElsewhereError,
    MediaError,
    MissingExtraError,
    RecipeError,
    TrainingError,
    VitrailError,
    WeightsError,
)
from vitrail.contracts.messages import AudioPart, ImagePart, Message, TextPart, VideoPart
from vitrail.contracts.replies import Reply
from vitrail.inference.config import GenerationConfig

if TYPE_CHECKING:
    from vitrail.build import load
    from vitrail.inference.chat_model import ChatModel

__all__ = [
    "AudioPart",
    "ChatModel",
    "DataError",
    "ElsewhereError",
    "GenerationConfig",
    "ImagePart",
    "MediaError",
    "Message",
    "MissingExtraError",
    "RecipeError",
    "Reply",
    "TextPart",
    "TrainingError",
    "VideoPart",
    "VitrailError",
    "WeightsError",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("vitrail")
    if name == "load":
        from vitrail.build import load

        return load
    if name == "ChatModel":
        from vitrail.inference.chat_model import ChatModel

        return ChatModel
    raise AttributeError(f"module 'vitrail' has no attribute '{name}'")

"""The seeded draws of drawn data: those of `media/dice.py`, where pictures that are augmented find them too."""

from vitrail.media.dice import Dice

__all__ = ["Dice"]

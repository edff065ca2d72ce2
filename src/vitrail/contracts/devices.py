"""Devices by name, as recipes and the command line have them."""

from typing import Literal

DeviceName = Literal["auto", "cpu", "cuda", "mps"]

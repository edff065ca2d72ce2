"""Recipe to live objects, by tables from kind to class: the only room that knows every component.

model     components to the assembled model
starting  the model before training, with components taken from finished ones
data      tokenizer, prompt and media rules to `Encode`
training  stages with their streams and objectives
finished  a finished model to its folder, and back
"""

from vitrail.build.data import build_encode, build_media, build_template, build_tokenizer
from vitrail.build.finished import load, load_described, save_adapter, save_weights
from vitrail.build.model import build_model, custom
from vitrail.build.starting import STARTER, adapter_folder, starting_model, weights_folder
from vitrail.build.training import build_objective, build_stages, objectives_of, with_heads
from vitrail.data.sources.opening import open_source as build_source

__all__ = [
    "STARTER",
    "adapter_folder",
    "build_encode",
    "build_media",
    "build_model",
    "build_objective",
    "build_source",
    "build_stages",
    "build_template",
    "build_tokenizer",
    "custom",
    "load",
    "load_described",
    "objectives_of",
    "save_adapter",
    "save_weights",
    "starting_model",
    "weights_folder",
    "with_heads",
]

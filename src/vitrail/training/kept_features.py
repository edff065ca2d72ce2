"""What a frozen encoder makes of views, kept on disk: the second time a view is seen it costs a read.

A file holds the features of one view, named by what the encoder reads of it, in a folder named by the encoder: its
weights, its settings and the number format. Each view is encoded alone, so that its features depend on nothing else,
and a run that was stopped goes on with the same numbers. A file is there whole or not at all; on a full disk, or past
the most that is kept, features are used and not kept. Several processes keep none: their ranks run a module together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from vitrail.contracts.errors import DataError
from vitrail.contracts.samples import MediaStream, Segments, component
from vitrail.disk import is_full, write_whole
from vitrail.models.assembled import MultimodalModel
from vitrail.training.config import StageConfig

MOST_BYTES = 16 * 2**30
"""That are kept in a folder of one encoder."""
NAME = "features"


@dataclass
class KeptFeatures:
    """The features of a model's frozen encoders.

    folder: where they are kept. settings: of each stream's encoder, as text. always: in every stage, and not only where
    one goes over its data more than once. say: takes what the user should know. seen, made: views whose features were
    there, and that were encoded.
    """

    folder: Path
    settings: Mapping[str, str]
    always: bool = False
    say: Callable[[str], None] = lambda line: None
    seen: int = 0
    made: int = 0
    _folders: dict[str, Path] = field(default_factory=dict)
    _room: dict[str, int] = field(default_factory=dict)

    def begin(self, model: MultimodalModel, stage: StageConfig) -> None:
        """Looks which encoders are frozen now; of these the model asks us from here on."""
        self._folders = {}
        for name in model.streams if self.always or (stage.epochs or 0) > 1 else ():
            encoder = model.get_submodule(component(name, "encoder"))
            if is_frozen(encoder):
                folder = self.folder / signature(encoder, self.settings.get(name, ""))
                self._folders[name] = folder
                held = sum(file.stat().st_size for file in folder.glob("*/*")) if folder.is_dir() else 0
                self._room[name] = MOST_BYTES - held
        model.kept = self.features if self._folders else None

    def features(self, name: str, stream: MediaStream, encode: Callable[[MediaStream], Tensor]) -> Tensor:
        """What the encoder of a stream makes of it, float[F, width], on the stream's device."""
        if name not in self._folders:
            return encode(stream)
        with torch.no_grad():
            return torch.cat([self._view(name, view, encode) for view in views_of(stream)])

    def _view(self, name: str, view: MediaStream, encode: Callable[[MediaStream], Tensor]) -> Tensor:
        read = hashlib.sha256()
        for tensor in (view.values, view.positions):
            read.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + bytes_of(tensor))
        path = self._folders[name] / read.hexdigest()[:2] / f"{read.hexdigest()}.safetensors"
        try:
            found = load(path.read_bytes())[NAME].to(view.values.device)
            self.seen += 1
            return found
        except (OSError, KeyError, SafetensorError):
            # Not there, or damaged on its disk: it is made again.
            made = encode(view)
            self.made += 1
            self._keep(name, path, made)
            return made

    def _keep(self, name: str, path: Path, made: Tensor) -> None:
        content = save({NAME: made.cpu().contiguous()})
        if self._room[name] < len(content):
            return
        self._room[name] -= len(content)
        if self._room[name] < len(content):
            self.say(f"no more features of frozen encoders are kept: {MOST_BYTES >> 30} GiB are in '{path.parents[1]}'")
        try:
            write_whole(path, content)
        except OSError as error:
            if not is_full(error):
                raise DataError(f"cannot keep features in '{self.folder}': {error.strerror or error}") from error


def is_frozen(encoder: nn.Module) -> bool:
    """Whether it is a function of what it reads: it has weights, none of them learns, and it draws nothing."""
    parameters = list(encoder.parameters())
    draws = any(isinstance(one, nn.Dropout) and one.p > 0 for one in encoder.modules())
    return bool(parameters) and not draws and not any(one.requires_grad for one in parameters)


def signature(encoder: nn.Module, settings: str) -> str:
    """Names what an encoder makes of views: the same for the same weights, settings, number format and device."""
    made = hashlib.sha256(f"{settings} {type(encoder).__qualname__} {torch.__version__}".encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        made.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.device.type}".encode() + bytes_of(tensor))
    return made.hexdigest()[:16]


def bytes_of(tensor: Tensor) -> bytes:
    """Of any number format."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def views_of(stream: MediaStream) -> list[MediaStream]:
    """Each view of a stream alone, with what an encoder reads of it."""
    lengths = stream.segments.lengths
    parts = zip(stream.values.split(lengths), stream.positions.split(lengths), strict=True)
    return [
        replace(
            stream,
            values=values,
            positions=positions,
            segments=Segments((len(values),)),
            views=stream.views[number : number + 1],
            links=stream.links[number : number + 1],
        )
        for number, (values, positions) in enumerate(parts)
    ]

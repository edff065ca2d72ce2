"""A source's settings to the opened source and how its rows are read.

Readers that need other libraries are imported here, when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitrail.contracts.protocols import Source, StreamedSource
from vitrail.data.config import SourceConfig
from vitrail.data.dialects import dialects_of
from vitrail.data.sources.config import (
    FilesConfig,
    FolderConfig,
    HubConfig,
    JsonlConfig,
    ParquetConfig,
    Reading,
    WebDatasetConfig,
)
from vitrail.data.sources.folder import FolderSource
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.data.sources.webdataset import WebDatasetSource
from vitrail.synthetic.code.config import CodeConfig
from vitrail.synthetic.code.source import CodeSource
from vitrail.synthetic.config import DrawnConfig, LinesConfig, ProseConfig
from vitrail.synthetic.documents.config import DocumentsConfig
from vitrail.synthetic.documents.source import DocumentsSource
from vitrail.synthetic.lines import LinesSource
from vitrail.synthetic.prose import ProseSource
from vitrail.synthetic.source import DrawnSource
from vitrail.synthetic.speech.config import SpokenConfig
from vitrail.synthetic.speech.source import SpokenSource


def _parquet(config: ParquetConfig) -> Source:
    from vitrail.data.sources.parquet import ParquetSource

    return ParquetSource(config)


def _hub(config: HubConfig) -> StreamedSource:
    from vitrail.data.sources.hub import HubSource

    return HubSource(config)


_OPENERS: dict[type[SourceConfig], Callable[[Any], Source | StreamedSource]] = {
    JsonlConfig: JsonlSource,
    FolderConfig: FolderSource,
    WebDatasetConfig: WebDatasetSource,
    ParquetConfig: _parquet,
    HubConfig: _hub,
    DrawnConfig: DrawnSource,
    LinesConfig: LinesSource,
    DocumentsConfig: DocumentsSource,
    CodeConfig: CodeSource,
    ProseConfig: ProseSource,
    SpokenConfig: SpokenSource,
}
"""Every kind of source; a new one is a line here and one in `data/config.py`."""


def open_source(config: SourceConfig) -> tuple[Source | StreamedSource, Reading]:
    """The source, and how its rows are read. Drawn rows are `tags`, drawn pairs `preference`, drawn
    prose `interleaved`.

    Raises DataError when it cannot be opened, or none of its first rows can be read; MissingExtraError without the
    library.
    """
    source = _OPENERS[type(config)](config)
    if not isinstance(config, FilesConfig):
        if isinstance(config, ProseConfig):
            return source, Reading("interleaved")
        return source, Reading("preference" if isinstance(config, DrawnConfig) and config.pairs else "tags")
    if config.dialect == "auto":
        dialects_of(source)
    return source, Reading(config.dialect, config.ignore_keys, config.box_format)

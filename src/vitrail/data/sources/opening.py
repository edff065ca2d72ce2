"""A source's settings to the opened source and the dialect of its rows.

Readers that need other libraries are imported here, when they are asked for.
"""

from __future__ import annotations

from vitrail.contracts.protocols import Source, StreamedSource
from vitrail.data.config import SourceConfig
from vitrail.data.dialects import dialect_of
from vitrail.data.drawn.config import DrawnConfig, LinesConfig
from vitrail.data.drawn.documents.config import DocumentsConfig
from vitrail.data.drawn.documents.source import DocumentsSource
from vitrail.data.drawn.lines import LinesSource
from vitrail.data.drawn.source import DrawnSource
from vitrail.data.sources.config import (
    DialectName,
    FilesConfig,
    FolderConfig,
    HubConfig,
    JsonlConfig,
    ParquetConfig,
    WebDatasetConfig,
)
from vitrail.data.sources.folder import FolderSource
from vitrail.data.sources.jsonl import JsonlSource
from vitrail.data.sources.webdataset import WebDatasetSource


def open_source(config: SourceConfig) -> tuple[Source | StreamedSource, DialectName]:
    """The source, and the dialect of its rows where none is named: that of the first ones.

    Raises DataError when it cannot be opened, or its rows are in no dialect; MissingExtraError without the library.
    """
    match config:
        case DrawnConfig():
            return DrawnSource(config), "tags"
        case LinesConfig():
            return LinesSource(config), "tags"
        case DocumentsConfig():
            return DocumentsSource(config), "tags"
    source = _files(config)
    return source, config.dialect if config.dialect != "auto" else dialect_of(source)


def _files(config: FilesConfig) -> Source | StreamedSource:
    match config:
        case JsonlConfig():
            return JsonlSource(config)
        case FolderConfig():
            return FolderSource(config)
        case WebDatasetConfig():
            return WebDatasetSource(config)
        case ParquetConfig():
            from vitrail.data.sources.parquet import ParquetSource

            return ParquetSource(config)
        case HubConfig():
            from vitrail.data.sources.hub import HubSource

            return HubSource(config)

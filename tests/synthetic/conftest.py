"""Drawn documents that several tests look at."""

from __future__ import annotations

import pytest

from vitrail.synthetic.documents.config import DOCUMENTS, DocumentsConfig
from vitrail.synthetic.documents.page import Document
from vitrail.synthetic.documents.source import DocumentsSource


@pytest.fixture(scope="session")
def documents() -> dict[str, list[Document]]:
    """Clean documents of both splits, fifty of a kind."""
    made = {}
    for split in ("train", "test"):
        made[split] = [
            source.document(index)
            for kind in DOCUMENTS
            for source in [DocumentsSource(DocumentsConfig(split=split, rows=50, documents=(kind,), wear=0.0))]
            for index in range(50)
        ]
    return made

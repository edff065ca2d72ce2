"""Writes docs/documents.png: two drawn documents of each kind, side by side.

python docs/documents.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from vitrail.synthetic.documents.config import DOCUMENTS, DocumentsConfig
from vitrail.synthetic.documents.source import DocumentsSource

PAGE = Path(__file__).with_name("documents.png")
WIDTH, GAP = 1060, 8  # px
COLOURS = 256


def main() -> None:
    """Draws the sheet, row by row."""
    pictures = [
        Image.fromarray(source.document(index).picture)
        for index in range(2)
        for kind in DOCUMENTS
        for source in [DocumentsSource(DocumentsConfig(documents=(kind,), seed=4, wear=0.25))]
    ]
    pictures.sort(key=lambda picture: picture.height, reverse=True)
    sheet = Image.new("RGB", (WIDTH, 4000), (255, 255, 255))
    x = y = GAP
    tall = 0
    while pictures:
        # The tallest that is left opens a row; what fits beside it follows.
        fits = next((picture for picture in pictures if x + picture.width + GAP <= WIDTH), None)
        if fits is None:
            x, y, tall = GAP, y + tall + GAP, 0
            continue
        pictures.remove(fits)
        sheet.paste(fits, (x, y))
        frame = Image.new("RGB", (1, fits.height), (200, 200, 200))
        sheet.paste(frame, (x - 1, y))
        sheet.paste(frame, (x + fits.width, y))
        bar = frame.resize((fits.width + 2, 1))
        sheet.paste(bar, (x - 1, y - 1))
        sheet.paste(bar, (x - 1, y + fits.height))
        x, tall = x + fits.width + GAP, max(tall, fits.height)
    sheet.crop((0, 0, WIDTH, y + tall + GAP)).quantize(COLOURS).save(PAGE, optimize=True)


if __name__ == "__main__":
    main()

"""Makes `small_tokenizer.json`: a byte-level BPE of 512 pieces from the drawn data's train split.

    python benchmarks/make_small_tokenizer.py

Digits are kept apart, so that numbers never seen can be read and written. Takes some 20 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import vitrail
from vitrail.data.dialects import to_conversation
from vitrail.synthetic.config import DrawnConfig
from vitrail.synthetic.source import DrawnSource

ROWS = 20_000
PIECES = 512
TARGET = Path(vitrail.__file__).parent / "models" / "backbones" / "small_tokenizer.json"


def texts() -> Iterator[str]:
    """Every turn of the train rows, without the picture's tag."""
    source = DrawnSource(DrawnConfig(rows=ROWS))
    for index in range(len(source)):
        for message in to_conversation(source.row(index)).messages:
            yield message.text


def main() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=PIECES, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.save(str(TARGET))
    print(f"{TARGET}: {tokenizer.get_vocab_size()} pieces")


if __name__ == "__main__":
    main()

"""Tokenizers: transformers' fast ones behind our protocol, and one of plain bytes for models trained from nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import cached_file

from vitrail.contracts.errors import DataError, RecipeError, WeightsError


class HFTokenizer:
    """A transformers tokenizer whose `encode` never makes a special token."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.hf = tokenizer
        self._specials: dict[str, int] = {
            token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special
        }

    @cached_property
    def vocabulary(self) -> int:
        """Ids it can make; a model's table may be larger."""
        return max(self.hf.get_vocab().values(), default=-1) + 1

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; `<|im_end|>` typed by a user comes out as the letters it is made of.

        Raises DataError for text that is no Unicode: JSON can spell half a surrogate pair.
        """
        return list(self._encoded(text).ids)

    def starts(self, text: str) -> list[tuple[int, int]]:
        """Ids of plain text, each with the number of the character it begins at. Raises DataError as `encode` does."""
        found = self._encoded(text)
        return [(number, start) for number, (start, _) in zip(found.ids, found.offsets, strict=True)]

    def _encoded(self, text: str) -> Any:
        # Straight to the library below transformers, whose own call takes ten times as long on a sentence.
        backend = self.hf.backend_tokenizer
        backend.encode_special_tokens = True
        try:
            return backend.encode(text, add_special_tokens=False)
        except TypeError as error:
            raise DataError(f"text holds half a surrogate pair, which is no character: {text!r:.60}") from error

    def whole(self, text: str) -> list[int]:
        """Ids of a string in which special tokens are special; for text that no user has written any of."""
        backend = self.hf.backend_tokenizer
        backend.encode_special_tokens = False
        return list(backend.encode(text, add_special_tokens=False).ids)

    @property
    def specials(self) -> tuple[str, ...]:
        """Names of all special tokens."""
        return tuple(self._specials)

    @property
    def names(self) -> dict[str, str]:
        """Special tokens by what a chat template calls them: `bos_token` and its like."""
        return {name: str(token) for name, token in self.hf.special_tokens_map.items() if isinstance(token, str)}

    @property
    def chat_template(self) -> str | None:
        """The chat template that came with it; of several the one named `default`."""
        given = self.hf.chat_template
        return given.get("default") if isinstance(given, dict) else given

    def special(self, name: str) -> int:
        """Id of a special token. Raises WeightsError when the vocabulary has none such."""
        if name not in self._specials:
            raise WeightsError(f"the tokenizer has no special token '{name}'; it has: {', '.join(self._specials)}")
        return self._specials[name]

    def decode(self, ids: Sequence[int], *, show_special: bool = False) -> str:
        """Text of ids."""
        text = self.hf.decode(list(ids), skip_special_tokens=not show_special, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def save(self, folder: str) -> None:
        """Writes the tokenizer in transformers' layout."""
        self.hf.save_pretrained(folder)


class NoTokenizer:
    """Stands where a tokenizer cannot be had: whatever it is asked, it says why. The model beside it runs on ids."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def _refuse(self) -> NoReturn:
        raise WeightsError(self._reason)

    @property
    def vocabulary(self) -> int:
        """Raises WeightsError."""
        self._refuse()

    def encode(self, text: str) -> list[int]:
        """Raises WeightsError."""
        self._refuse()

    def starts(self, text: str) -> list[tuple[int, int]]:
        """Raises WeightsError."""
        self._refuse()

    def special(self, name: str) -> int:
        """Raises WeightsError."""
        self._refuse()

    def decode(self, ids: Sequence[int], *, show_special: bool = False) -> str:
        """Raises WeightsError."""
        self._refuse()

    def save(self, folder: str) -> None:
        """Raises WeightsError."""
        self._refuse()


def byte_tokenizer(specials: Sequence[str]) -> HFTokenizer:
    """256 bytes and the special tokens: nothing to download, nothing unknown."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = FastTokenizer(models.BPE(vocab={symbol: number for number, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _with_specials(tokenizer, specials)


def small_tokenizer(specials: Sequence[str]) -> HFTokenizer:
    """512 pieces learnt from the drawn data's train split, digits one by one; what it does not know it spells in bytes.

    Three times shorter than bytes on that data. Made by `benchmarks/make_small_tokenizer.py`.
    """
    text = files(__package__).joinpath("small_tokenizer.json").read_text(encoding="utf-8")
    return _with_specials(FastTokenizer.from_str(text), specials)


def _with_specials(tokenizer: FastTokenizer, specials: Sequence[str]) -> HFTokenizer:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_special_tokens({"additional_special_tokens": list(specials)})
    return HFTokenizer(fast)


def load_tokenizer(source: str) -> HFTokenizer:
    """From a folder or hub id. Raises RecipeError when there is none, WeightsError for one without a fast version."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise RecipeError(f"model.backbone.tokenizer: cannot load a tokenizer from '{source}': {first}") from error
    if not tokenizer.is_fast:
        raise WeightsError(f"the tokenizer of '{source}' has no fast version, which prompts need")
    program = _processor_template(source)
    if program is not None:
        tokenizer.chat_template = program
    return HFTokenizer(tokenizer)


OPTIONAL: Any = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_connection_errors": False,
}
"""How a file is asked for that need not be there; without a network, what was fetched before is all there is."""
PROCESSOR_TEMPLATES = ("processor_config.json", "chat_template.json")
"""Files of a processor that may hold a chat template, the one that counts first; it counts before the tokenizer's."""


def _processor_template(source: str) -> str | None:
    """The chat template of the processor beside a tokenizer; `chat_template.jinja`, which is both's, not among them.

    Source: transformers 5.23, `ProcessorMixin.get_processor_dict`. Raises WeightsError for one that is no text, and
    where named templates lie beside a `chat_template.json`, which transformers refuses too.
    """
    for name in PROCESSOR_TEMPLATES:
        try:
            path = cached_file(source, name, **OPTIONAL)
            found = json.loads(Path(path).read_text(encoding="utf-8")).get("chat_template") if path else None
        except (OSError, ValueError, AttributeError) as error:
            raise WeightsError(f"'{source}' has a {name} that cannot be read: {error}") from error
        if found is None:
            continue
        if not isinstance(found, str):
            raise WeightsError(f"'{source}' has a {name} whose chat_template is no text")
        if name == PROCESSOR_TEMPLATES[1] and any(Path(source).glob("additional_chat_templates/*.jinja")):
            raise WeightsError(f"'{source}' has a {name} beside additional_chat_templates: keep one of the two")
        return found
    return None

"""Conversations in the formats people have; see `docs/your-own-data.md` for a row of each.

openai       messages made of parts, as in OpenAI's chat API
sharegpt     `conversations` of `from` and `value` (LLaVA)
tags         `messages` with `<image>` in their text (LLaMA-Factory, ms-swift)
turns        `texts` of `user` and `assistant` (FineVision, the Cauldron)
preference   `chosen` and `rejected` (TRL, LLaMA-Factory, RLAIF-V), or `rejected_response` (ms-swift)
interleaved  documents of text and pictures (OBELICS, MMC4), or of text alone
caption      a picture and its `text` or `caption`
vqa          `question` and `answer`; short_vqa asks for a short answer, as LLaVA-1.5 was taught

Pictures without any `<image>` tag open the first user turn, as TRL and ms-swift have it; a number of tags that is
neither zero nor the number of pictures is an error. Reading a row costs some microseconds; pictures stay closed.
"""

from vitrail.data.dialects.pictures import TAG
from vitrail.data.dialects.reading import dialect_of, recognise, to_conversation, to_messages

__all__ = ["TAG", "dialect_of", "recognise", "to_conversation", "to_messages"]

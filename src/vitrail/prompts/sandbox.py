"""Chat templates as programs (jinja), run as transformers runs them: in a sandbox, with the same names at hand.

What transformers' sandbox lacks is limits on steps, time and size: those are in `prompts/limits.py` and `counting.py`.

`strftime_now` is not among them: a prompt that changes with the date could not be made twice. Templates that ask for it
if it is there (Llama 3.2's) fall back on a date of their own; others are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template as Compiled
from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser

from vitrail.contracts.errors import DataError
from vitrail.prompts.counting import LimitedEnvironment
from vitrail.prompts.limits import limited
from vitrail.prompts.tools import to_json

LONGEST_REASON = 200
"""Characters of what a template says when it refuses a conversation."""

GENERATED, GENERATED_END = "\ue002", "\ue003"
"""Characters of private use that are written around what a `{% generation %}` block writes."""


class _Generation(Extension):
    """`{% generation %}` ... `{% endgeneration %}`: what is between them is learnt."""

    tags = {"generation"}  # noqa: RUF012, as jinja has it
    brackets = ("", "")

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_around"), [], [], body).set_lineno(line)

    def _around(self, caller: Callable[[], str]) -> str:
        return self.brackets[0] + caller() + self.brackets[1]


class _BracketedGeneration(_Generation):
    brackets = (GENERATED, GENERATED_END)


@lru_cache(maxsize=16)
def _compiled(source: str, sentinels: bool) -> Compiled:
    generation = _BracketedGeneration if sentinels else _Generation
    environment = LimitedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[generation, LoopControlExtension]
    )
    environment.limit_filter("tojson", lambda value, **options: to_json(value, **options))
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(source)


def _refuse(message: object) -> NoReturn:
    raise TemplateError(str(message))


def run(
    source: str,
    names: Mapping[str, str],
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    ask: bool = False,
    sentinels: bool = False,
) -> str:
    """What a template writes. names: `bos_token` and its like. ask: with an opened answer at the end.

    sentinels: with `GENERATED` and `GENERATED_END` around what `{% generation %}` blocks write.
    Raises DataError for whatever goes wrong in it.
    """
    try:
        with limited():
            return _compiled(source, sentinels).render(
                {
                    **names,
                    "messages": [dict(message) for message in messages],
                    "tools": [dict(tool) for tool in tools] or None,
                    "documents": None,
                    "add_generation_prompt": ask,
                }
            )
    except Exception as error:  # the template is someone else's program
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:LONGEST_REASON]
        raise DataError(f"the tokenizer's chat template refuses the conversation: {reason}") from error

"""Chat templates that would never end, or fill the memory: stopped in their own thread, with a line that says why."""

from __future__ import annotations

import re
import threading
import time
import tracemalloc
from typing import Any

import pytest
from transformers.utils.chat_template_utils import _compile_jinja_template

from vitrail.contracts.errors import DataError, RecipeError
from vitrail.models.backbones.tokenizer import byte_tokenizer
from vitrail.prompts.config import PictureConfig
from vitrail.prompts.program import tokenizer_template
from vitrail.prompts.sandbox import run

MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "A cup, I think.\nOr a mug."},
]
FORTY = "{% set ns = namespace(s='ab', l=[1, 2], n=2) %}{% for i in range(40) %}"

HOSTILE = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops that write": "{% for a in range(99999) %}{% for b in range(99999) %}abcdefghij{% endfor %}{% endfor %}",
    "a long text in a loop": "{% for a in range(99999) %}" + 10_000 * "x" + "{% endfor %}",
    "loops whose condition fails": (
        "{% for a in range(99999) %}{% for b in range(99999) if 0 %}{% endfor %}{% endfor %}"
    ),
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "a macro without an end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a block that holds itself": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "a recursive loop": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{{ loop([1, 2]) }}{% endfor %}",
    "text times a number": "{{ 'a' * 10000000000 }}",
    "a number times text": "{{ 10000000000 * 'a' }}",
    "lists times a number": "{% set a = [1] * 10000000000 %}",
    "text doubled with ~": FORTY + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "text doubled with +": FORTY + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "text doubled with format": FORTY + "{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
    "text doubled with %": FORTY + "{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
    "text doubled with the filter": FORTY + "{% set ns.s = '%s%s' | format(ns.s, ns.s) %}{% endfor %}",
    "text doubled with join": FORTY + "{% set ns.s = ns.s.join([ns.s, ns.s]) %}{% endfor %}",
    "text doubled with the filter join": FORTY + "{% set ns.s = [ns.s, ns.s] | join(ns.s) %}{% endfor %}",
    "text doubled with replace": FORTY + "{% set ns.s = ns.s.replace('a', 'aa') %}{% endfor %}",
    "text doubled with the filter replace": FORTY + "{% set ns.s = ns.s | replace('a', 'aa') %}{% endfor %}",
    "text doubled by blocks": FORTY + "{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}{% endfor %}",
    "lists doubled": FORTY + "{% set ns.l = ns.l + ns.l %}{% endfor %}",
    "lists of lists written": FORTY + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "lists of lists joined": FORTY + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | join }}",
    "lists of lists as JSON": FORTY + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
    "lists of lists as text": FORTY + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ (ns.l | string) | length }}",
    "lists of lists with ~": FORTY + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ 'a' ~ ns.l }}",
    "lists of lists in a namespace": FORTY + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns }}",
    "lists of lists compared": (
        FORTY + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{% set a = ns.l %}{% set ns.l = [1, 2] %}"
        "{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ a == ns.l }}"
    ),
    "tuples of tuples as keys": FORTY + "{% set ns.l = (ns.l, ns.l) %}{% endfor %}{% set d = {ns.l: 1} %}",
    "tuples of tuples in brackets": (
        "{% set ns = namespace(l=(1, 2)) %}{% for i in range(60) %}{% set ns.l = (ns.l, ns.l) %}{% endfor %}"
        "{{ {}[ns.l] }}"
    ),
    "tuples of tuples made one": FORTY + "{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ [ns.l, ns.l] | unique | list }}",
    "many long lists": FORTY.replace("40", "99999") + "{% set ns.l = [ns.l, range(99999) | list] %}{% endfor %}",
    "powers": "{{ 9 ** (9 ** 9) }}",
    "powers one by one": "{% set ns = namespace(n=2) %}{% for i in range(60) %}{% set ns.n = ns.n ** 2 %}{% endfor %}",
    "squares": "{% set ns = namespace(n=3) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "rounding": "{{ 1.5 | round(1000000000, 'floor') }}",
    "a width in %": "{{ '%1000000000d' % 1 }}",
    "a width of % from outside": "{{ '%*d' % (1000000000, 1) }}",
    "a width in format": "{{ '{:>1000000000}'.format('a') }}",
    "a width of format from outside": "{{ '{:>{}}'.format('a', 1000000000) }}",
    "a width in the filter format": "{{ '%1000000000d' | format(1) }}",
    "center": "{{ 'a'.center(1000000000) }}",
    "the filter center": "{{ 'a' | center(1000000000) }}",
    "zfill": "{{ '1'.zfill(1000000000) }}",
    "expandtabs": "{{ '\t\t'.expandtabs(1000000000) }}",
    "encode": "{{ 'a'.encode() }}",
    "bytes of a number": "{{ (1).to_bytes(1000000000, 'big') }}",
    "indent": "{{ 'a\nb' | indent(1000000000) }}",
    "indented JSON": "{{ [1] | tojson(indent=1000000000) }}",
    "batches": "{{ [1] | batch(1000000000, 'a') | list }}",
    "slices": "{{ [1] | slice(1000000000) | list | length }}",
    "placeholder text": "{{ lipsum(n=100000) }}",
    "sums of lists": "{{ [[1]] | sum(start=[]) }}",
    "a namespace within itself": "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}",
    "a range written": "{% for i in range(999) %}{{ range(99999) | list }}{% endfor %}",
    "refused at length": "{% set a = 'ab' * 1000000 %}{{ raise_exception([a, a, a, a, a, a]) }}",
    "a long program": "{# " + 1_100_000 * "x" + " #}",
    "a deep program": "{{ " + 5000 * "(" + "1" + 5000 * ")" + " }}",
    "loops within loops": 60 * "{% for a in [1, 2] %}" + 60 * "{% endfor %}",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_template_is_stopped(source: str) -> None:
    before = time.thread_time()
    with pytest.raises(DataError) as raised:
        run(source, {}, MESSAGES)
    assert time.thread_time() - before < 20
    assert STOPPED.search(str(raised.value)), raised.value
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


STOPPED = re.compile(
    r"it (was stopped after|makes|handles|writes|has) |it sums up lists|is not there$|No filter named '"
    r"|maximum recursion|too many (statically )?nested|is given 1,000,000,000$|range\(\) too big|'lipsum' is undefined"
)
"""By a limit, a name that is not there, or Python's own limit: not by a mistake of this test's."""


def test_so_it_is_in_another_thread() -> None:
    """No signals, which only the main thread gets."""
    said: list[str] = []

    def work() -> None:
        try:
            run(HOSTILE["many long lists"], {}, MESSAGES)
        except DataError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert STOPPED.search(said[0])


@pytest.mark.parametrize("name", ["text doubled with ~", "text times a number", "a width in format"])
def test_the_memory_is_not_filled(name: str) -> None:
    """Sizes are looked at before anything is made."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            run(HOSTILE[name], {}, MESSAGES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_a_tokenizer_with_a_hostile_template_is_refused() -> None:
    tokenizer = byte_tokenizer(["<|im_end|>"])
    with pytest.raises(RecipeError, match=r"cannot be used: .* it was stopped after"):
        tokenizer_template(HOSTILE["nested loops"], {}, tokenizer.specials, tokenizer.whole, PictureConfig())


KIND = {
    "everything at once": """
{%- set ns = namespace(text='', count=0, found=false) %}
{%- macro shown(message, depth=0) %}{{ '[' ~ message.role ~ '] ' }}{{ message['content'] | trim }}{% endmacro %}
{%- for message in messages if message.content %}
    {%- set ns.count = ns.count + 1 %}
    {%- set ns.text = ns.text + message.content.split('\\n')[0].strip() ~ '; ' %}
    {{- shown(message) }} {{ loop.index0 }} {{ loop.last }} {{ loop.previtem is defined }}
    {%- if message.role == 'user' and 'it' in message.content %}{% set ns.found = true %}{% endif %}
    {%- for word in message.content.split() | map('upper') | unique | sort | list %}{{ word }}, {% endfor %}
{%- endfor %}
{{ ns.text }} {{ ns.count }} {{ ns.found }} {{ messages | length }} {{ messages[::-1][0].role }}
{{ messages | selectattr('role', 'equalto', 'user') | list | tojson }} {{ messages[0] | tojson(indent=2) }}
{{ '%s and %d' % ('a', 3) }} {{ '{} {:>5} {x}'.format(1, 'b', x=2) }} {{ '%s' | format('q') }}
{{ 2 ** 10 }} {{ 7 * 'ab' }} {{ messages[1:] | length }}
{{ (messages | map(attribute='role') | join(', ')) | replace('user', 'human') }} {{ [1, 2] + [3] }}
{{ {'a': 1}.items() | list }} {{ 'a-b'.replace('-', '+') }} {{ ' '.join(['x', 'y']) }}
{{ 'x\\ny' | indent(2) }} {{ 3.14159 | round(2) }} {{ none is none }}
{%- for key, value in {'b': 1, 'a': [2]} | dictsort %}{{ key }}={{ value }};{% endfor %}
{%- if tools is defined and tools %}{{ tools }}{% endif %}
{%- set block %}{{ messages[0].content }}{% endset %}{{ block | length }} {{ undefined_name }}
{{ undefined_name | default('d') }}
{%- for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}
{{- messages | first | items | list }} {{ [3, 1] | sum }} {{ [3, 1] | max }}
{{ ('a', 'b')[1] }} {{ 'abc'[1:] }} {{ true and 'x' or 'y' }}
""",
    "text alone": "Only text,\n  with {{ 'no' }} turns.\n",
}


@pytest.mark.parametrize("source", KIND.values(), ids=KIND.keys())
def test_what_is_within_the_limits_is_written_as_transformers_writes_it(source: str) -> None:
    theirs = _compile_jinja_template(source).render(
        messages=MESSAGES, tools=None, documents=None, add_generation_prompt=False
    )
    assert run(source, {}, MESSAGES) == theirs


def test_long_conversations_are_within_the_limits() -> None:
    """A thousand turns of two thousand characters, gathered in one text as well as written."""
    source = (
        "{% set ns = namespace(all='') %}{% for m in messages %}{% set ns.all = ns.all + m.content[:20] | trim %}"
        "{{ '<' + m.role + '>' + m['content'] | trim + '\\n' }}{% endfor %}{{ ns.all | length }}"
    )
    messages = [{"role": "user", "content": 500 * "word "} for _ in range(1000)]
    assert run(source, {}, messages).count("\n") == 1000

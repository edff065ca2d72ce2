"""A jinja environment whose templates count what they do: loops, macros, calls, filters and operators.

jinja's sandbox keeps a template away from Python's insides and limits one `range`; it does not keep two of them from
being nested, a text from being doubled forty times, or a list of one long text from being written out. So calls that
count are put into the tree of a template before it is compiled, and it stops where that is too much: in its own
thread, without signals or a second process. Costs about a microsecond an operation.

Filters and methods that no chat template needs, and which would have to be limited one by one, are not there: whoever
asks for one is told its name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from string import Formatter
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from vitrail.prompts.limits import BITS, DEEP, DIGITS, LARGEST, LONGEST, all_of, budget, fits, size_of, stop, weight

FILTERS = frozenset(
    (
        *("abs", "batch", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "filesizeformat", "first"),
        *("float", "format", "groupby", "indent", "int", "items", "join", "last", "length", "list", "lower", "map"),
        *("max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "slice"),
        *("sort", "string", "sum", "title", "tojson", "trim", "truncate", "unique", "upper", "urlencode", "wordcount"),
    )
)
METHODS = frozenset(
    (
        *("strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "startswith"),
        *("endswith", "removeprefix", "removesuffix", "replace", "join", "upper", "lower", "title", "capitalize"),
        *("swapcase", "casefold", "find", "rfind", "index", "rindex", "count", "format", "zfill", "center", "ljust"),
        *("rjust", "expandtabs", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower"),
        *("isnumeric", "isprintable", "isspace", "istitle", "isupper"),
    )
)
"""Of texts."""
JINJAS = ("_loop_vars", "_block_vars")
"""Arguments that compiled templates hand to every call, for jinja itself."""
COMPARING = ("eq", "==", "equalto", "ne", "!=", "lt", "<", "le", "<=", "gt", ">", "ge", ">=", "in")
SORTING = ("sort", "unique", "groupby", "dictsort", "min", "max", "sum", "string")


def turned() -> bool:
    """A loop has come round, or a macro was entered."""
    budget().step()
    return True


def weighed(value: Any) -> Any:
    """The value, which is about to be compared."""
    weight(value)
    return value


def made(value: Any) -> Any:
    """The value, which was made here."""
    budget().make(value)
    return value


def joined(*parts: Any) -> str:
    """Texts one behind the other: jinja's `~`."""
    fits(sum(map(weight, parts)))
    text = "".join(map(str, parts))
    budget().make(text)
    return text


@pass_context
def written(_: Context, value: Any) -> Any:
    """What is written out."""
    used = budget()
    used.written += weight(value)
    if used.written > LARGEST:
        stop(f"it writes more than {LARGEST:,} characters")
    return value


OWN = {"turned": turned, "weighed": weighed, "made": made, "joined": joined}
"""What compiled templates call, by names that no template can say."""


class _Counting(NodeTransformer):
    """A template's tree with the calls that count."""

    def _call(self, name: str, arguments: Sequence[nodes.Expr], at: nodes.Node) -> nodes.Call:
        return nodes.Call(
            nodes.EnvironmentAttribute(name, lineno=at.lineno), list(arguments), [], None, None, lineno=at.lineno
        )

    def _turn(self, at: nodes.Node) -> nodes.ExprStmt:
        return nodes.ExprStmt(self._call("turned", [], at), lineno=at.lineno)

    def _weighed(self, node: nodes.Expr) -> nodes.Expr:
        return node if isinstance(node, nodes.Const) else self._call("weighed", [node], node)

    def _for(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, self._turn(node))
        if node.test is not None:
            node.test = nodes.And(self._call("turned", [], node), node.test, lineno=node.lineno)
        return node

    def _entered(self, node: nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, self._turn(node))
        return node

    def _text(self, node: nodes.TemplateData) -> nodes.Node:
        # A text of its own would be written without being counted.
        return nodes.Const(node.data, lineno=node.lineno)

    def _concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._call("joined", node.nodes, node)

    def _compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = self._weighed(node.expr)
        for operand in node.ops:
            operand.expr = self._weighed(operand.expr)
        return node

    def _pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = self._weighed(node.key)
        return node

    def _getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return self._call("made", [node], node) if isinstance(node.arg, nodes.Slice) else node

    def _literal(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") != "load" else self._call("made", [node], node)

    def get_visitor(self, node: nodes.Node) -> Callable[[Any], Any] | None:
        """What becomes of a node."""
        visitors: dict[type[nodes.Node], Callable[[Any], Any]] = {
            nodes.For: self._for,
            **dict.fromkeys((nodes.Macro, nodes.CallBlock), self._entered),
            nodes.TemplateData: self._text,
            nodes.Concat: self._concat,
            nodes.Compare: self._compare,
            nodes.Pair: self._pair,
            nodes.Getitem: self._getitem,
            **dict.fromkeys((nodes.List, nodes.Dict, nodes.Tuple), self._literal),
        }
        return visitors.get(type(node))


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """jinja's strictest sandbox, which counts. Templates of it run within `limited()` alone."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=written, optimized=False, **options)
        for name, function in OWN.items():
            setattr(self, name, function)
        del self.globals["lipsum"]
        self.filters = {name: _filter(name, self.filters[name]) for name in FILTERS}
        tests: Mapping[str, Any] = self.tests
        self.tests = {name: _test(one) if name in COMPARING else one for name, one in tests.items()}

    def limit_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Sets a filter of FILTERS."""
        self.filters[name] = _filter(name, function)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > LONGEST:
            stop(f"it has more than {LONGEST:,} characters")
        tree: nodes.Template = _Counting().visit(super()._parse(source, name, filename))
        return tree.set_environment(self)  # type: ignore[return-value]

    def getitem(self, obj: Any, argument: Any) -> Any:
        """As jinja has it; what stands in brackets may be a tuple, whose hash looks at all that is within."""
        if isinstance(argument, tuple):
            weight(argument)
        return super().getitem(obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, as jinja has it
        """As jinja has it, counted."""
        if __obj in OWN.values():
            return __obj(*args)
        used = budget()
        used.step()
        given = {name: value for name, value in kwargs.items() if name not in JINJAS}
        method = getattr(__obj, "__wrapped__", __obj)
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            args = _text_method(method.__name__, owner, args, given)
        elif isinstance(owner, int | float | bytes):
            stop(f"the method '{method.__name__}' of a {type(owner).__name__} is not there")
        elif isinstance(owner, list | tuple | dict) or __obj in __self.globals.values():
            weight([*args, *given.values()])
        result = super().call(__context, __obj, *args, **kwargs)
        used.make(result)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """As jinja has it, once the result is known to be small enough."""
        _operator(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        budget().make(result)
        return result


def _operator(operator: str, left: Any, right: Any) -> None:
    """Raises TemplateError for a result that would be too large."""
    numbers = isinstance(left, int) and isinstance(right, int)
    if operator == "%":
        if isinstance(left, str):
            _printf(left, right)
    elif operator == "**":
        if numbers and left.bit_length() * max(right, 0) > BITS:
            stop(f"it makes a number of more than {BITS:,} bits")
    elif operator == "*":
        if numbers and left.bit_length() + right.bit_length() > BITS:
            stop(f"it makes a number of more than {BITS:,} bits")
        for sequence, times in ((left, right), (right, left)):
            if isinstance(times, int) and not isinstance(sequence, int | float):
                fits(size_of(sequence) * max(times, 1))
    else:
        fits(size_of(left) + size_of(right))


def _printf(pattern: str, values: Any) -> None:
    """`'%s' % values`."""
    if re.search(rf"%[^%a-zA-Z]*(\*|\d{{{DIGITS}}})", pattern):
        stop("it writes something to a width that is no width")
    fits(len(pattern) + pattern.count("%") * weight(values))


def _text_method(name: str, text: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of a text's method, looked at. Raises TemplateError for one that is not there, or too large."""
    given = [*args, *kwargs.values()]
    if name not in METHODS:
        stop(f"the method '{name}' of a text is not there")
    if name in ("center", "ljust", "rjust", "zfill"):
        fits(max((one for one in given if isinstance(one, int)), default=0))
    elif name == "expandtabs":
        fits(len(text) * max((one for one in given if isinstance(one, int)), default=8))
    elif name == "replace" and len(args) >= 2:
        _replace(text, args[0], args[1])
    elif name == "join" and args:
        items = all_of(args[0])
        fits(weight(items) + len(text) * len(items))
        return (items, *args[1:])
    elif name == "format":
        for _, _, spec, _ in Formatter().parse(text):
            if spec and ("{" in spec or re.search(rf"\d{{{DIGITS}}}", spec)):
                stop("it writes something to a width that is no width")
        fits(len(text) + (text.count("{") + 1) * weight(given))
    else:
        weight(given)
    return args


def _replace(text: Any, old: Any, new: Any) -> None:
    if isinstance(text, str) and isinstance(old, str) and isinstance(new, str):
        fits(len(text) + text.count(old) * len(new))


def _filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts. What it is handed first may be jinja's own: the environment, or its context."""
    handed = hasattr(function, "jinja_pass_arg")

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        before, rest = args[:handed], list(args[handed:])
        budget().step()
        if rest:
            _look_at(name, rest, kwargs)
        result = function(*before, *rest, **kwargs)
        budget().make(result)
        return result

    return counted


def _look_at(name: str, args: list[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises TemplateError for arguments that would make too much; a generator among them becomes a list."""
    value, more = args[0], [*args[1:], *kwargs.values()]
    numbers = [abs(one) for one in more if isinstance(one, int)]
    if name == "join":
        args[0] = value if isinstance(value, str) else all_of(value)
        between = max((len(one) for one in more if isinstance(one, str)), default=0)
        fits(weight(args[0]) + between * len(args[0]))
    elif name == "replace" and len(more) >= 2:
        _replace(value, more[0], more[1])
    elif name == "format":
        _printf(str(value), more)
    elif name == "indent":
        width = max([*numbers, *(len(one) for one in more if isinstance(one, str))], default=4)
        fits(len(str(value)) + (str(value).count("\n") + 1) * width)
    elif name == "tojson":
        fits(weight(value) * max([1, *(number * _depth(value) for number in numbers)]))
    elif name in SORTING:
        args[0] = value if isinstance(value, str | Mapping) or not isinstance(value, Iterable) else all_of(value)
        weight([args[0], *more])
        if name == "sum" and any(isinstance(one, list | tuple) for one in more):
            stop("it sums up lists")
    elif max(numbers, default=0) > LARGEST // 1000:
        stop(f"the filter '{name}' is given {max(numbers):,}")
    if name == "round" and max(numbers, default=0) > DEEP:
        stop(f"the filter 'round' is given {max(numbers):,}")


def _depth(value: Any, deep: int = 0) -> int:
    """How many lists and mappings are within each other. Raises TemplateError for more than DEEP."""
    if deep > DEEP:
        stop(f"it writes more than {DEEP} lists within each other")
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return 1 + max((_depth(one, deep + 1) for one in inside), default=0)


def _test(function: Callable[..., Any]) -> Callable[..., Any]:
    """A comparison that looks at what it compares first."""

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        weight([*args, *kwargs.values()])
        return function(*args, **kwargs)

    return counted

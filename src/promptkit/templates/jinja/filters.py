"""The filters and tests of templates: Jinja's own behind guards, and new ones for those whose results grow.

Other filters are not available: `random` isn't deterministic, `safe`, `escape`, `urlize` and
`xmlattr` make HTML, `pprint` prints Python. Filters that yield lazily in Jinja give lists here,
so that all work is counted where it is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, cast

from jinja2 import filters, pass_context, tests
from jinja2.runtime import Undefined
from jinja2.utils import _PassArg  # pyright: ignore[reportPrivateUsage] - the only name for it

from promptkit.errors import RenderLimit, TemplateError
from promptkit.templates.untrusted import Untrusted, changed

from .sandbox import (
    CONTAINERS,
    FILTER_STEPS,
    Context,
    Meter,
    concatenate,
    cut,
    is_container,
    printf,
    replaced,
)

MAX_PRECISION = 20
MAX_JSON_INDENT = 8
MAX_WRAPPED = 20_000


Filter = Callable[..., Any]


_JINJA = cast("Mapping[str, Filter]", filters.FILTERS)  # pyright: ignore[reportUnknownMemberType] - untyped there


_JINJA_TESTS = cast("Mapping[str, Callable[..., bool]]", tests.TESTS)  # pyright: ignore[reportUnknownMemberType] - the same


_WORD = re.compile(r"\w+")
_CARRYING = frozenset({"d", "default", "trim", "truncate"})
"""Filters that untrusted text passes through, staying what it is."""


LOOP = " loop"
STEP = " step"
SLICE = " slice"
CONCAT = " concat"
KEEP = " keep"
SCAN = " scan"
"""Names of guards that the compiler writes into a template. No template can write a name with a space."""


def _of_jinja(name: str, *, text: bool = False, check: Callable[..., None] | None = None) -> Filter:
    """Return one of Jinja's filters that counts its work and keeps its result.

    Args:
        name: Jinja's name of it.
        text: whether it works on text; anything plain is turned into text first.
        check: refuses a result that would be too large, given the meter, the value and the arguments.
    """
    inner: Filter = _JINJA[name]
    passes_context = getattr(inner, "jinja_pass_arg", None)

    @pass_context
    @wraps(inner)
    def guarded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        meter = context.meter
        meter.step(FILTER_STEPS)
        if value.__class__ is Untrusted:
            if name not in _CARRYING:
                raise changed(f"|{name}")
            if text:
                text_of = inner(*_lead(passes_context, context), value.text, *args, **kwargs)
                return Untrusted(meter.counted(text_of))
        elif text:
            value = meter.text(value)
        meter.scan(value)
        if check is not None:
            check(meter, value, *args, **kwargs)
        return meter.keep(inner(*_lead(passes_context, context), value, *args, **kwargs))

    return guarded


def _lead(passes: Any, context: Context) -> tuple[Any, ...]:
    """Return the argument that Jinja passes to this filter first."""
    if passes is None:
        return ()
    # Filters that Jinja can also await take the evaluation context.
    whole = {_PassArg.context: context, _PassArg.eval_context: context.eval_ctx}
    return (whole.get(passes, context.environment),)


def _of_str(change: Callable[[str], str]) -> Filter:
    """Return a filter that is one method of str. Nearly every template uses them, so they are short."""

    @pass_context
    def guarded(context: Context, value: Any) -> str:
        meter = context.meter
        text = value if value.__class__ is str else meter.bare(value, f"|{change.__name__}")
        meter.step(FILTER_STEPS + (len(text) >> 6))
        return meter.counted(change(text))

    return guarded


def _counted(function: Callable[..., Any]) -> Filter:
    """Return one of our own filters: `function(meter, value, ...)`."""

    @pass_context
    @wraps(function)
    def guarded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        context.meter.step(FILTER_STEPS)
        return context.meter.keep(function(context, value, *args, **kwargs))

    return guarded


def _text(context: Context, value: Any) -> str:
    return context.meter.bare(value, "|string")


def _length(_context: Context, value: Any) -> int:
    return len(value)


def _list(context: Context, value: Any) -> list[object]:
    return context.meter.items(value)


def _items(context: Context, value: Any) -> list[object]:
    if not isinstance(value, dict):
        raise TemplateError("|items wants a mapping", remedy="A list is looped over as it is.")
    return context.meter.items(cast("dict[object, object]", value).items())


def _reverse(context: Context, value: Any) -> Any:
    return value[::-1] if isinstance(value, str) else context.meter.items(value)[::-1]


def _join(context: Context, value: Any, d: str = "", attribute: str | int | None = None) -> str:
    meter = context.meter
    items = meter.items(value)
    if attribute is not None:
        items = list(map(filters.make_attrgetter(context.environment, attribute), items))
    texts = [meter.text(item) for item in items]
    glue = meter.text(d)
    meter.check_size(sum(map(len, texts)) + len(glue) * max(0, len(texts) - 1))
    return glue.join(texts)


def _replace(context: Context, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    meter = context.meter
    text, old, new = meter.bare(value, "|replace"), meter.text(old), meter.text(new)
    times = -1 if count is None else count
    replaced(meter, text, old, new, times)
    return text.replace(old, new, times)


def _format(context: Context, value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise TemplateError("|format takes values by place or by name, not both", remedy="Choose one.")
    return printf(context.meter, context.meter.text(value), kwargs or args)


def _sum(context: Context, value: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    items = context.meter.items(value)
    if attribute is not None:
        items = list(map(filters.make_attrgetter(context.environment, attribute), items))
    if not all(isinstance(item, (int, float)) for item in (start, *items)):
        raise TemplateError("|sum adds numbers only", remedy="Join text with |join.")
    return sum(cast("list[float]", items), start)


def _tojson(context: Context, value: Any, indent: int | None = None) -> str:
    """Return JSON as people write it: not escaped for HTML, keys in order."""
    if indent is not None and not 0 <= indent <= MAX_JSON_INDENT:
        raise RenderLimit(f"|tojson indents by 0 to {MAX_JSON_INDENT}", remedy="Indent less.")
    context.meter.check_size(_json_size(context.meter, value, indent or 0))
    return json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=True, allow_nan=False)


def _json_size(meter: Meter, value: Any, indent: int) -> int:
    """About how many characters it takes: shared members count each time they are written."""
    size = 0
    pending: list[tuple[Any, int]] = [(value, 1)]
    while pending:
        top, depth = pending.pop()
        meter.step()
        if isinstance(top, Undefined):
            str(top)  # raises, naming what is undefined
        if isinstance(top, Untrusted):
            raise changed("|tojson")
        size += 4 + indent * depth + (len(top) if isinstance(top, str) else 0)
        if isinstance(top, dict):
            members = cast("dict[Any, Any]", top)
            size += sum(len(str(key)) + 4 for key in members)
            pending.extend((member, depth + 1) for member in members.values())
        elif isinstance(top, CONTAINERS):
            pending.extend((member, depth + 1) for member in cast("list[Any]", top))
    return size


def _wordcount(context: Context, value: Any) -> int:
    text = value.text if isinstance(value, Untrusted) else context.meter.text(value)
    context.meter.step(len(text) >> 1)
    return sum(1 for _ in _WORD.finditer(text))


def _center(meter: Meter, text: str, width: int = 80) -> None:
    meter.check_size(max(len(text), width))


def _indent(meter: Meter, text: str, width: int | str = 4, *_: Any, **__: Any) -> None:
    lines = len(text.splitlines()) if len(text) < MAX_WRAPPED else len(text)
    meter.check_size(len(text) + lines * (len(width) if isinstance(width, str) else width))


def _wordwrap(meter: Meter, text: str, width: int = 79, *args: Any, **kwargs: Any) -> None:
    """Refuse long text: Python's textwrap takes time by the square of a word's length."""
    if len(text) > MAX_WRAPPED or width < 1:
        raise RenderLimit(
            f"|wordwrap takes text of at most {MAX_WRAPPED:,} characters and a width above 0",
            remedy="Shorten the text.",
        )
    wrapstring = kwargs.get("wrapstring", args[1] if len(args) > 1 else None)
    meter.step(len(text))
    meter.check_size(len(text) * (1 + len(wrapstring or "\n")))


def _title(meter: Meter, text: str) -> None:
    meter.check_steps(len(text) // 2)


def _batch(meter: Meter, _value: Any, linecount: int, fill_with: Any = None) -> None:
    meter.check_steps(linecount if fill_with is not None else 0)


def _slice(meter: Meter, _value: Any, slices: int, *_: Any, **__: Any) -> None:
    meter.check_steps(slices)


def _round(_meter: Meter, _value: Any, precision: int = 0, *_: Any, **__: Any) -> None:
    if abs(precision) > MAX_PRECISION:
        raise RenderLimit(f"|round takes a precision of at most {MAX_PRECISION}", remedy="Round to less.")


def _int(meter: Meter, value: Any, *_: Any, **__: Any) -> None:
    # Powers of two read any length of text into a number as long.
    if isinstance(value, str) and len(value) > MAX_WRAPPED:
        meter.check_size(len(value) * len(value))


def _truncate(meter: Meter, text: str, *args: Any, **kwargs: Any) -> None:
    end = kwargs.get("end", args[2] if len(args) > 2 else "...")  # noqa: PLR2004 - its place in Jinja's signature
    meter.check_size(len(text) + len(end))


_PLAIN = "abs default d dictsort first float groupby last map max min reject rejectattr select selectattr sort unique".split()  # noqa: SIM905 - a list of words reads better as one
FILTERS: dict[str, Filter] = {
    **{name: _of_jinja(name) for name in _PLAIN},
    "capitalize": _of_str(str.capitalize),
    "lower": _of_str(str.lower),
    "upper": _of_str(str.upper),
    "trim": _of_jinja("trim", text=True),
    "batch": _of_jinja("batch", check=_batch),
    "center": _of_jinja("center", text=True, check=_center),
    "count": _counted(_length),
    "format": _counted(_format),
    "indent": _of_jinja("indent", text=True, check=_indent),
    "int": _of_jinja("int", check=_int),
    "items": _counted(_items),
    "join": _counted(_join),
    "length": _counted(_length),
    "list": _counted(_list),
    "replace": _counted(_replace),
    "reverse": _counted(_reverse),
    "round": _of_jinja("round", check=_round),
    "slice": _of_jinja("slice", check=_slice),
    "string": _counted(_text),
    "sum": _counted(_sum),
    "title": _of_jinja("title", text=True, check=_title),
    "tojson": _counted(_tojson),
    "truncate": _of_jinja("truncate", text=True, check=_truncate),
    "wordcount": _counted(_wordcount),
    "wordwrap": _of_jinja("wordwrap", text=True, check=_wordwrap),
}
"""The filters a template may name."""


@pass_context
def _loop(context: Context, iterable: Any, weight: int) -> Any:
    """Return the items of a loop; count all iterations before the first, so that none costs anything."""
    meter = context.meter
    if isinstance(iterable, Undefined):
        iter(iterable)  # raises, naming what is undefined
    walked: Any = (
        iterable if is_container(iterable) or type(iterable) in {str, range} else meter.items(iterable)
    )
    meter.step(len(walked) * weight)
    return walked


@pass_context
def _step(context: Context, weight: int) -> None:
    context.meter.step(weight)


@pass_context
def _keep(context: Context, value: Any) -> Any:
    return context.meter.keep(value)


@pass_context
def _scan(context: Context, value: Any) -> Any:
    context.meter.scan(value)
    return value


GUARDS: dict[str, Filter] = {
    LOOP: _loop,
    STEP: _step,
    SLICE: pass_context(cut),
    CONCAT: pass_context(concatenate),
    KEEP: _keep,
    SCAN: _scan,
}


_PLAIN_TESTS = [
    "boolean",
    "defined",
    "divisibleby",
    "even",
    "false",
    "float",
    "integer",
    "iterable",
    "lower",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "string",
    "true",
    "undefined",
    "upper",
]


_COMPARING = "!= < <= == > >= eq equalto ge greaterthan gt in le lessthan lt ne".split()  # noqa: SIM905 - a list of words reads better as one


def _comparing(name: str) -> Callable[..., bool]:
    inner: Callable[..., bool] = _JINJA_TESTS[name]

    @pass_context
    @wraps(inner)
    def guarded(context: Context, value: Any, other: Any) -> bool:
        context.meter.step(FILTER_STEPS)
        context.meter.scan(value)
        context.meter.scan(other)
        return inner(value, other)

    return guarded


TESTS: dict[str, Callable[..., bool]] = {
    **{name: _JINJA_TESTS[name] for name in _PLAIN_TESTS},
    **{name: _comparing(name) for name in _COMPARING},
}
"""The tests a template may name."""

"""What a template may call and look up on a value: a list, not everything that Python has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import BuiltinMethodType, MethodType
from typing import Any, Final

from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.utils import Namespace

from promptkit.errors import RenderLimit, TemplateError

from .meter import CALL_STEPS, MAX_DEPTH, MAX_STEPS, Context, Meter

_TEXT: Final = frozenset(
    [
        "capitalize",
        "casefold",
        "center",
        "count",
        "endswith",
        "find",
        "index",
        "isalnum",
        "isalpha",
        "isdecimal",
        "isdigit",
        "islower",
        "isnumeric",
        "isspace",
        "istitle",
        "isupper",
        "join",
        "ljust",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rindex",
        "rjust",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "upper",
        "zfill",
    ]
)
LOOP_VALUES: Final = frozenset(
    "depth depth0 first index index0 last length nextitem previtem revindex revindex0".split()  # noqa: SIM905 - a list of words reads better as one
)
ATTRIBUTES: Final[Mapping[str, frozenset[str]]] = {
    "str": _TEXT,
    "list": frozenset({"copy", "count", "index"}),
    "tuple": frozenset({"count", "index"}),
    "_GroupTuple": frozenset({"grouper", "list"}),
    "dict": frozenset({"copy", "get", "items", "keys", "values"}),
    "LoopContext": LOOP_VALUES | {"changed", "cycle"},
}
"""What may be looked up with a dot, by type; `str.format` isn't there, since it reads attributes."""


def allowed(obj: object, attribute: str) -> bool:
    """Whether a template may look that up."""
    if isinstance(obj, Namespace):
        return not attribute.startswith("_")
    return attribute in ATTRIBUTES.get(type(obj).__name__, ())


def _width(meter: Meter, text: str, width: Any = 0, *_: Any) -> None:
    meter.room(max(len(text), int(width)))


def _joined(meter: Meter, text: str, parts: Any = (), *_: Any) -> None:
    items = meter.items(parts)
    meter.room(sum(len(item) for item in items if isinstance(item, str)) + len(text) * len(items))


def replaced(meter: Meter, text: str, old: str = "", new: str = "", count: int = -1) -> None:
    """Room for `text.replace(old, new, count)`."""
    found = text.count(old)
    times = found if count < 0 else min(found, count)
    meter.room(len(text) + times * (len(new) - len(old)))


def _split(meter: Meter, text: str, sep: str | None = None, *_: Any, **__: Any) -> None:
    meter.room_for_steps(len(text) // 2 + 1 if sep is None else text.count(sep) + 1)


def _lines(meter: Meter, text: str, *_: Any, **__: Any) -> None:
    meter.room_for_steps(len(text) // 2 + 1)


_CHECKS: Final[Mapping[str, Callable[..., None]]] = {
    "center": _width,
    "join": _joined,
    "ljust": _width,
    "replace": replaced,
    "rjust": _width,
    "rsplit": _split,
    "split": _split,
    "splitlines": _lines,
    "zfill": _width,
}


def call(
    context: Context, obj: Any, run: Callable[[], Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Call what a template may call, counted and bounded.

    Args:
        context: of the rendering.
        obj: what is called.
        run: makes the call.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Raises:
        TemplateError: it can't be called.
        RenderLimit: it would take too much.
    """
    meter = context.meter
    meter.step(CALL_STEPS)
    if isinstance(obj, BuiltinMethodType) and not isinstance(obj.__self__, type):
        meter.scan(obj.__self__)
        if isinstance(obj.__self__, str) and obj.__name__ in _CHECKS:
            _CHECKS[obj.__name__](meter, obj.__self__, *args, **kwargs)
        return meter.keep(run())
    if isinstance(obj, (Macro, LoopContext)):
        if isinstance(obj, LoopContext) and args:
            meter.step(len(args[0]))
        return _deeper(meter, run)
    if obj is Namespace or obj is bounded_range or _is_own_method(obj):
        return run()
    if isinstance(obj, Undefined):
        str(obj)  # raises, naming what is undefined
    raise TemplateError(
        "only macros, range, namespace and the methods of values can be called",
        remedy="To fill in text, write {{ '%s'|format(x) }} or {{ a ~ b }}.",
    )


def _is_own_method(obj: object) -> bool:
    """`loop.cycle` and `loop.changed`."""
    return isinstance(obj, MethodType) and isinstance(obj.__self__, LoopContext)


def _deeper(meter: Meter, run: Callable[[], Any]) -> Any:
    """Run a macro or a recursive loop one level deeper."""
    meter.depth -= 1
    if meter.depth < 0:
        raise RenderLimit(
            f"macros or recursive loops nest deeper than {MAX_DEPTH}",
            remedy="Does one call itself without end?",
        )
    try:
        return run()
    finally:
        meter.depth += 1


def bounded_range(*args: int) -> range:
    """`range`, no longer than a rendering may take steps."""
    numbers = range(*args)
    if numbers and (numbers[-1] - numbers[0]) // numbers.step >= MAX_STEPS:
        raise RenderLimit(f"a range of more than {MAX_STEPS:,} numbers", remedy="Loop over less.")
    return numbers

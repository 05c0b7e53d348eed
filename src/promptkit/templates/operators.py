"""Operators, checked before they run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from promptkit.errors import RenderLimit, TemplateError

from .meter import MAX_BITS, Context, Meter, describe

_SPEC = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[#0\- +]*)(?P<width>\*|\d*)(?:\.(?P<precision>\*|\d*))?[hlL]?(?P<kind>.)?",
    re.DOTALL,
)
_FLOAT_DIGITS: Final = 320  # %f writes 1e308 out
MAX_WIDTH: Final = 1_000
"""The widest field of a `%` format, in characters."""


def add(meter: Meter, left: Any, right: Any) -> Any:
    """`+`: numbers, text or lists."""
    if _is_long(left) and _is_long(right):
        _grows(meter, left, len(left) + len(right))
    return left + right


def multiply(meter: Meter, left: Any, right: Any) -> Any:
    """`*`: numbers, or text or a list repeated."""
    for some, times in ((left, right), (right, left)):
        if _is_long(some) and isinstance(times, int):
            _grows(meter, some, len(some) * max(0, times))
    if isinstance(left, int) and isinstance(right, int):
        _bits(left.bit_length() + right.bit_length())
    return left * right


def power(_meter: Meter, left: Any, right: Any) -> Any:
    """`**`: numbers."""
    if isinstance(left, int) and isinstance(right, int) and right > 0 and left not in {-1, 0, 1}:
        _bits(left.bit_length() * right)
    return left**right


def modulo(meter: Meter, left: Any, right: Any) -> Any:
    """`%`: the rest of a division, or text with `%s` filled in."""
    if not isinstance(left, str):
        return left % right
    return printf(meter, left, right)


def printf(meter: Meter, pattern: str, values: Any) -> str:
    """Fill in a `%` format whose fields are bounded and whose values are plain.

    Raises:
        RenderLimit: a field is too wide.
        TemplateError: a value is a list or None.
    """
    by_name = cast("dict[str, Any]", values) if isinstance(values, dict) else None
    by_place = _as_tuple(values)
    members = list(by_place if by_name is None else by_name.values())
    longest = max((len(meter.bare(member, "a % format")) for member in members), default=0)
    size = len(pattern)
    for spec in _SPEC.finditer(pattern):
        size += max(longest, _FLOAT_DIGITS)
        for part in (spec["width"], spec["precision"]):
            if part == "*":
                raise TemplateError("a * width in a % format", remedy="Write the width as a number.")
            if part and (len(part) > len(str(MAX_WIDTH)) or int(part) > MAX_WIDTH):
                raise RenderLimit(f"a % format wider than {MAX_WIDTH:,}", remedy="Write a smaller width.")
            size += int(part or 0)
    meter.room(size)
    return pattern % (by_place if by_name is None else by_name)


BINARY: Final[Mapping[str, Callable[[Meter, Any, Any], Any]]] = {
    "+": add,
    "*": multiply,
    "**": power,
    "%": modulo,
}


def binary(context: Context, operator: str, left: Any, right: Any) -> Any:
    """Run a binary operator that could grow."""
    return context.meter.keep(BINARY[operator](context.meter, left, right))


def concatenate(context: Context, first: Any, *rest: Any) -> str:
    """`~`: plain values as text, one after the other."""
    meter = context.meter
    return meter.concat([meter.text(value) for value in (first, *rest)])


def cut(context: Context, value: Any, start: Any, stop: Any, step: Any) -> Any:
    """`x[a:b:c]` on text and lists."""
    if not (_is_long(value) or isinstance(value, range)):
        raise TemplateError(f"{describe(value)} can't be sliced", remedy="Only text and lists can.")
    size = len(range(*slice(start, stop, step).indices(len(value))))
    _grows(context.meter, value, size)
    return context.meter.keep(value[start:stop:step])


def _as_tuple(values: Any) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", values) if isinstance(values, tuple) else (values,)


def _is_long(value: Any) -> bool:
    """Whether it is text or a list, whose operators make longer ones."""
    return isinstance(value, (str, list, tuple))


def _grows(meter: Meter, like: object, size: int) -> None:
    """Room for text or a list of that size."""
    if isinstance(like, str):
        meter.room(size)
    else:
        meter.room_for_steps(size)


def _bits(count: int) -> None:
    # The estimate may be one above the true length, which `keep` checks.
    if count > MAX_BITS + 1:
        raise RenderLimit(f"a number beyond {MAX_BITS} bits", remedy="Keep numbers small.")

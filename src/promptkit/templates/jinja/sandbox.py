"""The limits of a rendering, and the operators, methods and calls that they bound.

Two counters bound a rendering. *Steps* count template nodes each time they are evaluated and
items each time they are walked. *Characters* count all text that is made, also in between, so
that memory is bounded at any moment. An operation that could grow is checked before it runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sized
from types import BuiltinMethodType, MethodType
from typing import Any, TypeAlias, cast

from jinja2.runtime import Context as JinjaContext
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.utils import Namespace

from promptkit.errors import RenderLimit, TemplateError
from promptkit.templates.untrusted import Untrusted, changed
from promptkit.types import Message

MAX_STEPS = 500_000
MAX_CHARACTERS = 10_000_000
MAX_DEPTH = 40
MAX_BITS = 128
FILTER_STEPS = 4
CALL_STEPS = 8
CONTAINER_STEPS = 4
"""What these take, measured in nodes of a template."""


METER = " meter"
"""Where a context keeps its meter: no template can write a name with a space in it."""


CONTAINERS = (list, tuple, dict)
_READ = (str, *CONTAINERS)


Container: TypeAlias = "list[object] | tuple[object, ...] | dict[object, object]"


class Meter:
    """The counters of one rendering, and the messages it has collected."""

    __slots__ = ("characters", "depth", "in_message", "messages", "steps")

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.characters = MAX_CHARACTERS
        self.depth = MAX_DEPTH
        self.in_message = False
        self.messages: list[Message] = []

    def step(self, count: int = 1) -> None:
        """Use up steps.

        Raises:
            RenderLimit: none are left.
        """
        self.steps -= count
        if self.steps < 0:
            raise RenderLimit(
                f"rendering takes more than {MAX_STEPS:,} steps",
                remedy="Loop over less: every item of every loop counts, in nested loops too.",
            )

    def check_steps(self, count: int) -> None:
        """Refuse what would take that many steps, before it runs."""
        if count > self.steps:
            self.step(count)

    def check_size(self, size: int) -> None:
        """Refuse what would make that many characters, before it runs.

        Raises:
            RenderLimit: too few are left.
        """
        if size > self.characters:
            raise RenderLimit(
                f"rendering makes more than {MAX_CHARACTERS:,} characters, counting intermediate text",
                remedy="Shorten the values, or give the variable a max_length.",
            )

    def counted(self, text: str) -> str:
        """Count a new text and return it."""
        self.characters -= len(text)
        if self.characters < 0:
            self.check_size(0)
        return text

    def concat(self, pieces: Iterable[str]) -> str:
        """Join captured output: what Jinja's own code calls for every captured block."""
        parts = pieces if isinstance(pieces, list) else list(pieces)
        size = sum(map(len, parts))
        self.characters -= size
        if self.characters < 0:
            self.check_size(size)
        return "".join(parts)

    def text(self, value: Any) -> str:
        """Return a plain value as text.

        Raises:
            TemplateError: None, a list or anything else that would print as Python.
        """
        kind = value.__class__
        if kind is str:
            return value
        if kind is int or kind is float or kind is bool:
            text = str(value)
            self.characters -= len(text)
            return text if self.characters >= 0 else self.counted(text)
        if isinstance(value, Undefined):
            return str(value)  # raises, naming what is undefined
        if kind is Untrusted:
            return self.counted(str(value))
        raise _unprintable(value)

    def bare(self, value: Any, by: str) -> str:
        """Return a plain value as text that will be changed, which untrusted text may not be.

        Raises:
            TemplateError: it is untrusted, or would print as Python.
        """
        if value.__class__ is Untrusted:
            raise changed(by)
        return self.text(value)

    def keep(self, value: Any) -> Any:
        """Count a new result of any kind and return it; a lazy one becomes a list."""
        kind = value.__class__
        if kind is str:
            self.counted(value)
        elif kind is int:
            if value.bit_length() > MAX_BITS:
                raise RenderLimit(f"a number beyond {MAX_BITS} bits", remedy="Keep numbers small.")
        elif is_container(value):
            self.weigh(value)
        elif hasattr(value, "__next__"):
            return self.keep(self.items(value))
        return value

    def weigh(self, value: Container) -> None:
        """Walk a new container: nested lists may share members and grow without bound."""
        pending: list[Container] = [value]
        while pending:
            top = pending.pop()
            self.step(len(top) + CONTAINER_STEPS)
            members = top.values() if isinstance(top, dict) else top
            pending.extend(cast("Container", item) for item in members if isinstance(item, CONTAINERS))

    def items(self, value: object) -> list[object]:
        """Return the items of an iterable as a list."""
        if isinstance(value, Sized):
            self.check_steps(len(value))
        if not isinstance(value, Iterable):
            raise TemplateError(
                f"{describe(value)} has no items", remedy="Only lists, text, ranges and mappings do."
            )
        items: list[object] = []
        for item in cast("Iterable[object]", value):
            self.step()
            items.append(item)
        return items

    def scan(self, value: object) -> None:
        """Count the time that reading a value from end to end takes."""
        if isinstance(value, _READ):
            self.step(len(cast("Sized", value)) >> 6)


def is_container(value: Any) -> bool:
    """Return whether it is a list, a tuple or a mapping."""
    return isinstance(value, CONTAINERS)


def describe(value: object) -> str:
    """Name the kind of a value, in the words of the front matter."""
    if value is None:
        return "None"
    names: Mapping[type, str] = {
        str: "text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "a list",
        tuple: "a list",
        dict: "a mapping",
        range: "a range",
        Untrusted: "untrusted text",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def _unprintable(value: object) -> TemplateError:
    if value is None:
        return TemplateError(
            "None would print as the word None",
            remedy="Test it first ({% if x is not none %}), or give the variable a default.",
        )
    return TemplateError(
        f"{describe(value)} can't be printed as it is",
        remedy="Join a list ({{ items|join(', ') }}), loop over it, or use |tojson.",
    )


class Context(JinjaContext):
    """Jinja's context with the rendering's meter at hand."""

    meter: Meter

    def __init__(
        self,
        environment: Any,
        parent: dict[str, Any],
        name: str | None,
        blocks: Any,
        globals: Any = None,  # noqa: A002 - Jinja's name
    ) -> None:
        super().__init__(environment, parent, name, blocks, globals)
        self.meter = parent[METER]


_SPEC = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[#0\- +]*)(?P<width>\*|\d*)(?:\.(?P<precision>\*|\d*))?[hlL]?(?P<kind>.)?",
    re.DOTALL,
)


_FLOAT_DIGITS = 320  # %f writes 1e308 out
MAX_WIDTH = 1_000
"""The widest field of a `%` format, in characters."""


def add(meter: Meter, left: Any, right: Any) -> Any:
    """Evaluate `+`: numbers, text or lists."""
    if _is_long(left) and _is_long(right):
        _grows(meter, left, len(left) + len(right))
    return left + right


def multiply(meter: Meter, left: Any, right: Any) -> Any:
    """Evaluate `*`: numbers, or text or a list repeated."""
    for some, times in ((left, right), (right, left)):
        if _is_long(some) and isinstance(times, int):
            _grows(meter, some, len(some) * max(0, times))
    if isinstance(left, int) and isinstance(right, int):
        _bits(left.bit_length() + right.bit_length())
    return left * right


def power(_meter: Meter, left: Any, right: Any) -> Any:
    """Evaluate `**`: numbers."""
    if isinstance(left, int) and isinstance(right, int) and right > 0 and left not in {-1, 0, 1}:
        _bits(left.bit_length() * right)
    return left**right


def modulo(meter: Meter, left: Any, right: Any) -> Any:
    """Evaluate `%`: the rest of a division, or text with `%s` filled in."""
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
    positional = _as_tuple(values)
    members = list(positional if by_name is None else by_name.values())
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
    meter.check_size(size)
    return pattern % (positional if by_name is None else by_name)


BINARY: Mapping[str, Callable[[Meter, Any, Any], Any]] = {
    "+": add,
    "*": multiply,
    "**": power,
    "%": modulo,
}


def binary(context: Context, operator: str, left: Any, right: Any) -> Any:
    """Run a binary operator that could grow."""
    return context.meter.keep(BINARY[operator](context.meter, left, right))


def concatenate(context: Context, first: Any, *rest: Any) -> str:
    """Evaluate `~`: join plain values as text."""
    meter = context.meter
    return meter.concat([meter.text(value) for value in (first, *rest)])


def cut(context: Context, value: Any, start: Any, stop: Any, step: Any) -> Any:
    """Evaluate `x[a:b:c]` on text and lists."""
    if not (_is_long(value) or isinstance(value, range)):
        raise TemplateError(f"{describe(value)} can't be sliced", remedy="Only text and lists can.")
    size = len(range(*slice(start, stop, step).indices(len(value))))
    _grows(context.meter, value, size)
    return context.meter.keep(value[start:stop:step])


def _as_tuple(values: Any) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", values) if isinstance(values, tuple) else (values,)


def _is_long(value: Any) -> bool:
    """Return whether it is text or a list, whose operators make longer ones."""
    return isinstance(value, (str, list, tuple))


def _grows(meter: Meter, like: object, size: int) -> None:
    """Room for text or a list of that size."""
    if isinstance(like, str):
        meter.check_size(size)
    else:
        meter.check_steps(size)


def _bits(count: int) -> None:
    # The estimate may be one above the true length, which `keep` checks.
    if count > MAX_BITS + 1:
        raise RenderLimit(f"a number beyond {MAX_BITS} bits", remedy="Keep numbers small.")


_TEXT = frozenset(
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


LOOP_VALUES = frozenset(
    "depth depth0 first index index0 last length nextitem previtem revindex revindex0".split()  # noqa: SIM905 - a list of words reads better as one
)


ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "str": _TEXT,
    "list": frozenset({"copy", "count", "index"}),
    "tuple": frozenset({"count", "index"}),
    "_GroupTuple": frozenset({"grouper", "list"}),
    "dict": frozenset({"copy", "get", "items", "keys", "values"}),
    "LoopContext": LOOP_VALUES | {"changed", "cycle"},
}
"""What may be looked up with a dot, by type; `str.format` isn't there, since it reads attributes."""


def allowed(obj: object, attribute: str) -> bool:
    """Return whether a template may look up an attribute."""
    if isinstance(obj, Namespace):
        return not attribute.startswith("_")
    return attribute in ATTRIBUTES.get(type(obj).__name__, ())


def _width(meter: Meter, text: str, width: Any = 0, *_: Any) -> None:
    meter.check_size(max(len(text), int(width)))


def _joined(meter: Meter, text: str, parts: Any = (), *_: Any) -> None:
    items = meter.items(parts)
    meter.check_size(sum(len(item) for item in items if isinstance(item, str)) + len(text) * len(items))


def replaced(meter: Meter, text: str, old: str = "", new: str = "", count: int = -1) -> None:
    """Room for `text.replace(old, new, count)`."""
    occurrences = text.count(old)
    times = occurrences if count < 0 else min(occurrences, count)
    meter.check_size(len(text) + times * (len(new) - len(old)))


def _split(meter: Meter, text: str, sep: str | None = None, *_: Any, **__: Any) -> None:
    meter.check_steps(len(text) // 2 + 1 if sep is None else text.count(sep) + 1)


def _lines(meter: Meter, text: str, *_: Any, **__: Any) -> None:
    meter.check_steps(len(text) // 2 + 1)


_CHECKS: Mapping[str, Callable[..., None]] = {
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
    """Return whether it is `loop.cycle` or `loop.changed`."""
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
    """Return a `range` no longer than the steps of a rendering."""
    numbers = range(*args)
    if numbers and (numbers[-1] - numbers[0]) // numbers.step >= MAX_STEPS:
        raise RenderLimit(f"a range of more than {MAX_STEPS:,} numbers", remedy="Loop over less.")
    return numbers

"""Values of variables: read as the declared kinds, and checked against the declarations."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import cast
from urllib.parse import urlsplit

from promptkit.errors import counted
from promptkit.types import Format, Kind, Role, Value, Variable

from .patterns import compiled
from .untrusted import Untrusted, imitation, is_marked

MAX_DEPTH = 8
"""How deep lists may nest."""


MAX_PROBLEMS = 20
"""How many problems of one list or object are reported."""


SPEAKERS = (Role.USER.value, Role.ASSISTANT.value)
"""Who may speak in a variable of messages; the system's words are the template's own."""


_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_KINDS: Mapping[type, Kind] = {
    str: Kind.STRING,
    bool: Kind.BOOLEAN,
    int: Kind.INTEGER,
    float: Kind.NUMBER,
}


_UNITS = {Kind.LIST: "item", Kind.MESSAGES: "message"}
_INT64 = 1 << 63
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Invalid:
    """A value that doesn't fit, and why; `at` is where in it (`.name`, `[2]`), `also` what else is wrong."""

    why: str
    at: str = ""
    also: tuple[Invalid, ...] = ()

    def each(self) -> Iterator[Invalid]:
        """Yield everything that is wrong."""
        yield self
        yield from self.also

    @classmethod
    def gathered(cls, problems: list[tuple[str, Invalid]]) -> Invalid:
        """Join the problems of several members, each with its path in front."""
        flat = [cls(inner.why, at + inner.at) for at, bad in problems for inner in bad.each()]
        return cls(flat[0].why, flat[0].at, tuple(flat[1:MAX_PROBLEMS]))


def bind(
    variables: Mapping[str, Variable], given: Mapping[str, object]
) -> tuple[dict[str, Value], list[str]]:
    """Coerce what was given, before defaults.

    Args:
        variables: the declarations, in order.
        given: values by name; text is read as the declared kind.

    Returns:
        The values in declared order, and all problems found, each one line.
    """
    bound: dict[str, Value] = {}
    problems: list[str] = []
    for name, variable in variables.items():
        if name not in given:
            if variable.required:
                problems.append(f"{name}: missing; it must be {expected(variable)}")
            continue
        result = coerce(variable, given[name])
        if isinstance(result, Invalid):
            problems += [f"{name}{bad.at}: {bad.why}" for bad in result.each()]
        else:
            bound[name] = result
    problems += [_unknown(name, variables) for name in given if name not in variables]
    return bound, problems


def _unknown(name: str, variables: Mapping[str, Variable]) -> str:
    if not variables:
        return f"{name}: unknown; this template takes no variables"
    close = difflib.get_close_matches(name, variables, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(variables)}"
    return f"{name}: unknown; {hint}"


def expected(variable: Variable) -> str:
    """Describe the value that a variable takes: `a string of at most 80 characters (Brand name)`."""
    parts = [_kind(variable)]
    unit = _UNITS.get(variable.kind, "character")
    if variable.min_length is not None:
        parts.append(f"at least {counted(variable.min_length, unit)}")
    if variable.max_length is not None:
        parts.append(f"at most {counted(variable.max_length, unit)}")
    if variable.minimum is not None:
        parts.append(f"at least {variable.minimum:g}")
    if variable.maximum is not None:
        parts.append(f"at most {variable.maximum:g}")
    if variable.pattern is not None:
        parts.append(f"matching {variable.pattern}")
    text = ", ".join(parts)
    return f"{text} ({variable.description})" if variable.description else text


def _kind(variable: Variable) -> str:
    """Describe the kind alone."""
    if variable.choices:
        shown = ", ".join(_show(choice) for choice in variable.choices)
        return f"a list of: {shown}" if variable.kind is Kind.LIST else f"one of: {shown}"
    if variable.format is not None:
        return EXAMPLES[variable.format]
    if variable.kind is Kind.OBJECT and variable.fields:
        return f"an object with {', '.join(variable.fields)}"
    if variable.kind is Kind.LIST and variable.items is not None:
        return f"a list, each {expected(variable.items)}"
    if variable.kind is Kind.MESSAGES:
        return f"a list of messages, each with role ({' or '.join(SPEAKERS)}) and content"
    return f"{'an' if variable.kind in {Kind.INTEGER, Kind.OBJECT} else 'a'} {variable.kind}"


def coerce(variable: Variable, value: object, *, from_text: bool = True) -> Value | Invalid:
    """Read one value as the declared kind.

    Args:
        variable: the declaration.
        value: text for any kind, or a value of that kind.
        from_text: whether text may be read as another kind (a cell, a `-v`).
    """
    if value is None:
        return Invalid(f"None; leave it out, or give {expected(variable)}")
    plain = _read(variable, value) if from_text and isinstance(value, str) else _typed(variable, value)
    if isinstance(plain, Invalid):
        return plain
    return _within(variable, plain)


def _wrong(variable: Variable, value: object) -> Invalid:
    return Invalid(f"{_show(value)} is not {expected(variable)}")


def _show(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return json.dumps(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…", ensure_ascii=False)[
        slice(None) if isinstance(value, str) else slice(1, -1)
    ]


def _read(variable: Variable, text: str) -> Value | Invalid:
    """Read text as the declared kind."""
    match variable.kind:
        case Kind.STRING:
            return _unicode(variable, text)
        case Kind.INTEGER:
            return int(text) if _INTEGER.fullmatch(text.strip()) else _wrong(variable, text)
        case Kind.NUMBER:
            return _read_number(variable, text.strip())
        case Kind.BOOLEAN:
            boolean = _WORDS.get(text.strip().lower())
            return Invalid(f"{_show(text)} is not a boolean: true or false") if boolean is None else boolean
        case Kind.LIST:
            return _read_list(variable, text.strip())
        case _:
            return _read_json(variable, text.strip())


def _read_number(variable: Variable, text: str) -> Value | Invalid:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return _wrong(variable, text)


def _read_list(variable: Variable, text: str) -> Value | Invalid:
    """Read a JSON array, else items between semicolons without the empty ones."""
    if not text.startswith("["):
        items = [item.strip() for item in text.split(";")]
        return _typed(variable, [item for item in items if item])
    try:
        return _typed(variable, json.loads(text))
    except (ValueError, RecursionError):
        return Invalid(f"{_show(text)} looks like a JSON array, but is not valid JSON")


def _read_json(variable: Variable, text: str) -> Value | Invalid:
    """Read an object or messages from JSON."""
    try:
        return _typed(variable, json.loads(text))
    except (ValueError, RecursionError):
        return Invalid(f"{_show(text)} is not JSON; it must be {expected(variable)}")


def _typed(variable: Variable, value: object) -> Value | Invalid:  # noqa: C901, PLR0911 - one row a kind
    """Check a value that already has a type, which must be the declared one."""
    match variable.kind, value:
        case Kind.STRING, str():
            return _unicode(variable, value)
        case Kind.BOOLEAN, bool():
            return value
        case ((Kind.INTEGER | Kind.NUMBER), bool()):
            return _wrong(variable, value)
        case ((Kind.INTEGER | Kind.NUMBER), int()):
            return int(value)
        case Kind.INTEGER, float() if value.is_integer():
            return int(value)
        case Kind.NUMBER, (float() | Decimal()) if math.isfinite(value):
            return float(value)
        case Kind.STRING, date() if variable.format is Format.DATE and not isinstance(value, datetime):
            return value.isoformat()
        case Kind.LIST, (list() | tuple()) if variable.items is not None:
            return _typed_items(variable.items, cast("list[object] | tuple[object, ...]", value))
        case Kind.LIST, (list() | tuple()):
            return _typed_list(cast("list[object] | tuple[object, ...]", value))
        case Kind.OBJECT, Mapping():
            return _typed_object(variable, cast("Mapping[object, object]", value))
        case Kind.MESSAGES, (list() | tuple()):
            return _typed_items(_MESSAGE, cast("list[object] | tuple[object, ...]", value))
        case _:
            return _wrong(variable, value)


def _typed_list(items: list[object] | tuple[object, ...]) -> Value | Invalid:
    try:
        # Most items are plain text: those take no further look.
        return [item if type(item) is str and item.isascii() else _item(item, MAX_DEPTH) for item in items]
    except ValueError as cause:
        return Invalid(str(cause))


def _typed_items(item: Variable, values: list[object] | tuple[object, ...]) -> Value | Invalid:
    """Check a list whose items are declared."""
    fitting: list[Value] = []
    problems: list[tuple[str, Invalid]] = []
    for index, value in enumerate(values):
        result = coerce(item, value)
        if not isinstance(result, Invalid):
            fitting.append(result)
        elif len(problems) < MAX_PROBLEMS:
            problems.append((f"[{index}]", result))
    return Invalid.gathered(problems) if problems else fitting


def _typed_object(variable: Variable, given: Mapping[object, object]) -> Value | Invalid:
    """Check an object: return its fields in declared order, without their defaults."""
    fitting: dict[str, Value] = {}
    problems: list[tuple[str, Invalid]] = []
    for name, field in variable.fields.items():
        if name in given:
            result = coerce(field, given[name])
            if isinstance(result, Invalid):
                problems.append((f".{name}", result))
            else:
                fitting[name] = result
        elif field.required:
            problems.append((f".{name}", Invalid(f"missing; it must be {expected(field)}")))
    for name in given:
        if name not in variable.fields and len(problems) < MAX_PROBLEMS:
            problems.append((f".{_bare(name)}", _unknown_field(str(name), variable)))
    return Invalid.gathered(problems) if problems else fitting


def _bare(name: object) -> str:
    return _show(str(name))[1:-1]


def _unknown_field(name: str, variable: Variable) -> Invalid:
    close = difflib.get_close_matches(name, variable.fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(variable.fields)}"
    return Invalid(f"unknown; {hint}")


def _item(value: object, depth: int) -> Value:
    """Copy one item of a list; ValueError if a list can't contain it."""
    if isinstance(value, (list, tuple)):
        if depth == 1:
            message = f"lists nest deeper than {MAX_DEPTH}"
            raise ValueError(message)
        return [_item(item, depth - 1) for item in cast("list[object] | tuple[object, ...]", value)]
    kind = _KINDS.get(type(value))
    result = Invalid("") if kind is None else coerce(Variable("item", kind), value, from_text=False)
    if isinstance(result, Invalid):
        message = f"{_show(value)} can't be an item; items are strings, numbers, booleans or lists"
        raise ValueError(message)  # noqa: TRY004 - a value of the caller, not of ours
    return result


def _unicode(variable: Variable, text: str) -> Value | Invalid:
    """Text, plain str even if a subclass came in; half of a surrogate pair can't be sent."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as cause:
            return Invalid(
                f"not valid Unicode at character {cause.start + 1}; it must be {expected(variable)}"
            )
    return text if type(text) is str else str.__str__(text)


def _within(variable: Variable, value: Value) -> Value | Invalid:
    """Return the value if bounds and choices allow it."""
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return Invalid("beyond 64 bits")
    if isinstance(value, (str, list)):
        size = len(value)
        if size < (variable.min_length or 0) or (
            variable.max_length is not None and size > variable.max_length
        ):
            unit = _UNITS.get(variable.kind, "character")
            return Invalid(f"{counted(size, unit)}; it must be {expected(variable)}")
        if isinstance(value, str) and (problem := _text_problem(variable, value)):
            return problem
    elif not isinstance(value, dict) and not _between(variable, value):
        return Invalid(f"{_show(value)}; it must be {expected(variable)}")
    return _chosen(variable, value) if variable.choices else value


def _text_problem(variable: Variable, text: str) -> Invalid | None:
    """Check a text against the format, the pattern and the rules of untrusted text."""
    if variable.format is not None and not fits(variable.format, text):
        return _wrong(variable, text)
    if variable.pattern is not None and not compiled(variable.pattern).matches(text):
        return _wrong(variable, text)
    if variable.untrusted and (marker := imitation(text)):
        return Invalid(f"untrusted text with a control marker of models in it: {_show(marker)}")
    return None


def _between(variable: Variable, number: float) -> bool:
    return (variable.minimum is None or number >= variable.minimum) and (
        variable.maximum is None or number <= variable.maximum
    )


def _chosen(variable: Variable, value: Value) -> Value | Invalid:
    """Return the value, or a list's items, as written among the choices."""
    if not isinstance(value, list):
        return value if value in variable.choices else _wrong(variable, value)
    by_text = {str(choice): choice for choice in variable.choices}
    chosen = [by_text.get(str(item)) for item in value]
    missing = next((item for item, choice in zip(value, chosen, strict=True) if choice is None), None)
    if missing is not None:
        return _wrong(variable, missing)
    return [item for item in chosen if item is not None]


def is_prepared(variable: Variable) -> bool:
    """Return whether a variable's values change before rendering: defaults of fields, marks of untrusted text."""
    inner = [*variable.fields.values(), *([] if variable.items is None else [variable.items])]
    return is_marked(variable) or any(each.default is not None or is_prepared(each) for each in inner)


def prepared(variable: Variable, value: Value) -> object:
    """Return a bound value as a template sees it: fields have their defaults, untrusted texts are marked."""
    if variable.untrusted:
        return Untrusted(cast("str", value))
    if variable.kind is Kind.OBJECT:
        members = cast("dict[str, Value]", value)
        whole = {name: members.get(name, field.default) for name, field in variable.fields.items()}
        return {name: prepared(variable.fields[name], cast("Value", whole[name])) for name in whole}
    if variable.items is not None:
        return [prepared(variable.items, item) for item in cast("list[Value]", value)]
    return value


_MESSAGE = Variable(
    "message",
    Kind.OBJECT,
    fields={"role": Variable("role", choices=SPEAKERS), "content": Variable("content", min_length=1)},
)
"""One message of a conversation."""


MAX_URL = 2_048
MAX_EMAIL = 254
MAX_LANGUAGE = 100
EXAMPLES: Mapping[Format, str] = {
    Format.DATE: "a date like 2026-11-21",
    Format.URL: "an address like https://example.com/page",
    Format.EMAIL: "an e-mail address like name@example.com",
    Format.LANGUAGE: "a language tag like fr or pt-BR",
}
"""Each format in words."""


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")
_UNWRITTEN = re.compile(r"[\s\x00-\x1f\x7f<>\"\\^`{|}]")
_LANGUAGE = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})"  # language, and extended language
    r"(?:-[a-z]{4})?"  # script
    r"(?:-(?:[a-z]{2}|[0-9]{3}))?"  # region
    r"(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"  # variants
    r"(?:-[a-wyz0-9](?:-[a-z0-9]{2,8})+)*"  # extensions
    r"(?:-x(?:-[a-z0-9]{1,8})+)?"  # for private use
    r"|x(?:-[a-z0-9]{1,8})+",
    re.IGNORECASE | re.ASCII,
)
"""A well-formed tag (RFC 5646, section 2.1) but for the grandfathered ones, which it deprecates."""


def fits(kind: Format, text: str) -> bool:
    """Return whether a text has a format."""
    return _CHECKS[kind](text)


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_url(text: str) -> bool:
    """Return whether it is an http or https address with a host, percent-encoded as RFC 3986 requires."""
    if len(text) > MAX_URL or _UNWRITTEN.search(text):
        return False
    try:
        parts = urlsplit(text)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port_fits


def _is_email(text: str) -> bool:
    """Return whether an e-mail field of HTML accepts it (WHATWG), so that no real address is refused."""
    return len(text) <= MAX_EMAIL and _EMAIL.fullmatch(text) is not None


def _is_language(text: str) -> bool:
    return len(text) <= MAX_LANGUAGE and _LANGUAGE.fullmatch(text) is not None


_CHECKS: Mapping[Format, Callable[[str], bool]] = {
    Format.DATE: _is_date,
    Format.URL: _is_url,
    Format.EMAIL: _is_email,
    Format.LANGUAGE: _is_language,
}

"""Variables: what a caller gave, coerced to what a template declares."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final, cast
from urllib.parse import urlsplit

from promptkit.errors import counted
from promptkit.types import Format, Kind, Role, Value, Variable

from .patterns import compiled
from .untrusted import Untrusted, imitation, is_marked

MAX_DEPTH: Final = 8
"""How deep lists may nest."""


MAX_PROBLEMS: Final = 20
"""How many problems of one list or object are told."""


SPEAKERS: Final = (Role.USER.value, Role.ASSISTANT.value)
"""Who may speak in a variable of messages; the system's words are the template's own."""


_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


_WORDS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


_KINDS: Final[Mapping[type, Kind]] = {
    str: Kind.STRING,
    bool: Kind.BOOLEAN,
    int: Kind.INTEGER,
    float: Kind.NUMBER,
}


_UNITS: Final = {Kind.LIST: "item", Kind.MESSAGES: "message"}


_INT64: Final = 1 << 63


_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Bad:
    """A value that doesn't fit, and why; `at` is where in it (`.name`, `[2]`), `also` what else is wrong."""

    why: str
    at: str = ""
    also: tuple[Bad, ...] = ()

    def each(self) -> Iterator[Bad]:
        """All that is wrong, one by one."""
        yield self
        yield from self.also

    @classmethod
    def gathered(cls, found: list[tuple[str, Bad]]) -> Bad:
        """The problems of several members as one, each with the way to it in front."""
        flat = [cls(one.why, at + one.at) for at, bad in found for one in bad.each()]
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
        if isinstance(result, Bad):
            problems += [f"{name}{one.at}: {one.why}" for one in result.each()]
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
    """What a variable wants, in words: `a string of at most 80 characters (Brand name)`."""
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
    """The kind alone, in words."""
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


def coerce(variable: Variable, value: object, *, from_text: bool = True) -> Value | Bad:
    """One value as the declared kind.

    Args:
        variable: the declaration.
        value: text for any kind, or a value of that kind.
        from_text: whether text may be read as another kind (a cell, a `-v`).
    """
    if value is None:
        return Bad(f"None; leave it out, or give {expected(variable)}")
    plain = _read(variable, value) if from_text and isinstance(value, str) else _typed(variable, value)
    if isinstance(plain, Bad):
        return plain
    return _within(variable, plain)


def _wrong(variable: Variable, value: object) -> Bad:
    return Bad(f"{_show(value)} is not {expected(variable)}")


def _show(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return json.dumps(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…", ensure_ascii=False)[
        slice(None) if isinstance(value, str) else slice(1, -1)
    ]


def _read(variable: Variable, text: str) -> Value | Bad:
    """Text as the declared kind."""
    match variable.kind:
        case Kind.STRING:
            return _unicode(variable, text)
        case Kind.INTEGER:
            return int(text) if _INTEGER.fullmatch(text.strip()) else _wrong(variable, text)
        case Kind.NUMBER:
            return _read_number(variable, text.strip())
        case Kind.BOOLEAN:
            found = _WORDS.get(text.strip().lower())
            return Bad(f"{_show(text)} is not a boolean: true or false") if found is None else found
        case Kind.LIST:
            return _read_list(variable, text.strip())
        case _:
            return _read_json(variable, text.strip())


def _read_number(variable: Variable, text: str) -> Value | Bad:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return _wrong(variable, text)


def _read_list(variable: Variable, text: str) -> Value | Bad:
    """A JSON array, else items between semicolons; empty ones are left out."""
    if not text.startswith("["):
        items = [item.strip() for item in text.split(";")]
        return _typed(variable, [item for item in items if item])
    try:
        return _typed(variable, json.loads(text))
    except (ValueError, RecursionError):
        return Bad(f"{_show(text)} begins like a JSON array and is none")


def _read_json(variable: Variable, text: str) -> Value | Bad:
    """An object or messages: text is JSON."""
    try:
        return _typed(variable, json.loads(text))
    except (ValueError, RecursionError):
        return Bad(f"{_show(text)} is not JSON; it must be {expected(variable)}")


def _typed(variable: Variable, value: object) -> Value | Bad:  # noqa: C901, PLR0911 - one row a kind
    """A value that already has a type, which must be the declared one."""
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
            return _typed_items(_TURN, cast("list[object] | tuple[object, ...]", value))
        case _:
            return _wrong(variable, value)


def _typed_list(items: list[object] | tuple[object, ...]) -> Value | Bad:
    try:
        # Most items are plain text: those take no further look.
        return [item if type(item) is str and item.isascii() else _item(item, MAX_DEPTH) for item in items]
    except ValueError as cause:
        return Bad(str(cause))


def _typed_items(item: Variable, values: list[object] | tuple[object, ...]) -> Value | Bad:
    """A list whose items are declared."""
    fitting: list[Value] = []
    problems: list[tuple[str, Bad]] = []
    for index, value in enumerate(values):
        result = coerce(item, value)
        if not isinstance(result, Bad):
            fitting.append(result)
        elif len(problems) < MAX_PROBLEMS:
            problems.append((f"[{index}]", result))
    return Bad.gathered(problems) if problems else fitting


def _typed_object(variable: Variable, given: Mapping[object, object]) -> Value | Bad:
    """An object: its fields in declared order, their defaults left out."""
    fitting: dict[str, Value] = {}
    problems: list[tuple[str, Bad]] = []
    for name, field in variable.fields.items():
        if name in given:
            result = coerce(field, given[name])
            if isinstance(result, Bad):
                problems.append((f".{name}", result))
            else:
                fitting[name] = result
        elif field.required:
            problems.append((f".{name}", Bad(f"missing; it must be {expected(field)}")))
    for name in given:
        if name not in variable.fields and len(problems) < MAX_PROBLEMS:
            problems.append((f".{_bare(name)}", _unknown_field(str(name), variable)))
    return Bad.gathered(problems) if problems else fitting


def _bare(name: object) -> str:
    return _show(str(name))[1:-1]


def _unknown_field(name: str, variable: Variable) -> Bad:
    close = difflib.get_close_matches(name, variable.fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(variable.fields)}"
    return Bad(f"unknown; {hint}")


def _item(value: object, depth: int) -> Value:
    """One item of a list, copied; ValueError where a list can't hold it."""
    if isinstance(value, (list, tuple)):
        if depth == 1:
            message = f"lists nest deeper than {MAX_DEPTH}"
            raise ValueError(message)
        return [_item(item, depth - 1) for item in cast("list[object] | tuple[object, ...]", value)]
    kind = _KINDS.get(type(value))
    result = Bad("") if kind is None else coerce(Variable("item", kind), value, from_text=False)
    if isinstance(result, Bad):
        message = f"{_show(value)} can't be an item; items are strings, numbers, booleans or lists"
        raise ValueError(message)  # noqa: TRY004 - a value of the caller, not of ours
    return result


def _unicode(variable: Variable, text: str) -> Value | Bad:
    """Text, plain str even if a subclass came in; half of a surrogate pair can't be sent."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as cause:
            return Bad(f"not valid Unicode at character {cause.start + 1}; it must be {expected(variable)}")
    return text if type(text) is str else str.__str__(text)


def _within(variable: Variable, value: Value) -> Value | Bad:
    """The value, if bounds and choices allow it."""
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return Bad("beyond 64 bits")
    if isinstance(value, (str, list)):
        size = len(value)
        if size < (variable.min_length or 0) or (
            variable.max_length is not None and size > variable.max_length
        ):
            unit = _UNITS.get(variable.kind, "character")
            return Bad(f"{counted(size, unit)}; it must be {expected(variable)}")
        if isinstance(value, str) and (problem := _text_problem(variable, value)):
            return problem
    elif not isinstance(value, dict) and not _between(variable, value):
        return Bad(f"{_show(value)}; it must be {expected(variable)}")
    return _chosen(variable, value) if variable.choices else value


def _text_problem(variable: Variable, text: str) -> Bad | None:
    """What a format, a pattern or distrust has against a text."""
    if variable.format is not None and not fits(variable.format, text):
        return _wrong(variable, text)
    if variable.pattern is not None and not compiled(variable.pattern).matches(text):
        return _wrong(variable, text)
    if variable.untrusted and (found := imitation(text)):
        return Bad(f"untrusted text with a control marker of models in it: {_show(found)}")
    return None


def _between(variable: Variable, number: float) -> bool:
    return (variable.minimum is None or number >= variable.minimum) and (
        variable.maximum is None or number <= variable.maximum
    )


def _chosen(variable: Variable, value: Value) -> Value | Bad:
    """The value, or a list's items, as they stand among the choices."""
    if not isinstance(value, list):
        return value if value in variable.choices else _wrong(variable, value)
    by_text = {str(choice): choice for choice in variable.choices}
    chosen = [by_text.get(str(item)) for item in value]
    missing = next((item for item, found in zip(value, chosen, strict=True) if found is None), None)
    if missing is not None:
        return _wrong(variable, missing)
    return [item for item in chosen if item is not None]


def is_prepared(variable: Variable) -> bool:
    """Whether its values change before they are rendered: defaults of fields, marks of distrust."""
    inner = [*variable.fields.values(), *([] if variable.items is None else [variable.items])]
    return is_marked(variable) or any(each.default is not None or is_prepared(each) for each in inner)


def prepared(variable: Variable, value: Value) -> object:
    """A bound value as a template sees it: fields have their defaults, untrusted texts are marked."""
    if variable.untrusted:
        return Untrusted(cast("str", value))
    if variable.kind is Kind.OBJECT:
        members = cast("dict[str, Value]", value)
        whole = {name: members.get(name, field.default) for name, field in variable.fields.items()}
        return {name: prepared(variable.fields[name], cast("Value", whole[name])) for name in whole}
    if variable.items is not None:
        return [prepared(variable.items, item) for item in cast("list[Value]", value)]
    return value


_TURN: Final = Variable(
    "message",
    Kind.OBJECT,
    fields={"role": Variable("role", choices=SPEAKERS), "content": Variable("content", min_length=1)},
)
"""One message of a conversation."""


MAX_URL: Final = 2_048


MAX_EMAIL: Final = 254


MAX_LANGUAGE: Final = 100


EXAMPLES: Final[Mapping[Format, str]] = {
    Format.DATE: "a date like 2026-11-21",
    Format.URL: "an address like https://example.com/page",
    Format.EMAIL: "an e-mail address like name@example.com",
    Format.LANGUAGE: "a language tag like fr or pt-BR",
}
"""Each format in words."""


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


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
    """Whether a text is of a format."""
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
    """An http or https address with a host; what RFC 3986 wants percent-encoded must be."""
    if len(text) > MAX_URL or _UNWRITTEN.search(text):
        return False
    try:
        parts = urlsplit(text)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port_fits


def _is_email(text: str) -> bool:
    """As HTML's e-mail field takes it (WHATWG): nobody's real address is refused."""
    return len(text) <= MAX_EMAIL and _EMAIL.fullmatch(text) is not None


def _is_language(text: str) -> bool:
    return len(text) <= MAX_LANGUAGE and _LANGUAGE.fullmatch(text) is not None


_CHECKS: Final[Mapping[Format, Callable[[str], bool]]] = {
    Format.DATE: _is_date,
    Format.URL: _is_url,
    Format.EMAIL: _is_email,
    Format.LANGUAGE: _is_language,
}

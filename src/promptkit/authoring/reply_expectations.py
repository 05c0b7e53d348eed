"""What a test expects of a reply: rules, a JSON schema, values at JSON paths, a function of the project."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from promptkit._util import toml
from promptkit.errors import UsageError, closest, counted
from promptkit.types import Json, Rules
from promptkit.validation.rules import read_rules
from promptkit.validation.schema import NotJson, read_json
from promptkit.validation.text import check_text, text_of

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class ReplyExpectation:
    """What is expected of a reply. `schema` is a JSON Schema, or True for the template's `[output]`."""

    rules: Rules
    schema: Mapping[str, Json] | bool = False
    json: tuple[JsonExpectation, ...] = ()
    function: str | None = None

    @property
    def is_function_only(self) -> bool:
        """Whether nothing but the result of a function is expected."""
        return self == ReplyExpectation(type(self.rules)(), function=self.function)


@dataclass(frozen=True, slots=True)
class JsonExpectation:
    """What is expected of the values at a JSON path; with the path alone, that there is a value."""

    path: str
    equals: Json = None
    matches: str | None = None
    min_items: int | None = None
    max_items: int | None = None


def read_expectation(table: toml.Table) -> ReplyExpectation:
    """Read the table `[tests.reply]`."""
    schema: object = table.raw("schema", default=False)
    function = table.text("function", None)
    if not isinstance(schema, bool | dict):
        raise table.fail("schema must be true (the template's own), or a JSON Schema", "schema")
    if function is not None and not _FUNCTION.fullmatch(function):
        raise table.fail(
            f"{function!r} is not module:function", "function", remedy='E.g. "checks:three_lines".'
        )
    expectation = ReplyExpectation(
        rules=read_rules(table),
        schema=cast("Mapping[str, Json] | bool", plain(cast("object", schema))),
        json=tuple(map(_read_json_expectation, table.tables("json"))),
        function=function,
    )
    table.finish()
    return expectation


def _read_json_expectation(table: toml.Table) -> JsonExpectation:
    expectation = JsonExpectation(
        path=table.text("path"),
        equals=cast("Json", plain(table.raw("equals", None))),
        matches=table.text("matches", None),
        min_items=table.integer("min_items", None, least=0),
        max_items=table.integer("max_items", None, least=0),
    )
    table.finish()
    if read_path(expectation.path) is None:
        raise table.fail(
            f"{expectation.path!r} is not a path",
            "path",
            remedy="For example $.scenes[0].title, or $.scenes[*].title.",
        )
    if expectation.matches is not None:
        try:
            re.compile(expectation.matches)
        except re.error as cause:
            message = f"{expectation.matches!r} is not a regular expression: {cause}"
            raise table.fail(message, "matches") from None
    return expectation


def plain(value: object) -> object:
    """Return a TOML value as Python code would pass it: decimal numbers as floats, dates as text."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [plain(item) for item in cast("list[object]", value)]
    return value if isinstance(value, str | int | None) else str(value)


def check_reply(
    expectation: ReplyExpectation, text: str, *, structured: bool = False, checks: Rules | None = None
) -> tuple[str, ...]:
    """Return the problems of a reply, except those of its schema and its function.

    Args:
        expectation: what is expected.
        text: the reply as it was received.
        structured: whether the template asks for JSON. Rules on words, length and language then
            apply to the texts in the JSON, as in a call.
        checks: the template's own rules for this call, which a test expects too.
    """
    value = read_json(text) if structured or expectation.json else NotJson()
    prose = text_of(value) if structured and not isinstance(value, NotJson) else text
    problems = [
        problem.message
        for rules in (expectation.rules, checks)
        if rules
        for problem in check_text(prose, rules)
    ]
    if expectation.json and isinstance(value, NotJson):
        return (*problems, value.why)
    if not isinstance(value, NotJson):
        problems += [problem for each in expectation.json for problem in _check_json(each, value)]
    return tuple(problems)


def _check_json(expectation: JsonExpectation, reply: Json) -> Iterator[str]:
    path, least, most = expectation.path, expectation.min_items, expectation.max_items
    values = values_at(reply, read_path(path) or ())
    if not values:
        yield f"nothing at {path}"
    for value in values:
        if expectation.equals is not None and value != expectation.equals:
            yield f"{path} is {shortened(value)}, not {shortened(expectation.equals)}"
        if expectation.matches is not None and not (
            isinstance(value, str) and re.search(expectation.matches, value)
        ):
            yield f"{path} is {shortened(value)}, which doesn't match {expectation.matches!r}"
        if least is None and most is None:
            continue
        if not isinstance(value, list | dict):
            yield f"{path} is {shortened(value)}, not a list"
        elif not (least or 0) <= len(value) <= (len(value) if most is None else most):
            limits = f"{least or 0} to {'any' if most is None else most}"
            yield f"{path} has {counted(len(value), 'item')}; {limits} are expected"


def shortened(value: Json) -> str:
    """Return a value as JSON text, cut to a length that fits a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


PathStep = str | int | None
"""A member's name, an index, or None for every item."""
_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]'"]+)|\[(?P<index>-?\d+)\]|(?P<each>\[\*\]|\.\*)|\['(?P<quoted>[^']*)'\]"""
)


def read_path(path: str) -> tuple[PathStep, ...] | None:
    """Return the steps of a JSON path, or None if it is not valid. The `$` is optional."""
    rest = path.removeprefix("$")
    if rest and rest[0] not in ".[":
        rest = f".{rest}"
    steps: list[PathStep] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            return None
        # ".*" is every member, not a member of the name "*".
        if match["each"] or match["name"] == "*":
            steps.append(None)
        elif match["index"] is not None:
            steps.append(int(match["index"]))
        else:
            steps.append(match["name"] if match["quoted"] is None else match["quoted"])
        at = match.end()
    return tuple(steps)


def values_at(value: Json, steps: Iterable[PathStep]) -> list[Json]:
    """Return every value at a JSON path."""
    values = [value]
    for step in steps:
        values = [child for parent in values for child in _children(parent, step)]
    return values


def _children(value: Json, step: PathStep) -> Iterator[Json]:
    if isinstance(value, dict):
        if step is None:
            yield from value.values()
        elif step in value:
            yield value[str(step)]
    elif isinstance(value, list):
        if step is None:
            yield from value
        elif isinstance(step, int) and -len(value) <= step < len(value):
            yield value[step]


class ProjectFunctions:
    """The functions of a project that check replies, named `module:function`.

    A module is a file below the folder of promptkit.toml (`checks`: checks.py, `tools.checks`:
    tools/checks.py), loaded once. A function gets the reply and the test's variables. It returns
    None or True if the reply is good, else False, a problem as text, or a list of problems. A
    failed assertion is a problem too.

    Args:
        root: the project's folder; None if code must not run.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._modules: dict[str, ModuleType] = {}

    @property
    def allowed(self) -> bool:
        """Whether functions may run."""
        return self._root is not None

    def check(self, name: str, text: str, variables: Mapping[str, object]) -> tuple[str, ...]:
        """Return the problems that a function reports about a reply.

        Raises:
            UsageError: there is no such function.
        """
        function = self.find(name)
        try:
            result = function(text, variables)
        except AssertionError as cause:
            return (f"{name}: {str(cause) or 'an assertion failed'}",)
        except Exception as cause:  # noqa: BLE001 - any error of the user's code is the test's problem
            return (f"{name} raised {type(cause).__name__}: {cause}",)
        if result is None or result is True:
            return ()
        if result is False:
            return (f"{name}: returned False",)
        problems = cast("list[object]", result) if isinstance(result, list | tuple) else [result]
        return tuple(f"{name}: {problem}" for problem in problems)

    def find(self, name: str) -> Callable[[str, Mapping[str, object]], Any]:
        """Return a function by its name.

        Raises:
            UsageError: there is no such module or function, or the module can't be loaded.
        """
        module_name, _, function_name = name.partition(":")
        module = self._modules.get(module_name) or self._load(module_name)
        function = getattr(module, function_name, None)
        if not callable(function):
            known = [other for other, value in vars(module).items() if callable(value) and other[:1] != "_"]
            raise UsageError(
                f"no function {function_name!r}", file=module.__file__, remedy=closest(function_name, known)
            )
        return function

    def _load(self, name: str) -> ModuleType:
        assert self._root is not None  # noqa: S101 - called only if functions may run
        path = self._root.joinpath(*name.split(".")).with_suffix(".py")
        if not path.is_file():
            raise UsageError(f"no module {name}", file=path, remedy="Put the file beside promptkit.toml.")
        spec = importlib.util.spec_from_file_location(f"promptkit_project.{name}", path)
        assert spec is not None  # noqa: S101 - a .py file always has a spec
        assert spec.loader is not None  # noqa: S101 - and a loader
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as cause:
            raise UsageError(f"can't be loaded: {type(cause).__name__}: {cause}", file=path) from cause
        self._modules[name] = module
        return module

"""tests.toml: the tests of a template, beside its versions.

[[tests]]
name = "one brand, in English"
variables = { brand = "Barly", product = "protein bar", audience = "runners" }
snapshot = true
max_tokens = 900
contains = ["Barly"]
[tests.system]
not_contains = ["Barly"]
[tests.reply]
max_words = 120
language = "en"
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

from promptkit._util import toml
from promptkit.errors import TemplateError, UsageError, closest
from promptkit.types import Json, Role, Rules
from promptkit.validation.rules import read_rules

FILE: Final = "tests.toml"


_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


_UNSAFE: Final = re.compile(r"[^\w]+")


@dataclass(frozen=True, slots=True)
class Says:
    """What the prompt, or its messages of one role, must say and must not."""

    contains: tuple[str, ...] = ()
    not_contains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JsonTest:
    """What a JSON reply must hold at a path; with nothing more than the path, that it is there."""

    path: str
    equals: Json = None
    matches: str | None = None
    min_items: int | None = None
    max_items: int | None = None


@dataclass(frozen=True, slots=True)
class ReplyTest:
    """What a reply must keep to. `schema` is a JSON Schema, or True for the template's `[output]`."""

    rules: Rules
    schema: Mapping[str, Json] | bool = False
    json: tuple[JsonTest, ...] = ()
    function: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A test: variables, and what becomes of them.

    `says` is by role, with None for the whole prompt. `snapshot` is True for a file under
    `snapshots/`, or the text itself. `error`: rendering must fail, and say this. Paths are where
    the test stands, for messages.
    """

    name: str
    variables: Mapping[str, object]
    file: str
    line: int | None
    says: Mapping[Role | None, Says] = field(default_factory=dict[Role | None, Says])
    max_tokens: int | None = None
    snapshot: bool | str = False
    error: str | None = None
    reply: ReplyTest | None = None

    @property
    def slug(self) -> str:
        """Its name as a file's."""
        return slug(self.name)


def slug(name: str) -> str:
    """A name as that of a file: letters, digits and dashes, without accents where letters remain."""
    # File systems disagree on how an accent is written.
    bare = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return next((found for one in (bare, name) if (found := _UNSAFE.sub("-", one).strip("-").lower())), "")


def read_cases(text: str, *, file: str) -> tuple[Case, ...]:
    """Read a tests.toml.

    Raises:
        TemplateError: it isn't as written above, with file and line.
    """
    document = toml.parse(text, file=file, error=TemplateError)
    tables = document.tables("tests")
    document.finish()
    cases: dict[str, Case] = {}
    for table in tables:
        case = _case(table)
        if not case.slug:
            raise table.fail("a test's name needs a letter or a digit", "name")
        if case.slug in cases:
            raise table.fail(f"two tests are called {case.name!r}, or nearly so", "name")
        cases[case.slug] = case
    return tuple(cases.values())


def _case(table: toml.Table) -> Case:
    says: dict[Role | None, Says] = {None: _says(table)}
    for role in Role:
        if role in table:
            own = table.table(role)
            says[role] = _says(own)
            own.finish()
    case = Case(
        name=table.text("name"),
        variables={name: plain(value) for name, value in table.table("variables").data.items()},
        file=table.file,
        line=table.fail("", "name").line,
        says=says,
        max_tokens=table.integer("max_tokens", None, least=1),
        snapshot=_snapshot(table),
        error=table.text("error", None),
        reply=_reply(table.table("reply")) if "reply" in table else None,
    )
    table.finish()
    expects = any(one != Says() for one in says.values()) or case.max_tokens or case.snapshot
    if not (expects or case.error or case.reply):
        raise table.fail(
            f"the test {case.name!r} expects nothing",
            remedy="Give it snapshot = true, or a contains = [...].",
        )
    if case.error and (expects or case.reply):
        raise table.fail(f"the test {case.name!r} expects an error and a prompt", "error")
    return case


def _says(table: toml.Table) -> Says:
    return Says(table.texts("contains", ()), table.texts("not_contains", ()))


def _snapshot(table: toml.Table) -> bool | str:
    value: object = table.raw("snapshot", default=False)
    if not isinstance(value, bool | str):
        raise table.fail("snapshot must be true, or the text of the prompt", "snapshot")
    return value


def _reply(table: toml.Table) -> ReplyTest:
    schema: object = table.raw("schema", default=False)
    function = table.text("function", None)
    if not isinstance(schema, bool | dict):
        raise table.fail("schema must be true (the template's own), or a JSON Schema", "schema")
    if function is not None and not _FUNCTION.fullmatch(function):
        raise table.fail(
            f"{function!r} is no module:function", "function", remedy='E.g. "checks:three_lines".'
        )
    test = ReplyTest(
        rules=read_rules(table),
        schema=schema
        if isinstance(schema, bool)
        else cast("Mapping[str, Json]", plain(cast("object", schema))),
        json=tuple(_json_test(one) for one in table.tables("json")),
        function=function,
    )
    table.finish()
    return test


def _json_test(table: toml.Table) -> JsonTest:
    test = JsonTest(
        path=table.text("path"),
        equals=cast("Json", plain(table.raw("equals", None))),
        matches=table.text("matches", None),
        min_items=table.integer("min_items", None, least=0),
        max_items=table.integer("max_items", None, least=0),
    )
    table.finish()
    if read_path(test.path) is None:
        raise table.fail(
            f"{test.path!r} is no path", "path", remedy="Like $.scenes[0].title, or $.scenes[*].title."
        )
    if test.matches is not None:
        try:
            re.compile(test.matches)
        except re.error as cause:
            raise table.fail(f"{test.matches!r} is no regular expression: {cause}", "matches") from None
    return test


def plain(value: object) -> object:
    """A TOML value as a caller would give it: numbers with a point as floats, dates as text."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [plain(one) for one in cast("list[object]", value)]
    return value if isinstance(value, str | int | None) else str(value)


Function = Callable[[str, Mapping[str, object]], Any]


class Functions:
    """The functions of a project, `module:function`.

    A module is a file below the folder of promptkit.toml (`checks`: checks.py, `tools.checks`:
    tools/checks.py), loaded once. A function gets the reply and the test's variables. It returns
    None or True where all is well, False, a problem as text, or a list of them; an assertion that
    fails is a problem, too.

    Args:
        root: the project's folder; None where code must not be run.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._modules: dict[str, ModuleType] = {}

    @property
    def allowed(self) -> bool:
        """Whether functions are run."""
        return self._root is not None

    def find(self, name: str) -> Function:
        """A function by its name.

        Raises:
            UsageError: no such module or function, or the module can't be loaded.
        """
        module_name, _, function_name = name.partition(":")
        module = self._modules.get(module_name) or self._load(module_name)
        function = getattr(module, function_name, None)
        if not callable(function):
            known = [one for one, value in vars(module).items() if callable(value) and one[:1] != "_"]
            raise UsageError(
                f"no function {function_name!r}", file=module.__file__, remedy=closest(function_name, known)
            )
        return cast("Function", function)

    def judge(self, name: str, text: str, variables: Mapping[str, object]) -> tuple[str, ...]:
        """What a function has against a reply.

        Raises:
            UsageError: there is no such function.
        """
        function = self.find(name)
        try:
            found = function(text, variables)
        except AssertionError as cause:
            return (f"{name}: {str(cause) or 'an assertion failed'}",)
        except Exception as cause:  # noqa: BLE001 - whatever the user's code says is the test's problem
            return (f"{name} raised {type(cause).__name__}: {cause}",)
        return tuple(f"{name}: {problem}" for problem in _problems(found))

    def _load(self, name: str) -> ModuleType:
        assert self._root is not None  # noqa: S101 - asked only where allowed
        path = self._root.joinpath(*name.split(".")).with_suffix(".py")
        if not path.is_file():
            raise UsageError(
                f"no module {name}", file=path, remedy="A function stands in a file beside promptkit.toml."
            )
        spec = importlib.util.spec_from_file_location(f"promptkit_project.{name}", path)
        assert spec is not None  # noqa: S101 - a .py file always has one
        assert spec.loader is not None  # noqa: S101 - the same
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as cause:
            raise UsageError(f"can't be loaded: {type(cause).__name__}: {cause}", file=path) from cause
        self._modules[name] = module
        return module


def _problems(found: object) -> list[str]:
    if found is None or found is True:
        return []
    if found is False:
        return ["says no"]
    items = cast("list[object]", found) if isinstance(found, list | tuple) else [found]
    return [str(item) for item in items]


_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]'"]+)|\[(?P<index>-?\d+)\]|(?P<each>\[\*\]|\.\*)|\['(?P<quoted>[^']*)'\]"""
)


Step = str | int | None
"""A member's name, an index, or None for every item."""


def read_path(path: str) -> tuple[Step, ...] | None:
    """The steps of a path, or None where it is none. The `$` may be left out."""
    rest = path.removeprefix("$")
    if rest and rest[0] not in ".[":
        rest = f".{rest}"
    steps: list[Step] = []
    at = 0
    while at < len(rest):
        # ".*" is every member, not one called "*".
        found = _STEP.match(rest, at)
        if found is None:
            return None
        steps.append(_step(found))
        at = found.end()
    return tuple(steps)


def _step(found: re.Match[str]) -> Step:
    if found["each"] or found["name"] == "*":
        return None
    if found["index"] is not None:
        return int(found["index"])
    return found["quoted"] if found["quoted"] is not None else found["name"]


def find(value: Json, steps: Iterable[Step]) -> list[Json]:
    """Every value that the steps lead to."""
    found = [value]
    for step in steps:
        found = [inner for one in found for inner in _inner(one, step)]
    return found


def _inner(value: Json, step: Step) -> Iterator[Json]:
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

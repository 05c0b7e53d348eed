"""Templates: a source with its includes and variables, bound to values and rendered to messages."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import GeneratorType, TracebackType
from typing import Any, Literal

from jinja2 import Template as JinjaTemplate
from jinja2.exceptions import SecurityError, UndefinedError

from promptkit.errors import TemplateError, VariableError, closest
from promptkit.templates import variables
from promptkit.types import (
    Checks,
    Json,
    Message,
    Prefix,
    Prompt,
    TemplateRef,
    TemplateSpec,
    Value,
    Variable,
)

from .declarations import unknown_field
from .jinja.compiler import GLOBALS, Compiled, Include, TemplateEnvironment, compile_source
from .jinja.sandbox import METER, Context, Meter
from .prefix import beginning, begins_with, few_of, key_of, prefix_of
from .reference import epoch_of, parse_ref, prompt_digest, template_digest
from .source import Source, read_source
from .untrusted import leaves, suspicion

_PREFIXES = 256
_IMPLICIT = frozenset({"loop", "caller", *GLOBALS})


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A source as the ledger keeps it, so that any call can be rendered again.

    `includes` maps each include as written to the digest of what it meant.
    """

    digest: str
    ref: str
    text: str
    includes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Declaration:
    """A variable, and the file that declares it."""

    variable: Variable
    ref: TemplateRef
    source: Source

    @property
    def line(self) -> int:
        """The line of the declaration in its file."""
        return self.source.key_line("variables", self.variable.name)


@dataclass(frozen=True, slots=True)
class Part:
    """A source with what its includes mean, and the digest over all of it.

    `declarations` are its variables by name: its own, then those that its includes declare and it doesn't.
    """

    ref: TemplateRef
    source: Source
    compiled: Compiled
    includes: Mapping[str, Part]
    digest: str
    declarations: Mapping[str, Declaration]

    @classmethod
    def join(cls, ref: TemplateRef, source: Source, compiled: Compiled, includes: Mapping[str, Part]) -> Part:
        """Put a source and its resolved includes together.

        Raises:
            TemplateError: two includes declare a variable differently, and the source doesn't declare it.
        """
        digests = {written: part.digest for written, part in includes.items()}
        declarations = _declarations(ref, source, compiled, includes)
        return cls(ref, source, compiled, includes, template_digest(source.text, digests), declarations)

    @property
    def variables(self) -> dict[str, Variable]:
        """Its variables by name, with those of its includes."""
        return {name: declaration.variable for name, declaration in self.declarations.items()}

    @property
    def has_messages(self) -> bool:
        """Whether it, or something it includes, has a message block; a partial has none."""
        return self.compiled.has_messages or any(part.has_messages for part in self.includes.values())

    def walk(self) -> Iterator[Part]:
        """Yield this part and everything it includes, each digest once."""
        seen: set[str] = set()
        pending: list[Part] = [self]
        while pending:
            part = pending.pop()
            if part.digest not in seen:
                seen.add(part.digest)
                yield part
                pending.extend(part.includes.values())

    def seal(self, epoch: int) -> str:
        """Return the digest under another epoch, to check a seal that was made by older rules."""
        digests = {written: part.seal(epoch) for written, part in self.includes.items()}
        return template_digest(self.source.text, digests, epoch=epoch)


def _declarations(
    ref: TemplateRef, source: Source, compiled: Compiled, includes: Mapping[str, Part]
) -> dict[str, Declaration]:
    own = source.spec.variables
    declared = {name: Declaration(variable, ref, source) for name, variable in own.items()}
    for written, part in includes.items():
        for name, inherited in part.declarations.items():
            first = declared.setdefault(name, inherited)
            if name not in own and first.variable != inherited.variable:
                declared_at = [f"{each.source.file}:{each.line}" for each in (first, inherited)]
                raise TemplateError(
                    f"the includes declare {name!r} in two ways: {' and '.join(declared_at)}",
                    file=source.file,
                    line=compiled.includes[written] + source.offset,
                    remedy=f"Declare [variables.{name}] here: that replaces both.",
                )
    return declared


class Template:
    """A prompt template, ready to render.

    Args:
        part: the source and what it includes.

    Raises:
        TemplateError: it reads a variable that no file of it declares.

    `ref` says which version it is, `digest` is its template digest, `spec` its front matter with the
    variables of its includes; `is_partial`: it has no message block, so that it can be included and not rendered.
    """

    __slots__ = (
        "_beginning",
        "_defaults",
        "_environment",
        "_few",
        "_files",
        "_part",
        "_prefixes",
        "_prepared",
        "_required",
        "_root",
        "digest",
        "is_partial",
        "ref",
        "spec",
    )

    def __init__(self, part: Part) -> None:
        self.ref = part.ref
        self.spec: TemplateSpec = replace(part.source.spec, variables=part.variables)
        self.digest = part.digest
        self.is_partial = not part.has_messages
        self._part = part
        parts = list(part.walk())
        self._files = {each.compiled.key: each.source for each in parts}
        _check_declarations(part, parts)
        self._environment = TemplateEnvironment()
        self._root = _load(self._environment, part, {})
        self._defaults = {
            name: variable.default
            for name, variable in self.spec.variables.items()
            if variable.default is not None
        }
        self._prepared = [
            (name, variable)
            for name, variable in self.spec.variables.items()
            if variables.is_prepared(variable)
        ]
        self._few = few_of(self.spec.variables)
        self._beginning: JinjaTemplate | Literal[False] | None = None
        self._prefixes: dict[str, Prefix | None] = {}
        self._required = frozenset(self.spec.variables) - frozenset(self._defaults)

    def __repr__(self) -> str:
        return f"Template({str(self.ref)!r}, {self.digest!r})"

    def shaped(self, output: Mapping[str, Json] | None) -> Template:
        """Return the same template with another JSON Schema of its replies."""
        other = copy.copy(self)
        other.spec = replace(self.spec, output=output)
        return other

    @property
    def part(self) -> Part:
        """Its source, and what it includes."""
        return self._part

    @property
    def inherited(self) -> dict[str, Declaration]:
        """The variables that it doesn't declare itself, by name."""
        own = self._part.source.spec.variables
        return {name: each for name, each in self._part.declarations.items() if name not in own}

    @property
    def file(self) -> str:
        """Where its source was read, for messages."""
        return self._part.source.file

    @property
    def text(self) -> str:
        """Its source, with LF line ends."""
        return self._part.source.text

    def bind(self, given: Mapping[str, object]) -> dict[str, Value]:
        """Validate and coerce what a caller gave; defaults stay out.

        Args:
            given: values by name; text is read as the declared kind ("3" as a number, "a;b" or a
                JSON array as a list).

        Returns:
            The values in declared order.

        Raises:
            VariableError: tells every problem at once.
        """
        bound, problems = variables.bind(self.spec.variables, given)
        if problems:
            raise self._refuse(problems)
        return bound

    def flags(self, bound: Mapping[str, Value]) -> tuple[str, ...]:
        """Return what in untrusted values reads like a role or an instruction: worth a look, not refused."""
        return tuple(
            f"{name}{at}: untrusted text reads like an instruction: {excerpt!r}"
            for name, variable in self._prepared
            if name in bound
            for at, text in leaves(variable, bound[name])
            if (excerpt := suspicion(text))
        )

    def _refuse(self, problems: list[str]) -> VariableError:
        listed = "\n  ".join(problems)
        problem = listed if len(problems) == 1 else f"{len(problems)} variables don't fit:\n  {listed}"
        # A single problem with an inherited variable points to its declaration.
        name = re.split(r"\W", listed, maxsplit=1)[0] if len(problems) == 1 else ""
        declared = self.inherited.get(name)
        return VariableError(
            f"{self.ref}: {problem}",
            file=self.file if declared is None else declared.source.file,
            line=None if declared is None else declared.line,
            remedy=f"See what it takes: promptkit templates show {self.ref}",
        )

    def render(self, bound: Mapping[str, Value], *, prefix: bool = False) -> Prompt:
        """Render to messages.

        Args:
            bound: what `bind` returned; defaults are added here.
            prefix: whether to tell, too, what other values' prompts begin with. The first time that
                compiles the template's beginning.

        Raises:
            VariableError: a required variable is missing, or one is unknown.
            RenderLimit: it takes too many steps or characters.
            TemplateError: anything else that goes wrong, with file and line.
        """
        if not (self._required <= bound.keys() <= self.spec.variables.keys()):
            self.bind(bound)
        if self.is_partial:
            raise self._without_messages()
        meter = Meter()
        values: dict[str, Any] = {**GLOBALS, **self._defaults, **bound, METER: meter}
        for name, variable in self._prepared:
            values[name] = variables.prepared(variable, values[name])
        context = Context(self._environment, values, self._root.name, {})
        output = self._root.root_render_func(context)
        try:
            for piece in output:
                _check_outside(piece)
        except Exception as cause:  # noqa: BLE001 - whatever Python says about a template is the template's error
            raise self._locate(cause, output) from None
        if not meter.messages:
            raise self._without_messages()
        messages = tuple(meter.messages)
        shared = self._prefix(values, messages) if prefix and self._beginning is not False else None
        return Prompt(messages, prompt_digest(messages), self.ref, self.digest, shared)

    def _prefix(self, values: dict[str, Any], messages: tuple[Message, ...]) -> Prefix | None:
        """Return how far these messages are the same in every call with the same few-valued variables."""
        if self._beginning is None:
            code = beginning(self._part)
            self._beginning = (
                JinjaTemplate.from_code(self._environment, code, {}) if code is not None else False
            )
        key = key_of(self._few, values)
        if key not in self._prefixes:
            if len(self._prefixes) >= _PREFIXES:
                self._prefixes.clear()
            self._prefixes[key] = self._begin(values) if self._beginning else None
        prefix = self._prefixes[key]
        return prefix if prefix is not None and begins_with(messages, prefix) else None

    def _begin(self, values: dict[str, Any]) -> Prefix | None:
        """Make the beginning with these values."""
        assert self._beginning  # noqa: S101 - the caller looked
        meter = Meter()
        context = Context(self._environment, {**values, METER: meter}, self._beginning.name, {})
        with suppress(TemplateError):  # a message that is empty so far
            for _ in self._beginning.root_render_func(context):
                pass
        return prefix_of(meter.messages)

    def _without_messages(self) -> TemplateError:
        if self.is_partial:
            return TemplateError(
                f"{self.ref} has no message block: it is a partial, to be included by templates",
                file=self.file,
                remedy='To make it a template, put its text between {% message "user" %} and {% endmessage %}.',
            )
        return TemplateError(
            f"{self.ref} makes no message with these values",
            file=self.file,
            remedy="Make sure that at least one message block isn't left out by a condition.",
        )

    def _locate(self, cause: Exception, output: Iterator[str]) -> TemplateError:
        """Return the error of a rendering, with the file and line where it happened."""
        file, line = self.file, None
        for code, lineno in (*_suspended(output), *_frames(cause.__traceback__)):
            if (template := self._loaded(code)) is not None:
                source = self._files[str(template.name)]
                file, line = source.file, template.get_corresponding_lineno(lineno) + source.offset
        if isinstance(cause, TemplateError):
            return type(cause)(cause.message, file=file, line=line, remedy=cause.remedy)
        return TemplateError(_in_words(cause), file=file, line=line, remedy=_remedy(cause))

    def _loaded(self, namespace: Mapping[str, Any]) -> JinjaTemplate | None:
        template = namespace.get("__jinja_template__")
        return template if isinstance(template, JinjaTemplate) else None

    def sources(self) -> tuple[StoredSource, ...]:
        """Return the stored form of this template and everything it includes."""
        return tuple(
            StoredSource(
                part.digest,
                str(part.ref),
                part.source.text,
                {written: inner.digest for written, inner in part.includes.items()},
            )
            for part in self._part.walk()
        )

    @classmethod
    def rebuild(cls, digest: str, lookup: Callable[[str], StoredSource | None]) -> Template:
        """Build a template from stored sources.

        Args:
            digest: its template digest.
            lookup: finds a stored source by digest.

        Raises:
            TemplateError: a source isn't stored, or isn't what its digest says.
        """
        part = _rebuilt(digest, lookup)
        if part.seal(epoch_of(digest) or 0) != digest:
            raise TemplateError(f"the stored source of {part.ref} isn't what its digest says", file=digest)
        return cls(part)


def _rebuilt(digest: str, lookup: Callable[[str], StoredSource | None]) -> Part:
    stored = lookup(digest)
    if stored is None:
        raise TemplateError(f"the source {digest} isn't stored")
    source = read_source(stored.text, file=stored.ref)
    includes = {written: _rebuilt(inner, lookup) for written, inner in stored.includes.items()}
    return Part.join(parse_ref(stored.ref), source, compile_source(source), includes)


def _load(environment: TemplateEnvironment, part: Part, loaded: dict[str, JinjaTemplate]) -> JinjaTemplate:
    """Turn a part and its includes into templates of one environment, each digest once."""
    if part.digest in loaded:
        return loaded[part.digest]
    template = JinjaTemplate.from_code(environment, part.compiled.code, {})
    loaded[part.digest] = template
    for written, inner in part.includes.items():
        environment.parts[part.compiled.key, written] = Include(
            _load(environment, inner, loaded), bool(inner.source.body), bool(inner.compiled.stores)
        )
    return template


def _check_declarations(root: Part, parts: list[Part]) -> None:
    """Refuse a name that is read but neither declared, by the template or an include, nor set anywhere."""
    _check_named(root)
    _check_fields(root, parts)
    if not root.has_messages:
        return  # the templates that include it declare the rest
    known = set(root.declarations) | _IMPLICIT
    for part in parts:
        known |= part.compiled.stores
    for part in parts:
        for name, line in part.compiled.loads.items():
            if name not in known:
                close = difflib.get_close_matches(name, sorted(known - _IMPLICIT), n=1)
                hint = f"Did you mean {close[0]}? Or declare" if close else "Declare"
                files = dict.fromkeys((part.source.file, root.source.file))
                raise TemplateError(
                    f"unknown variable {name!r}",
                    file=part.source.file,
                    line=line + part.source.offset,
                    remedy=f"{hint} [variables.{name}] in {' or '.join(files)}.",
                )


def _check_fields(root: Part, parts: list[Part]) -> None:
    """Refuse an undeclared field of a declared object, unless something else may have the object's name."""
    variables = root.variables
    stored = frozenset[str]().union(*(part.compiled.stores for part in parts))
    for part in parts:
        for path, line in part.compiled.paths.items():
            field = None if path[0] in stored else unknown_field(variables, path)
            if field is not None:
                raise TemplateError(
                    f"unknown field {field!r} in {'.'.join(path)}",
                    file=part.source.file,
                    line=line + part.source.offset,
                    remedy=f"Declare it among the fields of {path[0]} in {root.declarations[path[0]].source.file}, or correct it.",
                )


def _check_named(root: Part) -> None:
    """Refuse checks that name a variable which isn't declared."""
    checks = root.source.spec.checks or Checks()
    for key, names in (
        ("banned_from", checks.banned_from),
        ("required_from", checks.required_from),
        ("language_from", (checks.language_from,) if checks.language_from else ()),
    ):
        for name in names:
            if name not in root.declarations:
                raise TemplateError(
                    f"{key}: {name!r} is not known",
                    file=root.source.file,
                    line=root.source.key_line("checks", key),
                    remedy=closest(name, root.declarations),
                )


def _check_outside(piece: str) -> None:
    if piece and not piece.isspace():
        raise TemplateError(
            f"text outside a message: {piece.strip()[:40]!r}",
            remedy='Put it between {% message "user" %} and {% endmessage %}.',
        )


def _suspended(output: Iterator[str]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Yield where a template waits after its last output."""
    frame = output.gi_frame if isinstance(output, GeneratorType) else None
    if frame is not None:
        yield frame.f_globals, frame.f_lineno


def _frames(traceback: TracebackType | None) -> Iterator[tuple[Mapping[str, Any], int]]:
    while traceback is not None:
        yield traceback.tb_frame.f_globals, traceback.tb_lineno
        traceback = traceback.tb_next


def _in_words(cause: Exception) -> str:
    if isinstance(cause, UndefinedError):
        return str(cause.message)
    if isinstance(cause, SecurityError):
        return f"not available to templates: {cause}"
    return f"can't be rendered: {cause}"


def _remedy(cause: Exception) -> str:
    if isinstance(cause, UndefinedError):
        return "Only what is set or declared can be read; test it first with 'is defined', or use |default."
    return "Check the expression there against the kinds of the variables."

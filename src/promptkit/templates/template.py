"""A template put together: its source, what it includes, and how it becomes a prompt."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import GeneratorType, TracebackType
from typing import Any, Final, Literal

from jinja2 import Template as JinjaTemplate
from jinja2.exceptions import SecurityError, UndefinedError

from promptkit.errors import TemplateError, VariableError
from promptkit.templates import variables
from promptkit.types import Json, Message, Prefix, Prompt, TemplateRef, TemplateSpec, Value

from .compiler import GLOBALS, Compiled, TemplateEnvironment, compile_source
from .declarations import unknown_field
from .prefix import beginning, begins_with, few_of, key_of, prefix_of
from .reference import epoch_of, parse_ref, prompt_digest, template_digest
from .sandbox import METER, Context, Meter
from .source import Source, read_source
from .untrusted import leaves, suspicion

_PREFIXES: Final = 256


_IMPLICIT: Final = frozenset({"loop", "caller", *GLOBALS})


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
class Part:
    """A source with what its includes mean, and the digest over all of it."""

    ref: TemplateRef
    source: Source
    compiled: Compiled
    includes: Mapping[str, Part]
    digest: str

    @classmethod
    def join(cls, ref: TemplateRef, source: Source, compiled: Compiled, includes: Mapping[str, Part]) -> Part:
        """Put a source and its resolved includes together."""
        digests = {written: part.digest for written, part in includes.items()}
        return cls(ref, source, compiled, includes, template_digest(source.text, digests))

    @property
    def has_messages(self) -> bool:
        """Whether it, or something it includes, has a message block; a partial has none."""
        return self.compiled.has_messages or any(part.has_messages for part in self.includes.values())

    def walk(self) -> Iterator[Part]:
        """Itself and everything it includes, each digest once."""
        seen: set[str] = set()
        pending: list[Part] = [self]
        while pending:
            part = pending.pop()
            if part.digest not in seen:
                seen.add(part.digest)
                yield part
                pending.extend(part.includes.values())

    def seal(self, epoch: int) -> str:
        """Its digest under another epoch: to check a seal made by older rules."""
        digests = {written: part.seal(epoch) for written, part in self.includes.items()}
        return template_digest(self.source.text, digests, epoch=epoch)


class Template:
    """A prompt template, ready to render.

    Args:
        part: the source and what it includes.

    Raises:
        TemplateError: it reads a variable that nobody declares, or declares what a partial can't.

    `ref` says which version it is, `digest` is its template digest, `spec` its front matter;
    `is_partial`: it has no message block, so that it can be included and not rendered.
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
        self.spec: TemplateSpec = part.source.spec
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
        """The same template, but for the JSON Schema of its replies."""
        other = copy.copy(self)
        other.spec = replace(self.spec, output=output)
        return other

    @property
    def part(self) -> Part:
        """Its source, and what it includes."""
        return self._part

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
        """What in untrusted values reads like a role or an instruction: worth a look, not refused."""
        return tuple(
            f"{name}{at}: untrusted text reads like an instruction: {found!r}"
            for name, variable in self._prepared
            if name in bound
            for at, text in leaves(variable, bound[name])
            if (found := suspicion(text))
        )

    def _refuse(self, problems: list[str]) -> VariableError:
        listed = "\n  ".join(problems)
        what = listed if len(problems) == 1 else f"{len(problems)} variables don't fit:\n  {listed}"
        return VariableError(
            f"{self.ref}: {what}",
            file=self.file,
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
        """How far these messages are the same whatever differs from call to call."""
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
        """The error of a rendering, with the file and line where it happened."""
        file, line = self.file, None
        for code, lineno in (*_paused(output), *_frames(cause.__traceback__)):
            if (template := self._loaded(code)) is not None:
                source = self._files[str(template.name)]
                file, line = source.file, template.get_corresponding_lineno(lineno) + source.offset
        if isinstance(cause, TemplateError):
            return type(cause)(cause.what, file=file, line=line, remedy=cause.remedy)
        return TemplateError(_in_words(cause), file=file, line=line, remedy=_remedy(cause))

    def _loaded(self, namespace: Mapping[str, Any]) -> JinjaTemplate | None:
        template = namespace.get("__jinja_template__")
        return template if isinstance(template, JinjaTemplate) else None

    def sources(self) -> tuple[StoredSource, ...]:
        """Itself and everything it includes, to be stored so that it can be rebuilt."""
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
        """A template from stored sources.

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
        environment.parts[part.compiled.key, written] = _load(environment, inner, loaded)
    return template


def _check_declarations(root: Part, parts: list[Part]) -> None:
    """Every name that is read must be declared by the template, or be set somewhere."""
    _check_partial(root)
    if not root.has_messages:
        return
    _check_fields(root, parts)
    known = set(root.source.spec.variables) | _IMPLICIT
    for part in parts:
        known |= part.compiled.stores
    for part in parts:
        for name, line in part.compiled.loads.items():
            if name not in known:
                close = difflib.get_close_matches(name, sorted(known - _IMPLICIT), n=1)
                hint = f"Did you mean {close[0]}? Or declare" if close else "Declare"
                raise TemplateError(
                    f"unknown variable {name!r}",
                    file=part.source.file,
                    line=line + part.source.offset,
                    remedy=f"{hint} [variables.{name}] in {root.source.file}.",
                )


def _check_fields(root: Part, parts: list[Part]) -> None:
    """A field of a declared object must be one, where nothing else may have the object's name."""
    variables = root.source.spec.variables
    stored = frozenset[str]().union(*(part.compiled.stores for part in parts))
    for part in parts:
        for path, line in part.compiled.paths.items():
            found = None if path[0] in stored else unknown_field(variables, path)
            if found is not None:
                raise TemplateError(
                    f"unknown field {found!r} in {'.'.join(path)}",
                    file=part.source.file,
                    line=line + part.source.offset,
                    remedy=f"Declare it among the fields of {path[0]} in {root.source.file}, or correct it.",
                )


def _check_partial(part: Part) -> None:
    if not part.has_messages and part.source.spec.variables:
        raise TemplateError(
            "a file without a message block is a partial, and a partial declares no variables",
            file=part.source.file,
            line=1,
            remedy="Declare them in the templates that include it; or add a message block.",
        )


def _check_outside(piece: str) -> None:
    if piece and not piece.isspace():
        raise TemplateError(
            f"text outside a message: {piece.strip()[:40]!r}",
            remedy='Put it between {% message "user" %} and {% endmessage %}.',
        )


def _paused(output: Iterator[str]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Where the template stands that has just put something out."""
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

"""Templates and prompts: variables, parameters, checks, messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
"""A JSON value."""


if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Parsed_co = TypeVar("Parsed_co", covariant=True, default=Json)
    """The type of a structured reply: JSON, or an instance of the caller's model."""
else:  # before Python 3.13 typing.TypeVar has no defaults, and nothing needs them at run time
    from typing import TypeVar

    Parsed_co = TypeVar("Parsed_co", covariant=True)


Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value]"
"""The value of a template variable after conversion. Never None: a missing variable has no value."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object whose members the code reads by name and checks itself."""


class Role(StrEnum):
    """The author of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt; `content` is the rendered text, as sent."""

    role: Role
    content: str


class Reasoning(StrEnum):
    """The level of reasoning; each provider file maps it to the provider's own word."""

    OFF = "off"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters of a template. None leaves one to the model.

    `max_output_tokens` includes reasoning tokens. It is always sent, because the max cost depends
    on it; if the template sets none, the route's default applies.
    """

    max_output_tokens: int | None = None
    reasoning: Reasoning | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class Kind(StrEnum):
    """The type of a template variable."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    LIST = "list"
    OBJECT = "object"
    MESSAGES = "messages"
    """Turns of a conversation: `{"role": "user" or "assistant", "content": text}` each."""


class Format(StrEnum):
    """The format of a string variable."""

    DATE = "date"
    """A calendar date, `2026-11-21`."""
    URL = "url"
    """An absolute http or https address."""
    EMAIL = "email"
    LANGUAGE = "language"
    """A language tag (BCP 47): `fr`, `pt-BR`, `zh-Hant-TW`."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A declared variable. It is required when `default` is None.

    `min_length` and `max_length` count characters of a string or items of a list;
    `minimum` and `maximum` bound numbers; `choices`, if given, lists all values allowed
    (of each item, for a list). `pattern` must match the whole string. `fields` are an object's, empty
    if any are allowed; `items` describes the items of a list, None for any.
    `untrusted`: text from outside, which is rendered between delimiters.
    """

    name: str
    kind: Kind = Kind.STRING
    description: str = ""
    default: Value | None = None
    choices: tuple[Value, ...] = ()
    min_length: int | None = None
    max_length: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    format: Format | None = None
    pattern: str | None = None
    untrusted: bool = False
    fields: Mapping[str, Variable] = field(default_factory=dict[str, "Variable"])
    items: Variable | None = None

    @property
    def required(self) -> bool:
        """Whether a caller must give it."""
        return self.default is None


@dataclass(frozen=True, slots=True)
class TemplateRef:
    """A template's name and version: `ugc/script`, `@2`, `@staging`, `@draft`, `@sha256:ab12`.

    `at` is the part after the `@`, or None: the production label, else the newest
    published version, else (if the caller allows it) the draft.
    """

    name: str
    at: str | None = None

    def __str__(self) -> str:
        return self.name if self.at is None else f"{self.name}@{self.at}"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for a text; an empty one allows everything.

    `banned` and `required` are whole words or phrases, in any case; a trailing `*` matches
    any ending. `matches` must all match, `not_matches` must not: regular expressions.
    `language` is a code like `fr`; `packs` name lists of banned words that come with promptkit.
    """

    banned: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    min_words: int | None = None
    max_words: int | None = None
    min_characters: int | None = None
    max_characters: int | None = None
    language: str | None = None
    matches: tuple[str, ...] = ()
    not_matches: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()


class OnFailure(StrEnum):
    """What to do with a reply that fails a check of its template."""

    RETRY = "retry"
    """Retry the same target once, then fail over to the next."""
    FAILOVER = "failover"
    """Fail over to the next target."""
    FLAG = "flag"
    """Keep the reply, with a flag."""


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of a template's replies, its `[checks]`.

    `banned_from` and `required_from` name variables with further words, `language_from` one with
    the language: `promptkit.validation.rules.rules_for` inserts a call's values.
    """

    rules: Rules = Rules()
    on_failure: OnFailure = OnFailure.FLAG
    banned_from: tuple[str, ...] = ()
    required_from: tuple[str, ...] = ()
    language_from: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateSpec:
    """The front matter of a template."""

    description: str = ""
    variables: Mapping[str, Variable] = field(default_factory=dict[str, Variable])
    params: Params = Params()
    output: Mapping[str, Json] | None = None
    """JSON Schema of a structured reply; None for plain text."""
    checks: Checks | None = None
    """The checks of its replies."""
    lint: Mapping[str, str] = field(default_factory=dict[str, str])
    """Lint rules that are switched off, each with the reason."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning that all prompts of a template share, which providers can cache.

    `texts` are the beginnings of its first messages; all but the last are whole messages. `digest`
    is over roles and texts (`sha256:...`).
    """

    texts: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered template: the messages to send, and their source.

    `digest` is the prompt digest (`sha256:...` over roles and text as sent);
    `template_digest` is the seal of the source that made it (`epoch:sha256:...`).
    `ref` names the version that was resolved, e.g. `ugc/script@2`. `prefix` is the part that other
    values share; None if there is none, or it is too short for any provider to cache.
    """

    messages: tuple[Message, ...]
    digest: str
    ref: TemplateRef
    template_digest: str
    prefix: Prefix | None = field(default=None, compare=False)

"""What a value can be: JSON, a template's variables, and what a structured reply is read as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
"""What JSON can say."""


if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Parsed_co = TypeVar("Parsed_co", covariant=True, default=Json)
    """What a structured reply is read as: JSON, or an instance of the caller's model."""
else:  # before Python 3.13 its own has no defaults, and nothing at run time asks for them
    from typing import TypeVar

    Parsed_co = TypeVar("Parsed_co", covariant=True)


Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value]"
"""What a template variable can hold once it is coerced. Never None: absent is absent."""


JsonObject: TypeAlias = dict[str, Any]
"""A JSON object whose members a room reads by name and checks itself."""


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt; `content` is the rendered text, as sent."""

    role: Role
    content: str


class Reasoning(StrEnum):
    """How hard a model should think; each provider file maps the level to its own word."""

    OFF = "off"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Params:
    """What a template asks of a model besides the text. None leaves it to the model.

    `max_output_tokens` counts reasoning tokens too; it is always sent, since a budget's
    ceiling stands on it (where a template is silent, the route's default serves).
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
    """What a string variable is."""

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
    `minimum` and `maximum` bound numbers; `choices`, where given, lists all values allowed
    (of each item, for a list). `pattern` is what all of a string must match. `fields` are an
    object's, empty where any will do; `items` says what each item of a list is, None for any.
    `untrusted`: text from outside, set apart by delimiters where it is printed.
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
        """Whether a caller must supply it."""
        return self.default is None


@dataclass(frozen=True, slots=True)
class TemplateRef:
    """A name and which of its versions: `ugc/script`, `@2`, `@staging`, `@draft`, `@sha256:ab12`.

    `at` is what stands behind the `@`, or None: the production label, else the newest
    published version, else (where the caller allows it) the draft.
    """

    name: str
    at: str | None = None

    def __str__(self) -> str:
        return self.name if self.at is None else f"{self.name}@{self.at}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a text must keep to; what is left empty asks for nothing (see `promptkit.checks`).

    `banned` and `required` are whole words or phrases, in any case; a trailing `*` stands for
    any ending. `matches` must each be found, `not_matches` must not: regular expressions.
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
    """What to do with a reply that doesn't keep to the checks of its template."""

    RETRY = "retry"
    """Ask the same target once more, then the next one."""
    FAILOVER = "failover"
    """Ask the next target."""
    FLAG = "flag"
    """Keep it, and say so."""


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of a template's replies, its `[checks]`.

    `banned_from` and `required_from` name variables that hold further words, `language_from` one
    that holds the language: `promptkit.checks.rules_for` puts a call's values in.
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
    """What its replies must keep to."""
    lint: Mapping[str, str] = field(default_factory=dict[str, str])
    """Lint rules that are switched off, each with the reason."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """How the prompts of a template begin, the same in call after call: what providers can cache.

    `texts` are what its first messages begin with; all but the last are whole messages. `digest`
    is over roles and texts (`sha256:...`).
    """

    texts: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered template: what would be sent, and from which source.

    `digest` is the prompt digest (`sha256:...` over roles and text as sent);
    `template_digest` is the seal of the source that made it (`epoch:sha256:...`).
    `ref` names the version that was resolved, e.g. `ugc/script@2`. `prefix` is how far it is the
    same for other values; None where that is nothing, or too short for any provider to cache.
    """

    messages: tuple[Message, ...]
    digest: str
    ref: TemplateRef
    template_digest: str
    prefix: Prefix | None = field(default=None, compare=False)

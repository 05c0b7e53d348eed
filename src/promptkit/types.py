"""The words: frozen values that cross from one room to another.

Units stand in the names (`timeout_s`, `input_mtok`, `ceiling_pico`). Money is an integer
of pico-USD (1e-12 USD); what is not known is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias

PICO_PER_USD: Final = 10**12

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


# ---------------------------------------------------------------------------- prompts


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
    """What a skeleton asks of a model besides the text. None leaves it to the model.

    `max_output_tokens` counts reasoning tokens too; it is always sent, since a budget's
    ceiling stands on it (where a skeleton is silent, the route's default serves).
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
    """What to do with a reply that doesn't keep to the checks of its skeleton."""

    RETRY = "retry"
    """Ask the same target once more, then the next one."""
    FAILOVER = "failover"
    """Ask the next target."""
    FLAG = "flag"
    """Keep it, and say so."""


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of a skeleton's replies, its `[checks]`.

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
    """The front matter of a skeleton."""

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
    """How the prompts of a skeleton begin, the same in call after call: what providers can cache.

    `texts` are what its first messages begin with; all but the last are whole messages. `digest`
    is over roles and texts (`sha256:...`).
    """

    texts: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered skeleton: what would be sent, and from which source.

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


# --------------------------------------------------------------------------- providers


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider allows; None where it names no limit."""

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A price from a provider file, USD per million tokens; it wins over genai-prices.

    A cache rate left None means: cached tokens cost the input rate.
    """

    input_mtok: Decimal
    output_mtok: Decimal
    cache_read_mtok: Decimal | None = None
    cache_write_mtok: Decimal | None = None


class OnReject(StrEnum):
    """What to do with a parameter that the model rejects."""

    DROP = "drop"
    """Leave it out and say so once."""
    REFUSE = "refuse"
    """Refuse the call before anything is sent."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a provider. Sizes are in tokens; None is unknown.

    `rejects` names fields of `Params` that the model does not take, and `prefill` where it doesn't go on
    from an assistant message at the end of a prompt. `reasoning` maps a level
    to what the wire format wants: a word (effort, level) or an integer (a token budget);
    None: the model does not reason, and a level is dropped silently only when it is `off`.
    `price_ref` is the name under which genai-prices knows it, where that differs from `id`.
    """

    id: str
    context_window: int | None = None
    max_output_tokens: int | None = None
    rejects: frozenset[str] = frozenset()
    on_reject: OnReject = OnReject.DROP
    reasoning: Mapping[Reasoning, str | int] | None = None
    price: PriceOverride | None = None
    price_ref: str | None = None
    limits: Limits | None = None
    """Its own limits; those it leaves open are its provider's."""
    cache_min_tokens: int = 1024
    """A shorter beginning of a prompt isn't cached."""


class Checked(StrEnum):
    """How far a provider file was tried."""

    LIVE = "live"
    SIMULATOR = "simulator"
    DOCS = "docs only"


@dataclass(frozen=True, slots=True)
class Provider:
    """Address, key and limits of a provider, and its models by id.

    `adapter` is the wire format's family (`openai`, `anthropic`, `gemini`, `local`), `api` the
    format within it (`responses`, `chat`, `messages`, `generate`), `sdk` the package that
    carries it (`openai`, `anthropic`, `google-genai`, `google-generativeai`, `xllamacpp`).
    `open_models` accepts a model id that the file doesn't list (its price is then unknown
    unless genai-prices knows it). `key_allowed` is False where the address comes from a place
    that may not send a key from the environment (see `catalog`); `key_why` then says why.
    """

    name: str
    adapter: str
    api: str
    sdk: str
    base_url: str | None = None
    base_url_env: str | None = None
    """The variable by which the SDK itself lets a user move the address (`OPENAI_BASE_URL`)."""
    api_version: str | None = None
    api_key_env: str | None = None
    checked: Checked = Checked.DOCS
    checked_on: date | None = None
    limits: Limits = Limits()
    models: Mapping[str, Model] = field(default_factory=dict[str, Model])
    open_models: bool = False
    open_model: Model | None = None
    """What holds for a model that the file doesn't list (its `id` is empty)."""
    price_provider: str | None = None
    """genai-prices' provider id; None where it knows no such provider."""
    prompt_cache: bool = False
    """Whether promptkit uses its prompt cache: marks (anthropic) or steers by a key (openai) what prompts
    have in common, and in a batch lets one call go first."""
    max_tokens_field: str = "max_completion_tokens"
    """What Chat Completions calls the output limit here (`max_tokens` on older hosts)."""
    connect_timeout_s: float = 10.0
    timeout_s: float = 300.0
    key_allowed: bool = True
    key_why: str = ""
    trusted: bool = True
    """Whether the address may see what SDKs add from the user's environment (organisation, custom headers)."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A provider and one of its models. As text, `provider/model`: it splits at the first `/`."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class OnContent(StrEnum):
    """What a route does when a provider refuses the content."""

    STOP = "stop"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call may go, in what order, how often and for how long.

    `attempts` is one budget over all targets; `patience_s` is what the call may spend waiting,
    `outage_s` what a batch may, with no answer from anywhere, before it stops (0: its rows fail).
    `weights`, where given, holds a target's share of the calls, one a target in their order
    (for the strategy `weighted`; 0: only when others failed).
    """

    name: str
    targets: tuple[Target, ...]
    strategy: str = "ordered"
    attempts: int = 6
    patience_s: float = 120.0
    last_resort: Target | None = None
    on_content: OnContent = OnContent.STOP
    max_output_tokens: int = 1024
    """The output limit where a skeleton names none."""
    weights: tuple[int, ...] = ()
    cache_s: float | None = None
    """How old a reply may be that serves a call again, in seconds; None: no reply does."""
    outage_s: float = 900.0


# ------------------------------------------------------------------------------- calls


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of a model, whichever it will be."""

    prompt: Prompt
    params: Params
    schema: Mapping[str, Json] | None = None
    tier: str | None = None
    """Service tier (`flex`, `batch`); None is the provider's standard."""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class WireRequest:
    """An encoded call: a path below the provider's `base_url`, and the JSON body as bytes.

    `warnings` says what was left out because the model rejects it.
    """

    path: str
    body: bytes
    stream: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WireReply:
    """An answer that arrived whole: any status is a value. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class WireBreak:
    """An exchange that broke. `sent` is whether the request may have reached the provider."""

    sent: bool
    detail: str


class Fault(StrEnum):
    """Why an attempt gave no answer: one row of the table in `routing.faults`."""

    TRANSIENT = "transient"
    UNKNOWN_OUTCOME = "unknown_outcome"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    NO_CAPACITY = "no_capacity"
    AUTH = "auth"
    MODEL_GONE = "model_gone"
    CONTEXT_LENGTH = "context_length"
    INVALID_REQUEST = "invalid_request"
    CONTENT = "content"
    BROKEN_REPLY = "broken_reply"
    """Cut on the wire, malformed, or without its terminal event: retried as transient."""
    INVALID_OUTPUT = "invalid_output"
    """A whole reply that isn't the JSON that was asked for."""
    CHECK = "failed_check"
    """A whole reply that doesn't keep to the checks of its skeleton."""
    BUDGET = "budget"
    """promptkit's own cap said no: never retried, never failed over."""
    UNPRICED = "unpriced"
    """No price for the target while a budget is in force."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt, normalised over the providers.

    `input_tokens` includes cache reads and all cache writes; `cache_write_tokens` includes
    `cache_write_1h_tokens`; `output_tokens` includes `reasoning_tokens`.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0


class Finish(StrEnum):
    """How a reply ended."""

    STOP = "stop"
    LENGTH = "length"
    """It hit the output limit or the context window: priced and kept, as `truncated`."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply that arrived. `served_model` and `tier` are what the provider says served it.

    `shown`: the caller has read its text as it came, so no other answer can take its place.
    """

    text: str
    finish: Finish
    usage: Usage | None
    served_model: str | None = None
    tier: str | None = None
    request_id: str | None = None
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt without an answer, as a value. `retry_after_s` is the hint of this very attempt.

    A failure may have been billed (a refusal, a reply cut on the wire): then `usage` says for
    what, or is None where the provider did not say. `text` is what had arrived.
    """

    fault: Fault
    detail: str
    retry_after_s: float | None = None
    status: int | None = None
    usage: Usage | None = None
    served_model: str | None = None
    tier: str | None = None
    request_id: str | None = None
    text: str = ""
    billed: bool = False
    """The provider charged for it, or may have: the answer was refused, cut or unreadable."""
    shown: bool = False
    """The caller has read the beginning of its text: no other answer can take its place."""


Outcome: TypeAlias = Completion | Failure


# ------------------------------------------------------------------------------- money


class Basis(StrEnum):
    """By which model's price an attempt was costed."""

    SERVED = "served"
    ASKED = "asked"
    """The served model is unknown to the price list: priced as the one asked for."""
    ESTIMATED = "estimated"
    """Nobody knows the bill: an `Estimate` by what was sent and what arrived."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an attempt cost: pico-USD, rounded once, and where the rates come from.

    `source` is like `genai-prices 0.2.3` or `providers/openai.toml`. `cache_saved_pico` is what the
    provider's prompt cache saved, against all input at the uncached rate; below 0 where writing it
    cost more than reading it saved.
    """

    pico: int
    source: str
    basis: Basis = Basis.SERVED
    cache_saved_pico: int = 0

    @property
    def usd(self) -> Decimal:
        """The same, in USD."""
        return usd(self.pico)


@dataclass(frozen=True, slots=True)
class Estimate:
    """About what an attempt took whose provider never told: a stream that was cut or given up.

    Tokens of reasoning that never showed are not in it; `pico` is None where no price is known.
    Caps never count it: they count the ceiling.
    """

    usage: Usage
    pico: int | None


def usd(pico: int) -> Decimal:
    """Turn pico-USD into USD, exactly."""
    return Decimal(pico).scaleb(-12)


def dollars(pico: int | None) -> str:
    """Money as people read it: `$1,204.50`, `$0.00042`, `<$0.000001`, `unknown`."""
    if pico is None:
        return "unknown"
    amount = usd(pico)
    if amount == 0:
        return "$0"
    if amount >= 1:
        return f"${amount:,.2f}"
    text = f"{amount:.6f}".rstrip("0")
    return f"${text.ljust(len('0.00'), '0')}" if text != "0." else "<$0.000001"


@dataclass(frozen=True, slots=True)
class Scope:
    """Money counted together: `job:<id>`, `day:2026-11-22`, `month:2026-11 client=barly`.

    `cap_pico` stops what would pass it, `soft_pico` is only told when it is passed; None is none.
    """

    key: str
    cap_pico: int | None
    soft_pico: int | None = None


# ------------------------------------------------------------------------------ results


class AttemptState(StrEnum):
    """What became of one attempt."""

    OPEN = "open"
    OK = "ok"
    TRUNCATED = "truncated"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Sent and never answered: charged at its ceiling."""


class Status(StrEnum):
    """What became of a call or a row."""

    OK = "ok"
    TRUNCATED = "truncated"
    DEGRADED = "degraded"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to one target. `charged_pico` is what the caps count: cost, else the ceiling.

    `first_byte_s` is the time to the first word of a streamed reply. `estimate` stands where a
    stream ended before its usage was told; `usage` and `cost` are None then.
    """

    id: int
    target: Target
    state: AttemptState
    fault: Fault | None
    detail: str
    usage: Usage | None
    cost: Cost | None
    charged_pico: int
    latency_s: float
    first_byte_s: float | None = None
    request_id: str | None = None
    served_model: str | None = None
    estimate: Estimate | None = None


JsonObject: TypeAlias = dict[str, Any]
"""A JSON object whose members a room reads by name and checks itself."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[Parsed_co]):
    """A finished call.

    `cost_pico` sums the cost of all attempts and is None where one is unknown; `charged_pico`
    is what the caps counted: at least the cost, with unknowns at their ceiling.
    """

    id: int
    text: str
    status: Status
    target: Target
    served_model: str | None
    ref: TemplateRef
    template_digest: str
    prompt_digest: str
    usage: Usage | None
    cost_pico: int | None
    charged_pico: int
    latency_s: float
    attempts: tuple[Attempt, ...]
    tags: Mapping[str, str]
    parsed: Parsed_co | None = None
    """The value of a structured reply; None for plain text, and where it was cut off."""
    flags: tuple[str, ...] = ()
    """What it doesn't keep to of its skeleton's checks, where those say that it is kept all the same."""
    cached_from: int | None = None
    """The call whose reply served this one from the reply cache: nothing was sent, and it cost nothing."""
    saved_pico: int | None = None
    """What that call's answer had cost; None where it is unknown, or nothing was cached."""

    @property
    def cost(self) -> Decimal | None:
        """What the call cost in USD, exactly; None where an attempt's cost is unknown."""
        return None if self.cost_pico is None else usd(self.cost_pico)

    @property
    def charged(self) -> Decimal:
        """What the caps counted, in USD."""
        return usd(self.charged_pico)


# -------------------------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch, read, bound and named.

    `number` counts the file's rows from 1, `line` is the physical line where the row starts.
    `cells` are the input's columns as read; `variables` what the skeleton gets of them, coerced,
    before defaults. `key` names the row within its job (the row key, or the `--key` column's
    value); `content` is the digest of `variables`: the same key with other content is a new
    generation.
    """

    number: int
    line: int
    key: str
    content: str
    variables: Mapping[str, Value]
    cells: Mapping[str, Json] = field(default_factory=dict[str, Json])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


class OnMiss(StrEnum):
    """What a job does when its deadline won't be met; `faster` has more rows under way at once."""

    WARN = "warn"
    STOP = "stop"
    FASTER = "faster"
    FASTEST = "fastest"


@dataclass(frozen=True, slots=True)
class RowResult(Generic[Parsed_co]):
    """What became of one row. `call` is None where none was made; `cost` None where unknown.

    `cells` are the input's columns, passed through to the output. `error` says why there is no
    (whole) text; `parsed` is the value of a structured reply, `flags` are as a `Reply`'s.
    """

    number: int
    status: Status
    text: str | None = None
    parsed: Parsed_co | None = None
    error: str | None = None
    cost: Cost | None = None
    usage: Usage | None = None
    target: Target | None = None
    template: TemplateRef | None = None
    call: int | None = None
    cells: Mapping[str, Json] = field(default_factory=dict[str, Json])
    cached_from: int | None = None
    """The call whose reply served it from the reply cache."""
    flags: tuple[str, ...] = ()

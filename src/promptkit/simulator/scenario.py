"""Scenarios: models, limits and faults. One schema for the TOML file, `POST /_faults` and Python.

```toml
seed = 7
latency = "realistic"            # or milliseconds; without it: none
prompt_cache = true              # false: totals don't depend on the order of requests
require_max_tokens = false       # true: a request without an output limit is a 400 everywhere
down = ["gemini"]                # its own port refuses connections
[keys]
openai = ["sk-good"]             # any other key is refused
[ports]
openai = 8091                    # a port of its own, which can refuse connections
[limits.openai]                  # per key and model; or [limits."openai/gpt-6-luna"]
requests_per_minute = 60
[[models]]
provider = "groq"
id = "llama-9"
input_usd_mtok = "0.05"
output_usd_mtok = "0.08"
[[faults]]
fault = "openai.rate_limit"
provider = "openai"
times = 3
retry_after_s = 0.2
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from promptkit.errors import ConfigError, UsageError

from .faults import family_of_fault, problem_with
from .models import Card, Rates, SimModel, family_of
from .reply_text import digest

_FORBID = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A rule of the script: a fault, which requests it applies to, and how often.

    Attributes:
        fault: a name of `faults`.
        provider: only this provider; by default the one of the fault's own format, else any.
        model: only this model, by the name in the request.
        key: only this API key (never in the journal).
        stream: only streams (true) or whole replies (false).
        times: how often it applies; None for always.
        after: how many matching requests pass before it.
        every: it applies to each n-th matching request.
        probability: it applies at random, decided by the seed and the prompt.
        retry_after_s: the retry-after hint of the response, if the provider sends one.
        seconds: the delay of the first byte (wire.slow_first_byte).
        billed: whether the provider charges for it; None for the default of the fault.
        at: where a stream or body is cut, as a fraction of it (0 to 1).
        error: the error inside the stream (wire.stream_error).
        message: replaces the error's message; the reply's text for `reply.says`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    fault: str
    provider: str | None = None
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    stream: bool | None = None
    times: int | None = None
    after: int = 0
    every: int = 1
    probability: float = 1.0
    retry_after_s: float | None = None
    seconds: float = 1.0
    billed: bool | None = None
    at: float = 0.5
    error: str | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        problem = (
            problem_with(self.fault)
            or (self.error and (problem_with(self.error) or _not_an_error(self.error)))
            or _out_of_range(self)
            or _needs_body(self)
            or _wrong_format(self)
        )
        if problem:
            raise ValueError(problem)

    @property
    def where(self) -> str | None:
        """The provider that it applies to: the given one, else that of the fault's own format."""
        family = family_of_fault(self.fault)
        return self.provider or (None if family is None else str(family))


def _not_an_error(name: str) -> str | None:
    return f"{name!r} is not an error response" if name.startswith(("wire.", "reply.")) else None


def _out_of_range(rule: FaultRule) -> str | None:
    checks = {
        "times must be 1 or more": rule.times is None or rule.times >= 1,
        "after must be 0 or more": rule.after >= 0,
        "every must be 1 or more": rule.every >= 1,
        "probability must be between 0 and 1": 0 <= rule.probability <= 1,
        "at must be between 0 and 1": 0 <= rule.at <= 1,
        "seconds must be between 0 and 3600": 0 <= rule.seconds <= 3600,  # noqa: PLR2004 - an hour
        "retry_after_s must be 0 or more": rule.retry_after_s is None or rule.retry_after_s >= 0,
    }
    return next((message for message, valid in checks.items() if not valid), None)


def _needs_body(rule: FaultRule) -> str | None:
    if rule.fault == "wire.reset_before" and (rule.model is not None or rule.stream is not None):
        return "wire.reset_before applies before the body is read, so it can't match a model or a stream"
    return None


def _wrong_format(rule: FaultRule) -> str | None:
    for name in (rule.fault, rule.error or ""):
        family = family_of_fault(name)
        if family is not None and rule.provider is not None and family_of(rule.provider) is not family:
            return (
                f"{name!r} has the format of {family}, and {rule.provider!r} uses that of "
                f"{family_of(rule.provider)}"
            )
    return None


@dataclass(frozen=True, slots=True)
class LimitRule:
    """The limits of a key and model; None for no limit. Minutes refill, days are fixed."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None

    def __post_init__(self) -> None:
        if any((getattr(self, limit.name) or 0) < 0 for limit in fields(self)):
            raise ValueError("a limit must be 0 or more")


@dataclass(frozen=True, slots=True)
class ModelRule:
    """A model of the scenario; prices in USD per million tokens, as text or number."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    provider: str
    id: str
    context_window: int = 128_000
    max_output_tokens: int = 32_000
    rejects: tuple[str, ...] = ()
    served_as: str = ""
    input_usd_mtok: Decimal | None = None
    output_usd_mtok: Decimal | None = None
    cache_read_usd_mtok: Decimal | None = None

    @property
    def model(self) -> SimModel:
        """The model as the model list has it."""
        return SimModel(
            self.id,
            self.context_window,
            self.max_output_tokens,
            frozenset(self.rejects),
            served_as=self.served_as,
        )

    @property
    def card(self) -> Card | None:
        """Its rates; None without a price."""
        if self.input_usd_mtok is None or self.output_usd_mtok is None:
            return None
        read = self.input_usd_mtok if self.cache_read_usd_mtok is None else self.cache_read_usd_mtok
        return Card(Rates(_pico(self.input_usd_mtok), _pico(self.output_usd_mtok), _pico(read)))


def _pico(usd_mtok: Decimal) -> int:
    return int(usd_mtok.scaleb(6))


Latency = Literal["realistic"] | float | None
"""None for no wait, milliseconds before each reply, or `realistic`: at random, decided by the seed."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """The content of a scenario file; the module's docstring has an example."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    seed: int | None = None
    latency: Latency = None
    prompt_cache: bool = True
    require_max_tokens: bool = False
    down: tuple[str, ...] = ()
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]], repr=False)
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    limits: Mapping[str, LimitRule] = field(default_factory=dict[str, LimitRule])
    models: tuple[ModelRule, ...] = ()
    faults: tuple[FaultRule, ...] = ()


@dataclass(frozen=True, slots=True)
class _FaultDocument:
    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    faults: tuple[FaultRule, ...]


@cache
def _scenarios() -> TypeAdapter[Scenario]:
    return TypeAdapter(Scenario)


@cache
def _scripts() -> TypeAdapter[_FaultDocument]:
    return TypeAdapter(_FaultDocument)


def read_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ConfigError: it can't be read, is not TOML, or doesn't match the schema.
    """
    try:
        doc = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the scenario can't be read: {error}", file=path) from error
    try:
        return _scenarios().validate_python(doc)
    except ValidationError as error:
        raise ConfigError(_message(error), file=path) from error


def read_latency(text: str | float | None) -> Latency:
    """Read the value of `--latency`: `realistic`, milliseconds, or None.

    Raises:
        UsageError: it is anything else.
    """
    if text is None or text == "realistic":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3_600_000:  # noqa: PLR2004 - an hour
        raise UsageError(f"--latency is 'realistic' or a number of milliseconds, not {text!r}")
    return value


def read_faults(doc: Any) -> tuple[FaultRule, ...]:
    """Read the rules of `{"faults": [...]}`, of a list of rules, or of a single rule.

    Raises:
        UsageError: a rule is not valid; the message has its position.
    """
    if isinstance(doc, Mapping) and "fault" in doc:
        doc = [doc]
    if isinstance(doc, list):
        doc = {"faults": cast("list[Any]", doc)}
    try:
        return _scripts().validate_python(doc).faults
    except ValidationError as error:
        raise UsageError(_message(error), remedy='Write {"faults": [{"fault": NAME, ...}]}') from error


def _message(error: ValidationError) -> str:
    """Return the most helpful message of pydantic, with its position: `faults.0.times: ...`."""
    errors = error.errors(include_url=False, include_input=False)
    first = next((each for each in errors if each["type"] in _HELPFUL), errors[0])
    position = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{position}: {message}" if position else message


_HELPFUL = frozenset({"value_error", "unexpected_keyword_argument", "extra_forbidden"})
_SCALE = 2**64


@dataclass(frozen=True, slots=True)
class RequestTraits:
    """What rules match of a request. `identity` (prompt and repetition) decides a rule's probability.

    `model` and `stream` are None before the body is read.
    """

    provider: str
    key: str | None
    identity: str
    model: str | None = None
    stream: bool | None = None


@dataclass(slots=True)
class _RuleState:
    rule: FaultRule
    seen: int = 0
    applied: int = 0

    def applies(self, traits: RequestTraits, seed: int, number: int) -> bool:
        """Count a matching request, and return whether the rule applies to it."""
        rule = self.rule
        if rule.times is not None and self.applied >= rule.times:
            return False
        self.seen += 1
        if self.seen <= rule.after or (self.seen - rule.after) % rule.every:
            return False
        if rule.probability < 1:
            drawn = digest(seed, "fault", str(number), traits.identity)
            if int.from_bytes(drawn[:8]) >= rule.probability * _SCALE:
                return False
        self.applied += 1
        return True


class FaultScript:
    """An ordered list of rules. The first that applies wins, and only that one is counted."""

    def __init__(self, seed: int, rules: Iterable[FaultRule] = ()) -> None:
        self._seed = seed
        self._rules: list[_RuleState] = []
        self.set(rules)

    def set(self, rules: Iterable[FaultRule]) -> None:
        """Replace all rules; their counts start from 0."""
        self._rules = [_RuleState(rule) for rule in rules]

    @property
    def rules(self) -> tuple[FaultRule, ...]:
        """The rules, in order."""
        return tuple(each.rule for each in self._rules)

    @property
    def struck(self) -> tuple[int, ...]:
        """How often each rule was applied."""
        return tuple(each.applied for each in self._rules)

    def before_reading(self, traits: RequestTraits) -> FaultRule | None:
        """Return the rule that applies before a request's body is read."""
        return self._first(traits, before_body=True)

    def strike(self, traits: RequestTraits) -> FaultRule | None:
        """Return the rule that applies to a request that was read."""
        return self._first(traits, before_body=False)

    def _first(self, traits: RequestTraits, *, before_body: bool) -> FaultRule | None:
        for number, each in enumerate(self._rules):
            rule = each.rule
            fits = (rule.fault == "wire.reset_before") is before_body and _matches(rule, traits)
            if fits and each.applies(traits, self._seed, number):
                return rule
        return None


def _matches(rule: FaultRule, traits: RequestTraits) -> bool:
    return (
        rule.where in (None, traits.provider)
        and rule.key in (None, traits.key)
        and rule.model in (None, traits.model)
        and rule.stream in (None, traits.stream)
    )

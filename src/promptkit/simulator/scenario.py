"""Scenarios: what goes wrong, when. One schema for the TOML file, `POST /_faults` and Python.

```toml
seed = 7
latency = "realistic"            # or milliseconds; absent: none
prompt_cache = true              # false: totals don't depend on the order of arrival
require_max_tokens = false       # true: a request without an output limit is a 400 everywhere
down = ["gemini"]                # its own port refuses connections
[keys]
openai = ["sk-good"]             # any other key is answered as a wrong one
[ports]
openai = 8091                    # a port of its own, which alone can refuse connections
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
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from promptkit.errors import ConfigError, UsageError

from .faults import family_of_fault, problem_with
from .models import Card, Rates, SimModel, family_of
from .text import digest

_FORBID: Final = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One line of the script: this fault, for those requests, that often.

    Attributes:
        fault: a name of `faults`.
        provider: only there; by default the provider whose shape the fault has, else any.
        model: only for that model, as asked for.
        key: only for that API key (kept as it is here, never journalled).
        stream: only for streams (true) or whole replies (false).
        times: how often it strikes; None: for ever.
        after: how many matching requests pass first.
        every: it strikes each n-th matching request.
        probability: it strikes with that chance, drawn from the seed and the prompt.
        retry_after_s: the hint that goes with it, where the provider gives one.
        seconds: how late the first byte comes (wire.slow_first_byte).
        billed: whether the provider charges for it; None: what the table says.
        at: where a stream or body is cut, as a share of it (0 to 1).
        error: which error comes inside the stream (wire.stream_error).
        message: replaces the error's message; of `reply.says`, what the model says.
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
            or (self.error and (problem_with(self.error) or _no_error(self.error)))
            or _range(self)
            or _head_only(self)
            or _shape(self)
        )
        if problem:
            raise ValueError(problem)

    @property
    def where(self) -> str | None:
        """The provider that it strikes: as said, else the one whose shape the fault has."""
        family = family_of_fault(self.fault)
        return self.provider or (None if family is None else str(family))


def _no_error(name: str) -> str | None:
    return f"{name!r} is no error reply" if name.startswith(("wire.", "reply.")) else None


def _range(rule: FaultRule) -> str | None:
    checks = {
        "times must be 1 or more": rule.times is None or rule.times >= 1,
        "after must be 0 or more": rule.after >= 0,
        "every must be 1 or more": rule.every >= 1,
        "probability must be between 0 and 1": 0 <= rule.probability <= 1,
        "at must be between 0 and 1": 0 <= rule.at <= 1,
        "seconds must be between 0 and 3600": 0 <= rule.seconds <= 3600,  # noqa: PLR2004  an hour
        "retry_after_s must be 0 or more": rule.retry_after_s is None or rule.retry_after_s >= 0,
    }
    return next((what for what, fine in checks.items() if not fine), None)


def _head_only(rule: FaultRule) -> str | None:
    if rule.fault == "wire.reset_before" and (rule.model is not None or rule.stream is not None):
        return "wire.reset_before strikes before the body is read: it can't match a model or a stream"
    return None


def _shape(rule: FaultRule) -> str | None:
    for name in (rule.fault, rule.error or ""):
        family = family_of_fault(name)
        if family is not None and rule.provider is not None and family_of(rule.provider) is not family:
            return f"{name!r} is {family}'s shape; {rule.provider!r} speaks {family_of(rule.provider)}'s"
    return None


@dataclass(frozen=True, slots=True)
class LimitRule:
    """What a provider allows a key and model; None: no limit. Minutes refill, days are fixed."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None

    def __post_init__(self) -> None:
        values = (self.requests_per_minute, self.tokens_per_minute, self.input_tokens_per_minute)
        others = (self.output_tokens_per_minute, self.requests_per_day, self.tokens_per_day)
        if any(value is not None and value < 0 for value in (*values, *others)):
            message = "a limit must be 0 or more"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class ModelRule:
    """A model of the scenario's own; prices in USD per million tokens, as text or number."""

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
        """As the model table has it."""
        return SimModel(
            self.id,
            self.context_window,
            self.max_output_tokens,
            frozenset(self.rejects),
            served_as=self.served_as,
        )

    @property
    def card(self) -> Card | None:
        """Its rates; None where no price is given."""
        if self.input_usd_mtok is None or self.output_usd_mtok is None:
            return None
        read = self.input_usd_mtok if self.cache_read_usd_mtok is None else self.cache_read_usd_mtok
        return Card(Rates(_pico(self.input_usd_mtok), _pico(self.output_usd_mtok), _pico(read)))


def _pico(usd_mtok: Decimal) -> int:
    return int(usd_mtok.scaleb(6))


Latency = Literal["realistic"] | float | None
"""None: at once; a number: milliseconds before each reply; realistic: drawn from the seed."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that a file can say; see the module's head for an example."""

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
class _Script:
    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    faults: tuple[FaultRule, ...]


@cache
def _scenarios() -> TypeAdapter[Scenario]:
    return TypeAdapter(Scenario)


@cache
def _scripts() -> TypeAdapter[_Script]:
    return TypeAdapter(_Script)


def read_scenario(path: Path) -> Scenario:
    """The scenario of a TOML file.

    Raises:
        ConfigError: unreadable, no TOML, or not of this schema; it says where.
    """
    try:
        doc = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        what = f"the scenario can't be read: {error}"
        raise ConfigError(what, file=path) from error
    try:
        return _scenarios().validate_python(doc)
    except ValidationError as error:
        raise ConfigError(said(error), file=path) from error


def read_latency(text: str | float | None) -> Latency:
    """What `--latency` says: `realistic`, milliseconds, or None.

    Raises:
        UsageError: anything else.
    """
    if text is None or text == "realistic":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3_600_000:  # noqa: PLR2004  an hour
        what = f"--latency is 'realistic' or a number of milliseconds, not {text!r}"
        raise UsageError(what)
    return value


def read_faults(doc: Any) -> tuple[FaultRule, ...]:
    """The rules of `{"faults": [...]}`, of a bare list, or of one rule.

    Raises:
        UsageError: with the place and what is wrong there.
    """
    if isinstance(doc, Mapping) and "fault" in doc:
        doc = [doc]
    if isinstance(doc, list):
        doc = {"faults": cast("list[Any]", doc)}
    try:
        return _scripts().validate_python(doc).faults
    except ValidationError as error:
        raise UsageError(said(error), remedy='it takes {"faults": [{"fault": NAME, ...}]}') from error


def said(error: ValidationError) -> str:
    """The first thing that pydantic says, with its place: `faults.0.times: ...`."""
    errors = error.errors(include_url=False, include_input=False)
    first = next((each for each in errors if each["type"] in _TELLING), errors[0])
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


_TELLING: Final = frozenset({"value_error", "unexpected_keyword_argument", "extra_forbidden"})


_SCALE: Final = 2**64


@dataclass(frozen=True, slots=True)
class Sighting:
    """A request as rules see it. `identity` is what the chance is drawn from: prompt and turn.

    `model` and `stream` are None before the body is read.
    """

    provider: str
    key: str | None
    identity: str
    model: str | None = None
    stream: bool | None = None


@dataclass(slots=True)
class _Counted:
    rule: FaultRule
    seen: int = 0
    struck: int = 0

    def strikes(self, sighting: Sighting, seed: int, number: int) -> bool:
        """Count a matching request; whether the rule strikes it."""
        rule = self.rule
        if rule.times is not None and self.struck >= rule.times:
            return False
        self.seen += 1
        if self.seen <= rule.after or (self.seen - rule.after) % rule.every:
            return False
        if rule.probability < 1:
            drawn = digest(seed, "fault", str(number), sighting.identity)
            if int.from_bytes(drawn[:8]) >= rule.probability * _SCALE:
                return False
        self.struck += 1
        return True


class Script:
    """An ordered list of rules; the first that strikes wins, and only it counts as struck."""

    def __init__(self, seed: int, rules: Iterable[FaultRule] = ()) -> None:
        self._seed = seed
        self._rules: list[_Counted] = []
        self.set(rules)

    def set(self, rules: Iterable[FaultRule]) -> None:
        """Replace all rules; their counts start anew."""
        self._rules = [_Counted(rule) for rule in rules]

    @property
    def rules(self) -> tuple[FaultRule, ...]:
        """The rules, in order."""
        return tuple(each.rule for each in self._rules)

    @property
    def struck(self) -> tuple[int, ...]:
        """How often each rule has struck."""
        return tuple(each.struck for each in self._rules)

    def before_reading(self, sighting: Sighting) -> FaultRule | None:
        """The rule that strikes on the head of a request alone."""
        return self._first(sighting, head=True)

    def strike(self, sighting: Sighting) -> FaultRule | None:
        """The rule that strikes a request that was read."""
        return self._first(sighting, head=False)

    def _first(self, sighting: Sighting, *, head: bool) -> FaultRule | None:
        for number, each in enumerate(self._rules):
            rule = each.rule
            fits = (rule.fault == "wire.reset_before") is head and _matches(rule, sighting)
            if fits and each.strikes(sighting, self._seed, number):
                return rule
        return None


def _matches(rule: FaultRule, sighting: Sighting) -> bool:
    return (
        rule.where in (None, sighting.provider)
        and rule.key in (None, sighting.key)
        and rule.model in (None, sighting.model)
        and rule.stream in (None, sighting.stream)
    )

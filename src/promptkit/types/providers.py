"""Who is asked: providers, their models, limits and prices, and the routes over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from .prompts import Reasoning


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

    `attempts` is one budget over all targets; `max_wait_s` is what the call may spend waiting,
    `outage_s` what a batch may, with no answer from anywhere, before it stops (0: its rows fail).
    `weights`, where given, holds a target's share of the calls, one a target in their order
    (for the strategy `weighted`; 0: only when others failed).
    """

    name: str
    targets: tuple[Target, ...]
    strategy: str = "ordered"
    attempts: int = 6
    max_wait_s: float = 120.0
    last_resort: Target | None = None
    on_content: OnContent = OnContent.STOP
    max_output_tokens: int = 1024
    """The output limit where a template names none."""
    weights: tuple[int, ...] = ()
    cache_s: float | None = None
    """How old a reply may be that serves a call again, in seconds; None: no reply does."""
    outage_s: float = 900.0

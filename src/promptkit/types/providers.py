"""Providers, their models, limits and prices, and the routes over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from .prompts import Reasoning


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a provider or model; None is no limit."""

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A price from a provider file, in USD per million tokens; it overrides genai-prices.

    If a cache rate is None, cached tokens cost the input rate.
    """

    input_mtok: Decimal
    output_mtok: Decimal
    cache_read_mtok: Decimal | None = None
    cache_write_mtok: Decimal | None = None


class OnReject(StrEnum):
    """What to do with a parameter that the model rejects."""

    DROP = "drop"
    """Leave it out, with one notice."""
    REFUSE = "refuse"
    """Refuse the call before anything is sent."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a provider. Sizes are in tokens; None is unknown.

    `rejects` names fields of `Params` that the model does not accept, and `prefill` if it doesn't
    continue an assistant message at the end of a prompt. `reasoning` maps a level to the wire
    format's word (effort, level) or an integer (a token budget); None: the model does not reason, and
    only the level `off` is dropped silently. `price_ref` is its name in genai-prices, if it is not `id`.
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
    """Its own limits; for those that are None, the provider's apply."""
    cache_min_tokens: int = 1024
    """The shortest prefix of a prompt that the provider caches."""


class Checked(StrEnum):
    """How a provider file was checked."""

    LIVE = "live"
    SIMULATOR = "simulator"
    DOCS = "docs only"


@dataclass(frozen=True, slots=True)
class Provider:
    """Address, key and limits of a provider, and its models by id.

    `adapter` is the wire format's family (`openai`, `anthropic`, `gemini`, `local`), `api` the
    format within it (`responses`, `chat`, `messages`, `generate`), `sdk` the package that
    sends it (`openai`, `anthropic`, `google-genai`, `google-generativeai`, `xllamacpp`).
    `open_models` accepts a model id that the file doesn't list (its price is then unknown
    unless genai-prices knows it). `key_allowed` is False if the key may not be sent to the address
    (see `config.keys`); `key_why` is the reason.
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
    """The settings of models that the file doesn't list (its `id` is empty)."""
    price_provider: str | None = None
    """genai-prices' provider id; None if it does not know the provider."""
    prompt_cache: bool = False
    """Whether promptkit uses its prompt cache: it marks shared prefixes (anthropic) or routes them by a key
    (openai), and sends a warm-up call first in a batch."""
    max_tokens_field: str = "max_completion_tokens"
    """The field of the output limit in Chat Completions (`max_tokens` on older hosts)."""
    connect_timeout_s: float = 10.0
    timeout_s: float = 300.0
    key_allowed: bool = True
    key_why: str = ""
    trusted: bool = True
    """Whether SDKs may send it what they find in the user's environment (organisation, custom headers)."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A provider and one of its models. As text, `provider/model`: it splits at the first `/`."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class OnContent(StrEnum):
    """What a route does if a provider refuses the content."""

    STOP = "stop"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Route:
    """The targets of a call, with their order and limits.

    `attempts` is the number over all targets together; `max_wait_s` is the longest time that a call may
    spend waiting, `outage_s` the longest time that a batch waits while no target answers (0: its rows
    fail). `weights`, for the strategy `weighted`, are the targets' shares of the calls, in their order
    (0: only after the others failed).
    """

    name: str
    targets: tuple[Target, ...]
    strategy: str = "ordered"
    attempts: int = 6
    max_wait_s: float = 120.0
    last_resort: Target | None = None
    on_content: OnContent = OnContent.STOP
    max_output_tokens: int = 1024
    """The output limit if a template sets none."""
    weights: tuple[int, ...] = ()
    cache_s: float | None = None
    """The maximum age of a stored reply that may be reused, in seconds; None: none is."""
    outage_s: float = 900.0

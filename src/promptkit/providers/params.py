"""Fitting what a template asks to what a model and its wire format take.

What doesn't fit is left out with a warning, or refused, as `Model.on_reject` says, and it makes
no difference whether the model rejects it or the format has no word for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Final

from promptkit.types import (
    Call,
    Failure,
    Fault,
    Json,
    Message,
    Model,
    OnReject,
    Params,
    Prefix,
    Prompt,
    Provider,
    Reasoning,
    Role,
)

from .tokens import estimate_text_tokens

DEFAULT_MAX_OUTPUT_TOKENS: Final = 1024
"""The output limit where neither the template nor the route names one."""


_SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
)


PREFILL: Final = "prefill"
"""What a model rejects that doesn't go on from an assistant message."""


_NOT_A_TIER: Final = frozenset({"standard", "batch"})
"""Standard is what comes unasked; a batch is another way to send, not a field."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a wire format can say.

    Attributes:
        name: for messages to people.
        sampling: the format's names for fields of `Params`.
        tiers: the service tiers that it knows.
        least_budget: the smallest budget of reasoning tokens that it takes, None if it takes none.
    """

    name: str
    sampling: Mapping[str, str]
    tiers: frozenset[str] = frozenset()
    least_budget: int | None = None


@dataclass(slots=True)
class Fitted:
    """What goes on the wire. `sampling` has the format's own names; `reasoning` is a word or a budget."""

    messages: tuple[Message, ...]
    max_output_tokens: int
    sampling: dict[str, Json] = field(default_factory=dict[str, Json])
    reasoning: str | int | None = None
    tier: str | None = None
    warnings: tuple[str, ...] = ()


def output_limit(params: Params, model: Model) -> int:
    """The output limit that will be sent, in tokens: what is asked, at most what the model gives."""
    asked = params.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
    return asked if model.max_output_tokens is None else min(asked, model.max_output_tokens)


def fit(call: Call, model: Model, wire: Format) -> Fitted | Failure:
    """Choose what of a call's parameters goes on the wire.

    Returns:
        The parameters with the warnings they gave rise to, or the failure (`invalid_request`,
        nothing was sent) of a model that refuses what it doesn't take.
    """
    params = call.params
    fitted = Fitted(call.prompt.messages, output_limit(params, model))
    notes: list[str] = []
    if params.max_output_tokens and params.max_output_tokens > fitted.max_output_tokens:
        notes.append(f"max_output_tokens = {fitted.max_output_tokens}: {model.id} gives no more")
    unfit = [
        *_fit_sampling(params, model, wire, fitted),
        *_fit_reasoning(params.reasoning, model, wire, fitted, notes),
        *_fit_tier(call.tier, wire, fitted),
        *_fit_prefill(model, fitted),
    ]
    if unfit and model.on_reject is OnReject.REFUSE:
        return Failure(Fault.INVALID_REQUEST, f"nothing was sent: {'; '.join(unfit)}")
    fitted.warnings = (*notes, *(f"left out: {what}" for what in unfit))
    return fitted


def _fit_sampling(params: Params, model: Model, wire: Format, fitted: Fitted) -> list[str]:
    unfit: list[str] = []
    for name in _SAMPLING:
        value = getattr(params, name)
        if value is None or value == ():
            continue
        if name in model.rejects:
            unfit.append(f"{model.id} rejects {name}")
        elif name not in wire.sampling:
            unfit.append(f"{wire.name} has no {name}")
        else:
            fitted.sampling[wire.sampling[name]] = value
    return unfit


def _fit_reasoning(
    level: Reasoning | None, model: Model, wire: Format, fitted: Fitted, notes: list[str]
) -> list[str]:
    if level is None or (level is Reasoning.OFF and model.reasoning is None):
        return []
    if "reasoning" in model.rejects:
        return [f"{model.id} rejects reasoning"]
    value = None if model.reasoning is None else model.reasoning.get(level)
    if value is None:
        return [f"{model.id} has no reasoning level {level}"]
    if isinstance(value, str) or value <= 0:
        if isinstance(value, int) and wire.least_budget is None:
            return [f"{wire.name} takes no budget of reasoning tokens"]
        fitted.reasoning = value
        return []
    return _fit_budget(value, model, wire, fitted, notes)


def _fit_budget(budget: int, model: Model, wire: Format, fitted: Fitted, notes: list[str]) -> list[str]:
    """The output limit covers reasoning too: at most half of it goes there, so an answer has room."""
    if wire.least_budget is None:
        return [f"{wire.name} takes no budget of reasoning tokens"]
    room = fitted.max_output_tokens // 2
    if room < wire.least_budget:
        # Some models reason unless told not to, and would spend all there is.
        fitted.reasoning = (model.reasoning or {}).get(Reasoning.OFF)
        return [f"reasoning, for which {model.id} needs max_output_tokens >= {2 * wire.least_budget}"]
    fitted.reasoning = min(budget, room)
    if budget > room:
        notes.append(f"reasoning takes {room} tokens, half of max_output_tokens, not {budget}")
    return []


def _fit_tier(tier: str | None, wire: Format, fitted: Fitted) -> list[str]:
    if tier is None or tier in _NOT_A_TIER:
        return []
    if tier not in wire.tiers:
        return [f"{wire.name} has no service tier {tier}"]
    fitted.tier = tier
    return []


def _fit_prefill(model: Model, fitted: Fitted) -> list[str]:
    """A prompt that ends with the assistant begins the answer, which not every model goes on from."""
    begun = next((i for i, m in enumerate(reversed(fitted.messages)) if m.role is not Role.ASSISTANT), 0)
    if PREFILL not in model.rejects or not begun:
        return []
    fitted.messages = fitted.messages[:-begun]
    return [f"{model.id} rejects prefill (an assistant message at the end)"]


@dataclass(frozen=True, slots=True)
class Turns:
    """A prompt for a format that keeps instructions apart from the conversation."""

    system: tuple[str, ...]
    turns: tuple[Message, ...]
    warnings: tuple[str, ...] = ()


def split_system(messages: tuple[Message, ...]) -> Turns:
    """Take the system messages out of the conversation.

    A later one moves to the front, with a warning: its own place is not valid for every model.
    Where there is nothing else, the last one is said by the user, since a conversation needs a turn.
    """
    system = tuple(message.content for message in messages if message.role is Role.SYSTEM)
    turns = tuple(message for message in messages if message.role is not Role.SYSTEM)
    if not turns and system:
        turns = (Message(Role.USER, system[-1]),)
        return Turns(
            system[:-1], turns, ("the last system message is sent as the user's: there is no other",)
        )
    leading = next((i for i, message in enumerate(messages) if message.role is not Role.SYSTEM), 0)
    moved = len(system) - leading
    warnings = (f"{moved} later system message(s) sent before the conversation",) if moved else ()
    return Turns(system, turns, warnings)


MOST_MARKS: Final = 4
"""So many blocks of a request Anthropic lets be marked."""


_KEY: Final = 32
"""Hex digits of the digest that a cache key carries: OpenAI takes up to 64 characters."""


def cacheable(prompt: Prompt, provider: Provider, model: Model) -> Prefix | None:
    """What other calls' prompts begin with, too, where the provider's cache keeps so much."""
    prefix = prompt.prefix
    if prefix is None or not provider.prompt_cache or prefix_tokens(prefix) < model.cache_min_tokens:
        return None
    return prefix


def prefix_tokens(prefix: Prefix) -> int:
    """About how many tokens a prefix has."""
    return _reach(prefix)[-1]


def cache_key(prefix: Prefix) -> str:
    """What steers calls with one beginning to one machine (`prompt_cache_key`)."""
    return prefix.digest.removeprefix("sha256:")[:_KEY]


def marks(prompt: Prompt, provider: Provider, model: Model) -> dict[int, int]:
    """Where to mark a prompt: behind how many characters of which message (from 0).

    A mark stands at the end of each message that is the same in every call, and where that ends;
    none where the model's least length isn't reached, and of more than four the last four.
    """
    prefix = cacheable(prompt, provider, model)
    if prefix is None:
        return {}
    reached = [at for at, tokens in enumerate(_reach(prefix)) if tokens >= model.cache_min_tokens]
    return {at: len(prefix.texts[at]) for at in reached[-MOST_MARKS:]}


@lru_cache(maxsize=256)
def _reach(prefix: Prefix) -> tuple[int, ...]:
    """About how many tokens the prefix has up to the end of each text."""
    return tuple(accumulate(estimate_text_tokens(text) for text in prefix.texts))

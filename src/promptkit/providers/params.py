"""Fit the parameters of a template to a model and its wire format.

A parameter that doesn't fit is left out with a warning, or the call is refused, as `Model.on_reject`
decides; it makes no difference whether the model rejects it or the format has no word for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

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

DEFAULT_MAX_OUTPUT_TOKENS = 1024
"""The output limit if neither the template nor the route sets one."""

_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
)

PREFILL = "prefill"
"""Rejected by models that don't continue an assistant message."""

_NOT_A_TIER = frozenset({"standard", "batch"})
"""Standard is the default; a batch is another way to send, not a field."""


@dataclass(frozen=True, slots=True)
class Format:
    """The parameters that a wire format can express.

    Attributes:
        name: for messages to people.
        sampling: the format's names for fields of `Params`.
        tiers: the service tiers that it has.
        least_budget: the smallest budget of reasoning tokens that it accepts; None if it accepts none.
    """

    name: str
    sampling: Mapping[str, str]
    tiers: frozenset[str] = frozenset()
    least_budget: int | None = None


@dataclass(slots=True)
class Fitted:
    """The parameters to send. `sampling` has the format's own names; `reasoning` is a word or a budget."""

    messages: tuple[Message, ...]
    max_output_tokens: int
    sampling: dict[str, Json] = field(default_factory=dict[str, Json])
    reasoning: str | int | None = None
    tier: str | None = None
    warnings: tuple[str, ...] = ()


def output_limit(params: Params, model: Model) -> int:
    """Return the output limit to send, in tokens: the requested one, at most the model's."""
    asked = params.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
    return asked if model.max_output_tokens is None else min(asked, model.max_output_tokens)


def fit(call: Call, model: Model, wire: Format) -> Fitted | Failure:
    """Choose the parameters of a call to send.

    Returns:
        The parameters with their warnings, or the failure (`invalid_request`, nothing was sent) of a
        model that refuses calls with parameters that it rejects.
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
    fitted.warnings = (*notes, *(f"left out: {problem}" for problem in unfit))
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
    """Fit a budget of reasoning tokens: at most half of the output limit, which also covers the text."""
    if wire.least_budget is None:
        return [f"{wire.name} takes no budget of reasoning tokens"]
    half = fitted.max_output_tokens // 2
    if half < wire.least_budget:
        # Some models reason by default, and would spend all tokens on it.
        fitted.reasoning = (model.reasoning or {}).get(Reasoning.OFF)
        return [f"reasoning, for which {model.id} needs max_output_tokens >= {2 * wire.least_budget}"]
    fitted.reasoning = min(budget, half)
    if budget > half:
        notes.append(f"reasoning takes {half} tokens, half of max_output_tokens, not {budget}")
    return []


def _fit_tier(tier: str | None, wire: Format, fitted: Fitted) -> list[str]:
    if tier is None or tier in _NOT_A_TIER:
        return []
    if tier not in wire.tiers:
        return [f"{wire.name} has no service tier {tier}"]
    fitted.tier = tier
    return []


def _fit_prefill(model: Model, fitted: Fitted) -> list[str]:
    """Leave out assistant messages at the end, which not every model continues."""
    begun = next((i for i, m in enumerate(reversed(fitted.messages)) if m.role is not Role.ASSISTANT), 0)
    if PREFILL not in model.rejects or not begun:
        return []
    fitted.messages = fitted.messages[:-begun]
    return [f"{model.id} rejects prefill (an assistant message at the end)"]


@dataclass(frozen=True, slots=True)
class SplitPrompt:
    """A prompt for a format that separates instructions from the conversation."""

    system: tuple[str, ...]
    conversation: tuple[Message, ...]
    warnings: tuple[str, ...] = ()


def split_system(messages: tuple[Message, ...]) -> SplitPrompt:
    """Take the system messages out of the conversation.

    A later one moves to the front, with a warning: its own position is not valid for every model.
    If there are only system messages, the last one becomes the user's, because a conversation needs one.
    """
    system = tuple(message.content for message in messages if message.role is Role.SYSTEM)
    conversation = tuple(message for message in messages if message.role is not Role.SYSTEM)
    if not conversation and system:
        conversation = (Message(Role.USER, system[-1]),)
        return SplitPrompt(
            system[:-1], conversation, ("the last system message is sent as the user's: there is no other",)
        )
    at_front = next((i for i, message in enumerate(messages) if message.role is not Role.SYSTEM), 0)
    moved = len(system) - at_front
    warnings = (f"{moved} later system message(s) sent before the conversation",) if moved else ()
    return SplitPrompt(system, conversation, warnings)


MOST_MARKS = 4
"""The most blocks of a request that Anthropic allows to be marked."""

_KEY = 32
"""Hex digits of the digest in a cache key: OpenAI accepts up to 64 characters."""


def cacheable(prompt: Prompt, provider: Provider, model: Model) -> Prefix | None:
    """Return the prefix that a prompt shares with others, if the provider's cache keeps one of its length."""
    prefix = prompt.prefix
    if prefix is None or not provider.prompt_cache or prefix_tokens(prefix) < model.cache_min_tokens:
        return None
    return prefix


def prefix_tokens(prefix: Prefix) -> int:
    """Estimate the tokens of a prefix."""
    return _reach(prefix)[-1]


def cache_key(prefix: Prefix) -> str:
    """Return the key that routes calls with the same beginning to one machine (`prompt_cache_key`)."""
    return prefix.digest.removeprefix("sha256:")[:_KEY]


def marks(prompt: Prompt, provider: Provider, model: Model) -> dict[int, int]:
    """Return where to mark a prompt: after how many characters of which message (from 0).

    Each message that is the same in every call has a mark at its end, and the last one where its shared
    part ends. A prefix below the model's minimum has none; of more than four marks, the last four count.
    """
    prefix = cacheable(prompt, provider, model)
    if prefix is None:
        return {}
    reached = [at for at, tokens in enumerate(_reach(prefix)) if tokens >= model.cache_min_tokens]
    return {at: len(prefix.texts[at]) for at in reached[-MOST_MARKS:]}


@lru_cache(maxsize=256)
def _reach(prefix: Prefix) -> tuple[int, ...]:
    """Estimate the tokens of the prefix up to the end of each text."""
    return tuple(accumulate(estimate_text_tokens(text) for text in prefix.texts))

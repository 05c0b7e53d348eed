"""Rules on the output limit and on what targets take: PK4xx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from promptkit.adapters import for_provider
from promptkit.adapters.schemas import not_taken
from promptkit.types import (
    Call,
    Failure,
    Message,
    Model,
    Params,
    Prompt,
    Provider,
    Reasoning,
    Role,
    Target,
    TemplateRef,
    WireRequest,
)

from .findings import Spot, World
from .subject import Subject

REASONING_TOKENS: Final[Mapping[Reasoning, int]] = {
    Reasoning.LOW: 1024,
    Reasoning.MEDIUM: 4096,
    Reasoning.HIGH: 16384,
}
"""About what a level spends before the first word of the answer."""

_LEAST_ANSWER: Final = 64
_PROMPT: Final = Prompt((Message(Role.USER, "-"),), "", TemplateRef("lint"), "")


def no_limit(subject: Subject, world: World) -> Iterator[Spot]:
    """No output limit: the route's default decides what is cut."""
    if subject.skeleton.is_partial or subject.spec.params.max_output_tokens is not None:
        return
    yield Spot(
        f"no output limit: {world.route.max_output_tokens:,} tokens, the route's default, will be sent",
        subject.file,
        subject.key_line("params", "max_output_tokens"),
        "Name what the longest good answer takes: [params] max_output_tokens = ...",
    )


def eaten_by_reasoning(subject: Subject, world: World) -> Iterator[Spot]:
    """An output limit that reasoning alone may use up."""
    params = _params(subject, world)
    if subject.skeleton.is_partial or params.max_output_tokens is None:
        return
    eaten = [
        (spent, target)
        for target, _, model in world.pairs()
        if (spent := _spent(params, model)) and params.max_output_tokens < spent + _LEAST_ANSWER
    ]
    if eaten:
        spent, target = max(eaten)
        level = params.reasoning or "no level named"
        yield Spot(
            f"max_output_tokens = {params.max_output_tokens} counts reasoning too, and {target} ({level}) may "
            f"spend {spent:,} before its first word",
            subject.file,
            subject.key_line("params", "max_output_tokens"),
            'Raise the limit (what isn\'t used costs nothing), or set reasoning = "off" where the model can.',
        )


def _spent(params: Params, model: Model) -> int:
    """What the model may think at the asked level, in tokens; 0 where it doesn't."""
    levels = model.reasoning
    if not levels or "reasoning" in model.rejects:
        return 0
    level = params.reasoning or Reasoning.LOW
    value = levels.get(level)
    if level is Reasoning.OFF:
        # Some models always think: their word for off is then that of another level.
        level = next((one for one in REASONING_TOKENS if value and levels.get(one) == value), level)
    if isinstance(value, int):
        return 0  # a budget in tokens is kept to half of the limit
    return REASONING_TOKENS.get(level, 0)


def left_out(subject: Subject, world: World) -> Iterator[Spot]:
    """Parameters that a target leaves out or changes."""
    for target, wire in _encoded(subject, world):
        if isinstance(wire, WireRequest):
            for warning in wire.warnings:
                yield Spot(
                    f"{target}: {warning}",
                    subject.file,
                    subject.key_line("params", _named(warning)),
                    "Leave it out, or choose a route whose models take it.",
                )


def schema_not_taken(subject: Subject, world: World) -> Iterator[Spot]:
    """An output schema with words that a target's structured output doesn't know."""
    schema = subject.spec.output
    if schema is None or subject.skeleton.is_partial:
        return
    for target, provider, _ in world.pairs():
        for what in not_taken(schema, provider.adapter):
            yield Spot(
                f"{target}: {what}",
                subject.file,
                subject.key_line("output", ""),
                "Say it more simply in [output], or take the target off the route.",
            )


def refused(subject: Subject, world: World) -> Iterator[Spot]:
    """Parameters or a schema that a target doesn't take at all: no call to it can be made."""
    for target, wire in _encoded(subject, world):
        if isinstance(wire, Failure):
            yield Spot(
                f"{target} takes no such call: {wire.detail}",
                subject.file,
                subject.key_line("output", "") if subject.spec.output else subject.key_line("params", ""),
                "Change the parameter or the schema, or take the target off the route.",
            )


def _params(subject: Subject, world: World) -> Params:
    params = subject.spec.params
    if params.max_output_tokens is None:
        return replace(params, max_output_tokens=world.route.max_output_tokens)
    return params


def _encoded(subject: Subject, world: World) -> Iterator[tuple[Target, WireRequest | Failure]]:
    if subject.skeleton.is_partial:
        return
    call = Call(_PROMPT, _params(subject, world), subject.spec.output)
    for target, provider, model in world.pairs():
        yield target, _encode(call, provider, model)


def _encode(call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
    return for_provider(provider).encode(call, provider, model)


def _named(warning: str) -> str:
    """The parameter that a warning is about."""
    return next((name for name in Params.__slots__ if name in warning), "")

"""What the model answers: a pure function of the request, the seed and the fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from . import text as words_of
from .models import Family, SimModel
from .rates import Tokens
from .scenario import FaultRule
from .words import Asked, End, Refused

_SORRY: Final = "I'm sorry, but I can't help with that request."
_ITEMS: Final = "reply.items_"
_MYSTERY: Final = "mystery-model-9"


@dataclass(frozen=True, slots=True)
class Draft:
    """A reply before it has an id: `tokens` is what is billed, `told` whether the reply says so."""

    text: str
    end: End
    tokens: Tokens
    served: str
    stop: str | None = None
    told: bool = True


def draft(
    asked: Asked,
    model: SimModel,
    family: Family,
    tokens: Tokens,
    drawn: bytes,
    rule: FaultRule | None,
) -> Draft:
    """The reply. `tokens` has the input; `drawn` are 32 bytes of the seed and prompt.

    Raises:
        Refused: the prompt is blocked, by a provider that answers so with an error.
    """
    rng = Random(int.from_bytes(drawn[:8]))  # noqa: S311  a simulation, no secret
    limit = min(asked.max_tokens or model.max_output_tokens, model.max_output_tokens)
    thinking = min(limit, max(1, int(asked.thinking * (0.5 + rng.random())))) if asked.thinking else 0
    wanted = _wanted(rng, asked, rule)
    wanted, stop = words_of.stop_at(wanted, asked.stops)
    text, cut_off = words_of.cut(wanted, limit - thinking)
    output = limit if cut_off else min(limit, thinking + words_of.count_tokens(text))
    end = End.LENGTH if cut_off else End.STOP_SEQUENCE if stop else End.STOP
    spent = replace(tokens, output=output, reasoning=thinking)
    plain = Draft(text, end, spent, model.served, None if cut_off else stop)
    change = None if rule is None else _CHANGES.get(rule.fault)
    return change(plain, limit, family) if change else plain


def _wanted(rng: Random, asked: Asked, rule: FaultRule | None) -> str:
    fault = None if rule is None else rule.fault
    if rule is not None and fault == "reply.says":
        return rule.message or ""
    if asked.schema is None or fault == "reply.not_json":
        return words_of.prose(rng, asked.topic)
    if fault == "reply.wrong_json":
        return '{"unasked": [null]}' if asked.schema.get("type") == "object" else "{}"
    said = words_of.fitting_json(rng, asked.topic, asked.schema)
    if fault is not None and fault.startswith(_ITEMS) and words_of.answers_by_id(asked.schema):
        return words_of.spoiled(said, fault.removeprefix(_ITEMS))
    return said


def _said(plain: Draft, text: str, end: End) -> Draft:
    output = plain.tokens.reasoning + words_of.count_tokens(text)
    return replace(plain, text=text, end=end, stop=None, tokens=replace(plain.tokens, output=output))


def _refusal(plain: Draft, limit: int, family: Family) -> Draft:
    text = "" if family is Family.GEMINI else words_of.cut(_SORRY, limit - plain.tokens.reasoning)[0]
    return _said(plain, text, End.REFUSAL)


def _filtered(plain: Draft, limit: int, family: Family) -> Draft:  # noqa: ARG001  one signature for all changes
    return _said(plain, plain.text[: len(plain.text) // 2], End.FILTER)


def _blocked(plain: Draft, limit: int, family: Family) -> Draft:  # noqa: ARG001  one signature for all changes
    match family:
        case Family.OPENAI:
            raise Refused("openai.content_policy")
        case Family.ANTHROPIC:
            raise Refused("anthropic.bad_request", "Output blocked by content filtering policy")
        case Family.GEMINI:
            return replace(
                plain, text="", end=End.BLOCKED, tokens=replace(plain.tokens, output=0, reasoning=0)
            )


def _truncated(plain: Draft, limit: int, family: Family) -> Draft:  # noqa: ARG001  one signature for all changes
    return _said(plain, plain.text[: max(1, len(plain.text) // 2)], End.LENGTH)


def _empty(plain: Draft, limit: int, family: Family) -> Draft:  # noqa: ARG001  one signature for all changes
    tokens = replace(plain.tokens, output=limit, reasoning=limit)
    return replace(plain, text="", end=End.LENGTH, stop=None, tokens=tokens)


_CHANGES: Final[dict[str, Callable[[Draft, int, Family], Draft]]] = {
    "reply.refusal": _refusal,
    "reply.content_filter": _filtered,
    "reply.blocked_prompt": _blocked,
    "reply.truncated": _truncated,
    "reply.empty": _empty,
    "reply.unknown_model": lambda plain, _limit, _family: replace(plain, served=_MYSTERY),
    "reply.no_usage": lambda plain, _limit, _family: replace(plain, told=False),
}

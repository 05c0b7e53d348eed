"""A call that carries the rows of a pack: how their own calls begin, and what becomes of each. Pure.

The carrier's attempts are the only ones, and the money stands there. Each row has a call of its own
that names the carrier and has a share in it: by its prompt at first, and by its prompt and its reply
when that is known. So each row's cost is known, and all of them add up to what was paid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from promptkit.batch.pack import item_ids, unpack
from promptkit.batch.shares import Share, shares
from promptkit.config import Keep, Kept
from promptkit.ledger import CallEnd, CallStart, MemberEnd, RowEnd
from promptkit.routing.flow import Answered, GaveUp, Verdict
from promptkit.types import Attempt, Completion, Cost, Failure, Fault, Finish, Json, Prompt, Usage

from .entries import Making, call_end, call_start
from .verdicts import row_stays, status_of

_OUTPUT_WEIGHS: Final = 5
"""What a byte of a reply weighs against one of a prompt: about what models charge."""

_OF_AN_ITEM: Final = frozenset(
    {Fault.CONTENT, Fault.CONTEXT_LENGTH, Fault.INVALID_REQUEST, Fault.BROKEN_REPLY, Fault.INVALID_OUTPUT}
)
"""Faults that one item may have brought upon all, or the pack itself."""
_OURS: Final = frozenset({Fault.BUDGET, Fault.UNPRICED})


def member_starts(making: Making, kept: Kept) -> tuple[CallStart, ...]:
    """The calls of a pack's rows as they begin, together with their carrier."""
    parts = shares(_weights(making.members, [""] * len(making.members)))
    return tuple(
        replace(call_start(member, kept), pack_id=making.work.id, share=part, cache_key=None)
        for member, part in zip(making.members, parts, strict=True)
    )


def pack_ends(
    making: Making, verdict: Verdict, kept: Kept, ended_us: int, *, stopped: bool = False
) -> tuple[CallEnd, tuple[MemberEnd, ...]]:
    """The carrier and its members as they end; what became of each stands in its `Making` from then on.

    Args:
        making: the carrier.
        verdict: how its flow ended.
        kept: what the settings keep of all of them.
        ended_us: when.
        stopped: whether their caller went away.
    """
    if isinstance(verdict, Answered):
        trouble, text = _take_apart(making, verdict)
    else:
        trouble, text = verdict.why, ""
        _give_up(making, verdict, stopped=stopped)
    end = CallEnd(
        id=making.work.id,
        status=status_of(verdict),
        ended_us=ended_us,
        error=trouble or None,
        text=text or None if kept.replies is Keep.FULL else None,
        text_sha256=_sha256(verdict) if kept.replies is not Keep.NONE else None,
        finish=verdict.completion.finish if isinstance(verdict, Answered) else None,
    )
    if not making.begun:  # nothing was sent, so its members never began
        return end, ()
    return end, tuple(_end(member, kept, ended_us, stopped=stopped) for member in making.members)


def _end(member: Making, kept: Kept, ended_us: int, *, stopped: bool) -> tuple[CallEnd, RowEnd | None]:
    assert member.verdict is not None  # noqa: S101 - it was just given
    end, row = call_end(member, member.verdict, kept, ended_us, stopped=stopped)
    return replace(end, share=member.share), None if member.ask_again else row


def _sha256(verdict: Verdict) -> str | None:
    if isinstance(verdict, GaveUp):
        return None
    return hashlib.sha256(verdict.completion.text.encode("utf-8", "surrogatepass")).hexdigest()


def _give_up(making: Making, verdict: GaveUp, *, stopped: bool) -> None:
    """No reply came: it is a member's own failure as well, or it is asked for again without the others."""
    parts = shares(_weights(making.members, [""] * len(making.members)))
    for member, part in zip(making.members, parts, strict=True):
        again = not stopped and _asks_again(making, verdict, member)
        _settle(making, member, part, GaveUp(None, verdict.why) if again else verdict, again=again)
        member.refused_by = making.refused_by


def _asks_again(making: Making, verdict: GaveUp, member: Making) -> bool:
    fault = None if verdict.failure is None else verdict.failure.fault
    if fault in _OURS or (fault is Fault.UNKNOWN_OUTCOME and not member.work.plan.resend_unknown):
        return False
    if member.work.plan.last_resort is not None:  # which never sees a pack
        return True
    return fault in _OF_AN_ITEM or not (making.begun or row_stays(verdict, making.attempts, making.work.plan))


def _take_apart(making: Making, verdict: Answered) -> tuple[str, str]:
    """Give each member its own reply; returns what is wrong, and the text where nothing of it could be used."""
    reply = verdict.completion
    ids = item_ids(len(making.members))
    found = unpack(reply.text, ids)
    texts = [_text(found.results.get(name), plain=making.members[0].work.call.schema is None) for name in ids]
    parts = shares(_weights(making.members, texts))
    for member, part, text in zip(making.members, parts, texts, strict=True):
        heard: Completion | Failure | None = None
        if text:
            usage = None if reply.usage is None else usage_part(reply.usage, part)
            heard = member.hearing.hear(
                verdict.target, replace(reply, text=text, usage=usage, finish=Finish.STOP)
            )
        if isinstance(heard, Completion):
            _settle(making, member, part, Answered(heard, verdict.target, verdict.degraded), again=False)
        else:
            why = heard.detail if heard is not None else _lost(reply)
            _settle(making, member, part, GaveUp(None, why), again=True)
    return found.trouble, "" if found.results else reply.text


def _lost(reply: Completion) -> str:
    cut = "; the reply was cut at its length limit" if reply.finish is Finish.LENGTH else ""
    return f"the reply to its pack holds no result for it{cut}"


def _text(result: Json, *, plain: bool) -> str:
    """An item's reply as text; empty where it has none."""
    if not plain:
        return "" if result is None else json.dumps(result, ensure_ascii=False)
    return result if isinstance(result, str) and result.strip() else ""


def _settle(making: Making, member: Making, part: Share, verdict: Verdict, *, again: bool) -> None:
    member.verdict, member.share, member.ask_again = verdict, part, again
    member.attempts = [attempt_part(attempt, part) for attempt in making.attempts]


# ------------------------------------------------------------------------------------ parts


def _weights(members: Sequence[Making], texts: Sequence[str]) -> list[int]:
    """What each member weighs: its prompt, an equal part of what is shared, and its reply."""
    shared = sum(_size(message.content) for message in members[0].work.call.prompt.messages[:-1])
    return [
        1 + shared // len(members) + _size(_own(member.work.call.prompt)) + _OUTPUT_WEIGHS * _size(text)
        for member, text in zip(members, texts, strict=True)
    ]


def _own(prompt: Prompt) -> str:
    return prompt.messages[-1].content


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def usage_part(usage: Usage, part: Share) -> Usage:
    """A part of the tokens."""
    return Usage(
        part.of(usage.input_tokens),
        part.of(usage.output_tokens),
        part.of(usage.cache_read_tokens),
        part.of(usage.cache_write_tokens),
        part.of(usage.cache_write_1h_tokens),
        part.of(usage.reasoning_tokens),
    )


def attempt_part(attempt: Attempt, part: Share) -> Attempt:
    """A part of an attempt: of its tokens, its cost and its charge."""
    return replace(
        attempt,
        usage=None if attempt.usage is None else usage_part(attempt.usage, part),
        cost=None if attempt.cost is None else _cost_part(attempt.cost, part),
        charged_pico=part.of(attempt.charged_pico),
    )


def _cost_part(cost: Cost, part: Share) -> Cost:
    return replace(cost, pico=part.of(cost.pico), cache_saved_pico=part.of(cost.cache_saved_pico))

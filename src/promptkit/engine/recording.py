"""Recording: what the ledger keeps of a call, before a request leaves and after each attempt.

A call that carries a pack has members: the calls of the rows in it. They begin and end in the same
commits as their carrier, each with its share of usage and cost.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from promptkit._util.shares import Share, shares
from promptkit._util.text import sha256_text
from promptkit.config.settings import Keep, Kept, Storage
from promptkit.errors import LedgerError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import (
    Admitted,
    AttemptStart,
    CallEnd,
    CallStart,
    MemberEnd,
    Refused,
    RowEnd,
    SoftPassed,
)
from promptkit.routing.budgets import scope_words
from promptkit.routing.flow import GaveUp, Replied, RouteResult
from promptkit.routing.reply_cache import key_of
from promptkit.types import Attempt, Completion, Failure, Fault, Finish, Json, Target, dollars
from promptkit.types.ids import show_id

from .attempts import STOPPED, EndedAttempt, us_of
from .calls import FOR_ANY_ROW, CallRequest, row_stays, status_of, text_of
from .pack import item_ids, unpack
from .validate import CallValidator

_CAP_POLL_S = 0.25
"""How often a call that waits for room under a cap looks for room that another process has freed."""

_CANCELLED = GaveUp(None, STOPPED)


@dataclass(slots=True)
class ActiveCall:
    """A call in progress."""

    request: CallRequest
    started_s: float
    validator: CallValidator
    kept: Kept
    """What the settings keep of it."""
    begun: bool = False
    """Its start is in the ledger."""
    ended: bool = False
    """Its end is, too."""
    refused_by: str | None = None
    """The scope that had no room for it."""
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    members: tuple[ActiveCall, ...] = ()
    """Of a call that carries a pack: the calls of its rows. The fields below are theirs."""
    result: RouteResult | None = None
    """How it ended, once the pack has."""
    share: Share | None = None
    resend: bool = False
    """The pack brought it no reply: it is sent again with fewer others, or alone."""

    @classmethod
    def begin(cls, request: CallRequest, started_s: float, storage: Storage) -> ActiveCall:
        """Begin a call; messages quote its replies only where those are kept in full."""
        kept = storage.of(request.tags)
        validator = CallValidator(request.call, request.rules, kept.replies is Keep.FULL)
        members = tuple(cls.begin(member, started_s, storage) for member in request.members)
        return cls(request, started_s, validator, kept, members=members)


class Recorder:
    """Writes the calls of a process to the ledger, and warns about their cost.

    Args:
        ledger: where it is written.
        clock: seconds since the epoch.
        log: gets the warnings.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float], log: logging.Logger) -> None:
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self.soft: dict[str, SoftPassed] = {}
        """The scopes that reached their soft cap, with what was spent at the last check."""

    async def reserve(self, call: ActiveCall, start: AttemptStart) -> Failure | None:
        """Commit the attempt and reserve its max cost, waiting for room that other attempts may free."""
        begin = not call.begun
        call_record = call_start(call) if begin else None
        members = member_starts(call) if begin and call.members else ()
        while True:
            admission = await self._ledger.calls.begin(start, call.request.scopes, call_record, members)
            if isinstance(admission, Admitted):
                call.begun = True
                return None
            if not admission.may_free:
                call.refused_by = admission.scope_key
                return Failure(Fault.BUDGET, refusal_text(admission, start.max_cost_pico or 0))
            await self._ledger.calls.wait_for_release(_CAP_POLL_S, admission.releases)

    async def close(
        self, call: ActiveCall, ended: EndedAttempt, result: RouteResult | None, *, cancelled: bool = False
    ) -> None:
        """Close an attempt; with the last one, close its call and its row in the same commit."""
        call.attempts.append(ended.attempt)
        end, row, members = None, None, tuple[MemberEnd, ...]()
        if result is not None:
            call.ended = True
            end, row, members = self._ends(call, result, cancelled=cancelled)
        closed = await self._ledger.calls.finish(ended.record, end, row, members)
        if closed.overrun:
            self._log.warning(overrun_text(ended.attempt, closed.overrun))
        for passed in closed.soft:
            self.soft[passed.scope_key] = passed
            self._log.warning(soft_text(passed), extra={"once": ("soft", passed.scope_key)})

    async def end_unsent(self, call: ActiveCall, result: RouteResult) -> None:
        """End a call whose last step sent nothing."""
        end, row, members = self._ends(call, result)
        start = None if call.begun else call_start(call)
        await self._ledger.calls.end(end, row, start, members)

    async def cancel(self, call: ActiveCall) -> None:
        """End a call that was cancelled between two attempts; its row stays pending."""
        if call.ended:
            return
        end, _, members = self._ends(call, _CANCELLED)
        with suppress(LedgerError):  # a ledger that was closed has settled its open calls
            await asyncio.shield(self._ledger.calls.end(end, members=members))

    def _ends(
        self, call: ActiveCall, result: RouteResult, *, cancelled: bool = False
    ) -> tuple[CallEnd, RowEnd | None, tuple[MemberEnd, ...]]:
        ended_us = us_of(self._clock())
        if not call.members:
            return *call_end(call, result, ended_us, cancelled=cancelled), ()
        end, members = pack_ends(call, result, ended_us, cancelled=cancelled)
        return end, None, members


def call_start(call: ActiveCall) -> CallStart:
    """Return the record of a call as it begins, without variables that the settings don't keep."""
    request = call.request
    prompt = request.call.prompt
    return CallStart(
        id=request.id,
        template_digest=prompt.template_digest,
        template_ref=str(prompt.ref),
        prompt_digest=prompt.digest,
        variables=request.variables if call.kept.variables is Keep.FULL and not request.members else None,
        tags=request.tags,
        parent_id=request.parent_id,
        deliverable=request.deliverable,
        job_id=request.job_id,
        row_id=request.row_id,
        route=request.route,
        pack_items=len(request.members) or None,
        cache_key=None if request.cache_s is None else key_of(request.call),
        started_us=us_of(call.started_s),
    )


def call_end(
    call: ActiveCall, result: RouteResult, ended_us: int, *, cancelled: bool = False
) -> tuple[CallEnd, RowEnd | None]:
    """Return the records of a call as it ends, and of its row, unless that stays pending.

    Args:
        call: the call.
        result: how its flow ended.
        ended_us: when it ended.
        cancelled: whether its caller was cancelled: the row stays pending then, if it may be resent.
    """
    request, status = call.request, status_of(result)
    gave_up = isinstance(result, GaveUp)
    text = text_of(result)
    if gave_up and not text:
        text = call.validator.rejected or ""  # it was paid
    has_text = not gave_up or bool(text)
    # A job's output is written from the ledger: until then it keeps the texts of its rows.
    keeps_text = has_text and (call.kept.replies is Keep.FULL or (request.row_id is not None and not gave_up))
    keeps_hash = has_text and call.kept.replies is not Keep.NONE
    end = CallEnd(
        id=request.id,
        status=status,
        ended_us=ended_us,
        error=result.why if gave_up else None,
        text=text if keeps_text else None,
        text_sha256=sha256_text(text) if keeps_hash else None,
        finish=None if gave_up else result.completion.finish,
        flags=() if gave_up else call.validator.flags,
    )
    pending = request.plan.resend_unknown if cancelled else row_stays(result, call.attempts, request.plan)
    if request.row_id is None or pending:
        return end, None
    return end, RowEnd(request.row_id, status, ended_us, request.id, end.error)


# The calls of the rows in a pack.

_REPLY_WEIGHT = 5
"""The weight of a byte of a reply, where a byte of a prompt weighs 1: about what models charge."""

_FAULTS_OF_AN_ITEM = frozenset(
    {Fault.CONTENT, Fault.CONTEXT_LENGTH, Fault.INVALID_REQUEST, Fault.BROKEN_REPLY, Fault.INVALID_OUTPUT}
)
"""Faults that one item, or the pack itself, may have caused for all."""

_NOTHING_SENT = frozenset({Fault.BUDGET, Fault.UNPRICED})


def member_starts(carrier: ActiveCall) -> tuple[CallStart, ...]:
    """Return the records of a pack's calls as they begin, together with their carrier."""
    parts = _shares(carrier.members)
    return tuple(
        replace(call_start(member), pack_id=carrier.request.id, share=part, cache_key=None)
        for member, part in zip(carrier.members, parts, strict=True)
    )


def pack_ends(
    carrier: ActiveCall, result: RouteResult, ended_us: int, *, cancelled: bool = False
) -> tuple[CallEnd, tuple[MemberEnd, ...]]:
    """Return the records of the carrier and its members as they end, and set each member's result.

    Args:
        carrier: the call that carries the pack.
        result: how its flow ended.
        ended_us: when it ended.
        cancelled: whether its caller was cancelled.
    """
    if isinstance(result, Replied):
        error, text = _distribute_reply(carrier, result)
    else:
        error, text = result.why, ""
        _distribute_failure(carrier, result, cancelled=cancelled)
    kept = carrier.kept.replies
    replied = result if isinstance(result, Replied) else None
    end = CallEnd(
        id=carrier.request.id,
        status=status_of(result),
        ended_us=ended_us,
        error=error or None,
        text=text or None if kept is Keep.FULL else None,
        text_sha256=sha256_text(replied.completion.text) if replied and kept is not Keep.NONE else None,
        finish=replied.completion.finish if replied else None,
    )
    if not carrier.begun:  # nothing was sent, so its members never began
        return end, ()
    return end, tuple(_member_end(member, ended_us, cancelled=cancelled) for member in carrier.members)


def _distribute_reply(carrier: ActiveCall, result: Replied) -> tuple[str, str]:
    """Give each member its own reply.

    Returns:
        What is wrong with the reply, and its text where no part of it could be used.
    """
    reply = result.completion
    ids = item_ids(len(carrier.members))
    unpacked = unpack(reply.text, ids)
    plain = carrier.members[0].request.call.schema is None
    texts = [_item_text(unpacked.results.get(name), plain=plain) for name in ids]
    for member, part, text in zip(carrier.members, _shares(carrier.members, texts), texts, strict=True):
        outcome: Completion | Failure | None = None
        if text:
            usage = None if reply.usage is None else reply.usage.part(part)
            item = replace(reply, text=text, usage=usage, finish=Finish.STOP)
            outcome = member.validator.validate(result.target, item)
        if isinstance(outcome, Completion):
            _end_member(carrier, member, part, Replied(outcome, result.target, result.degraded))
        else:
            why = _no_result_text(reply) if outcome is None else outcome.detail
            _end_member(carrier, member, part, GaveUp(None, why), resend=True)
    return unpacked.problems, "" if unpacked.results else reply.text


def _item_text(result: Json, *, plain: bool) -> str:
    """Return an item's reply as text; empty where it has none."""
    if not plain:
        return "" if result is None else json.dumps(result, ensure_ascii=False)
    return result if isinstance(result, str) and result.strip() else ""


def _no_result_text(reply: Completion) -> str:
    cut = "; the reply was cut at its length limit" if reply.finish is Finish.LENGTH else ""
    return f"the reply to its pack has no result for it{cut}"


def _distribute_failure(carrier: ActiveCall, result: GaveUp, *, cancelled: bool) -> None:
    """Give each member the failure, or have it sent again without the others."""
    for member, part in zip(carrier.members, _shares(carrier.members), strict=True):
        resend = not cancelled and _resends(carrier, result, member)
        _end_member(carrier, member, part, GaveUp(None, result.why) if resend else result, resend=resend)
        member.refused_by = carrier.refused_by


def _resends(carrier: ActiveCall, result: GaveUp, member: ActiveCall) -> bool:
    fault = None if result.failure is None else result.failure.fault
    if fault in _NOTHING_SENT:
        return False
    if fault is Fault.UNKNOWN_OUTCOME and not member.request.plan.resend_unknown:
        return False
    if member.request.plan.last_resort is not None:  # which never gets a pack
        return True
    stays = row_stays(result, carrier.attempts, carrier.request.plan)
    return fault in _FAULTS_OF_AN_ITEM or not (carrier.begun or stays)


def _end_member(
    carrier: ActiveCall, member: ActiveCall, part: Share, result: RouteResult, *, resend: bool = False
) -> None:
    member.result, member.share, member.resend = result, part, resend
    member.attempts = [attempt.part(part) for attempt in carrier.attempts]


def _member_end(member: ActiveCall, ended_us: int, *, cancelled: bool) -> MemberEnd:
    assert member.result is not None  # noqa: S101 - set by `_end_member`
    end, row = call_end(member, member.result, ended_us, cancelled=cancelled)
    return replace(end, share=member.share), None if member.resend else row


def _shares(members: Sequence[ActiveCall], texts: Sequence[str] = ()) -> tuple[Share, ...]:
    """Return each member's share: by its prompt, an equal part of the shared messages, and its reply."""
    shared = sum(_size(message.content) for message in members[0].request.call.prompt.messages[:-1])
    own = [member.request.call.prompt.messages[-1].content for member in members]
    replies = texts or [""] * len(members)
    return shares(
        [
            1 + shared // len(members) + _size(prompt) + _REPLY_WEIGHT * _size(reply)
            for prompt, reply in zip(own, replies, strict=True)
        ]
    )


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


# Warnings and reasons.


def warn_of_failure(log: logging.Logger, target: Target, failure: Failure) -> None:
    """Warn, once per target, about a failure that the user may want to act on."""
    if failure.fault in FOR_ANY_ROW:
        log.warning(
            f"{target} is skipped ({failure.fault}): {failure.detail}",  # noqa: G004 - a filter needs the text
            extra={"once": (target, failure.fault)},
        )
    elif failure.fault is Fault.UNKNOWN_OUTCOME:
        log.warning(unknown_text(target, failure), extra={"once": (target, failure.fault, failure.shown)})


def refusal_text(refused: Refused, max_cost_pico: int) -> str:
    """Say why a cap refused a call."""
    scope = scope_words(refused.scope_key)
    if refused.stopped:
        return (
            f"{scope} is stopped: a charge exceeded its max cost under the cap of {dollars(refused.cap_pico)}"
        )
    return (
        f"{scope} has no room left under its cap of {dollars(refused.cap_pico)}: {dollars(refused.spent_pico)} "
        f"are spent, and a call can cost up to {dollars(max_cost_pico)}"
    )


def soft_text(passed: SoftPassed) -> str:
    """Say that a soft cap is reached."""
    return (
        f"soft cap passed: {scope_words(passed.scope_key)} has spent {dollars(passed.spent_pico)}, "
        f"with a soft cap of {dollars(passed.soft_pico)}; nothing is stopped"
    )


def unknown_text(target: Target, failure: Failure) -> str:
    """Say that the cost of an attempt is unknown."""
    if failure.shown:
        return (
            f"{target} was {failure.detail}: the text so far is kept, and will be billed. "
            "The attempt is charged at its max cost"
        )
    return (
        f"{target} did not answer a request ({failure.detail}), which may have been billed. "
        "The attempt is charged at its max cost"
    )


def overrun_text(attempt: Attempt, scopes: Sequence[str]) -> str:
    """Say that a charge exceeded the max cost that was reserved for it."""
    return (
        f"{attempt.target} billed more than the max cost of attempt {show_id(attempt.id)}: "
        f"nothing more starts under {', '.join(scopes)} until the cap is raised"
    )

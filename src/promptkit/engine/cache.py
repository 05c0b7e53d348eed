"""A call that an earlier one's reply serves: nothing is sent, and the books say so."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from promptkit.config.settings import Keep, Kept
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import CallEnd, CallStart, RowEnd
from promptkit.routing.flow import Answered
from promptkit.routing.reply_cache import CachedReply, choose, key_of
from promptkit.types import Completion, Finish, Status

from .attempts import ActiveCall, call_start
from .calls import CallRequest, CallResult
from .judge import judge


def served_by(ledger: Ledger, work: CallRequest, now_s: float) -> CachedReply | None:
    """The reply that serves a call; None where the cache is off, or holds none that does."""
    if not work.cache_s:
        return None
    since_us = int((now_s - work.cache_s) * 1_000_000)
    found = ledger.calls.cached_replies(key_of(work.call), work.call.prompt.digest, since_us)
    return choose(found, (planned.target for planned in work.plan.targets)) if found else None


def take(making: ActiveCall, reply: CachedReply) -> CallResult | None:
    """What becomes of the call; None where the reply doesn't keep to what this call is held against."""
    work = making.work
    completion = Completion(reply.text, Finish.STOP, None, reply.served_model)
    judged = None if work.judge is None else judge(completion, work.judge)
    if judged is not None and (judged.fault is not None or judged.problems):
        return None
    return CallResult(
        id=work.id,
        status=Status.OK,
        text=reply.text,
        answered=Answered(completion, reply.target),
        failure=None,
        why="",
        retry_at_s=None,
        attempts=(),
        latency_s=0.0,
        parsed=None if judged is None else judged.value,
        cached_from=reply.call_id,
        saved_pico=reply.cost_pico,
    )


def entries(
    making: ActiveCall, made: CallResult, kept: Kept, ended_us: int
) -> tuple[CallStart, CallEnd, RowEnd | None]:
    """What the books say of it: a call with no attempt, that names the one it comes from."""
    work = making.work
    start = replace(
        call_start(making, kept), cache_key=None, cached_from_id=made.cached_from, saved_pico=made.saved_pico
    )
    # As for any other: a job's output is written from the ledger.
    keeps_text = kept.replies is Keep.FULL or work.row_id is not None
    end = CallEnd(
        id=work.id,
        status=made.status,
        ended_us=ended_us,
        text=made.text if keeps_text else None,
        text_sha256=None
        if kept.replies is Keep.NONE
        else hashlib.sha256(made.text.encode("utf-8", "surrogatepass")).hexdigest(),
        finish=Finish.STOP,
    )
    row = None if work.row_id is None else RowEnd(work.row_id, made.status, ended_us, work.id)
    return start, end, row

"""Reply cache: a call that gets an earlier call's reply. Nothing is sent, and the ledger names that call."""

from __future__ import annotations

from dataclasses import replace

from promptkit._util.text import sha256_text
from promptkit.config.settings import Keep
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import CallEnd, CallStart, RowEnd
from promptkit.routing.flow import Replied
from promptkit.routing.reply_cache import CachedReply, choose, key_of
from promptkit.types import Completion, Finish, Status

from .attempts import us_of
from .calls import CallRequest, CallResult
from .recording import ActiveCall, call_start
from .validate import validate_reply


def cached_result(ledger: Ledger, call: ActiveCall) -> CallResult | None:
    """Return the result of a call from the cache; None where it has no reply that fits the call's rules."""
    request = call.request
    reply = _lookup(ledger, request, call.started_s)
    if reply is None:
        return None
    completion = Completion(reply.text, Finish.STOP, None, reply.served_model)
    validation = None if request.rules is None else validate_reply(completion, request.rules)
    if validation is not None and validation.problems:
        return None
    return CallResult(
        id=request.id,
        status=Status.OK,
        text=reply.text,
        replied=Replied(completion, reply.target),
        failure=None,
        why="",
        retry_at_s=None,
        attempts=(),
        latency_s=0.0,
        parsed=None if validation is None else validation.value,
        cached_from=reply.call_id,
        saved_pico=reply.cost_pico,
    )


def _lookup(ledger: Ledger, request: CallRequest, now_s: float) -> CachedReply | None:
    if not request.cache_s:
        return None
    since_us = us_of(now_s - request.cache_s)
    replies = ledger.calls.cached_replies(key_of(request.call), request.call.prompt.digest, since_us)
    return choose(replies, (planned.target for planned in request.plan.targets)) if replies else None


def cache_hit(
    call: ActiveCall, result: CallResult, ended_us: int
) -> tuple[CallStart, CallEnd, RowEnd | None]:
    """Return the records of a cache hit: a call without attempts that names the original call."""
    request, kept = call.request, call.kept
    start = replace(
        call_start(call), cache_key=None, cached_from_id=result.cached_from, saved_pico=result.saved_pico
    )
    # A job's output is written from the ledger: until then it keeps the texts of its rows.
    keeps_text = kept.replies is Keep.FULL or request.row_id is not None
    end = CallEnd(
        id=request.id,
        status=result.status,
        ended_us=ended_us,
        text=result.text if keeps_text else None,
        text_sha256=None if kept.replies is Keep.NONE else sha256_text(result.text),
        finish=Finish.STOP,
    )
    row = None if request.row_id is None else RowEnd(request.row_id, result.status, ended_us, request.id)
    return start, end, row

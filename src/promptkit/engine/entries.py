"""What the books say of a call: how it begins and how it ends. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from promptkit.batch.shares import Share
from promptkit.config import Keep, Kept, Storage
from promptkit.ledger import CallEnd, CallStart, RowEnd
from promptkit.routing.flow import GaveUp, Verdict
from promptkit.routing.reply_cache import key_of
from promptkit.types import Attempt

from .judging import Hearing
from .verdicts import row_stays, status_of, text_of
from .words import Work


@dataclass(slots=True)
class Making:
    """A call under way."""

    work: Work
    started_s: float
    hearing: Hearing
    kept: Kept
    """What the settings keep of it."""
    begun: bool = False
    """The call stands in the ledger."""
    closed: bool = False
    """Its end does, too."""
    refused_by: str | None = None
    """The scope that had no room for it."""
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    members: tuple[Making, ...] = ()
    """Of a call that carries a pack: the calls of its rows. What stands below is theirs."""
    verdict: Verdict | None = None
    """How it ended, once the pack has."""
    share: Share | None = None
    ask_again: bool = False
    """The pack brought it no reply, and it is to be asked for again with fewer others, or alone."""

    @classmethod
    def of(cls, work: Work, started_s: float, storage: Storage) -> Making:
        """A call that begins; where replies aren't kept in full, the books say no word of one."""
        kept = storage.of(work.tags)
        hearing = Hearing(work.call, work.judge, kept.replies is Keep.FULL)
        members = tuple(cls.of(member, started_s, storage) for member in work.members)
        return cls(work, started_s, hearing, kept, members=members)


def us_of(seconds: float) -> int:
    """Seconds as the books have them: whole microseconds."""
    return int(seconds * 1_000_000)


def call_start(making: Making, kept: Kept) -> CallStart:
    """The call as it begins; variables that the settings keep out are left out."""
    work = making.work
    prompt = work.call.prompt
    return CallStart(
        id=work.id,
        template_digest=prompt.template_digest,
        template_ref=str(prompt.ref),
        prompt_digest=prompt.digest,
        variables=work.variables if kept.variables is Keep.FULL and not work.members else None,
        tags=work.tags,
        parent_id=work.parent_id,
        deliverable=work.deliverable,
        job_id=work.job_id,
        row_id=work.row_id,
        route=work.route,
        pack_items=len(work.members) or None,
        cache_key=None if work.cache_s is None else key_of(work.call),
        started_us=us_of(making.started_s),
    )


def call_end(
    making: Making, verdict: Verdict, kept: Kept, ended_us: int, *, stopped: bool = False
) -> tuple[CallEnd, RowEnd | None]:
    """The call as it ends, and its row, unless that still waits.

    Args:
        making: the call.
        verdict: how its flow ended.
        kept: what the settings keep of it.
        ended_us: when.
        stopped: whether its caller went away: the row waits then, if it may be sent again.
    """
    work, status = making.work, status_of(verdict)
    gave_up = isinstance(verdict, GaveUp)
    text = text_of(verdict)
    if gave_up and not text:
        text = making.hearing.rejected or ""  # it was paid
    came = not gave_up or bool(text)
    # A job's output is written from the ledger: until then it keeps the texts of its rows.
    keeps_text = came and (kept.replies is Keep.FULL or (work.row_id is not None and not gave_up))
    keeps_digest = came and kept.replies is not Keep.NONE
    end = CallEnd(
        id=work.id,
        status=status,
        ended_us=ended_us,
        error=verdict.why if gave_up else None,
        text=text if keeps_text else None,
        text_sha256=hashlib.sha256(text.encode()).hexdigest() if keeps_digest else None,
        finish=None if gave_up else verdict.completion.finish,
        flags=() if gave_up else making.hearing.flags,
    )
    waits = work.plan.resend_unknown if stopped else row_stays(verdict, making.attempts, work.plan)
    if work.row_id is None or waits:
        return end, None
    return end, RowEnd(work.row_id, status, ended_us, work.id, end.error)

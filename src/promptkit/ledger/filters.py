"""A filter of the log as SQL conditions."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, or_, select

from . import tables as t
from .answers import LogFilter


def carrier() -> ColumnElement[int]:
    """The call whose attempts a call's are: its own, or that of the pack that it went in."""
    return func.coalesce(t.CALLS.c.pack_id, t.CALLS.c.id)


def conditions(where: LogFilter) -> list[ColumnElement[bool]]:
    """What a call must fulfil; all of it."""
    call, found = t.CALLS.c, list[ColumnElement[bool]]()
    if where.text is not None:
        like = {"autoescape": True}
        replies = select(t.REPLIES.c.call_id).where(t.REPLIES.c.text.icontains(where.text, **like))
        found.append(
            or_(
                call.variables.icontains(where.text, **like),
                call.error.icontains(where.text, **like),
                call.id.in_(replies),
            )
        )
    if where.key is not None:
        found.append(call.row_id.in_(select(t.ROWS.c.id).where(t.ROWS.c.row_key == where.key)))
    if where.template is not None:
        named = call.template_ref.startswith(f"{where.template}@", autoescape=True)
        found.append(or_(call.template_ref == where.template, named))
    if where.job is not None:
        found.append(call.job_id.in_(select(t.JOBS.c.id).where(t.JOBS.c.name == where.job)))
    if where.since_us is not None:
        found.append(call.started_us >= where.since_us)
    if where.verdict is not None:
        found.append(call.pack_items.is_(None))  # it has no text of its own
        found.append(call.verdict.is_(None) if where.verdict == "none" else call.verdict == where.verdict)
    for name, value in where.tags.items():
        tagged = select(t.TAGS.c.tagset_id).where(t.TAGS.c.name == name, t.TAGS.c.value == value)
        found.append(call.tagset_id.in_(tagged))
    attempted = _attempted(where)
    if attempted:
        calls = select(t.ATTEMPTS.c.call_id).where(*attempted)
        by = or_(call.id.in_(calls), call.pack_id.in_(calls))
        # What served from the cache came from the target, but met no fault of it.
        found.append(by if where.fault is not None else or_(by, call.cached_from_id.in_(calls)))
    return found


def _attempted(where: LogFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if where.target is not None:
        provider, slash, model = where.target.partition("/")
        found.append(t.ATTEMPTS.c.provider == provider)
        if slash:
            found.append(t.ATTEMPTS.c.model == model)
    if where.fault is not None:
        found.append(t.ATTEMPTS.c.fault == where.fault.value)
    return found

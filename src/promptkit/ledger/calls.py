"""`Ledger.calls`: calls and their attempts, written before and after each request, listed and shown."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, or_, select, update

from promptkit._util.shares import Share
from promptkit.errors import LedgerError
from promptkit.ledger import search
from promptkit.ledger import tables as t
from promptkit.routing.reply_cache import CachedReply
from promptkit.templates.template import StoredSource
from promptkit.types import AttemptState, Json, Scope, Status, Target

from .database import Reader
from .group import Begin, EndCall, Finish, State, Withdraw, store_templates
from .reading import attempt_record, call_record, logged_call, maybe
from .records import (
    Admitted,
    AttemptEnd,
    AttemptRecord,
    AttemptStart,
    CallEnd,
    CallRecord,
    CallStart,
    ChildCall,
    LogFilter,
    LoggedCall,
    MemberEnd,
    PackItem,
    Refused,
    RowEnd,
    Settled,
)
from .statements import read_object, storable
from .writer import Writer

REJECTED = "reject"
"""The verdict of a person who threw a reply away."""

_SWEEP_EVERY_S = 1.0
_CACHED_AT_MOST = 32
"""How many of the newest cached replies are read: those to one call, by the targets of its route."""


class Calls:
    """Calls and their attempts.

    The coroutines return when their records are on disk; callers that wait together share a commit.
    The other methods are synchronous and see what was committed.
    """

    def __init__(
        self, reader: Reader, writer: Writer, state: State, sweep: Callable[[], Awaitable[int]]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._state = state
        self._sweep = sweep
        self._swept_at = time.monotonic()
        self._stored_templates: set[str] = set()

    async def begin(
        self,
        attempt: AttemptStart,
        scopes: tuple[Scope, ...] = (),
        call: CallStart | None = None,
        members: Sequence[CallStart] = (),
    ) -> Admitted | Refused:
        """Open an attempt and reserve its max cost in all scopes, or in none.

        Args:
            attempt: the attempt that is about to be sent.
            scopes: the scopes that its cost counts in.
            call: given with the call's first attempt; kept only if that is admitted.
            members: of a pack, the calls of its rows; given with the call.

        Raises:
            LedgerError: it couldn't be written: nothing may be sent.
        """
        try:
            return await self._writer.ask(Begin(attempt, scopes, call, members))
        except asyncio.CancelledError:
            # It may have been admitted to a caller that is gone. In a closed ledger all is settled.
            with suppress(LedgerError):
                self._writer.submit(Withdraw(attempt.id, self._state.now_us()))
            raise

    async def finish(
        self,
        attempt: AttemptEnd,
        call: CallEnd | None = None,
        row: RowEnd | None = None,
        members: Sequence[MemberEnd] = (),
    ) -> Settled:
        """Close an attempt with its settlement, and end its call, its row and the rows of its pack.

        Raises:
            LedgerError: it couldn't be written; the attempt stays open and can be finished again.
        """
        # The reply is paid: it is stored even if the queue is full and the caller is cancelled.
        return await self._writer.ask(Finish(attempt, call, row, members), wait_for_space=False)

    async def end(
        self,
        end: CallEnd,
        row: RowEnd | None = None,
        call: CallStart | None = None,
        members: Sequence[MemberEnd] = (),
    ) -> None:
        """End a call that has no attempt open, and the members of its pack; `call` if it never had one."""
        await self._writer.ask(EndCall(end, row, call, members))

    async def wait_for_release(self, timeout_s: float, releases: int | None = None) -> bool:
        """Wait until this process releases a reservation; return False after `timeout_s`.

        Args:
            timeout_s: seconds. Releases of other processes are seen only by another `begin`.
            releases: of the `Refused` that made the caller wait, so that no release is missed.
        """
        if time.monotonic() - self._swept_at > _SWEEP_EVERY_S:
            self._swept_at = time.monotonic()
            if await self._sweep():
                return True
        return await self._writer.wait_for_release(timeout_s, releases)

    async def rate(self, call_ids: Sequence[int], verdict: str | None, note: str | None = None) -> int:
        """Record a verdict on replies (None removes it); return how many there were."""
        return await self._writer.run(
            partial(_rate, call_ids=call_ids, verdict=verdict, note=note, now_us=self._state.now_us())
        )

    async def store_templates(self, sources: Sequence[StoredSource]) -> None:
        """Store the sources behind a call's `template_digest`; once per process."""
        new = [source for source in sources if source.digest not in self._stored_templates]
        if new:
            await self._writer.run(partial(store_templates, sources=new, now_us=self._state.now_us()))
            self._stored_templates.update(source.digest for source in new)

    # ------------------------------------------------------------------ log and show

    def search(self, limit: int = 20, where: LogFilter | None = None) -> tuple[LoggedCall, ...]:
        """Return the newest calls that fit the filter, newest first."""
        where = where or LogFilter()
        match = None if where.text is None else search.match_of(where.text)
        if match is not None:
            try:
                return self._searched(limit, replace(where, text=None), match)
            except (sqlite3.OperationalError, OSError):
                pass  # there is no index: every text is read
            except sqlite3.DatabaseError:
                search.drop(self._reader.path)  # damaged: the next search makes a new one
        return self._listed(limit, where)

    def _searched(self, limit: int, where: LogFilter, match: str) -> tuple[LoggedCall, ...]:
        calls: list[LoggedCall] = []
        with search.opened(self._reader.path) as index:
            with self._reader.connect() as connection:
                index.update(connection)
            for page in index.pages(match):
                calls += self._listed(limit - len(calls), where, page)
                if len(calls) == limit:
                    break
        return tuple(calls)

    def _listed(
        self, limit: int, where: LogFilter, among: Sequence[int] | None = None
    ) -> tuple[LoggedCall, ...]:
        call = t.CALLS.c
        narrowed = [] if among is None else [call.id.in_(among), call.forgotten_us.is_(None)]
        query = (
            select(
                call.id,
                call.started_us,
                call.ended_us,
                call.template_ref,
                call.status,
                call.error,
                call.flags,
                call.verdict,
                call.cached_from_id,
                call.saved_pico,
                call.pack_id,
                call.pack_items,
                t.TAGSETS.c.tags,
                t.JOBS.c.name.label("job"),
                t.ROWS.c.row_key,
            )
            .select_from(t.CALLS)
            .outerjoin(t.TAGSETS, t.TAGSETS.c.id == call.tagset_id)
            .outerjoin(t.JOBS, t.JOBS.c.id == call.job_id)
            .outerjoin(t.ROWS, t.ROWS.c.id == call.row_id)
            .where(*conditions(where), *narrowed)
            .order_by(call.id.desc())
            .limit(limit)
        )
        by_call: dict[int, list[AttemptRecord]] = {}
        with self._reader.connect() as connection:
            rows = connection.execute(query).mappings().all()
            for attempt in connection.execute(_ATTEMPTS, {"ids": [row["id"] for row in rows]}).mappings():
                by_call.setdefault(attempt["of_call"], []).append(attempt_record(attempt))
            cached = cached_targets(connection, (row["cached_from_id"] for row in rows))
        return tuple(
            logged_call(row, by_call.get(row["id"], []), cached.get(row["cached_from_id"])) for row in rows
        )

    def get(self, call_id: int) -> CallRecord | None:
        """Return a call in full."""
        query = (
            select(
                t.CALLS,
                t.TAGSETS.c.tags,
                t.JOBS.c.name.label("job"),
                t.ROWS.c.row_key,
                t.REPLIES.c.text,
            )
            .outerjoin(t.TAGSETS, t.TAGSETS.c.id == t.CALLS.c.tagset_id)
            .outerjoin(t.JOBS, t.JOBS.c.id == t.CALLS.c.job_id)
            .outerjoin(t.ROWS, t.ROWS.c.id == t.CALLS.c.row_id)
            .outerjoin(t.REPLIES, t.REPLIES.c.call_id == t.CALLS.c.id)
            .where(t.CALLS.c.id == call_id)
        )
        with self._reader.connect() as connection:
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            attempts = connection.execute(_ATTEMPTS, {"ids": [call_id]}).mappings()
            return call_record(row, tuple(attempt_record(attempt) for attempt in attempts))

    def ids_between(self, low: int, high: int, limit: int = 2) -> tuple[int, ...]:
        """Return ids of calls from `low` to `high`, both included: those that share a shortened id."""
        call = t.CALLS.c
        return self._reader.scalars(
            select(call.id).where(call.id.between(low, high)).order_by(call.id).limit(limit)
        )

    def children(self, call_id: int) -> tuple[ChildCall, ...]:
        """Return the calls that name this one as their parent, oldest first."""
        call = t.CALLS.c
        query = select(call.id, call.template_ref, call.status).where(call.parent_id == call_id)
        return tuple(
            ChildCall(row["id"], row["template_ref"], maybe(Status, row["status"]))
            for row in self._reader.all(query.order_by(call.id))
        )

    def pack_items(self, call_id: int) -> tuple[PackItem, ...]:
        """Return the calls of the rows that a call carried, in their order in its prompt."""
        call = t.CALLS.c
        query = (
            select(
                call.id,
                call.row_id,
                t.ROWS.c.row_key,
                call.variables,
                call.status,
                call.error,
                call.share_begin,
                call.share_end,
            )
            .join(t.ROWS, t.ROWS.c.id == call.row_id)
            .where(call.pack_id == call_id)
            .order_by(call.id)
        )
        return tuple(
            PackItem(
                id=row["id"],
                row_id=row["row_id"],
                key=row["row_key"],
                variables=None if row["variables"] is None else read_object(row["variables"]),
                status=maybe(Status, row["status"]),
                error=row["error"],
                share=Share(row["share_begin"], row["share_end"]),
            )
            for row in self._reader.all(query)
        )

    def deliverable(self, call_id: int) -> str | None:
        """Return the deliverable of a call; None if it has none, or if there is no such call."""
        row = self._reader.first(select(t.CALLS.c.deliverable).where(t.CALLS.c.id == call_id))
        return None if row is None else row["deliverable"]

    def variables(self, call_ids: Sequence[int]) -> Mapping[int, Mapping[str, Json]]:
        """Return the variables of calls by their ids, where they are kept; at most some hundreds."""
        call = t.CALLS.c
        query = select(call.id, call.variables).where(call.id.in_(call_ids), call.variables.is_not(None))
        return {row["id"]: read_object(row["variables"]) for row in self._reader.all(query)}

    def stored_source(self, digest: str) -> StoredSource | None:
        """Return a template source that was used, by its digest."""
        row = self._reader.first(select(t.TEMPLATES).where(t.TEMPLATES.c.digest == digest))
        if row is None:
            return None
        includes = {name: str(value) for name, value in read_object(row["includes"]).items()}
        return StoredSource(digest=digest, ref=row["ref"], text=row["source"], includes=includes)

    def cached_replies(self, key: int, prompt_digest: str, since_us: int) -> tuple[CachedReply, ...]:
        """Return whole replies to the same call since then, newest first.

        Only replies that a target sent for it (not cache hits), that no person rejected or erased,
        and whose text is kept.
        """
        call, attempt = t.CALLS.c, t.ATTEMPTS.c
        query = (
            select(
                call.id,
                t.REPLIES.c.text,
                attempt.provider,
                attempt.model,
                attempt.served_model,
                attempt.cost_pico,
            )
            .select_from(t.CALLS)
            .join(t.REPLIES, t.REPLIES.c.call_id == call.id)
            .join(t.ATTEMPTS, attempt.id == t.REPLIES.c.attempt_id)
            .where(
                call.cache_key == key,
                call.prompt_digest == prompt_digest,
                call.ended_us >= since_us,
                call.status == Status.OK.value,
                attempt.state == AttemptState.OK.value,
                call.flags.is_(None),
                call.forgotten_us.is_(None),
                or_(call.verdict.is_(None), call.verdict != REJECTED),
            )
            .order_by(call.id.desc())
            .limit(_CACHED_AT_MOST)
        )
        with self._reader.connect() as connection:
            return tuple(
                CachedReply(call_id, Target(provider, model), text, served, cost)
                for call_id, text, provider, model, served, cost in connection.execute(query)
            )


def _rate(
    connection: Connection, call_ids: Sequence[int], verdict: str | None, note: str | None, now_us: int
) -> int:
    rated = connection.execute(
        update(t.CALLS)
        .where(t.CALLS.c.id.in_(call_ids))
        .values(
            verdict=verdict,
            verdict_us=None if verdict is None else now_us,
            verdict_note=None if note is None else storable(note),
        )
    )
    if verdict == REJECTED:  # a rejected cache hit: its original must not be used again
        originals = select(t.CALLS.c.cached_from_id).where(t.CALLS.c.id.in_(call_ids))
        connection.execute(update(t.CALLS).where(t.CALLS.c.id.in_(originals)).values(cache_key=None))
    return rated.rowcount


def attempts_of(column: ColumnElement[int]) -> Select[Any]:
    """Return the query of the attempts whose call has one of `ids` in that column, oldest first.

    A row in a pack has its share of the attempts of the call that carried it.
    """
    call = t.CALLS.c
    return (
        select(
            t.ATTEMPTS,
            call.row_id,
            call.id.label("of_call"),
            call.share_begin,
            call.share_end,
            t.PRICE_SOURCES.c.source,
        )
        .select_from(t.CALLS)
        .join(t.ATTEMPTS, t.ATTEMPTS.c.call_id == carrier())
        .outerjoin(t.PRICE_SOURCES, t.PRICE_SOURCES.c.id == t.ATTEMPTS.c.price_source_id)
        .where(column.in_(bindparam("ids", expanding=True)))
        .order_by(t.ATTEMPTS.c.id)
    )


def carrier() -> ColumnElement[int]:
    """Return the id of the call that has the attempts: the call itself, or the carrier of its pack."""
    return func.coalesce(t.CALLS.c.pack_id, t.CALLS.c.id)


_ATTEMPTS = attempts_of(t.CALLS.c.id)


def cached_targets(connection: Connection, cached_from: Iterable[int | None]) -> Mapping[int, Target]:
    """Return the targets that sent the replies of these calls; None among them is left out."""
    ids = {call_id for call_id in cached_from if call_id is not None}
    if not ids:
        return {}
    attempt = t.ATTEMPTS.c
    query = select(attempt.call_id, attempt.provider, attempt.model).where(
        attempt.call_id.in_(ids), attempt.state == AttemptState.OK.value
    )
    return {call_id: Target(provider, model) for call_id, provider, model in connection.execute(query)}


def conditions(where: LogFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter; a call must meet all of them."""
    call, met = t.CALLS.c, list[ColumnElement[bool]]()
    if where.text is not None:
        like = {"autoescape": True}
        replies = select(t.REPLIES.c.call_id).where(t.REPLIES.c.text.icontains(where.text, **like))
        met.append(
            or_(
                call.variables.icontains(where.text, **like),
                call.error.icontains(where.text, **like),
                call.id.in_(replies),
            )
        )
    if where.key is not None:
        met.append(call.row_id.in_(select(t.ROWS.c.id).where(t.ROWS.c.row_key == where.key)))
    if where.template is not None:
        versions = call.template_ref.startswith(f"{where.template}@", autoescape=True)
        met.append(or_(call.template_ref == where.template, versions))
    if where.job is not None:
        met.append(call.job_id.in_(select(t.JOBS.c.id).where(t.JOBS.c.name == where.job)))
    if where.since_us is not None:
        met.append(call.started_us >= where.since_us)
    if where.verdict is not None:
        met.append(call.pack_items.is_(None))  # the carrier of a pack has no text of its own
        met.append(call.verdict.is_(None) if where.verdict == "none" else call.verdict == where.verdict)
    for name, value in where.tags.items():
        tagged = select(t.TAGS.c.tagset_id).where(t.TAGS.c.name == name, t.TAGS.c.value == value)
        met.append(call.tagset_id.in_(tagged))
    attempted = _attempt_conditions(where)
    if attempted:
        calls = select(t.ATTEMPTS.c.call_id).where(*attempted)
        own = or_(call.id.in_(calls), call.pack_id.in_(calls))
        # A cache hit came from the target, too, but met none of its faults.
        met.append(own if where.fault is not None else or_(own, call.cached_from_id.in_(calls)))
    return met


def _attempt_conditions(where: LogFilter) -> list[ColumnElement[bool]]:
    met: list[ColumnElement[bool]] = []
    if where.target is not None:
        provider, slash, model = where.target.partition("/")
        met.append(t.ATTEMPTS.c.provider == provider)
        if slash:
            met.append(t.ATTEMPTS.c.model == model)
    if where.fault is not None:
        met.append(t.ATTEMPTS.c.fault == where.fault.value)
    return met

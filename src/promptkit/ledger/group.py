"""What one group commit writes: many begins and ends of calls in a handful of statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from sqlalchemy import Connection

from promptkit.errors import LedgerError, PromptKitError
from promptkit.ids import show_id
from promptkit.types import AttemptState, Cost, Fault, Scope

from . import columns
from . import statements as sql
from .accounts import load, store
from .admission import Book
from .encoding import TagIds, digest_id
from .interning import store_price_sources, store_tagsets
from .records import (
    Admitted,
    AttemptEnd,
    AttemptStart,
    CallEnd,
    CallStart,
    MemberEnd,
    RowEnd,
    Settled,
    SoftPassed,
)


@dataclass(slots=True)
class Begin:
    """Open an attempt under its scopes, with its call if it is the first, and the members of its pack."""

    attempt: AttemptStart
    scopes: tuple[Scope, ...]
    call: CallStart | None
    members: Sequence[CallStart] = ()


@dataclass(slots=True)
class Finish:
    """Close and settle an attempt, with what it ends: its call, its row, the members of its pack."""

    attempt: AttemptEnd
    call: CallEnd | None
    row: RowEnd | None
    members: Sequence[MemberEnd] = ()


@dataclass(slots=True)
class EndCall:
    """End a call that has no attempt open; `start` where it never had one."""

    end: CallEnd
    row: RowEnd | None
    start: CallStart | None
    members: Sequence[MemberEnd] = ()


@dataclass(slots=True)
class Withdraw:
    """Close an attempt that was admitted to a caller who had gone: it was never sent."""

    attempt_id: int
    now_us: int


@dataclass(slots=True)
class Task:
    """Anything else, in a savepoint of its own."""

    run: Callable[[Connection], object]


Op: TypeAlias = Begin | Finish | EndCall | Withdraw | Task

_ADMITTED = Admitted()
_SETTLED = Settled()


@dataclass(frozen=True, slots=True)
class Open:
    """An attempt that this process has open, and what it holds."""

    scopes: tuple[str, ...]
    ceiling_pico: int | None
    caps: tuple[int | None, ...] = ()
    """Those that it was admitted under, scope by scope."""
    soft: tuple[Scope, ...] = ()
    """Those of its scopes that have a soft cap."""


@dataclass(slots=True)
class State:
    """What a process knows of what it committed. A group changes it only once it is on disk."""

    owner_id: int
    now_us: Callable[[], int]
    open: dict[int, Open] = field(default_factory=dict[int, Open])
    tag_ids: TagIds = field(default_factory=TagIds)
    price_sources: dict[str, int] = field(default_factory=dict[str, int])
    releases: int = 0


_Rows: TypeAlias = list[tuple[sql.Column, ...]]


def _rows() -> _Rows:
    return []


@dataclass(slots=True)
class _Writes:
    """The rows that a group collects for its statements."""

    tagsets: dict[int, str] = field(default_factory=dict[int, str])
    price_sources: dict[str, int] = field(default_factory=dict[str, int])
    calls: _Rows = field(default_factory=_rows)
    attempts: _Rows = field(default_factory=_rows)
    holds: _Rows = field(default_factory=_rows)
    attempt_ends: _Rows = field(default_factory=_rows)
    unknowns: _Rows = field(default_factory=_rows)
    released: _Rows = field(default_factory=_rows)
    call_ends: _Rows = field(default_factory=_rows)
    shares: _Rows = field(default_factory=_rows)
    replies: _Rows = field(default_factory=_rows)
    row_ends: _Rows = field(default_factory=_rows)


class Group:
    """One transaction's work: `run` it inside the transaction, `keep` it after the commit."""

    __slots__ = ("_book", "_connection", "_open", "_ops", "_state", "_writes")

    def __init__(self, connection: Connection, state: State, ops: Sequence[Op]) -> None:
        self._connection = connection
        self._state = state
        self._ops = ops
        self._open: dict[int, Open | None] = {}  # opened here; None: closed here
        self._book = Book({})
        self._writes = _Writes()

    def run(self) -> list[object]:
        """Do all of it; returns a result an op, an exception where one can't be done.

        What ends goes before what begins, so that the room it frees is there. A withdrawal
        comes last: its attempt may begin in this very group.
        """
        results: list[object] = [None] * len(self._ops)
        for index in self._each(Task):
            results[index] = self._task(self._ops[index])
        self._book = Book(load(self._connection, self._scopes()))
        for kind in (Finish, Begin, EndCall, Withdraw):
            for index in self._each(kind):
                results[index] = self._try(self._ops[index])
        self._write()
        return results

    def keep(self) -> int:
        """Remember what is on disk now; returns how many holds were released."""
        state, writes = self._state, self._writes
        for attempt_id, opened in self._open.items():
            if opened is None:
                state.open.pop(attempt_id, None)
            else:
                state.open[attempt_id] = opened
        state.tag_ids.remember(writes.tagsets)
        state.price_sources.update(writes.price_sources)
        state.releases += len(writes.released)
        return len(writes.released)

    def _each(self, kind: type[Op]) -> Iterator[int]:
        return (index for index, op in enumerate(self._ops) if type(op) is kind)

    def _scopes(self) -> set[str]:
        keys: set[str] = set()
        for op in self._ops:
            if isinstance(op, Begin):
                keys.update(scope.key for scope in op.scopes)
            elif isinstance(op, Finish | Withdraw):
                opened = self._state.open.get(op.attempt.id if isinstance(op, Finish) else op.attempt_id)
                keys.update(() if opened is None else opened.scopes)
        return keys

    def _task(self, op: Op) -> object:
        assert isinstance(op, Task)  # noqa: S101 - for the type checker; `_each` chose it
        try:
            with self._connection.begin_nested():
                return op.run(self._connection)
        except (PromptKitError, ValueError, TypeError) as error:
            return error

    def _try(self, op: Op) -> object:
        try:
            if isinstance(op, Begin):
                return self._begin(op)
            if isinstance(op, Finish):
                return self._finish(op)
            if isinstance(op, EndCall):
                return self._end_call(op)
            if isinstance(op, Withdraw):
                return self._withdraw(op)
        except (PromptKitError, ValueError, TypeError) as error:
            return error
        return None

    def _begin(self, op: Begin) -> object:
        attempt, writes = op.attempt, self._writes
        calls = [] if op.call is None else [self._call_start(call) for call in (op.call, *op.members)]
        refused = self._book.admit(op.scopes, attempt.ceiling_pico or 0)
        if refused is not None:
            return replace(refused, releases=self._state.releases)
        keys = tuple(scope.key for scope in op.scopes)
        writes.calls += calls
        writes.attempts.append(columns.attempt_start(attempt))
        writes.holds.append(
            (attempt.id, self._state.owner_id, attempt.ceiling_pico, columns.scope_keys(keys))
        )
        soft = tuple(scope for scope in op.scopes if scope.soft_pico is not None)
        caps = tuple(scope.cap_pico for scope in op.scopes)
        self._open[attempt.id] = Open(keys, attempt.ceiling_pico, caps, soft)
        return _ADMITTED

    def _finish(self, op: Finish) -> object:
        overrun, soft = self._close(op.attempt)
        if op.call is not None:
            self._call_end(op.call, op.attempt.id)
        if op.row is not None:
            self._writes.row_ends.append(columns.row_end(op.row))
        self._end_members(op.members, op.attempt.id)
        return Settled(overrun, soft) if overrun or soft else _SETTLED

    def _end_call(self, op: EndCall) -> object:
        if op.start is not None:
            self._writes.calls.append(self._call_start(op.start))
        self._call_end(op.end, None)
        if op.row is not None:
            self._writes.row_ends.append(columns.row_end(op.row))
        self._end_members(op.members, None)
        return None

    def _end_members(self, members: Sequence[MemberEnd], attempt_id: int | None) -> None:
        for call, row in members:
            self._call_end(call, attempt_id)
            if call.share is not None:
                self._writes.shares.append(columns.share(call))
            if row is not None:
                self._writes.row_ends.append(columns.row_end(row))

    def _withdraw(self, op: Withdraw) -> object:
        if self._opened(op.attempt_id) is not None:
            self._close(
                AttemptEnd(
                    op.attempt_id,
                    AttemptState.FAILED,
                    charged_pico=0,
                    ended_us=op.now_us,
                    fault=Fault.TRANSIENT,
                    detail="withdrawn before it was sent",
                    cost=Cost(0, "not billed"),
                )
            )
        return None

    def _opened(self, attempt_id: int) -> Open | None:
        if attempt_id in self._open:
            return self._open[attempt_id]
        return self._state.open.get(attempt_id)

    def _close(self, end: AttemptEnd) -> tuple[tuple[str, ...], tuple[SoftPassed, ...]]:
        opened = self._opened(end.id)
        if opened is None:
            raise LedgerError(f"attempt {show_id(end.id)} is not open in this process")
        row = columns.attempt_end(end, self._price_source(end))
        overrun = self._book.settle(opened.scopes, opened.ceiling_pico, end.charged_pico, opened.caps)
        self._writes.attempt_ends.append(row)
        if end.state is AttemptState.UNKNOWN:
            self._writes.unknowns.append((end.id,))
        self._writes.released.append((end.id,))
        self._open[end.id] = None
        return overrun, self._book.soft(opened.soft) if opened.soft else ()

    def _call_start(self, call: CallStart) -> tuple[sql.Column, ...]:
        if not call.tags:
            return columns.call_start(call, None)
        number, text = self._state.tag_ids(call.tags)
        row = columns.call_start(call, number)
        if text is not None:
            self._writes.tagsets[number] = text
        return row

    def _call_end(self, end: CallEnd, attempt_id: int | None) -> None:
        self._writes.call_ends.append(columns.call_end(end))
        if end.text is not None:
            self._writes.replies.append(columns.reply(end.id, attempt_id, end.text))

    def _price_source(self, end: AttemptEnd) -> int | None:
        if end.cost is None:
            return None
        source = end.cost.source
        known = self._state.price_sources.get(source)
        if known is None:
            known = self._writes.price_sources[source] = digest_id(source)
        return known

    def _write(self) -> None:
        connection, writes = self._connection, self._writes
        store_price_sources(connection, writes.price_sources)
        store_tagsets(connection, writes.tagsets)
        sql.insert_calls(connection, writes.calls)
        sql.insert_attempts(connection, writes.attempts)
        sql.insert_holds(connection, writes.holds)
        sql.update_attempts(connection, writes.attempt_ends)
        sql.count_unknowns(connection, writes.unknowns)
        sql.delete_holds(connection, writes.released)
        sql.update_calls(connection, writes.call_ends)
        sql.update_shares(connection, writes.shares)
        sql.insert_replies(connection, writes.replies)
        sql.update_rows(connection, writes.row_ends)
        store(connection, self._book, self._state.now_us())

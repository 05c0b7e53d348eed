"""Rows that share a request: which ones, how many, and the retry of items that a pack brought no reply for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from promptkit.engine.calls import CallRequest, CallResult
from promptkit.engine.context import Session
from promptkit.engine.engine import Engine
from promptkit.engine.pack import (
    PackLimits,
    can_pack,
    halves,
    item_ids,
    packed_limit,
    packed_prompt,
    packed_schema,
)
from promptkit.errors import counted
from promptkit.ledger.records import RowRecord
from promptkit.routing.catalog import Catalog
from promptkit.routing.flow import Plan
from promptkit.types import Attempt, Call

from .control import StopSignal
from .options import AUTO
from .pack_size import AutoSize

DELIVERABLE = "deliverable"
"""The only tag that may differ within a pack: each row's share of the cost goes to its own deliverable."""

_MAX_WAITING = 1_000
"""At most so many rows wait for others to share a request with."""

_NOT_PACKABLE = (
    "packing: these rows are sent one by one. A template for packs ends with its only user message, and has no "
    "history and no stop sequence; the references of its schema lead to its definitions."
)

RowRequest: TypeAlias = "tuple[RowRecord, CallRequest]"
"""A row, and the call to send for it."""

UnsendableRow: TypeAlias = "tuple[RowRecord, str]"
"""A row that can't be sent, and the reason."""


@dataclass(slots=True)
class _Group:
    """Rows that may share a request, and how many of them do."""

    limits: PackLimits
    size: int
    rows: list[RowRequest] = field(default_factory=list[RowRequest])

    def fits(self, request: CallRequest) -> bool:
        """Return whether one more call fits into the request."""
        requests = [*(each for _, each in self.rows), request]
        shared = [message.content for message in request.call.prompt.messages[:-1]]
        own = [each.call.prompt.messages[-1].content for each in requests]
        return self.limits.fits([*shared, *own], [_output_limit(each) for each in requests])

    def take_all(self) -> list[RowRequest]:
        """Return the rows and leave none."""
        rows, self.rows = self.rows, []
        return rows


class Packer:
    """The packs of one run of a job.

    Args:
        session: settings, ids, and where notices go.
        size: how many rows share a request; `AUTO`: as `auto` chooses.
        auto: chooses the size.
        signal: whether the run may send new rows.
    """

    def __init__(self, session: Session, size: int, auto: AutoSize, signal: StopSignal) -> None:
        self._session = session
        self._size = size
        self._auto = auto
        self._signal = signal
        self._limits: dict[Plan, PackLimits] = {}
        self._requests = self._rows = self._retried = 0

    def packs(self, rows: Iterable[RowRequest | UnsendableRow]) -> Iterator[list[RowRequest] | UnsendableRow]:
        """Put rows together that may share a request; a row that can't be sent passes through.

        A pack comes as soon as it is full. Incomplete packs come at the end, unless the run is halted.
        """
        groups: dict[Hashable, _Group] = {}
        waiting = 0
        for row, request in rows:
            if isinstance(request, str):
                yield row, request
                continue
            size = self._size_for(request)
            if size == 1:
                yield [(row, request)]
                continue
            group = groups.setdefault(_key(request), _Group(self._limits_of(request.plan), size))
            group.size = size
            if group.rows and not group.fits(request):
                waiting -= len(group.rows)
                yield group.take_all()
            group.rows.append((row, request))
            waiting += 1
            if len(group.rows) >= group.size or waiting > _MAX_WAITING:
                full = group if len(group.rows) >= group.size else max(groups.values(), key=_row_count)
                waiting -= len(full.rows)
                yield full.take_all()
        for group in groups.values():
            if group.rows and not self._signal.halted:
                yield group.take_all()

    def _size_for(self, request: CallRequest) -> int:
        if self._size == 1:
            return 1
        call = request.call
        if not can_pack(call.prompt, call.params, call.schema):
            if self._size != AUTO:
                self._session.notice(_NOT_PACKABLE)
            return 1
        return self._size if self._size != AUTO else self._auto.size(_key(request), request)

    def _limits_of(self, plan: Plan) -> PackLimits:
        limits = self._limits.get(plan)
        if limits is None:
            limits = self._limits[plan] = request_limits(self._session.settings.catalog, plan)
        return limits

    async def send(
        self, engine: Engine, pack: Sequence[RowRequest]
    ) -> AsyncGenerator[tuple[RowRecord, CallRequest, CallResult]]:
        """Send the rows of a pack; yield each with its result.

        Rows with a reply cache hit are not packed. Items that the pack brought no reply for are sent
        once more, in halves, and finally alone. If the run is halted meanwhile, they stay pending.
        """
        rows: list[RowRequest] = []
        for row, request in pack:
            cached = await engine.cached(request) if len(pack) > 1 else None
            if cached is None:
                rows.append((row, request))
            else:
                yield row, request, cached
        paid: dict[int, tuple[Attempt, ...]] = {}
        packs = [rows] if rows else []
        while packs:
            failed: list[RowRequest] = []
            for row, request, result in await self._send_together(engine, packs.pop()):
                attempts = (*paid.pop(row.id, ()), *result.attempts)
                if result.resend:
                    paid[row.id] = attempts
                    failed.append((row, replace(request, id=self._session.ids())))
                elif attempts == result.attempts:
                    yield row, request, result
                else:
                    yield row, request, replace(result, attempts=attempts)
            if self._signal.halted:
                return
            self._retried += len(failed)
            packs += reversed([[failed[index] for index in half] for half in halves(len(failed))])

    async def _send_together(
        self, engine: Engine, rows: Sequence[RowRequest]
    ) -> list[tuple[RowRecord, CallRequest, CallResult]]:
        if len(rows) == 1:
            row, request = rows[0]
            return [(row, request, await engine.make(request))]
        result = await engine.make(self._packed_request([request for _, request in rows]))
        self._requests += 1
        self._rows += len(rows)
        if self._size == AUTO:
            failed = sum(item.resend for item in result.members)
            self._auto.record(_key(rows[0][1]), len(rows), failed)
        return [(row, request, item) for (row, request), item in zip(rows, result.members, strict=True)]

    def _packed_request(self, requests: Sequence[CallRequest]) -> CallRequest:
        """Return the call that carries others in one request; they get new ids, in their order in it.

        It never goes to the last resort, a small model: that one receives single rows only.
        """
        first = requests[0]
        call = first.call
        call_id = self._session.ids()
        names = item_ids(len(requests))
        limit = packed_limit([_output_limit(each) for each in requests])
        return CallRequest(
            id=call_id,
            call=Call(
                packed_prompt([each.call.prompt for each in requests], names),
                replace(call.params, max_output_tokens=limit),
                packed_schema(names, call.schema),
                call.tier,
            ),
            plan=replace(first.plan, last_resort=None),
            route=first.route,
            scopes=first.scopes,
            tags=shared_tags(first.tags),
            job_id=first.job_id,
            members=tuple(replace(each, id=self._session.ids()) for each in requests),
        )

    def report(self) -> None:
        """Print a notice about the packs of the run, if there were any."""
        if self._requests:
            retried = f"; {counted(self._retried, 'item')} sent once more" if self._retried else ""
            self._session.notice(
                f"packing: {counted(self._rows, 'row')} in {counted(self._requests, 'request')}{retried}"
            )


def request_limits(catalog: Catalog, plan: Plan) -> PackLimits:
    """Return what fits into one request to every target of a plan."""
    windows = [planned.window for planned in plan.targets if planned.window is not None]
    models = [catalog.pair(planned.target)[1] for planned in plan.targets]
    outputs = [model.max_output_tokens for model in models if model.max_output_tokens is not None]
    return PackLimits(min(windows, default=None), min(outputs, default=None))


def _key(request: CallRequest) -> Hashable:
    """Return what calls of one request have in common: all but their last message and their deliverable."""
    call = request.call
    return (
        call.prompt.messages[:-1],
        call.prompt.template_digest,
        call.params,
        call.tier,
        request.plan,
        request.route,
        request.scopes,
        frozenset(shared_tags(request.tags).items()),
    )


def shared_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that rows of one request have in common."""
    return {name: value for name, value in tags.items() if name != DELIVERABLE}


def _output_limit(request: CallRequest) -> int:
    return request.call.params.max_output_tokens or 0


def _row_count(group: _Group) -> int:
    return len(group.rows)

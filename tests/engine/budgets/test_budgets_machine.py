"""Budgets as a state machine over the real ledger: whatever happens, in whatever order, the books agree."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import Admitted, AttemptEnd, AttemptStart, CallEnd, CallStart, Refused
from promptkit.routing.budgets import Budgets, Cap, Caps, period_of, scopes_of
from promptkit.templates.template import StoredSource
from promptkit.types import AttemptState, Cost, Scope, Status, Target

DIGEST = "1:sha256:" + "a" * 64
SOURCE = StoredSource(DIGEST, "ad/line@1", "A line.", {})
PARIS = ZoneInfo("Europe/Paris")
START = datetime(2026, 10, 24, 10, tzinfo=UTC)  # a day before the clocks change
TAGS: tuple[Mapping[str, str], ...] = (
    {},
    {"client": "barly"},
    {"client": "lume", "deliverable": "d7"},
    {"deliverable": "d7"},
)
CAPS = st.sampled_from([None, 0, 1, 100, 200, 201, 300, 400, 600, 900])
CEILINGS = st.sampled_from([0, 1, 50, 99, 100, 200, 300])
"""Few and round, so that caps are met exactly, and missed by one."""


@dataclass
class Account:
    """What a scope must hold."""

    spent: int = 0
    held: int = 0


@dataclass
class OpenCall:
    """An attempt that isn't finished, and in which process it is."""

    attempt: AttemptStart
    scopes: tuple[Scope, ...]
    process: int


@dataclass
class Model:
    """The books as they must be."""

    accounts: dict[str, Account] = field(default_factory=dict[str, Account])
    open: list[OpenCall] = field(default_factory=list[OpenCall])
    charged: int = 0

    def settle(self, call: OpenCall, charged: int) -> None:
        self.open.remove(call)
        self.charged += charged
        for scope in call.scopes:
            account = self.accounts[scope.key]
            account.held -= call.attempt.max_cost_pico or 0
            account.spent += charged


class Budgeting(RuleBasedStateMachine):
    """Two processes on one database, one of which may die at any moment; caps and clocks move on."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = itertools.count(1)
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "promptkit.db"
        self.ledgers: list[Ledger] = []
        self.model = Model()
        self.budgets = Budgets()
        self.now = START
        self.overran: dict[str, int] = {}

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    @initialize(caps=st.tuples(*[CAPS] * 7))
    def begin(self, caps: tuple[int | None, ...]) -> None:
        self.set_caps(caps)
        self.ledgers = [self.opened(), self.opened()]
        self.run(self.ledgers[0].calls.store_templates([SOURCE]))

    def opened(self) -> Ledger:
        return Ledger.open(self.path, clock=lambda: int(self.now.timestamp() * 1e6))

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()
        self.runner.close()
        self.folder.cleanup()

    # ------------------------------------------------------------------ what happens

    @rule(caps=st.tuples(*[CAPS] * 7))
    def caps_change(self, caps: tuple[int | None, ...]) -> None:
        """Caps are set, raised, lowered, taken away: the next call takes them up."""
        self.set_caps(caps)

    def set_caps(self, caps: tuple[int | None, ...]) -> None:
        per_job, per_day, per_month, soft, client, client_month, item = caps
        self.budgets = Budgets(
            Cap(per_job),
            Cap(per_day, soft),
            Cap(per_month),
            {
                ("client", "barly"): Caps(Cap(), Cap(client), Cap(client_month, soft)),
                ("deliverable", "d7"): Caps(Cap(item)),
            },
        )

    @rule(hours=st.sampled_from([1, 6, 13, 25, 24 * 8]))
    def time_passes(self, hours: int) -> None:
        """Midnights, changes of the clocks and ends of months go by, also with calls under way."""
        self.now += timedelta(hours=hours)

    @rule(
        process=st.integers(0, 1),
        tags=st.sampled_from(TAGS),
        ceiling=CEILINGS,
        job=st.sampled_from(["job:1", "job:2"]),
    )
    def start(self, process: int, tags: Mapping[str, str], ceiling: int, job: str) -> None:
        """A call starts if it fits under every cap that applies, and holds its ceiling in all or in none."""
        period = period_of(self.now, PARIS, time(12))
        scopes = scopes_of(self.budgets, tags, period, job)
        call = CallStart(next(self.ids), DIGEST, "ad/line@1", "sha256:b", 1, tags=tags)
        attempt = AttemptStart(next(self.ids), call.id, 1, 1, Target("openai", "luna"), ceiling, 1)
        answer = self.run(self.ledgers[process].calls.begin(attempt, scopes, call))
        accounts = [self.model.accounts.setdefault(scope.key, Account()) for scope in scopes]
        pairs = list(zip(scopes, accounts, strict=True))
        fits = all(self.fits(scope, account, ceiling) for scope, account in pairs)
        assert isinstance(answer, Admitted) is fits
        if fits:
            for account in accounts:
                account.held += ceiling
            self.model.open.append(OpenCall(attempt, scopes, process))
        else:
            assert isinstance(answer, Refused)
            assert answer.may_free is all(
                self.fits(scope, replace(account, held=0), ceiling) for scope, account in pairs
            )

    def fits(self, scope: Scope, account: Account, ceiling: int) -> bool:
        if scope.cap_pico is None:
            return True
        stopped = scope.cap_pico <= self.overran.get(scope.key, -1)
        return not stopped and account.spent + account.held + ceiling <= scope.cap_pico

    @precondition(lambda self: self.model.open)
    @rule(which=st.integers(0, 100), part=st.sampled_from([0.0, 0.5, 1.0]), known=st.booleans())
    def finish(self, which: int, part: float, known: bool) -> None:  # noqa: FBT001 - a draw
        """A call ends within its ceiling; of an unknown outcome it is charged at the whole of it."""
        call = self.model.open[which % len(self.model.open)]
        ceiling = call.attempt.max_cost_pico or 0
        self.end(call, int(ceiling * part) if known else ceiling, known=known)

    @precondition(lambda self: self.model.open)
    @rule(which=st.integers(0, 100), more=st.sampled_from([1, 100, 500]))
    def overrun(self, which: int, more: int) -> None:
        """A provider bills above its ceiling: counted in full, and every capped scope of it stops.

        Up to the cap that the call was admitted under, whatever another process has in force since.
        """
        call = self.model.open[which % len(self.model.open)]
        stopped = self.end(call, (call.attempt.max_cost_pico or 0) + more)
        latest = {one.scope: one.cap_pico for one in self.ledgers[0].reports.budgets()}
        caps = {scope.key: (scope.cap_pico, latest[scope.key]) for scope in call.scopes}
        capped = [key for key, pair in caps.items() if pair != (None, None)]
        assert list(stopped) == capped
        for key in capped:
            self.overran[key] = max(self.overran.get(key, 0), *(pico or 0 for pico in caps[key]))

    def end(self, call: OpenCall, charged: int, *, known: bool = True) -> tuple[str, ...]:
        end = AttemptEnd(
            call.attempt.id,
            AttemptState.OK if known else AttemptState.UNKNOWN,
            charged,
            2,
            cost=Cost(charged, "test") if known else None,
        )
        settled = self.run(
            self.ledgers[call.process].calls.finish(end, CallEnd(call.attempt.call_id, Status.OK, 2))
        )
        self.model.settle(call, charged)
        soft = {
            scope.key
            for scope in call.scopes
            if scope.soft_pico is not None and self.model.accounts[scope.key].spent >= scope.soft_pico
        }
        assert {passed.scope_key for passed in settled.soft} == soft
        return settled.overrun

    @rule(swept_by=st.sampled_from(["sweep", "open"]))
    def kill(self, swept_by: str) -> None:
        """The second process dies with its calls under way: whoever comes next charges them at their ceilings."""
        dead = self.ledgers[1]
        dead._writer.close(lambda connection: connection)  # pyright: ignore[reportPrivateUsage] - nothing more is written
        dead._owner.release()  # pyright: ignore[reportPrivateUsage] - as the kernel does
        if swept_by == "sweep":
            mine = [call for call in self.model.open if call.process == 1]
            assert self.run(self.ledgers[0].shared.sweep()) == len(mine)
        self.ledgers[1] = self.opened()
        for call in [call for call in self.model.open if call.process == 1]:
            self.model.settle(call, call.attempt.max_cost_pico or 0)

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def the_books_agree(self) -> None:
        """Spent is the sum of what was charged, held the sum of the open ceilings, and together they keep the cap."""
        if not self.ledgers:
            return
        ledger = self.ledgers[0]
        records = {record.scope: record for record in ledger.reports.budgets()}
        for key, account in self.model.accounts.items():
            record = records.get(key)
            if record is None:  # every call under it was refused
                assert account == Account()
                continue
            assert (record.spent_pico, record.reserved_pico) == (account.spent, account.held)
            if record.cap_pico is not None:
                assert record.spent_pico + record.reserved_pico <= record.cap_pico + record.over_pico
        held = {scope.key: 0 for call in self.model.open for scope in call.scopes}
        for call in self.model.open:
            for scope in call.scopes:
                held[scope.key] += call.attempt.max_cost_pico or 0
        assert {key: account.held for key, account in self.model.accounts.items() if account.held} == {
            key: pico for key, pico in held.items() if pico
        }
        assert ledger.reports.spent_total().charged_pico == self.model.charged


Budgeting.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestBudgeting = Budgeting.TestCase

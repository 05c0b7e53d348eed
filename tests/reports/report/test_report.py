"""The books added up: whatever they are grouped by, they are the ledger's, to the pico-dollar."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as some
from report_helpers import HOUR_US, CallResult, Try, settings, write

from promptkit import PromptKit
from promptkit.errors import UsageError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import Tally
from promptkit.reports.report import DIMENSIONS, Report, ReportGroup, ReportQuery, make_report
from promptkit.types import Fault, Status

BARLY: Mapping[str, str] = {"client": "barly"}
PARIS = 'timezone = "Europe/Paris"\nday_starts_at = "12:00"\n'


def report(folder: Path, made: list[CallResult], *by: str, config: str = "", **asked: object) -> Report:
    """The report of these calls alone."""
    told = settings(folder, config)
    with Ledger.open(told.database_path) as ledger:
        write(ledger, made)
        return make_report(ledger, told, ReportQuery(by, **asked))  # pyright: ignore[reportArgumentType]


def group(made: Report, *key: str | None) -> ReportGroup:
    """The group of that key."""
    (found,) = [one for one in made.groups if one.key == key]
    return found


_TARGETS = some.sampled_from(["openai/gpt-6-luna", "anthropic/claude-haiku-5-5", "a/b/c"])
_TRIES = some.builds(
    Try,
    target=_TARGETS,
    pico=some.none() | some.integers(0, 10**15),
    fault=some.none() | some.sampled_from([Fault.RATE_LIMIT, Fault.TRANSIENT]),
    target_number=some.integers(1, 3),
)
_CALLS = some.builds(
    CallResult,
    tries=some.lists(_TRIES, max_size=3).map(tuple),
    status=some.sampled_from([Status.OK, Status.TRUNCATED, Status.FAILED]),
    tags=some.dictionaries(some.sampled_from(["client", "campaign"]), some.sampled_from(["a", "b", "é"])),
    template=some.sampled_from(["ugc/script@2", "ugc/hooks@1"]),
    deliverable=some.none() | some.sampled_from(["d1", "d2", "d3"]),
    at_us=some.integers(0, 400 * 24).map(lambda hours: hours * HOUR_US),
    between_us=some.integers(0, 30).map(lambda hours: hours * HOUR_US),
)
_BY = some.lists(some.sampled_from([*DIMENSIONS, "campaign"]), unique=True, max_size=4)
_RATES = some.sampled_from(["", '[clients.a]\nrate_usd = 1.5\n[clients."é"]\nrate_usd = 2\nper = "call"\n'])


@given(calls=some.lists(_CALLS, max_size=12), by=_BY, rates=_RATES)
@examples(max_examples=40, deadline=None)
def test_any_grouping_adds_up_to_the_ledger(calls: list[CallResult], by: list[str], rates: str) -> None:
    """Whatever is asked for, the groups' sums are the total's, and the total's money is the ledger's."""
    with TemporaryDirectory() as folder:
        told = settings(Path(folder), PARIS + rates)
        with Ledger.open(told.database_path) as ledger:
            write(ledger, calls)
            made = make_report(ledger, told, ReportQuery(tuple(by)))
            money = ledger.reports.spent_total()
    assert made.total.tally.money == money
    assert made.total.tally.calls == len(calls)
    assert made.total.tally.attempts == sum(len(call.tries) for call in calls)
    if by:
        assert sum((one.tally for one in made.groups), Tally()) == made.total.tally
        for fault in made.total.fallbacks:
            assert sum(one.fallbacks.get(fault, 0) for one in made.groups) == made.total.fallbacks[fault]
    replied = {
        call.deliverable
        for call in calls
        if call.deliverable is not None and call.status is not Status.FAILED
    }
    assert made.total.deliverables == len(replied)


class TestMoney:
    """What was spent, what of it was for nothing, and what it made."""

    def test_what_was_lost_to_retries(self, tmp_path: Path) -> None:
        """Attempts without a reply that was kept are lost: failed ones, unknown ones, answers of a call that failed."""
        made = report(
            tmp_path,
            [
                CallResult((Try(pico=5, fault=Fault.TRANSIENT), Try(pico=100))),
                CallResult((Try(pico=None, fault=Fault.UNKNOWN_OUTCOME, ceiling=70), Try(pico=200))),
                CallResult((Try(pico=300),), Status.FAILED),
                CallResult((Try(pico=400), Try(pico=10)), Status.TRUNCATED),
                CallResult((Try(pico=1),), None),
            ],
        )
        lost = made.total.tally.lost
        assert (lost.known_pico, lost.at_most_unknown_pico, lost.attempts, lost.unknown) == (705, 70, 4, 1)
        assert (made.total.tally.ended, made.total.tally.replied) == (4, 3)

    def test_why_calls_went_on_to_another_target(self, tmp_path: Path) -> None:
        """A fault counts where the next attempt of its call went further on the route, under the target that failed."""
        far = Try("b/x", target_number=2)
        made = report(
            tmp_path,
            [
                CallResult((Try("a/x", fault=Fault.RATE_LIMIT), far)),
                CallResult((Try("a/x", fault=Fault.RATE_LIMIT), Try("a/x", fault=Fault.QUOTA), far)),
                CallResult((Try("a/x", fault=Fault.AUTH),), Status.FAILED),
            ],
            "target",
        )
        assert made.total.fallbacks == {"quota": 1, "rate_limit": 1}
        assert group(made, "a/x").fallbacks == made.total.fallbacks
        assert group(made, "b/x").fallbacks == {}

    def test_a_deliverable_bears_all_that_was_done_for_it(self, tmp_path: Path) -> None:
        """Brief, script, failed attempts and retakes of a deliverable add up; calls of none are left out."""
        made = report(
            tmp_path,
            [
                CallResult((Try(pico=10),), template="ugc/brief@1", deliverable="v1"),
                CallResult((Try(pico=5, fault=Fault.TRANSIENT), Try(pico=20)), deliverable="v1"),
                CallResult((Try(pico=7),), Status.FAILED, deliverable="v1"),
                CallResult((Try(pico=30),), deliverable="v2"),
                CallResult((Try(pico=1_000),)),
            ],
            "deliverable",
        )
        assert group(made, "v1").per_deliverable_pico == 42
        assert group(made, None).per_deliverable_pico is None
        assert (made.total.deliverables, made.total.per_deliverable_pico) == (2, 36)


class TestMargin:
    """What clients with a rate leave."""

    CALLS = (
        CallResult((Try(pico=10),), tags=BARLY, deliverable="v1", template="ugc/brief@1"),
        CallResult((Try(pico=None, fault=Fault.UNKNOWN_OUTCOME), Try(pico=20)), tags=BARLY, deliverable="v1"),
        CallResult((Try(pico=40),), tags={"client": "lume"}, deliverable="v2"),
    )

    @pytest.mark.parametrize(("per", "units"), [("deliverable", 1), ("call", 2), ("row", 0)])
    def test_a_rate_is_for_a_unit(self, tmp_path: Path, per: str, units: int) -> None:
        """A deliverable, an answered call or a row done; other clients' calls neither earn nor cost."""
        config = f'[clients.barly]\nrate_usd = 0.000000001\nper = "{per}"\n'
        made = report(tmp_path, list(self.CALLS), "client", config=config)
        for one in (group(made, "barly"), made.total):
            margin = one.margin
            assert margin is not None
            assert (margin.earned_pico, margin.margin_pico) == (units * 1_000, units * 1_000 - 30)
            assert margin.least_pico == units * 1_000 - 1_030
        assert group(made, "lume").margin is None

    def test_a_deliverable_is_earned_once(self, tmp_path: Path) -> None:
        """Its calls stand under several templates: by template nobody can say what each earned, in all one can."""
        made = report(tmp_path, list(self.CALLS), "template", config="[clients.barly]\nrate_usd = 1\n")
        assert [one.margin for one in made.groups] == [None, None]
        assert made.total.margin is not None
        assert made.total.margin.earned_pico == 10**12


class TestDays:
    """Days are budget days."""

    def test_a_night_is_one_day_through_both_changes_of_the_clocks(self, tmp_path: Path) -> None:
        """With days that start at noon in Paris, the evening and the morning after are one, of 25 or 23 hours, too."""
        times = {
            "2026-10-24T10:00:00": "2026-10-24",  # noon there, still in summer
            "2026-10-25T10:59:00": "2026-10-24",  # a minute to noon, now in winter
            "2026-10-25T11:00:00": "2026-10-25",
            "2027-03-27T11:00:00": "2027-03-27",
            "2027-03-28T09:59:00": "2027-03-27",
            "2027-03-28T10:00:00": "2027-03-28",
        }
        at = [int(datetime.fromisoformat(text + "+00:00").timestamp()) * 1_000_000 for text in times]
        made = report(tmp_path, [CallResult(at_us=us) for us in at], "day", config=PARIS)
        assert [(one.key[0], one.tally.calls) for one in made.groups] == [
            ("2026-10-24", 2), ("2026-10-25", 1), ("2027-03-27", 2), ("2027-03-28", 1)
        ]  # fmt: skip

    def test_without_calls_there_are_no_days(self, tmp_path: Path) -> None:
        """An empty ledger has no groups."""
        assert report(tmp_path, [], "day").groups == ()

    def test_since_and_until(self, tmp_path: Path) -> None:
        """What began at `since` counts, what began at `until` doesn't."""
        start = datetime(2026, 11, 21, tzinfo=UTC)
        us = int(start.timestamp()) * 1_000_000
        calls = [CallResult(at_us=us + hour * HOUR_US) for hour in range(4)]
        made = report(tmp_path, calls, since=start + timedelta(hours=1), until=start + timedelta(hours=3))
        assert (made.total.tally.calls, made.total.tally.attempts) == (2, 2)


def test_what_is_asked_twice_or_without_a_zone_is_refused(tmp_path: Path) -> None:
    """A doubled name and a naive time are usage errors."""
    with pytest.raises(UsageError, match="repeats a name"):
        report(tmp_path, [], "client", "client")
    with pytest.raises(UsageError, match="no time zone"):
        report(tmp_path, [], since=datetime(2026, 11, 21))  # noqa: DTZ001 - what is refused


def test_the_library_reports(tmp_path: Path) -> None:
    """`kit.report` gives the same, blocking, narrowed by tags, template and job."""
    told = settings(tmp_path, 'database = "sqlite:///books.db"\n')
    with Ledger.open(told.database_path) as ledger:
        write(ledger, [CallResult(tags=BARLY), CallResult(template="ugc/hooks@1"), CallResult()])
    with PromptKit(told) as kit:
        assert kit.report(["client"]).total.tally.calls == 3
        assert kit.report(tags=BARLY).total.tally.calls == 1
        assert kit.report(template="ugc/hooks").total.tally.calls == 1
        assert kit.report(job="none").total.tally.calls == 0

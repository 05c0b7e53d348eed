"""Sessions: budget days, caps, and references that are looked up again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from studio import REF, Studio, brands, run_all

from promptkit._util.notices import show_notices
from promptkit.config.loading import load
from promptkit.engine.context import Session, load_settings
from promptkit.errors import LedgerError, UsageError
from promptkit.ledger.records import JobState
from promptkit.routing.budgets import day_of

HOME = Path(__file__).parent / "nobody"


def session_of(folder: Path, toml: str) -> Session:
    folder.mkdir(exist_ok=True)
    (folder / "promptkit.toml").write_text(toml)
    loaded = load(folder / "promptkit.toml", env={}, cwd=folder, home=HOME)
    return Session(loaded)


_instants = st.integers(
    int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())
)


@given(st.lists(_instants, min_size=1, max_size=20), st.sampled_from(["00:00", "12:00", "02:30"]))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_budget_day_of_any_moment(tmp_path: Path, instants: list[int], starts: str) -> None:
    """Whatever the clock says, forwards or backwards: the session's day is the one that the moment lies in."""
    one = session_of(tmp_path, f'timezone = "Europe/Paris"\nday_starts_at = "{starts}"\n')
    for instant in instants:
        one.now = lambda instant=instant: float(instant)
        moment = datetime.fromtimestamp(instant, UTC)
        start = one.settings.day_starts_at
        assert one.today() == day_of(moment, ZoneInfo("Europe/Paris"), start).isoformat()


_caps = st.none() | st.integers(1, 10**13)


@given(_caps, _caps, _caps)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_smaller_cap_counts(tmp_path: Path, said: int | None, job: int | None, day: int | None) -> None:
    """A call counts in its own scope, under the smaller of the caps that are said and configured, and in its day."""
    lines = [f"per_{name}_usd = {cap / 10**12:.12f}" for name, cap in (("job", job), ("day", day)) if cap]
    one = session_of(tmp_path, "[budgets]\n" + "\n".join(lines) + "\n")
    caps = {scope.key: scope.cap_pico for scope in one.scopes("job:7", said) if scope.cap_pico is not None}
    own = [cap for cap in (said, job) if cap is not None]
    expected = ({"job:7": min(own)} if own else {}) | ({f"day:{one.today()}": day} if day else {})
    assert caps == expected


async def test_a_night_is_one_day(studio: Studio) -> None:
    """With days that start at noon, what is spent before and after midnight counts in one day, and `{date}` is its name."""
    studio.configure(budgets="per_day_usd = 1", top='timezone = "UTC"\nday_starts_at = "12:00"')
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    moments = [
        midnight - timedelta(minutes=5),
        midnight + timedelta(minutes=5),
        midnight + timedelta(hours=13),
    ]
    async with studio.kit() as kit:
        ledger = await kit.session.ledger()
        for moment in moments:
            kit.session.now = moment.timestamp
            await run_all(kit.batch(REF, brands(1), job="night-{date}"))
        assert {job.name for job in ledger.jobs.newest()} == {"night-2026-11-21", "night-2026-11-22"}
        days = {
            scope.scope: scope.spent_pico
            for scope in ledger.reports.budgets()
            if scope.scope.startswith("day:")
        }
    assert studio.asked() == 2
    assert set(days) == {"day:2026-11-21", "day:2026-11-22"}
    assert sum(days.values()) == studio.billed_pico


def test_a_notice_is_logged_once(tmp_path: Path) -> None:
    """A session logs each notice once, by its text or its key."""
    notices: list[str] = []
    show_notices(notices.append)
    session = Session(session_of(tmp_path, "").settings)
    before = len(notices)
    for text in ("a", "b", "a"):
        session.log.info(text)
    session.log.warning("one failed", extra={"once": "key"})
    session.log.warning("two failed", extra={"once": "key"})
    assert notices[before:] == ["a", "b", "one failed"]
    Session(session.settings).log.info("a")
    assert notices[-1] == "a", "another session has not logged it yet"


def test_settings_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the configuration is searched from the working directory up."""
    session_of(tmp_path, 'timezone = "Europe/Paris"\n')
    monkeypatch.chdir(tmp_path)
    assert (
        load_settings().file == load_settings(tmp_path / "promptkit.toml").file == tmp_path / "promptkit.toml"
    )


async def test_two_openings_at_once(studio: Studio) -> None:
    """A session that is asked for its engine by many at once opens one ledger."""
    async with studio.kit() as kit:
        engines = await asyncio.gather(*(kit.session.engine() for _ in range(10)))
        assert len(set(map(id, engines))) == 1
        ledger = await kit.session.ledger()
    with pytest.raises(LedgerError, match="closed"):
        await ledger.jobs.set_state(1, JobState.OPEN)


def test_a_route_of_targets(tmp_path: Path) -> None:
    """Targets instead of a route keep the default route's patience and attempts, and have no last resort."""
    one = session_of(
        tmp_path,
        '[routes.default]\ntargets = ["openai/gpt-6-luna"]\nattempts = 9\nlast_resort = "gemini/gemini-2.5-flash-lite"\n',
    )
    route = one.route(None, ["anthropic/claude-haiku-5-5"])
    assert (route.attempts, route.last_resort, [str(t) for t in route.targets]) == (
        9,
        None,
        ["anthropic/claude-haiku-5-5"],
    )
    with pytest.raises(UsageError, match="nobody"):
        one.route(None, ["nobody/x"])

"""Money, times and pace in words; keys out of them; errors and their exit codes."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from datetime import time as of_day
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_for

from promptkit.cli.command import Cli
from promptkit.cli.main import report_error
from promptkit.cli.output import (
    Table,
    duration,
    iso,
    local_time,
    remember_secrets,
    remove_secrets,
    short_time,
    spent,
)
from promptkit.cli.progress import Pace, is_due, show_download, show_progress
from promptkit.cli.templates.show import takes
from promptkit.cli.values import read_time
from promptkit.errors import AllTargetsFailed, ConfigError, PromptKitError, UsageError
from promptkit.ledger.records import Money
from promptkit.types import (
    Attempt,
    AttemptState,
    Cost,
    Fault,
    Kind,
    RowResult,
    Status,
    Target,
    Variable,
    dollars,
)
from promptkit.types.ids import id_range, read_id, show_id

PARIS = ZoneInfo("Europe/Paris")
NOW = datetime(2026, 11, 21, 21, 30, tzinfo=UTC)
USD = 10**12


@pytest.mark.parametrize(
    ("pico", "text"),
    [
        (None, "unknown"),
        (0, "$0"),
        (5 * USD, "$5.00"),
        (1_204_500_000_000_000, "$1,204.50"),
        (USD // 2, "$0.50"),
        (420_000_000, "$0.00042"),
        (1_000_000, "$0.000001"),
        (1_000, "<$0.000001"),
    ],
)
def test_dollars_are_short_and_never_read_as_nothing(pico: int | None, text: str) -> None:
    """Two decimals from a dollar on, six below it; what is too small says so."""
    assert dollars(pico) == text


def test_what_is_unknown_is_said_beside_what_is_known() -> None:
    """A sum with attempts of unknown cost prints both parts."""
    assert spent(Money(1_200_000_000_000, 1_200_000_000_000, 0, 3)) == "$1.20"
    assert spent(Money(1_200_000_000_000, 1_240_000_000_000, 2, 5)) == "$1.20 + up to $0.04 unknown"
    assert spent(Money(0, 0, 2, 2)) == "$0 + 2 unpriced"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", datetime(2026, 11, 21, 21, 28, 30, tzinfo=UTC)),
        ("2h", datetime(2026, 11, 21, 19, 30, tzinfo=UTC)),
        ("3d", datetime(2026, 11, 18, 21, 30, tzinfo=UTC)),
        ("today", datetime(2026, 11, 20, 23, 0, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 19, 23, 0, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 19, 23, 0, tzinfo=UTC)),
        ("2026-11-20T22:00", datetime(2026, 11, 20, 21, 0, tzinfo=UTC)),
        ("2026-11-20T22:00+00:00", datetime(2026, 11, 20, 22, 0, tzinfo=UTC)),
    ],
)
def test_since_is_read_in_the_projects_time_zone(text: str, expected: datetime) -> None:
    """Ages, days and times mean what they mean where the studio is."""
    assert read_time(text, NOW, PARIS, option="--since") == expected


def test_a_day_of_the_books_begins_when_the_budget_day_does() -> None:
    """Where days begin at noon, today began at noon; as an end, a day means its own."""
    noon, option = of_day(12), "--until"
    assert read_time("today", NOW, PARIS, option=option, starts_at=noon).hour == 11
    assert read_time("2026-11-20", NOW, PARIS, option=option, starts_at=noon, ends=True) == datetime(
        2026, 11, 21, 11, tzinfo=UTC
    )


@pytest.mark.parametrize("text", ["tomorrow", "2026-13-01", "h2", "999999w"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """The message shows what can be written."""
    with pytest.raises(UsageError, match="today"):
        read_time(text, NOW, PARIS, option="--since")


def test_times_are_local_for_people_and_utc_for_programs() -> None:
    """One moment, three ways."""
    us = int(NOW.timestamp() * 1e6)
    assert local_time(us, PARIS) == "2026-11-21 22:30:00"
    assert short_time(us, PARIS) == "11-21 22:30:00"
    assert iso(us) == "2026-11-21T21:30:00.000Z"
    assert iso(None) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.5, "9.5 s"), (42, "42 s"), (200, "3 min"), (7500, "2 h 05 min")]
)
def test_durations_are_as_exact_as_they_need_be(seconds: float, text: str) -> None:
    """Tenths only where they matter."""
    assert duration(seconds) == text


def result(
    number: int, status: Status = Status.OK, pico: int | None = 10**9, call: int | None = 1
) -> RowResult:
    return RowResult(number, status, cost=None if pico is None else Cost(pico, "t"), call=call)


def test_pace_counts_rate_rest_and_cost() -> None:
    """A line says rows, troubles, rate, what is left and what it cost so far."""
    pace = Pace(total=100, done=20, to_do=80, pico=10**9)
    assert pace.line(0) == "20 of 100 rows, $0.001 so far"
    for number in range(8):
        pace.add(result(number))
    pace.add(result(8, Status.FAILED, None))
    pace.add(result(9, Status.DEGRADED))
    assert (
        pace.line(5)
        == "30 of 100 rows, 1 failed, 1 degraded, 2.0 rows/s, about 35 s left, $0.01 + 1 unknown so far"
    )
    assert pace.speed(100) == "6 rows/min"


def test_a_row_without_a_call_costs_nothing() -> None:
    """A row that was never sent isn't of unknown cost."""
    pace = Pace(total=1, done=0, to_do=1)
    pace.add(result(1, Status.FAILED, None, call=None))
    assert (pace.unknown, pace.left_s(1)) == (0, 0)


def test_lines_come_now_and_then_and_not_with_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Off a terminal a line is printed at intervals; a quick job prints none, nor does a quiet one."""
    for quiet in (False, True):
        with show_progress(Cli(quiet=quiet), Pace(50, 0, 50), rows_on_terminal=False) as note:
            for number in range(50):
                note.add(result(number))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("elapsed_s", "waited_s", "share", "due"),
    [
        (1, 1, 0.9, False),
        (5, 2, 0.1, True),
        (10, 10, 0, True),
        (60, 9.9, 0.09, False),
        (130, 59, 0.05, False),
        (130, 60, 0, True),
        (130, 12, 0.1, True),
        (4000, 299, 0, False),
        (4000, 300, 0, True),
    ],
)
def test_lines_come_more_seldom_the_longer_a_job_runs(
    elapsed_s: float, waited_s: float, share: float, *, due: bool
) -> None:
    """Every ten seconds or tenth of the rows at first, once a minute soon, and every five after an hour."""
    assert is_due(elapsed_s, waited_s, share) is due


def test_a_download_is_told_in_quarters(capsys: pytest.CaptureFixture[str]) -> None:
    """Off a terminal a download prints a line a quarter."""
    with show_download(Cli(), "weights") as told:
        for percent in range(101):
            told(percent * 10**6, 100 * 10**6)
    err = capsys.readouterr().err
    assert [line.split()[2] for line in err.splitlines()] == ["0", "25", "50", "75", "100"]


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Generator[bytearray]:
    """stderr as a real terminal within the block; what was drawn there is whole when it ends."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    seen = bytearray()

    def read() -> None:
        with suppress(OSError):  # how Linux says that the other end is closed
            while data := os.read(master, 1 << 16):
                seen.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    with monkeypatch.context() as here, os.fdopen(slave, "w", encoding="utf-8") as stderr:
        here.delenv("NO_COLOR", raising=False)
        here.setenv("TERM", "xterm-256color")
        here.setattr(sys, "stderr", stderr)
        yield seen
    reader.join(180)
    os.close(master)


def test_on_a_terminal_a_bar_says_it_all_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, troubles, rate, rest and cost beside the bar; notices stand above it; at the end it is wiped."""
    pace = Pace(total=40, done=10, to_do=30, cap_pico=5 * 10**12)
    closed = ["openai closed until 06:12:00: too many requests"]
    expected = (
        "30/40 rows",
        "1 failed",
        "rows/s",
        " left",
        "$0.02 of $5.00",
        closed[0],
        "promptkit: a notice",
    )
    with terminal(monkeypatch) as seen, show_progress(Cli(), pace, lambda: closed) as note:
        for number in range(20):
            note.add(result(number, Status.FAILED if number == 3 else Status.OK))
        note.tick()
        Cli().notice("a notice")
        wait_for(lambda: all(text in seen.decode(errors="ignore") for text in expected))
    assert seen.decode().rstrip().endswith("\x1b[2K")


def test_on_a_terminal_a_download_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of how many, and how fast."""
    with terminal(monkeypatch) as seen, show_download(Cli(), "weights") as told:
        told(5 * 10**6, 10 * 10**6)
        wait_for(lambda: "5.0/10.0 MB" in seen.decode(errors="ignore"))


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        (Variable("x", choices=("a", "b")), "a, b"),
        (Variable("x", Kind.BOOLEAN), "true, false"),
        (Variable("x", Kind.INTEGER), "integer"),
        (Variable("x", Kind.INTEGER, minimum=1, maximum=1_000_000), "1 to 1,000,000"),
        (Variable("x", Kind.NUMBER, minimum=0.5), "at least 0.5"),
        (Variable("x"), "string"),
        (Variable("x", max_length=80), "up to 80 characters"),
        (Variable("x", Kind.LIST, min_length=1, max_length=3), "1 to 3 items"),
    ],
)
def test_what_a_variable_takes_is_said_in_few_words(variable: Variable, text: str) -> None:
    """For the table of `templates show`."""
    assert takes(variable) == text


def test_a_table_has_a_line_a_row() -> None:
    """A separator of lines that is no newline (U+2028, from a text) begins none."""
    text = Table(("one", "two"), [("a\u2028b", "c\x85d")]).text(color=False)
    assert text.count("\n") == 2


def test_a_table_off_a_terminal_is_never_cut() -> None:
    """Long cells stay whole, numbers stand to the right, and markup is text."""
    lines = Table((">n", "~text"), [("1", "[bold]" + "x" * 500), ("10", "é")]).text(color=False).splitlines()
    assert lines[2] == " 1  [bold]" + "x" * 500
    assert lines[3] == "10  é"


def test_keys_are_taken_out_of_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the configuration, and what the environment calls a key."""
    monkeypatch.setenv("SOME_API_KEY", "sk-from-the-environment")
    monkeypatch.setenv("KEYBOARD", "a-long-harmless-word")
    remember_secrets(["sk-remembered-1", "short"])
    text = "sk-remembered-1 sk-from-the-environment a-long-harmless-word short"
    assert remove_secrets(text) == "[key] [key] a-long-harmless-word short"


def test_an_error_tells_where_what_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    """`file:line: what`, then the remedy; the exit code is the error's."""
    assert (
        report_error(ConfigError("unknown key 'x'", file="promptkit.toml", line=3, remedy="Remove it.")) == 2
    )
    assert capsys.readouterr().err == "promptkit: promptkit.toml:3: unknown key 'x'\n  Remove it.\n"


def test_failures_list_their_attempts(capsys: pytest.CaptureFixture[str]) -> None:
    """Each attempt is a line: target, fault, detail; equal ones in a row are one, with their number."""
    first = Attempt(1, Target("openai", "m"), AttemptState.FAILED, Fault.QUOTA, "429", None, None, 0, 0.1)
    down = replace(first, target=Target("big", "m"), fault=Fault.TRANSIENT, detail="refused")
    attempts = [first, *(replace(down, id=number) for number in range(2, 8)), first]
    assert report_error(AllTargetsFailed("all failed", attempts=attempts)) == 5
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  openai/m: quota: 429",
        "  big/m: transient: refused (x6)",
        "  openai/m: quota: 429",
    ]


@pytest.mark.parametrize("error", [KeyError("x"), PromptKitError("bare")])
def test_what_is_none_of_ours_is_a_bug(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 70 with where to report it; the traceback only with --verbose, and without keys."""
    remember_secrets(["sk-remembered-1"])
    error.__cause__ = ValueError("sk-remembered-1 leaked")
    assert report_error(error) == 70
    assert "Traceback" not in capsys.readouterr().err
    assert report_error(error, verbose=True) == 70
    err = capsys.readouterr().err
    assert type(error).__name__ in err
    assert "[key] leaked" in err


@given(st.integers(0, 2**63 - 1), st.integers(1, 13))
def test_an_id_lies_in_the_range_of_its_beginning(number: int, length: int) -> None:
    """Any prefix of an id finds it, and only ids that begin so."""
    text = show_id(number)
    low, high = id_range(text[:length])
    assert low <= number <= high
    assert (read_id(text), show_id(low)[:length], show_id(min(high, 2**63 - 1))[:length]) == (
        number,
        text[:length],
        text[:length],
    )


@pytest.mark.parametrize("text", ["", "u", "38g0rws6r0evcx", "zzzzzzzzzzzzz"])
def test_what_no_id_begins_with_has_no_range(text: str) -> None:
    """Characters outside the alphabet, too many of them, or none."""
    with pytest.raises(ValueError, match="not an id"):
        id_range(text)


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR and --no-color both say no; so does a pipe."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Cli().may_color
    assert not Cli(no_color=True).may_color
    assert not Cli().color
    monkeypatch.setitem(os.environ, "NO_COLOR", "1")
    assert not Cli().may_color

"""Never lost in its short form: `python3 .ci/start.py harness never_lost` runs its whole length."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import night
import pytest
from doomed import POINTS, find
from never_lost import ENDING, STARTING, WORKING, as_text
from night import Night
from tally import Tally

SHORT = ("--rows", "200", "--kills", "3", "--troubles", "1", "--slots", "8", "--life-s", "0.8")


def test_nothing_is_lost_by_kills_full_disks_and_read_only_databases(tmp_path: Path) -> None:
    """Killed at random and at every point, on full disks and with a read-only database: the same command finishes."""
    told = tmp_path / "told.json"
    script = Path(night.__file__).with_name("never_lost.py")
    ran = subprocess.run(  # noqa: S603 - our own
        [sys.executable, script, *SHORT, "--json", told], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith("\nholds\n")
    report = json.loads(told.read_text("utf-8"))
    assert report["holds"] is True
    killed, full, read_only = report["nights"].values()
    kills: dict[str, int] = killed["kills"]
    assert {*STARTING, *WORKING, "sweep", *ENDING} <= kills.keys()
    assert kills.get("running", 0) + kills.get("starting", 0) == 3
    assert (sum(full["stops"].values()), sum(read_only["stops"].values())) == (3, 3)
    for one in (killed, full, read_only):
        assert one["books"]["known"] == 200
        assert one["requests"] == one["books"]["billed"] == 200 + one["repeated"]
        assert one["paid_again"] == 0


@pytest.fixture(scope="module")
def one_night(tmp_path_factory: pytest.TempPathFactory) -> Generator[Night]:
    """A job of three rows, all made."""
    folder = tmp_path_factory.mktemp("night")
    tally = Tally("test", rows=3, slots=2)
    with Night(folder, folder / "out.csv", tally, seed=1, latency_s=0, cuts=1) as made:
        made.finished(made.start())
        yield made


def test_a_run_that_ends_otherwise_than_it_should_is_found(one_night: Night) -> None:
    one_night.killed(one_night.start(), "nowhere")
    one_night.stopped(one_night.start_doomed("no-room", "start"), "no room", "something else")
    told = [text.split(":")[0] for text in one_night.tally.wrong]
    one_night.tally.wrong.clear()
    assert told == ["nowhere", "no room"]
    assert (one_night.tally.kills, one_night.tally.stops) == ({}, {})


def test_what_is_lost_or_paid_again_is_found(one_night: Night) -> None:
    """The judgement can fail: an output with a row twice, a reply of another row, a request too many."""
    one_night.judge()
    assert one_night.tally.wrong == []
    lines = one_night.out.read_text("utf-8").splitlines(keepends=True)
    one_night.out.write_text("".join([*lines[:2], *lines[1:]]), encoding="utf-8")
    one_night.judge()
    assert "the output has 4 rows of 3" in one_night.tally.wrong.pop()
    one_night.out.write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]), encoding="utf-8")
    one_night.judge()
    assert "the first that differs" in one_night.tally.wrong.pop()
    one_night.out.unlink()
    one_night.database.unlink()
    one_night.finished(one_night.start())
    one_night.judge()
    text = " ".join(one_night.tally.wrong)
    assert "3 requests were sent for rows with a stored reply" in text
    assert "3 rows were sent again without an unknown attempt" in text
    assert "lines of" in text
    assert as_text([one_night.tally]).endswith("DOES NOT HOLD")


@pytest.mark.parametrize("name", POINTS)
def test_every_point_is_a_function_of_the_product(name: str) -> None:
    assert callable(getattr(*find(POINTS[name])))

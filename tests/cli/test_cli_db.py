"""`db prune` and `db forget`: texts go for good, also from the bytes on disk; costs stay."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli_kit import VALUES, Invoke, holding_back, make_project, simulating, started, wait_for
from waiting import HANGS_S

pytestmark = pytest.mark.usefixtures("project")
SECRET = "zanzibar-secret-phrase"


def on_disk(folder: Path, text: str) -> list[str]:
    """The database's files (log and all) whose bytes hold the text."""
    return [
        file.name
        for file in folder.glob("promptkit.db*")
        if file.is_file() and text.encode() in file.read_bytes()
    ]


@pytest.fixture
def made(invoke: Invoke, project: Path) -> str:
    """A batch of 40 rows and a call of Barly with the secret in them, and a call of Lumé; the id of the latter."""
    rows = [
        {
            "brand": "Barly",
            "product": f"{SECRET} {number} " + "x" * 12 * number,
            "audience": "runners",
            "note": SECRET * 40 * number,
        }
        for number in range(40)
    ]
    (project / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert invoke("batch", "ugc/hooks", "many.jsonl", "-o", "o.jsonl", "--tag", "client=barly").code == 0
    first = invoke(
        "run", "ugc/cta", *VALUES, "-v", f"product={SECRET}", "--tag", "client=barly", "--json"
    ).json()
    retake = invoke("retake", first["id"], "--note", SECRET, "--json").json()["id"]
    assert retake
    other = invoke("run", "ugc/cta", *VALUES, "--tag", "client=lume", "--json").json()["id"]
    (project / "o.jsonl").unlink()
    assert on_disk(project, SECRET)
    return other


class TestForget:
    """A client's texts."""

    def test_what_is_forgotten_is_on_disk_no_more_and_costs_are_kept(
        self, invoke: Invoke, project: Path, made: str
    ) -> None:
        """Replies, variables, cells and the texts of retakes go, byte by byte; the report is as it was."""
        before = invoke("report", "--by", "client", "--json").json()
        replies = [call["id"] for call in invoke("log", "-n", "50", "--tag", "client=barly", "--json").json()]
        text = invoke("show", replies[5], "--json").json()["text"][:60]
        with closing(sqlite3.connect(project / "promptkit.db")) as books:  # a reader that stays connected
            assert books.execute("SELECT count(*) FROM calls").fetchone() == (43,)
            ran = invoke("db", "forget", "--tag", "client=barly", "--yes")
        assert (ran.code, ran.err) == (
            0,
            "promptkit: erased the texts of 42 calls and 40 rows; costs are kept\n",
        )
        assert on_disk(project, SECRET) == []
        assert on_disk(project, text) == []
        assert invoke("report", "--by", "client", "--json").json() == before
        page = invoke("show", replies[0])
        assert page.code == 0
        assert "costs are kept" in page.out
        assert "(can't be rendered again: its texts were erased)" in page.out
        assert "(erased)" in page.out
        assert invoke("show", replies[0], "--json").json()["erased"] is not None
        assert invoke("log", "-q", "zanzibar", "--json").json() == []
        assert invoke("show", made, "--json").json()["text"]
        assert invoke("retake", replies[0], "--note", "x").code == 2
        assert (
            invoke("db", "forget", "--tag", "client=barly", "--yes").err
            == "promptkit: there are no such texts\n"
        )

    def test_a_call_goes_with_what_was_made_from_it(self, invoke: Invoke, made: str) -> None:
        """Its retake holds its text: both are erased, nothing else."""
        retake = invoke("log", "--template", "ugc/retake", "--json").json()[0]["id"]
        parent = invoke("show", retake, "--json").json()["parent"]
        told = invoke("db", "forget", "--call", parent, "--yes", "--json").json()
        assert told == {"calls": 2, "rows": 0, "open_calls": 0, "erased": True}
        erased = [one for one in (retake, parent, made) if invoke("show", one, "--json").json()["erased"]]
        assert erased == [retake, parent]

    def test_what_the_reply_cache_served_goes_with_its_original(self, invoke: Invoke, project: Path) -> None:
        """A text that is forgotten is nowhere any more, and serves no call."""
        asked = ("run", "ugc/cta", *VALUES, "-v", f"product={SECRET}", "--cache", "7d", "--json")
        first = invoke(*asked).json()
        served = invoke(*asked).json()
        assert invoke("show", served["id"], "--json").json()["cached_from"] == first["id"]
        assert invoke("db", "forget", "--call", first["id"], "--yes").code == 0
        assert on_disk(project, SECRET) == []
        assert on_disk(project, first["text"][:60]) == []
        again = invoke(*asked).json()
        assert invoke("show", again["id"], "--json").json()["cached_from"] is None

    def test_rows_that_wait_fail_and_are_not_sent(self, invoke: Invoke, project: Path) -> None:
        """A row that was not sent yet has nothing left to send."""
        invoke("batch", "ugc/hooks", "rows.csv", "--job", "n", "--limit", "1", "--tag", "client=barly")
        invoke("db", "forget", "--tag", "client=barly", "--yes")
        with closing(sqlite3.connect(project / "promptkit.db")) as books:
            states = books.execute(
                "SELECT state, count(*) FROM rows GROUP BY state ORDER BY state"
            ).fetchall()
        assert states == [("failed", 2), ("ok", 1)]

    def test_nobody_is_asked_who_can_not_answer(self, invoke: Invoke, project: Path, made: str) -> None:
        """Without a terminal it is refused, with the count; --dry-run only counts."""
        assert made
        ran = invoke("db", "forget", "--tag", "client=barly")
        assert (ran.code, "the texts of 42 calls and 40 rows for good: nothing was erased" in ran.err) == (
            2,
            True,
        )
        assert "would erase" in invoke("db", "forget", "--tag", "client=barly", "--dry-run").err
        assert on_disk(project, SECRET)

    @pytest.mark.parametrize("words", [[], ["--tag", "a=b", "--call", "38g0"]])
    def test_one_of_tag_and_call_is_said(self, invoke: Invoke, made: str, words: list[str]) -> None:
        """Neither everything nor a mixture is meant by mistake."""
        assert made
        ran = invoke("db", "forget", *words, "--yes")
        assert (ran.code, "--tag or --call" in ran.err) == (2, True)


def test_erasing_beside_a_live_batch(
    tmp_path: Path, machine: Path, blank_database: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    """The batch ends with all its rows; what it had read when its texts were forgotten is told, and goes the second time."""
    del machine
    with simulating(seed=7, latency=40) as sim, holding_back(10) as held:
        studio = make_project(tmp_path / "live", sim.url)
        (studio / "promptkit.db").write_bytes(blank_database.read_bytes())
        monkeypatch.chdir(studio)
        lines = [f"Barly,bar {n},runners" if n % 4 else f"Lumé,forget-me-{n},runners" for n in range(120)]
        (studio / "many.csv").write_text("\n".join(["brand,product,audience", *lines]), encoding="utf-8")
        invoke("run", "ugc/cta", *VALUES, "-v", f"product={SECRET}")
        running = started(
            "batch", "ugc/hooks", "many.csv", "-o", "o.csv", "--job", "night", "--tag", "client=@brand",
            "--concurrency", "4", cwd=studio,
        )  # fmt: skip
        wait_for(running, lambda: len(sim.requests()) > 10)
        pruned = invoke("db", "prune", "--older-than", "0s", "--yes")
        forgot = invoke("db", "forget", "--tag", "client=Lumé", "--yes")
        held.let_go()
        out, err = running.communicate(timeout=HANGS_S)
    assert (pruned.code, forgot.code) == (0, 0), (pruned.err, forgot.err)
    assert running.returncode in (0, 1), (out, err)
    assert "job night is running and may still send rows that it has read" in forgot.err
    assert on_disk(studio, SECRET) == []
    rows = invoke("jobs", "show", "night", "--json").json()["rows"]
    assert rows["ok"] + rows["failed"] == 120
    assert rows["failed"] <= 30
    assert (studio / "o.csv").read_text("utf-8").count("\nBarly,") == 90
    again = invoke("db", "forget", "--tag", "client=Lumé", "--yes")
    assert (again.code, "runs" in again.err) == (0, False)
    assert on_disk(studio, "forget-me-") == []


class TestPrune:
    """Old texts."""

    def test_old_texts_go_and_young_ones_stay(self, invoke: Invoke, project: Path, made: str) -> None:
        """By the time at which a call ended."""
        with closing(sqlite3.connect(project / "promptkit.db")) as books:
            books.execute("UPDATE calls SET ended_us = ended_us - 8640000000000 WHERE job_id IS NOT NULL")
            books.execute("UPDATE rows SET ended_us = ended_us - 8640000000000")
            books.commit()
        told = invoke("db", "prune", "--older-than", "90d", "--yes", "--json").json()
        assert told == {"calls": 40, "rows": 40, "open_calls": 0, "erased": True}
        assert invoke("show", made, "--json").json()["text"]
        assert (
            invoke("db", "prune", "--before", "2020-01-01", "--yes").err
            == "promptkit: there are no such texts\n"
        )
        assert len(invoke("log", "-q", "zanzibar", "--json").json()) == 2

    def test_a_job_that_is_not_done_keeps_its_texts(self, invoke: Invoke, project: Path) -> None:
        """Its output is made from them."""
        invoke("batch", "ugc/hooks", "rows.csv", "--job", "n", "--limit", "1")
        with closing(sqlite3.connect(project / "promptkit.db")) as books:
            books.execute("UPDATE calls SET ended_us = 1")
            books.execute("UPDATE rows SET ended_us = 1 WHERE state = 'ok'")
            books.commit()
        assert invoke("db", "prune", "--older-than", "1d", "--dry-run", "--json").json()["calls"] == 0

    @pytest.mark.parametrize(
        "words", [[], ["--before", "1d", "--older-than", "1d"], ["--before", "2999-01-01"]]
    )
    def test_what_is_no_age_is_exit_2(self, invoke: Invoke, made: str, words: list[str]) -> None:
        """One time, in the past."""
        assert made
        assert invoke("db", "prune", *words, "--yes").code == 2

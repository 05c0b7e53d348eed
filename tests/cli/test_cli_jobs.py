"""`jobs`: which there are, how one stands, going on, stopping, writing out again."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_kit import Invoke, Ran, heard, holding_back, make_project, process, simulating, started, wait_for
from waiting import HANGS_S

from promptkit.engine.context import Session
from promptkit.ledger.ledger import Ledger
from promptkit.simulator.server import Simulator

SLOW_MS = 250
BATCH = ("batch", "ugc/hooks", "rows.csv")


@pytest.fixture(scope="module")
def slow() -> Iterator[Simulator]:
    """A simulator that takes its time."""
    with simulating(seed=7, latency=SLOW_MS) as simulator:
        yield simulator


@pytest.fixture
def slow_project(tmp_path: Path, machine: Path, slow: Simulator) -> Path:
    del machine
    folder = make_project(tmp_path / "slow", slow.url)
    write_rows(folder, 200)
    return folder


def write_rows(folder: Path, count: int) -> None:
    rows = "".join(f"Brand {number},bar,runners,{number}\n" for number in range(count))
    (folder / "rows.csv").write_text("brand,product,audience,sku\n" + rows, encoding="utf-8")


@pytest.mark.usefixtures("project")
class TestListed:
    def test_a_job_is_a_line(self, invoke: Invoke) -> None:
        """Name, template, state, rows done, failed and waiting, cost, times."""
        assert "there are no jobs yet" in invoke("jobs", "list").err
        invoke(*BATCH, "-o", "out.csv", "--job", "night", "--limit", "2")
        line = invoke("jobs", "list").out.splitlines()[-1].split()
        assert line[:7] == ["night", "ugc/hooks@1", "open", "3", "2", "0", "1"]
        (told,) = invoke("jobs", "list", "--json").json()
        assert (told["job"], told["state"], told["rows"]["ok"], told["rows"]["pending"]) == (
            "night",
            "open",
            2,
            1,
        )
        assert told["cost_usd"] == told["charged_usd"] != "0"

    def test_states_choose(self, invoke: Invoke) -> None:
        """--state lists only the jobs that stand so."""
        invoke(*BATCH, "-o", "out.csv", "--job", "whole")
        invoke(*BATCH, "-o", "out.csv", "--job", "half", "--limit", "1")
        assert [job["job"] for job in invoke("jobs", "list", "--json").json()] == ["half", "whole"]
        done = invoke("jobs", "list", "--state", "done", "-n", "1", "--json").json()
        assert [job["job"] for job in done] == ["whole"]
        assert "no such job" in invoke("jobs", "list", "--state", "running").err

    def test_a_wrong_name_is_told_the_closest(self, invoke: Invoke) -> None:
        """A name that is no job's: exit 2, and the one that was probably meant."""
        invoke(*BATCH, "-o", "out.csv", "--job", "night-1")
        for command in ("show", "resume", "cancel", "export"):
            ran = invoke("jobs", command, "nigt-1")
            assert (ran.code, "there is no job 'nigt-1'" in ran.err, "'night-1'" in ran.err) == (
                2,
                True,
                True,
            )

    def test_a_date_is_tonights(self, invoke: Invoke) -> None:
        """{date} names a job as --job does."""
        invoke(*BATCH, "-o", "out.csv", "--job", "night-{date}")
        assert invoke("jobs", "show", "night-{date}").code == 0


class TestShown:
    def test_a_page_tells_what_became_of_the_rows(
        self, invoke: Invoke, sim: Simulator, project: Path
    ) -> None:
        """Rows by state, why some failed, each target's share, money and cap, and what to do next."""
        write_rows(project, 3)
        with (project / "rows.csv").open("a", encoding="utf-8") as file:
            file.write(",bar,runners,x\n")
        sim.script([{"provider": "openai", "fault": "http.400", "times": 1}])
        invoke(*BATCH, "-o", "out.csv", "--job", "night", "--target", "openai/gpt-6-luna", "--budget", "2")
        page = invoke("jobs", "show", "night")
        assert page.code == 0
        told = invoke("jobs", "show", "night", "--json").json()
        assert (told["rows"]["invalid"], told["rows"]["failed"]) == (1, 1)
        assert {reason["status"] for reason in told["reasons"]} == {"failed", "invalid"}
        assert told["budget_usd"] == "2"
        assert "4 rows: " in page.out
        assert "1 invalid" in page.out
        assert "openai/gpt-6-luna" in page.out
        assert "correct the invalid rows" in page.out
        assert [share["target"] for share in told["targets"]] == ["openai/gpt-6-luna"]
        assert [row["row"] for row in told["problems"] if row["status"] == "invalid"] == [4]

    def test_requests_in_flight_are_no_unknowns(self, slow_project: Path, slow: Simulator) -> None:
        """A running job says who runs it; what is in flight counts nowhere yet; it is stopped from elsewhere."""
        before = len(slow.requests())
        with holding_back(3) as held:
            running = started(*BATCH, "-o", "out.csv", "--job", "n", "--concurrency", "3", cwd=slow_project)
            wait_for(running, lambda: len(slow.requests()) - before >= 6)
            told = told_of(slow_project, "jobs", "show", "n", "--json").json()
            assert (told["state"], told["process"], told["unknown_attempts"]) == ("running", running.pid, 0)
            ran = told_of(slow_project, "jobs", "cancel", "n")
            assert (ran.code, f"process {running.pid} ends" in ran.err) == (0, True)
            held.let_go()
            _, err = running.communicate(timeout=HANGS_S)
        assert (running.returncode, "job n was cancelled" in err, "jobs resume n" in err) == (8, True, True)
        with Ledger.open(slow_project / "promptkit.db") as ledger:
            job = ledger.jobs.get("n")
            assert job is not None
            counts, asked = ledger.jobs.row_counts(job.id), len(slow.requests()) - before
            assert sum(counts.values()) == 200
            assert asked == sum(counts.values()) - len(list(ledger.jobs.pending_rows(job.id))) < 200
            assert [call.money.unknown for call in ledger.calls.search()][:3] == [0, 0, 0]
        assert [one["state"] for one in told_of(slow_project, "jobs", "list", "--json").json()] == [
            "cancelled"
        ]
        lines = (slow_project / "out.csv").read_text("utf-8").splitlines()
        assert len(lines) == 1 + asked


def told_of(folder: Path, *arguments: str) -> Ran:
    return process(*arguments, cwd=folder)


@pytest.mark.usefixtures("project")
class TestGoingOn:
    def test_a_job_goes_on_without_its_command_line(
        self, invoke: Invoke, sim: Simulator, project: Path
    ) -> None:
        """Rows, template, tags and output come from the ledger; the input file is gone; the output is the same."""
        options = ("--tag", "client=@brand", "--tag", "who=@@me", "-v", "tone=dry", "--budget", "1")
        whole = ("-o", "whole.csv", "--job", "whole")
        tone = ("--map", "brand=brand")
        invoke(*BATCH, *whole, *options[:4], *tone)
        invoke(*BATCH, "-o", "out.csv", "--job", "night", "--limit", "1", *options[:4], *tone, *options[6:])
        (project / "rows.csv").unlink()
        before = len(sim.requests())
        ran = invoke("jobs", "resume", "night")
        assert (ran.code, len(sim.requests()) - before) == (0, 2), ran.err
        told = [
            [row.split(",")[:4] for row in (project / name).read_text("utf-8").splitlines()]
            for name in ("out.csv", "whole.csv")
        ]
        assert told[0] == told[1]
        found = invoke("log", "--job", "night", "--tag", "who=@me", "--json").json()
        assert sorted(call["tags"]["client"] for call in found) == ["Barly", "Klim", "Lumé"]
        assert invoke("jobs", "show", "night", "--json").json()["budget_usd"] == "1"
        again = invoke("jobs", "resume", "night", "--budget", "3", "-o", "elsewhere.jsonl")
        assert (again.code, len(sim.requests()) - before) == (0, 2)
        assert len((project / "elsewhere.jsonl").read_text("utf-8").splitlines()) == 3

    def test_a_cancelled_job_goes_on_only_by_resume(self, invoke: Invoke, sim: Simulator) -> None:
        """Cron's next start of the same command sends nothing, exit 8; `jobs resume` means it."""
        invoke(*BATCH, "-o", "out.csv", "--job", "night", "--limit", "1")
        assert "no process was running it" in invoke("jobs", "cancel", "night").err
        assert "is already cancelled" in invoke("jobs", "cancel", "night").err
        before = len(sim.requests())
        ran = invoke(*BATCH, "-o", "out.csv", "--job", "night")
        assert (ran.code, len(sim.requests()) - before, "jobs resume night" in ran.err) == (8, 0, True)
        assert invoke("jobs", "resume", "night").code == 0
        assert "is already done" in invoke("jobs", "cancel", "night").err
        assert invoke(*BATCH, "-o", "out.csv", "--job", "night").code == 0
        assert len(sim.requests()) - before == 2

    def test_what_storage_erased_needs_its_input(self, invoke: Invoke, project: Path, sim: Simulator) -> None:
        """Rows whose variables are not kept can't be sent from the ledger; the batch command still can."""
        config = (project / "promptkit.toml").read_text("utf-8")
        (project / "promptkit.toml").write_text(config + '[storage]\nvariables = "none"\n', "utf-8")
        sim.script([{"fault": "http.400", "times": 1}])
        invoke(*BATCH, "-o", "out.csv", "--job", "night", "--target", "openai/gpt-6-luna")
        before = len(sim.requests())
        ran = invoke("jobs", "resume", "night", "--retry-failed")
        assert (ran.code, "has erased the variables" in ran.err) == (2, True)
        ran = invoke(
            *BATCH, "-o", "new.csv", "--job", "night", "--target", "openai/gpt-6-luna", "--retry-failed"
        )
        assert (ran.code, len(sim.requests()) - before) == (0, 1)


@pytest.mark.usefixtures("project")
class TestWrittenOut:
    def test_an_output_is_written_again_at_any_time(self, invoke: Invoke, project: Path) -> None:
        """`jobs export` gives what the batch gave, byte by byte, in the input's manner; formats can change."""
        (project / "rows.csv").write_bytes("brand;product;audience\nLumé;crème;peaux\n".encode("cp1252"))
        invoke(*BATCH, "-o", "out.csv", "--job", "night")
        (project / "rows.csv").unlink()
        assert invoke("jobs", "export", "night", "-o", "again.csv").code == 0
        assert (project / "again.csv").read_bytes() == (project / "out.csv").read_bytes()
        streamed = process("jobs", "export", "night", "--format", "jsonl", cwd=project)
        assert (streamed.code, json.loads(streamed.out)["brand"]) == (0, "Lumé")

    def test_the_failed_rows_are_written_out_as_an_input(
        self, invoke: Invoke, sim: Simulator, project: Path
    ) -> None:
        """--failed writes the rows that failed, alone where no -o is given."""
        sim.script([{"fault": "http.400", "times": 1}])
        invoke(*BATCH, "-o", "out.csv", "--job", "night", "--target", "openai/gpt-6-luna")
        ran = invoke("jobs", "export", "night", "--failed", "failed.csv")
        assert (ran.code, ran.out, "wrote 1 failed row to failed.csv" in ran.err) == (0, "", True)
        header, row = (project / "failed.csv").read_text("utf-8").splitlines()
        assert header.startswith("brand,product,audience,sku")
        assert row.count(",") >= 3

    def test_an_export_never_takes_the_inputs_place(self, invoke: Invoke, project: Path) -> None:
        """The input is no output file."""
        invoke(*BATCH, "-o", "out.csv", "--job", "night")
        before = (project / "rows.csv").read_bytes()
        ran = invoke("jobs", "export", "night", "-o", "rows.csv")
        assert (ran.code, "is the input" in ran.err) == (2, True)
        assert (project / "rows.csv").read_bytes() == before


class TestWatched:
    def test_a_job_is_watched_from_another_process(self, slow_project: Path, slow: Simulator) -> None:
        """Lines come while it runs; the watching ends with the job; an interrupt ends only the watching."""
        before = len(slow.requests())
        batch = (*BATCH, "-o", "out.csv", "--job", "n", "--concurrency", "4", "-q")
        with holding_back(120) as held:
            running = started(*batch, cwd=slow_project)
            wait_for(running, lambda: len(slow.requests()) - before >= 4)
            leaving = started("jobs", "watch", "n", cwd=slow_project)
            watching = started("jobs", "watch", "n", "--json", cwd=slow_project)
            heard(leaving.stderr, " of 200 rows, ")
            heard(watching.stderr, " of 200 rows, ")
            leaving.send_signal(signal.SIGINT)
            _, err = leaving.communicate(timeout=HANGS_S)
            assert (leaving.returncode, "job n continues" in err, running.poll()) == (130, True, None)
            told_of(slow_project, "jobs", "cancel", "n")
            held.let_go()
            running.communicate(timeout=HANGS_S)
            out, _ = watching.communicate(timeout=HANGS_S)
        assert (watching.returncode, json.loads(out)["state"]) == (0, "cancelled")

    def test_a_job_that_nobody_runs_is_told_as_it_stands(self, invoke: Invoke, project: Path) -> None:
        """Watching ends at once where no process runs the job."""
        del project
        invoke(*BATCH, "-o", "out.csv", "--job", "night", "--limit", "1")
        ran = invoke("jobs", "watch", "night")
        assert (ran.code, "night is open, and no process runs it: 3 rows: 1 ok, 2 pending" in ran.err) == (
            0,
            True,
        )


@pytest.mark.usefixtures("project")
class TestStoppedEarly:
    def test_a_canary_and_its_code(self, invoke: Invoke, sim: Simulator) -> None:
        """A version that fails is exit 8 after its first row; the rest waits, and --canary 0 sends it."""
        sim.script([{"fault": "http.400", "times": 1}])
        options = ("-o", "out.csv", "--job", "night", "--target", "openai/gpt-6-luna")
        ran = invoke(*BATCH, *options, "--canary", "1", "--max-fail-rate", "0")
        assert (ran.code, "the canary failed: 1 of 1 row" in ran.err, "2 pending" in ran.err) == (
            8,
            True,
            True,
        )
        assert invoke("jobs", "resume", "night").code == 8
        ran = invoke("jobs", "resume", "night", "--canary", "0")
        assert (ran.code, "2 ok" in ran.err) == (1, True)

    def test_a_deadline_and_its_code(
        self, slow_project: Path, slow: Simulator, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
    ) -> None:
        """At the deadline nothing more is sent: exit 8, the output has what was made."""
        before, began_s = len(slow.requests()), time.time()

        def clock() -> float:
            """An hour later as soon as three rows have been made."""
            return began_s + (3600 if len(slow.requests()) - before > 3 else 0)

        defaults = Session.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "clock", clock)
        monkeypatch.chdir(slow_project)
        soon = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
        ran = invoke(*BATCH, "-o", "out.csv", "--job", "d", "--concurrency", "1", "--deadline", soon)
        assert (ran.code, "has passed; nothing more is sent" in ran.err) == (8, True)
        assert 1 <= len((slow_project / "out.csv").read_text("utf-8").splitlines()) < 100

    def test_a_sample_and_its_rest(self, invoke: Invoke, sim: Simulator) -> None:
        """--sample sends so many rows; the same command without it does the rest."""
        before = len(sim.requests())
        assert invoke(*BATCH, "-o", "out.csv", "--job", "night", "--sample", "1", "--seed", "3").code == 0
        assert len(sim.requests()) - before == 1
        assert invoke(*BATCH, "-o", "out.csv", "--job", "night").code == 0
        assert len(sim.requests()) - before == 3


@pytest.mark.usefixtures("project")
class TestRedone:
    def test_rows_are_made_again_as_a_job_of_its_own(self, invoke: Invoke, project: Path) -> None:
        """`jobs redo` writes its own output; both pages name the other."""
        invoke(*BATCH, "-o", "out.csv", "--job", "night", "--tag", "client=barly")
        before = (project / "out.csv").read_bytes()
        ran = invoke(
            *("jobs", "redo", "night", "--template", "@1", "--with", "@1", "-o", "again.csv"),
            *("--job", "again", "--target", "gemini/gemini-2.5-flash-lite", "--budget", "1"),
        )
        assert (ran.code, (project / "out.csv").read_bytes()) == (0, before), ran.err
        lines = (project / "again.csv").read_text("utf-8").splitlines()
        assert [line.count("gemini/gemini-2.5-flash-lite") for line in lines] == [0, 1, 1, 1]
        assert invoke("jobs", "show", "again", "--json").json()["redo_of"] == "night"
        assert "redone by  again" in invoke("jobs", "show", "night").out
        assert len(invoke("log", "--job", "again", "--tag", "client=barly", "--json").json()) == 3
        assert invoke("jobs", "redo", "night", "--with", "@9").code == 3

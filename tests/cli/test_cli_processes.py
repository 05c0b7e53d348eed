"""The command as a process: signals, streams, cron, and keys that must not show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import (
    COMMAND,
    KEYS,
    ROWS,
    VALUES,
    Ran,
    heard,
    holding_back,
    make_project,
    process,
    simulating,
    started,
    wait_for,
)
from waiting import HANGS_S

from promptkit.cli.main import execute
from promptkit.ledger.ledger import Ledger
from promptkit.simulator.server import Simulator
from promptkit.types import AttemptState

STOPPING = "waiting for the calls in flight"


@pytest.fixture(scope="module")
def slow() -> Iterator[Simulator]:
    """A simulator whose replies are held back by some tests."""
    with simulating(seed=7) as simulator:
        yield simulator


@pytest.fixture
def slow_project(tmp_path: Path, machine: Path, slow: Simulator) -> Path:
    del machine
    folder = make_project(tmp_path / "slow", slow.url)
    rows = "".join(f"Brand {number},bar,runners,{number}\n" for number in range(40))
    (folder / "rows.csv").write_text("brand,product,audience,sku\n" + rows, encoding="utf-8")
    return folder


def stopped(folder: Path, sim: Simulator, first: signal.Signals, second: signal.Signals | None = None) -> Ran:
    """Run a batch of four at once, and signal it when its first calls are out.

    Its replies come when it has understood the first signal; where there is a second, never.
    """
    before = len(sim.requests())
    with holding_back() as held:
        running = started(
            "batch", "ugc/hooks", "rows.csv", "-o", "out.csv", "--job", "n", "--concurrency", "4", cwd=folder
        )
        wait_for(running, lambda: len(sim.requests()) - before >= 4)
        running.send_signal(first)
        said = heard(running.stderr, STOPPING)
        if second is None:
            held.let_go()
        else:
            running.send_signal(second)
        out, err = running.communicate(timeout=HANGS_S)
    return Ran(running.returncode, out, said + err)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_calls_in_flight_finish(
    slow_project: Path, slow: Simulator, number: signal.Signals, code: int
) -> None:
    """SIGINT and SIGTERM end a batch with 130 and 143; what was sent is awaited, paid and written."""
    ran = stopped(slow_project, slow, number)
    assert ran.code == code
    assert STOPPING in ran.err
    assert "36 pending; next: run the same command again" in ran.err
    assert len((slow_project / "out.csv").read_text("utf-8").splitlines()) == 1 + 4
    with Ledger.open(slow_project / "promptkit.db") as ledger:
        calls = ledger.calls.search()
        assert [call.money.unknown for call in calls] == [0, 0, 0, 0]


def test_the_second_signal_stops_at_once(slow_project: Path, slow: Simulator) -> None:
    """What was in flight is unknown outcomes, at its ceiling; the job can go on."""
    ran = stopped(slow_project, slow, signal.SIGINT, signal.SIGINT)
    assert (ran.code, "unknown outcomes" in ran.err) == (130, True)
    with Ledger.open(slow_project / "promptkit.db") as ledger:
        calls = [ledger.calls.get(call.id) for call in ledger.calls.search()]
        attempts = [attempt for call in calls if call is not None for attempt in call.attempts]
        assert {attempt.state for attempt in attempts} == {AttemptState.UNKNOWN}
        assert all(attempt.charged_pico == attempt.max_cost_pico for attempt in attempts)
        job = ledger.jobs.get("n")
        assert job is not None
        assert len(list(ledger.jobs.pending_rows(job.id))) == 40


def test_a_call_that_is_interrupted_is_in_the_books(slow_project: Path, slow: Simulator) -> None:
    """`run` under SIGINT ends with 130; the attempt stands there as unknown, and nothing is said of a bug."""
    before = len(slow.requests())
    with holding_back():
        running = started("run", "ugc/hooks", *VALUES, cwd=slow_project)
        wait_for(running, lambda: len(slow.requests()) > before)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=HANGS_S)
    assert (running.returncode, out, "bug" in err) == (130, "", False)
    with Ledger.open(slow_project / "promptkit.db") as ledger:
        (call,) = ledger.calls.search()
        assert call.money.unknown == 1


def test_a_call_under_sigterm_is_143(slow_project: Path, slow: Simulator) -> None:
    """SIGTERM ends `run` like an interrupt, with its own code."""
    before = len(slow.requests())
    with holding_back():
        running = started("run", "ugc/hooks", *VALUES, cwd=slow_project)
        wait_for(running, lambda: len(slow.requests()) > before)
        running.terminate()
        out, err = running.communicate(timeout=HANGS_S)
    assert (running.returncode, out, "charged at its max cost" in err) == (143, "", True)


def test_a_page_that_nobody_reads_is_no_failure(project: Path) -> None:
    """stdout closed before anything was printed: quiet, exit 0."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        ran = process("render", "ugc/hooks", *VALUES, cwd=project, stdout=nobody)
    assert (ran.code, ran.err) == (0, "")


def test_cron_finds_the_same_ledger_and_keys(project: Path, sim: Simulator) -> None:
    """From / with an empty environment, --config alone leads to the project's ledger, keys and templates."""
    assert execute(["batch", "ugc/hooks", "rows.csv", "-o", "here.csv", "--job", "night", "-q"]) == 0
    before = len(sim.requests())
    ran = process(
        *("batch", "ugc/hooks", project / "rows.csv", "-o", project / "cron.csv", "--job", "night"),
        *("--config", project / "promptkit.toml"),
        cwd=Path("/"),
        env={},
    )
    assert (ran.code, len(sim.requests()) - before) == (0, 0), ran.err
    assert "job night is done: 3 rows: 3 ok; nothing was sent" in ran.err
    assert (project / "cron.csv").read_bytes() == (project / "here.csv").read_bytes()
    fresh = process(
        *("run", "ugc/hooks", *VALUES, "--config", project / "promptkit.toml", "-q"), cwd=Path("/"), env={}
    )
    assert (fresh.code, fresh.err, len(sim.requests()) - before) == (0, "", 1)


def test_no_key_shows_in_anything_that_is_written(project: Path, sim: Simulator, tmp_path: Path) -> None:
    """Keys are in no database, log, output, cache or message: not on success, refusal, interruption or a bug."""
    cache = tmp_path / "cache"
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    said = list[str]()
    sim.script(
        [
            {
                "provider": "openai",
                "fault": "openai.unauthorized",
                "message": f"bad key {KEYS['OPENAI_API_KEY']}",
            },
            {"provider": "anthropic", "fault": "wire.reset_after", "times": 1},
        ]
    )
    for arguments in (
        ("batch", "ugc/hooks", "rows.csv", "-o", "out.jsonl", "--format", "jsonl"),
        ("run", "ugc/hooks", *VALUES, "--target", "openai/gpt-6-luna", "--verbose"),
        ("log", "--json"),
        ("doctor", "--json", "--verbose"),
        ("providers", "check", "openai", "--json"),
        ("run", "ugc/hooks", *VALUES, "--json", "-q"),
    ):
        ran = process(*arguments, cwd=project, env=env)
        assert ran.code in {0, 4, 5}, ran.err
        said += [ran.out, ran.err]
    told = "".join(said).encode()
    kept = {
        path: path.read_bytes() for root in (project, cache, tmp_path / "home") for path in files_of(root)
    }
    for key in KEYS.values():
        assert key.encode() not in told
        assert [path.name for path, data in kept.items() if key.encode() in data] == [".env"]
    assert {"promptkit.db", "out.jsonl"} <= {path.name for path in kept}


def files_of(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_reader_that_goes_away_ends_it_quietly(project: Path) -> None:
    """`promptkit ... | head` is no failure: no traceback, no message, and what was sent is kept."""
    many = "".join(f"Brand {number},bar,runners,{number}\n" for number in range(60))
    (project / "rows.csv").write_text("brand,product,audience,sku\n" + many, encoding="utf-8")
    with subprocess.Popen(  # noqa: S603 - our own command
        [COMMAND, "batch", "ugc/hooks", "rows.csv", "--job", "n", "--concurrency", "2", "-q"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline().startswith(b"brand,")
        running.stdout.close()
        err = running.stderr.read()
        code = running.wait(HANGS_S)
    assert (code, err) == (0, b"")
    with Ledger.open(project / "promptkit.db") as ledger:
        assert all(call.money.unknown == 0 for call in ledger.calls.search(100))


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("words", [("--help",), ("providers", "list"), ("providers", "list", "--json")])
def test_a_reader_that_has_gone_before_is_no_failure(
    project: Path, words: tuple[str, ...], buffered: str
) -> None:
    """What is printed for nobody is exit 0, however Python buffers it."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        ran = process(*words, cwd=project, stdout=gone, env={**os.environ, "PYTHONUNBUFFERED": buffered})
    assert (ran.code, "stdout" in ran.err) == (0, False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
class TestFullDisk:
    def test_stdout_that_is_full_is_exit_9(self, project: Path) -> None:
        """A text that can't be printed is said, and is in the ledger."""
        with Path("/dev/full").open("w") as full:
            ran = process("run", "ugc/hooks", *VALUES, "-q", cwd=project, stdout=full)
        assert ran.code == 9
        assert ran.err == "promptkit: stdout is not writable: No space left on device\n"

    @pytest.mark.parametrize("buffered", ["", "1"])
    @pytest.mark.parametrize("words", [(), ("--help",), ("--version",), ("run", "--help"), ("providers",)])
    def test_help_that_can_not_be_printed_is_exit_9(
        self, project: Path, words: tuple[str, ...], buffered: str
    ) -> None:
        """Whatever is printed, and however Python buffers it: the plain message, and no bug."""
        env = {**os.environ, "PYTHONUNBUFFERED": buffered}
        with Path("/dev/full").open("w") as full:
            ran = process(*words, cwd=project, stdout=full, env=env)
        assert (ran.code, ran.err) == (9, "promptkit: stdout is not writable: No space left on device\n")

    def test_rows_that_can_not_be_printed_are_exit_9_and_kept(self, project: Path) -> None:
        """A batch stops when stdout is full; what was paid is in the ledger, and is not paid again."""
        with Path("/dev/full").open("w") as full:
            ran = process("batch", "ugc/hooks", "rows.csv", "--job", "n", "-q", cwd=project, stdout=full)
        assert (ran.code, "nothing is paid twice" in ran.err) == (9, True)
        assert process("batch", "ugc/hooks", "rows.csv", "--job", "n", "-q", cwd=project).code == 0
        with Ledger.open(project / "promptkit.db") as ledger:
            assert len(ledger.calls.search(100)) == 3

    def test_a_file_that_can_not_be_written_is_exit_9(self, project: Path) -> None:
        """-o on a full disk: the results are in the ledger, and the message says how to get them."""
        ran = process("batch", "ugc/hooks", "rows.csv", "-o", "/dev/full", "--format", "csv", cwd=project)
        assert ran.code == 9
        assert "/dev/full: not writable: No space left on device" in ran.err


def test_a_pipe_that_is_never_read_is_not_waited_for(project: Path) -> None:
    """A stdin that never ends hangs no job that doesn't ask for it with `-`."""
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w"):
        done = subprocess.run(  # noqa: S603 - our own command
            [COMMAND, "render", "ugc/hooks", *VALUES],
            cwd=project,
            stdin=read,
            capture_output=True,
            timeout=HANGS_S,
            check=False,
        )
    assert done.returncode == 0


def test_json_survives_a_terminal_that_knows_no_unicode(project: Path) -> None:
    """With an ASCII locale nothing breaks: texts with accents are printed all the same."""
    (project / "rows.csv").write_text(ROWS, encoding="utf-8")
    env = {"LC_ALL": "C", "PATH": os.environ["PATH"], "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = process("batch", "ugc/hooks", "rows.csv", "--format", "jsonl", "-q", cwd=project, env=env)
    assert ran.code == 0
    assert {json.loads(line)["brand"] for line in ran.out.splitlines()} == {"Barly", "Lumé", "Klim"}

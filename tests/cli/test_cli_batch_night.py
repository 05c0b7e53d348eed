"""`batch` as a night runs it: monitors, one line on failure, summaries, a file a row, the list of failed rows."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cli_kit import COMMAND, Invoke, heard, process, started, wait_for
from waiting import HANGS_S

from promptkit.ledger.ledger import Ledger
from promptkit.simulator.server import Simulator

BATCH = ("batch", "ugc/hooks", "rows.csv", "-o", "out.csv")
EXCEL = 'sku;brand;product;audience\na1;Barly;bar;runners\na2;;crème;"peaux; sèches"\n'


def closed_stdin(folder: Path, rows: str) -> tuple[int, str]:
    """What a quiet batch says that has no standard input at all."""
    done = subprocess.run(  # noqa: S603 - our own command
        ["/bin/sh", "-c", f"exec {COMMAND} batch ugc/hooks {rows} -q <&-"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    return done.returncode, done.stderr


class Monitor:
    """A monitor on loopback: what it was asked for."""

    def __init__(self) -> None:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.asked = asked
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/ping/secret-uuid"


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    made = Monitor()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.usefixtures("project")
class TestPing:
    def test_a_monitor_hears_start_success_and_the_exit_code(
        self, invoke: Invoke, monitor: Monitor, sim: Simulator, project: Path
    ) -> None:
        """URL/start, then URL; where rows fail or nothing can begin, URL/CODE. A dry run tells nobody."""
        invoke(*BATCH, "--ping", monitor.url, "--dry-run")
        assert monitor.asked == []
        assert invoke(*BATCH, "--ping", monitor.url).code == 0
        assert monitor.asked == ["/ping/secret-uuid/start", "/ping/secret-uuid"]
        sim.script([{"fault": "reply.refusal", "times": 1}])
        assert invoke(*BATCH, "--ping", f"{monitor.url}?x=1", "--job", "failing").code == 1
        assert monitor.asked[-1] == "/ping/secret-uuid/1?x=1"
        (project / "promptkit.toml").write_text("nonsense = 1\n", encoding="utf-8")
        assert invoke(*BATCH, "--ping", monitor.url).code == 2
        assert monitor.asked[-1] == "/ping/secret-uuid/2"

    def test_a_monitor_that_is_away_fails_no_job(self, invoke: Invoke) -> None:
        """A ping that doesn't get through is said once, without its address."""
        ran = invoke(*BATCH, "--ping", "http://127.0.0.1:9/secret-uuid")
        assert (ran.code, ran.err.count("the ping failed"), "secret-uuid" in ran.err) == (
            0,
            1,
            False,
        )
        assert invoke(*BATCH, "--ping", "nonsense").code == 2

    def test_a_monitor_hears_of_a_stop(self, monitor: Monitor, project: Path, sim: Simulator) -> None:
        """SIGTERM ends the job and says so: URL/143."""
        sim.script([{"fault": "wire.stall", "seconds": 20}])
        before = len(sim.requests())
        running = started(*BATCH, "--ping", monitor.url, cwd=project)
        wait_for(running, lambda: len(sim.requests()) > before and bool(monitor.asked))
        running.send_signal(signal.SIGTERM)
        heard(running.stderr, "waiting for the calls in flight")
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=HANGS_S)
        assert running.returncode == 143
        assert monitor.asked[-1] == "/ping/secret-uuid/143"


@pytest.mark.usefixtures("project")
class TestQuiet:
    def test_failure_is_one_line(self, invoke: Invoke, sim: Simulator) -> None:
        """With -q: what became of the rows, why, and the exit code, in one line; an error before the start too."""
        sim.script([{"fault": "reply.refusal", "times": 1}])
        ran = invoke(*BATCH, "-q")
        assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
        assert "3 rows: 2 ok, 1 refused" in ran.err
        assert ran.err.endswith("exit 1\n")
        ran = invoke("batch", "ugc/hooks", "none.csv", "-q")
        assert (ran.code, ran.err.count("\n"), "none.csv: can't be read" in ran.err) == (2, 1, True)
        ran = invoke("batch", "ugc/hooks", "rows.csv", "-q", "--budget", "0.0001", "--job", "small")
        assert (ran.code, ran.err.count("\n"), "--until-budget" in ran.err) == (6, 1, True)

    def test_stdin_is_never_waited_for(self, project: Path) -> None:
        """A pipe that never ends: a batch of a file doesn't look at it."""
        with subprocess.Popen(  # noqa: S603 - our own command
            [COMMAND, *BATCH, "-q"], cwd=project, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        ) as running:
            assert running.wait(HANGS_S) == 0
            assert running.stderr is not None
            assert running.stderr.read() == b""

    def test_a_closed_stdin_is_missed_only_where_it_is_named(self, project: Path) -> None:
        """Without a standard input a file is read as ever; `-` is an error that says so, no bug."""
        assert closed_stdin(project, "rows.csv -o out.csv") == (0, "")
        code, said = closed_stdin(project, "- --job x")
        assert (code, "standard input is closed" in said) == (2, True)


@pytest.mark.usefixtures("project")
class TestFiles:
    def test_the_summary_is_json_or_text(self, invoke: Invoke, project: Path) -> None:
        """--summary FILE says how it ended, also with -q."""
        assert invoke(*BATCH, "-q", "--summary", "end.json").err == ""
        told = json.loads((project / "end.json").read_text("utf-8"))
        assert (told["rows"]["ok"], told["exit_code"], told["stopped"]) == (3, 0, None)
        assert invoke(*BATCH, "-q", "--summary", "end.txt").code == 0
        assert (project / "end.txt").read_text("utf-8").startswith("exit 0\njob hooks-rows-")

    def test_a_pattern_makes_one_file_a_row(self, invoke: Invoke, project: Path, sim: Simulator) -> None:
        """Columns in braces name a file for each text; the same command again changes nothing."""
        pattern = ("batch", "ugc/hooks", "rows.csv", "-o", "texts/{brand}/{sku}-{language}.txt")
        assert invoke(*pattern, "--each", "language=en,fr").code == 0
        found = {str(path.relative_to(project)): path.stat().st_ino for path in project.glob("texts/*/*")}
        assert len(found) == 6
        assert "texts/Lumé/a2-fr.txt" in found
        assert (project / "texts/Barly/a1-en.txt").read_text("utf-8").strip()
        before = len(sim.requests())
        assert invoke(*pattern, "--each", "language=en,fr").code == 0
        assert len(sim.requests()) == before
        assert found == {
            str(path.relative_to(project)): path.stat().st_ino for path in project.glob("texts/*/*")
        }

    @pytest.mark.parametrize(
        ("pattern", "says"),
        [("{nope}.txt", "no column 'nope'"), ("x/{product}.txt", "a row before it have the same file")],
    )
    def test_names_that_clash_are_refused_before_anything_is_sent(
        self, invoke: Invoke, project: Path, sim: Simulator, pattern: str, says: str
    ) -> None:
        """Two rows never share a file, and a column that isn't there is told."""
        (project / "rows.csv").write_text("brand,product,audience\nA,bar,x\nB,BAR,x\n", encoding="utf-8")
        before = len(sim.requests())
        ran = invoke("batch", "ugc/hooks", "rows.csv", "-o", pattern)
        assert (ran.code, says in ran.err, len(sim.requests())) == (2, True, before)

    def test_failed_rows_are_an_input_once_corrected(
        self, invoke: Invoke, project: Path, sim: Simulator
    ) -> None:
        """--failed FILE has the input's columns, its delimiter and mark, reasons and lines; corrected, it is made."""
        (project / "rows.csv").write_bytes(EXCEL.encode("cp1252"))
        assert invoke(*BATCH, "--failed", "failed.csv", "--each", "language=en,fr", "--key", "sku").code == 1
        data = (project / "failed.csv").read_bytes()
        assert data.startswith(
            b"\xef\xbb\xbfsku;brand;product;audience;language;promptkit_failed;promptkit_failed_at\n"
        )
        text = data.decode("utf-8-sig")
        assert text.count("brand: missing") == 2
        assert "rows.csv:3" in text
        (project / "failed.csv").write_text(
            text.replace("a2;;", "a2;@lume;").replace("a2;'", "a2;"), encoding="utf-8-sig"
        )
        before = len(sim.requests())
        ran = invoke("batch", "ugc/hooks", "failed.csv", "-o", "again.csv", "--strict", "--map", "say=sku")
        assert (ran.code, len(sim.requests()) - before) == (0, 2), ran.err
        again = (project / "again.csv").read_text("utf-8-sig")
        assert "promptkit_failed" not in again
        assert '"peaux; sèches"' in again
        with Ledger.open(project / "promptkit.db") as ledger:
            variables = [
                one.variables
                for one in map(ledger.calls.get, (c.id for c in ledger.calls.search(limit=2)))
                if one
            ]
        assert {f"{(one or {})['brand']}" for one in variables} == {"@lume"}


def test_process_is_quiet_under_cron(project: Path) -> None:
    """No environment but cron's: nothing is said, the file is there."""
    env = {"HOME": str(project), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "studio"}
    ran = process(*BATCH, "-q", "--config", project / "promptkit.toml", cwd=project, env=env)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert (project / "out.csv").exists()

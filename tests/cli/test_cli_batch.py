"""`batch`: rows in, texts out, and a job that can stop and go on."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_kit import ROWS, Invoke, config_for, process

from promptkit.ledger.ledger import Ledger
from promptkit.simulator.server import Simulator

BATCH = ("batch", "ugc/hooks", "rows.csv")


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def sent(sim: Simulator) -> int:
    return len(sim.requests())


@pytest.mark.usefixtures("project")
class TestOutput:
    def test_a_file_has_the_rows_in_the_inputs_order_with_their_columns(
        self, invoke: Invoke, project: Path
    ) -> None:
        """-o writes the input's columns and then text and facts, in the input's order."""
        ran = invoke(*BATCH, "-o", "out.csv")
        rows = table((project / "out.csv").read_text("utf-8"))
        assert (ran.code, ran.out) == (0, "")
        assert [row["sku"] for row in rows] == ["a1", "a2", "a3"]
        assert list(rows[0]) == [
            "brand", "product", "audience", "sku", "text", "status", "error", "cost_usd", "input_tokens",
            "output_tokens", "target", "template", "call",
        ]  # fmt: skip
        assert {row["status"] for row in rows} == {"ok"}
        assert all(row["text"] and float(row["cost_usd"]) > 0 for row in rows)

    def test_without_a_file_results_stream_to_stdout_in_the_inputs_format(self, invoke: Invoke) -> None:
        """Without -o the results go to stdout, as CSV for a CSV."""
        rows = table(invoke(*BATCH).out)
        assert sorted(row["sku"] for row in rows) == ["a1", "a2", "a3"]

    @pytest.mark.parametrize("format_", ["csv", "tsv", "jsonl", "json"])
    def test_every_format_can_be_asked_for(self, invoke: Invoke, project: Path, format_: str) -> None:
        """--format decides for stdout, the file's extension for a file; both say the same."""
        streamed = invoke(*BATCH, "--format", format_, "--job", "same").out
        assert invoke(*BATCH, "-o", f"out.{format_}", "--job", "same").code == 0
        assert sorted((project / f"out.{format_}").read_text("utf-8").split("\n")) == sorted(
            streamed.split("\n")
        )

    def test_rows_of_json_keep_all_columns_that_any_row_has(self, invoke: Invoke, project: Path) -> None:
        """Each JSON row names its own columns; the output has them all."""
        rows: list[dict[str, Any]] = [
            {"brand": "B", "product": "p", "audience": "a"},
            {"brand": "C", "product": "p", "audience": "a", "note": "x"},
        ]
        (project / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        assert invoke("batch", "ugc/hooks", "rows.jsonl", "-o", "out.csv").code == 0
        assert [row["note"] for row in table((project / "out.csv").read_text("utf-8"))] == ["", "x"]

    def test_quotes_and_newlines_in_cells_come_back_as_they_were(self, invoke: Invoke, project: Path) -> None:
        """A cell with quotes, commas and line breaks passes through unharmed."""
        cell = 'say "hi",\nthen wait; é 🌾'
        with (project / "rows.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["brand", "product", "audience", "note"], ["B", "p", "a", cell]])
        assert table(invoke(*BATCH).out)[0]["note"] == cell

    def test_the_output_of_excels_csv_opens_in_excel(self, invoke: Invoke, project: Path) -> None:
        """A cp1252 table with semicolons gives one in UTF-8 with a mark and semicolons, on a second run too."""
        (project / "rows.csv").write_bytes(
            "brand;product;audience\nLumé;crème;peaux sèches\n".encode("cp1252")
        )
        for _ in range(2):
            assert invoke(*BATCH, "-o", "out.csv").code == 0
            written = (project / "out.csv").read_bytes()
            assert written.startswith(b"\xef\xbb\xbfbrand;product;audience;text;")
            assert "Lumé;crème" in written.decode("utf-8-sig")

    def test_stdin_is_read_where_a_dash_says_so(self, project: Path) -> None:
        """`-` reads the rows from standard input; without it stdin isn't touched."""
        ran = process("batch", "ugc/hooks", "-", "--job", "piped", cwd=project, stdin=ROWS)
        assert (ran.code, len(table(ran.out))) == (0, 3)


@pytest.mark.usefixtures("project")
class TestColumns:
    def test_columns_are_mapped_and_constants_fill_the_rest(self, invoke: Invoke, project: Path) -> None:
        """--map names the column of a variable, -v gives one value to all rows."""
        (project / "rows.csv").write_text("Marque,Article\nBarly,bar\n", encoding="utf-8")
        ran = invoke(
            *BATCH, "--map", "brand=Marque", "--map", "product=Article", "-v", "audience=runners", "--json"
        )
        assert ran.code == 0
        page = invoke("show", table(ran.out)[0]["call"]).out
        assert "Brand: Barly\nProduct: bar\nAudience: runners" in page

    def test_each_makes_every_combination_and_goes_on_with_more(
        self, invoke: Invoke, project: Path, sim: Simulator
    ) -> None:
        """--each twice: each row times all combinations, as columns; a value more sends only what is new."""
        before = sent(sim)
        keyed = (*BATCH, "-o", "out.csv", "--key", "sku", "--each", "language=en,fr")
        assert invoke(*keyed, "--each", "angle=problem,proof").code == 0
        rows = table((project / "out.csv").read_text("utf-8"))
        assert [(row["sku"], row["language"], row["angle"]) for row in rows[:4]] == [
            ("a1", "en", "problem"), ("a1", "en", "proof"), ("a1", "fr", "problem"), ("a1", "fr", "proof"),
        ]  # fmt: skip
        assert sent(sim) - before == len(rows) == 12
        (project / "rows.csv").write_text("\n".join([ROWS.splitlines()[0], *ROWS.splitlines()[:0:-1]]) + "\n")
        assert invoke(*keyed, "--each", "angle=transformation,proof,problem").code == 0
        again = table((project / "out.csv").read_text("utf-8"))
        assert (sent(sim) - before, len(again), again[0]["sku"]) == (18, 18, "a3")
        texts = {(row["sku"], row["language"], row["angle"]): row["text"] for row in rows}
        assert (
            texts.items()
            <= {(row["sku"], row["language"], row["angle"]): row["text"] for row in again}.items()
        )

    def test_constants_and_each_alone_make_rows(self, invoke: Invoke, sim: Simulator) -> None:
        """Without a table -v and --each make the rows; the same command again sends nothing."""
        before = sent(sim)
        alone = (
            "batch",
            "ugc/hooks",
            "-v",
            "brand=Barly",
            "-v",
            "product=bar",
            "--each",
            'audience:=["a, b", "c"]',
        )
        assert [row["audience"] for row in table(invoke(*alone).out)] == ["a, b", "c"]
        assert (invoke(*alone).code, sent(sim) - before) == (0, 2)

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (["rows.csv", "--each", "angle"], "is not a variable with its values"),
            (["rows.csv", "--each", "angle=,"], "has no value"),
            (["rows.csv", "--each", "angle=a", "--each", "angle=b"], "twice"),
            (["rows.csv", "--each", "angle:=3"], "is not a list"),
            (["rows.csv", "--each", "angle:=["], "not valid JSON"),
            (["rows.csv", "--each", "brand=a"], "from --each and from a column"),
            ([], "there are no rows"),
        ],
    )
    def test_what_makes_no_rows_is_refused(
        self, invoke: Invoke, sim: Simulator, more: list[str], says: str
    ) -> None:
        """An --each that can't stand is a usage error; nothing is sent."""
        before = sent(sim)
        ran = invoke("batch", "ugc/hooks", *more)
        assert (ran.code, sent(sim) - before, says in ran.err) == (2, 0, True)

    def test_the_encoding_and_the_delimiter_are_said_once(self, invoke: Invoke, project: Path) -> None:
        """What was detected of a table from Excel is said, once; of a plain one there is nothing to say."""
        assert "between cells" not in invoke(*BATCH, "--job", "plain").err
        (project / "rows.csv").write_bytes("brand;product;audience\nLumé;crème;peaux\n".encode("cp1252"))
        assert invoke(*BATCH).err.count("rows.csv: Windows-1252, `;` between cells") == 1

    def test_a_tag_can_be_a_column(self, invoke: Invoke) -> None:
        """--tag K=@COLUMN takes each row's own value."""
        invoke(*BATCH, "--tag", "article=@sku", "--tag", "client=barly")
        found = invoke("log", "--tag", "article=a2", "--tag", "client=barly", "--json").json()
        assert [call["tags"] for call in found] == [{"article": "a2", "client": "barly"}]

    def test_unused_columns_are_said_once_and_refused_by_strict(self, invoke: Invoke, sim: Simulator) -> None:
        """A column that fills nothing passes through, with a word; --strict refuses it and sends nothing."""
        assert "pass through: sku" in invoke(*BATCH).err
        before = sent(sim)
        ran = invoke(*BATCH, "--strict", "--job", "strict")
        assert (ran.code, sent(sim) - before, "'sku'" in ran.err) == (2, 0, True)


@pytest.mark.usefixtures("project")
class TestGoingOn:
    def test_a_finished_job_says_so_and_sends_nothing(
        self, invoke: Invoke, sim: Simulator, project: Path
    ) -> None:
        """The same command again is exit 0, sends nothing and gives the same output."""
        first = invoke(*BATCH, "-o", "out.csv")
        written, before = (project / "out.csv").read_bytes(), sent(sim)
        again = invoke(*BATCH, "-o", "out.csv")
        assert (first.code, again.code, sent(sim) - before) == (0, 0, 0)
        assert "is done: 3 rows: 3 ok; nothing was sent" in again.err
        assert (project / "out.csv").read_bytes() == written

    def test_one_row_is_said_as_one(self, invoke: Invoke, project: Path) -> None:
        """A job of one row has no rows in the plural."""
        (project / "rows.csv").write_text("brand,product,audience,sku\nBarly,bar,runners,a1\n", "utf-8")
        ran = invoke(*BATCH, "-o", "out.csv")
        assert (": 1 row: 1 ok; " in ran.err, "out.csv has 1 row\n" in ran.err) == (True, True)
        assert invoke(*BATCH, "--dry-run").out.startswith("ugc/hooks@1: 1 row, 1 to send\n")

    def test_a_limit_leaves_the_rest_for_the_next_time(
        self, invoke: Invoke, sim: Simulator, project: Path
    ) -> None:
        """--limit N sends N rows, writes them, and says how to go on."""
        before = sent(sim)
        ran = invoke(*BATCH, "-o", "out.csv", "--limit", "2")
        assert (ran.code, sent(sim) - before) == (0, 2)
        assert "out.csv has 2 of 3 rows" in ran.err
        assert "1 pending; next: run the same command again" in ran.err
        assert invoke(*BATCH, "-o", "out.csv").code == 0
        assert sent(sim) - before == 3
        assert len(table((project / "out.csv").read_text("utf-8"))) == 3

    def test_failed_rows_are_exit_1_and_done_again_when_asked(self, invoke: Invoke, sim: Simulator) -> None:
        """A row that is refused stays so until --retry-failed; the others aren't sent again."""
        sim.script([{"fault": "reply.refusal", "times": 1}])
        first = invoke(*BATCH, "--format", "jsonl")
        assert first.code == 1
        assert re.search(r"`promptkit log --job \S+` shows why rows failed", first.err)
        assert sorted(json.loads(line)["status"] for line in first.out.splitlines()) == [
            "ok",
            "ok",
            "refused",
        ]
        sim.script([])
        before = sent(sim)
        assert invoke(*BATCH).code == 0
        assert sent(sim) == before
        assert invoke(*BATCH, "--retry-failed").code == 0
        assert sent(sim) - before == 1

    def test_a_job_that_another_process_runs_is_exit_7(self, invoke: Invoke, project: Path) -> None:
        """Two runs of one job can't overlap."""
        invoke(*BATCH, "--job", "night", "--limit", "0")
        with Ledger.open(project / "promptkit.db") as ledger:
            job = ledger.jobs.get("night")
            assert job is not None
            with ledger.jobs.lock(job):
                ran = invoke(*BATCH, "--job", "night")
        assert (ran.code, "'night' is being run" in ran.err) == (7, True)

    def test_a_name_of_another_template_is_exit_2(self, invoke: Invoke) -> None:
        """A job's name belongs to its template."""
        invoke(*BATCH, "--job", "night", "--limit", "0")
        ran = invoke("batch", "ugc/cta", "rows.csv", "--job", "night")
        assert (ran.code, "makes ugc/hooks, not ugc/cta" in ran.err) == (2, True)

    def test_a_budget_stop_keeps_what_is_done_and_is_exit_6(
        self, invoke: Invoke, sim: Simulator, project: Path
    ) -> None:
        """A cap that runs out ends the job with exit 6; the rows that are done are written."""
        (project / "promptkit.toml").write_text(config_for(sim.url, budgets=""), encoding="utf-8")
        told = invoke(*BATCH, "--dry-run", "--json", "--target", "openai/gpt-6-luna").json()
        tight = (
            "-o",
            "out.csv",
            "--concurrency",
            "1",
            "--budget",
            f"{float(told['worst_usd']) / 3 * 1.02:.6f}",
        )
        ran = invoke(*BATCH, *tight, "--until-budget")
        assert ran.code == 6
        assert "has no room left" in ran.err
        done = len(table((project / "out.csv").read_text("utf-8")))
        assert 0 < done < 3
        assert invoke(*BATCH, "-o", "out.csv", "--budget", "1").code == 0

    def test_no_key_pins_nothing(self, invoke: Invoke, project: Path, sim: Simulator) -> None:
        """Without a usable key nothing is begun: with one, another target can be chosen freely."""
        keys = (project / ".env").read_text("utf-8")
        (project / ".env").write_text("", encoding="utf-8")
        before = sent(sim)
        assert invoke(*BATCH, "-o", "out.csv").code == 4
        assert (sent(sim), (project / "out.csv").exists()) == (before, False)
        (project / ".env").write_text(keys, encoding="utf-8")
        assert invoke(*BATCH, "-o", "out.csv", "--target", "gemini/gemini-2.5-flash-lite").code == 0
        assert "gemini" in (project / "out.csv").read_text("utf-8")


@pytest.mark.usefixtures("project")
class TestTelling:
    def test_the_summary_as_json_is_on_stdout_beside_a_file(self, invoke: Invoke) -> None:
        """--json with -o prints one document: rows by state, money as decimal strings, the exit code."""
        told = invoke(*BATCH, "-o", "out.csv", "--json").json()
        assert (told["total"], told["rows"]["ok"], told["rows"]["pending"], told["exit_code"]) == (3, 3, 0, 0)
        assert told["cost_usd"] == told["charged_usd"]
        assert (told["output"], told["stopped"], told["unknown_attempts"]) == ("out.csv", None, 0)

    def test_the_summary_as_json_is_on_stderr_where_stdout_has_the_rows(self, invoke: Invoke) -> None:
        """Rows and summary never share a stream."""
        ran = invoke(*BATCH, "--json")
        assert len(table(ran.out)) == 3
        assert json.loads(ran.err.splitlines()[-1])["rows"]["ok"] == 3

    def test_quiet_says_nothing_on_success(self, invoke: Invoke) -> None:
        """Under cron, -q is silent unless something is wrong."""
        ran = invoke(*BATCH, "-o", "out.csv", "-q")
        assert (ran.code, ran.out, ran.err) == (0, "", "")

    def test_unknown_costs_are_said_apart(self, invoke: Invoke, sim: Simulator) -> None:
        """A request that was never answered charged at its max cost, and the summary says so."""
        sim.script([{"fault": "wire.reset_after", "times": 1}])
        ran = invoke(*BATCH, "-o", "out.csv")
        assert ran.code == 0
        assert " + up to $0.00" in ran.err
        assert " unknown; " in ran.err

    def test_unknown_outcomes_can_fail_their_rows_instead(self, invoke: Invoke, sim: Simulator) -> None:
        """--on-unknown fail never sends such a row twice."""
        sim.script([{"fault": "wire.reset_after", "times": 1}])
        before = sent(sim)
        ran = invoke(*BATCH, "-o", "out.csv", "--on-unknown", "fail")
        assert (ran.code, sent(sim) - before) == (1, 3)

    def test_a_dry_run_prices_and_sends_nothing(self, invoke: Invoke, sim: Simulator, project: Path) -> None:
        """--dry-run reads, checks and prices the rows: no request, no job; 1 where rows are invalid."""
        before = sent(sim)
        told = invoke(*BATCH, "--dry-run", "--json").json()
        assert (told["rows"], told["to_send"], told["invalid"]) == (3, 3, 0)
        assert told["strategies"][0]["first"] == ["openai/gpt-6-luna"]
        assert 0 < float(told["low_usd"]) < float(told["expected_usd"]) < float(told["worst_usd"]) < 0.1
        (project / "rows.csv").write_text(ROWS + ",bar,runners,a4\n", encoding="utf-8")
        ran = invoke(*BATCH, "--dry-run")
        assert (ran.code, sent(sim)) == (1, before)
        assert "ugc/hooks@1: 4 rows, 3 to send, 1 invalid" in ran.out
        assert "rows.csv:5: row 4 is invalid" in ran.err
        with Ledger.open(project / "promptkit.db") as ledger:
            assert ledger.jobs.newest() == ()

    def test_a_dry_run_renders_every_row(self, invoke: Invoke, project: Path) -> None:
        """A row whose values make no prompt is found before anything is paid."""
        here = project / "templates/my/line"
        here.mkdir(parents=True)
        (here / "draft.jinja").write_text(
            '+++\n[variables.many]\ntype = "integer"\n+++\n'
            '{% message "user" %}{% for one in range(many) %}x{% endfor %}{% endmessage %}\n',
            encoding="utf-8",
        )
        (project / "rows.csv").write_text("many\n3\n99999999\n", encoding="utf-8")
        ran = invoke("batch", "my/line@draft", "rows.csv", "--dry-run")
        assert (ran.code, "2 rows, 1 to send, 1 invalid" in ran.out, "line 3: " in ran.err) == (1, True, True)

    @pytest.mark.parametrize(
        ("arguments", "code", "says"),
        [
            (["-o", "rows.csv"], 2, "rows.csv is the input"),
            (["-o", "hooks.xlsx"], 2, "workbooks are not supported"),
            (["-o", "none/out.csv"], 9, "mkdir -p none"),
            (["-o", "."], 9, "is a folder"),
            (["--map", "brand"], 2, "is not a variable and its column"),
            (["--map", "brnd=brand"], 2, "did you mean 'brand'"),
            (["--key", "nosuch"], 2, "no column 'nosuch'"),
            (["--concurrency", "0"], 2, "--concurrency"),
            (["--format", "xlsx"], 2, "--format"),
            (["-v", "brand=x"], 2, "comes from -v and from column"),
        ],
    )
    def test_what_can_not_be_is_refused_before_anything_is_sent(
        self, invoke: Invoke, sim: Simulator, arguments: list[str], code: int, says: str
    ) -> None:
        """Each wrong argument has its exit code and a message that helps; nothing was paid."""
        before = sent(sim)
        ran = invoke(*BATCH, *arguments)
        assert (ran.code, says in ran.err, sent(sim)) == (code, True, before), ran.err

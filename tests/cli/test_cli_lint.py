"""`templates lint` and `templates test`: findings, formats, exit codes, results, replays."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from cli_kit import Invoke

from promptkit.simulator.server import Simulator

CLEAN = """+++
description = "One line"
[variables.brand]
description = "Brand name"
max_length = 80
[params]
max_output_tokens = 2000
reasoning = "low"
+++
{% message "user" %}
One line for {{ brand }}.
{% endmessage %}
"""
TESTS = """
[[tests]]
name = "Barly"
variables = { brand = "Barly" }
snapshot = true
contains = ["Barly"]
[tests.reply]
min_words = 3

[[tests]]
name = "Lumé"
variables = { brand = "Lumé" }
max_tokens = 3
not_contains = ["Barly"]
"""


def write(name: str, text: str, file: str = "draft.jinja") -> Path:
    folder = Path("templates", name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text, "utf-8")
    return folder / file


# ------------------------------------------------------------------------------- lint


@pytest.mark.usefixtures("project")
class TestLint:
    """`promptkit templates lint`."""

    def test_nothing_to_say(self, invoke: Invoke) -> None:
        """A clean template prints nothing on stdout, the count on stderr, and leaves with 0."""
        write("ad/line", CLEAN)
        ran = invoke("templates", "lint", "--strict")
        assert (ran.code, ran.out) == (0, "")
        assert ran.err == "promptkit: 1 template: 0 errors, 0 warnings\n"

    def test_an_error_is_three_and_a_warning_only_with_strict(self, invoke: Invoke) -> None:
        """Exit 3 for errors; warnings pass unless asked otherwise. One broken file hides no other."""
        write("ad/line", CLEAN.replace('description = "One line"\n', ""))
        assert invoke("templates", "lint").code == 0
        assert invoke("templates", "lint", "--strict").code == 3
        write("ad/broken", CLEAN.replace("{% endmessage %}", "{% endmesage %}"))
        ran = invoke("templates", "lint")
        assert ran.code == 3
        assert "templates/ad/broken/draft.jinja:12: error PK601 not a valid template" in ran.out
        assert "templates/ad/line/draft.jinja:1: warning PK104 no description\n    Say what" in ran.out
        assert ran.err.endswith("2 templates: 1 error, 1 warning\n")

    def test_json(self, invoke: Invoke) -> None:
        """`--json` and `--format json` print the same list of findings."""
        write("ad/line", CLEAN.replace("{{ brand }}", "us"))
        ran = invoke("templates", "lint", "ad/line", "--format", "json")
        (one,) = ran.json()
        assert ran.out == invoke("templates", "lint", "ad/line", "--json").out
        assert one | {"file": None} == {
            "code": "PK102",
            "rule": "unused-variable",
            "severity": "warning",
            "template": "ad/line@draft",
            "file": None,
            "line": 3,
            "what": "the variable brand is declared and never used",
            "remedy": "Use it in the text, or remove its declaration: callers provide it for nothing.",
        }

    def test_github(self, invoke: Invoke) -> None:
        """Workflow commands, with what they keep for themselves escaped."""
        write("ad/line", CLEAN.replace("One line for", "100 % {x}").replace("{{ brand }}", "{{ y }}"))
        ran = invoke("templates", "lint", "ad/line", "--format", "github")
        assert ran.out == (
            "::error file=templates/ad/line/draft.jinja,line=11,title=PK101 undeclared-variable"
            "::unknown variable 'y'%0ADeclare [variables.y] in "
            f"{Path.cwd()}/templates/ad/line/draft.jinja.\n"
        )

    def test_escapes_of_github(self, invoke: Invoke) -> None:
        """A colon in a property and a percent sign in a text are escaped."""
        write("ad/line", CLEAN.replace('reasoning = "low"', 'reasoning = "low"\n[lint]\nPK999 = "100 %"'))
        out = invoke("templates", "lint", "--format", "github").out
        assert out.startswith(
            "::error file=templates/ad/line/draft.jinja,line=10,title=PK702 unknown-switch::"
        )

    def test_your_own_unless_all(self, invoke: Invoke) -> None:
        """Without REF only the project's folders are linted; `--all` adds the shipped kit."""
        write("ad/line", CLEAN)
        assert "1 template:" in invoke("templates", "lint").err
        ran = invoke("templates", "lint", "--all")
        assert "28 templates: 0 errors" in ran.err
        assert "demo/hook" in ran.out

    def test_what_is_not_there(self, invoke: Invoke) -> None:
        """A template that doesn't exist is a finding without a file."""
        ran = invoke("templates", "lint", "ad/nothing")
        assert ran.code == 3
        assert ran.out.startswith("ad/nothing: error PK601 no template named ad/nothing")

    def test_seals_of_all_versions(self, invoke: Invoke) -> None:
        """A version that was changed after it was published is found, though it is not the newest; not where another
        one is named."""
        draft = write("ad/line", CLEAN)
        assert invoke("templates", "publish", "ad/line").code == 0
        draft.write_text(CLEAN.replace("One line for", "One short line for"))
        assert invoke("templates", "publish", "ad/line").code == 0
        v1 = draft.with_name("v1.jinja")
        v1.write_text(CLEAN.replace("One line for", "Two lines for"))
        ran = invoke("templates", "lint")
        assert ran.code == 3
        assert "v1.jinja: error PK602 ad/line@1 was changed after it was published" in ran.out
        assert invoke("templates", "lint", "ad/line").out == ran.out
        assert invoke("templates", "lint", "ad/line@2").code == 0
        versions = draft.with_name("versions.toml")
        versions.write_text(versions.read_text().replace("[seals]", "<<<<<<< HEAD\n[seals]"))
        conflict = invoke("templates", "lint")
        assert conflict.out.count("PK602") == 1
        assert "conflict" in conflict.out

    def test_a_model_that_is_gone(self, invoke: Invoke, sim: Simulator) -> None:
        """What the last call learned of a model is told; another route has nothing to fear."""
        write("ad/line", CLEAN)
        sim.script(["openai.not_found"])
        assert invoke("run", "ad/line@draft", "-v", "brand=Barly").code == 0
        ran = invoke("templates", "lint")
        assert (ran.code, ran.out.count("PK501")) == (3, 1)
        assert "openai/gpt-6-luna, on the route 'default', no longer exists" in ran.out
        assert invoke("templates", "lint", "--target", "gemini/gemini-2.5-flash-lite").code == 0

    def test_a_ledger_that_cannot_be_read(self, invoke: Invoke) -> None:
        """Lint needs no ledger: what it can't learn, it says."""
        write("ad/line", CLEAN)
        Path("promptkit.db").write_bytes(b"no database at all" * 100)
        ran = invoke("templates", "lint")
        assert ran.code == 0
        assert "whether models are gone is unknown" in ran.err

    def test_no_ledger_is_made(self, invoke: Invoke) -> None:
        """Linting writes nothing."""
        write("ad/line", CLEAN)
        Path("promptkit.db").unlink()
        assert invoke("templates", "lint").code == 0
        assert not Path("promptkit.db").exists()

    def test_from_elsewhere_files_are_named_in_full(
        self, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that isn't below the working folder is told by its whole path."""
        file = write("ad/line", CLEAN.replace('description = "One line"\n', "")).resolve()
        config = Path("promptkit.toml").resolve()
        monkeypatch.chdir(tmp_path)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert invoke("templates", "lint", "--config", config).out.startswith(f"{file}:1: warning PK104")


# ------------------------------------------------------------------------------- test


@pytest.mark.usefixtures("project")
class TestTest:
    """`promptkit templates test`."""

    def test_prompts_then_snapshots(self, invoke: Invoke) -> None:
        """A first run misses its snapshot, `--update` keeps it, a change of text is then seen."""
        draft = write("ad/line", CLEAN)
        write("ad/line", TESTS.replace("max_tokens = 3\n", ""), "tests.toml")
        ran = invoke("templates", "test")
        assert ran.code == 3
        assert "tests.toml:3: ad/line@draft, Barly (prompt):\n    there is no snapshot" in ran.out
        assert invoke("templates", "test", "--update").code == 0
        assert draft.with_name("snapshots").joinpath("barly.txt").read_text() == (
            "--- user ---\nOne line for Barly.\n"
        )
        again = invoke("templates", "test")
        assert again.code == 0
        assert again.err == (
            "promptkit: 2 passed, 0 failed; 1 with expectations on replies, which --route NAME tests\n"
        )
        draft.write_text(CLEAN.replace("One line", "Two lines"))
        changed = invoke("templates", "test", "ad/line@draft")
        assert changed.code == 3
        assert "    -One line for Barly.\n    +Two lines for Barly.\n" in changed.out

    def test_what_fails_is_told_in_json_and_junit(self, invoke: Invoke) -> None:
        """The same results in three forms."""
        write("ad/line", CLEAN)
        write("ad/line", TESTS, "tests.toml")
        ran = invoke("templates", "test", "--update", "--json", "--junit", "r.xml")
        assert ran.code == 3
        barly, lume = ran.json()
        assert (barly["result"], barly["note"], barly["cost_usd"]) == ("ok", "snapshot written", "0")
        assert lume["problems"] == ["about 9 tokens; at most 3 are expected"]
        suite = fromstring(Path("r.xml").read_text("utf-8"))[0]  # noqa: S314 - our own file
        assert suite.attrib["failures"] == "1"
        assert [case.attrib["name"] for case in suite] == ["Barly (prompt)", "Lumé (prompt)"]
        assert suite[1][0].attrib["message"] == lume["problems"][0]

    def test_templates_that_break(self, invoke: Invoke) -> None:
        """A template or a tests.toml that doesn't load is a failed test; the others are run."""
        write("ad/line", CLEAN)
        write("ad/line", TESTS.replace("max_tokens = 3\n", ""), "tests.toml")
        write("ad/broken", CLEAN)
        write("ad/broken", "[[tests]]\n", "tests.toml")
        write("ad/worse", "{% message")
        results = invoke("templates", "test", "--json", "--update").json()
        assert [(one["template"], one["result"]) for one in results] == [
            ("ad/broken@draft", "fail"),
            ("ad/worse@draft", "fail"),
            ("ad/line@draft", "ok"),
            ("ad/line@draft", "ok"),
        ]

    def test_no_tests(self, invoke: Invoke) -> None:
        """Nothing to run is no failure, and is said."""
        write("ad/line", CLEAN)
        ran = invoke("templates", "test")
        assert (ran.code, ran.out) == (0, "")
        assert (
            ran.err == "promptkit: no tests: write them into tests.toml, beside the versions of a template\n"
        )

    def test_the_shipped_kit(self, invoke: Invoke) -> None:
        """`--all` runs the kit's own tests; a REF of the kit runs those of one."""
        assert " 58 passed, 0 failed" in invoke("templates", "test", "--all").err
        assert " 6 passed, 0 failed" in invoke("templates", "test", "ugc/hooks").err

    def test_replies_are_paid_once(self, invoke: Invoke, sim: Simulator) -> None:
        """The price is said first; the second run replays, and a change of parameters asks again."""
        draft = write("ad/line", CLEAN)
        write("ad/line", TESTS, "tests.toml")
        before = len(sim.requests())
        first = invoke("templates", "test", "--route", "default", "--update", "--json")
        assert first.err.startswith(
            "promptkit: 0 stored replies; 1 call to openai/gpt-6-luna, anthropic/claude-haiku-5-5, "
        )
        reply = first.json()[2]
        assert (reply["stage"], reply["result"], reply["note"]) == ("reply", "ok", "openai/gpt-6-luna")
        assert float(reply["cost_usd"]) > 0
        assert len(sim.requests()) == before + 1
        second = invoke("templates", "test", "--route", "default", "--json")
        assert second.err.startswith("promptkit: 1 stored reply; nothing to pay\n")
        assert second.json()[2]["note"] == "openai/gpt-6-luna, replayed"
        assert second.json()[2]["cost_usd"] == "0"
        assert len(sim.requests()) == before + 1
        draft.write_text(CLEAN.replace('description = "One line"', 'description = "Another word for it"'))
        assert "nothing to pay" in invoke("templates", "test", "--route", "default").err
        draft.write_text(CLEAN.replace("2000", "2001"))
        assert "1 call to" in invoke("templates", "test", "--route", "default").err
        assert "1 call to" in invoke("templates", "test", "--route", "default", "--fresh").err
        assert len(sim.requests()) == before + 3
        logged = invoke("log", "--tag", "test=ad/line", "--json").json()
        assert len(logged) == 3

    def test_a_cap_stops_with_six(self, invoke: Invoke) -> None:
        """`--budget` is a hard cap of the whole run."""
        write("ad/line", CLEAN)
        write("ad/line", TESTS.replace("max_tokens = 3\n", ""), "tests.toml")
        arguments = ("templates", "test", "--route", "default", "--update")
        assert invoke(*arguments, "--budget", "0.000001").code == 6
        assert invoke(*arguments, "--budget", "1").code == 0

    def test_no_key_is_four_and_replays_need_none(self, invoke: Invoke) -> None:
        """Without a key nothing can be asked; what is stored is still tested."""
        write("ad/line", CLEAN)
        write("ad/line", TESTS.replace("max_tokens = 3\n", ""), "tests.toml")
        arguments = ("templates", "test", "--target", "openai/gpt-6-luna", "--update")
        keys = Path(".env").read_text()
        Path(".env").write_text("")
        assert invoke(*arguments).code == 4
        Path(".env").write_text(keys)
        assert invoke(*arguments).code == 0
        Path(".env").write_text("")
        assert invoke(*arguments).code == 0

    def test_when_every_target_fails(self, invoke: Invoke, sim: Simulator) -> None:
        """A call that nothing answered is a failed test, and what it cost counts."""
        write("ad/line", CLEAN)
        write("ad/line", TESTS.replace("max_tokens = 3\n", ""), "tests.toml")
        sim.script(["openai.bad_request"])
        ran = invoke("templates", "test", "--target", "openai/gpt-6-luna", "--update", "--json")
        assert ran.code == 3
        assert "failed, the last" in ran.json()[2]["problems"][0]

    def test_functions_only_where_allowed(self, invoke: Invoke) -> None:
        """Code of the project's folder runs with `--allow-code` alone; without it the test is skipped."""
        write("ad/line", CLEAN)
        function = (
            '[[tests]]\nname = "code"\nvariables = { brand = "x" }\n[tests.reply]\nfunction = "checks:ran"\n'
        )
        write("ad/line", function, "tests.toml")
        Path("checks.py").write_text(
            "from pathlib import Path\ndef ran(text, variables):\n    Path('ran').touch()\n    return 'not ' + variables['brand']\n"
        )
        arguments = ("templates", "test", "--route", "default", "--json", "--junit", "r.xml")
        skipped = invoke(*arguments)
        assert (skipped.code, skipped.json()[1]["result"]) == (0, "skipped")
        assert "1 skipped" in skipped.err
        assert "<skipped" in Path("r.xml").read_text()
        assert not Path("ran").exists()
        allowed = invoke(*arguments, "--allow-code")
        assert allowed.json()[1]["problems"] == ["checks:ran: not x"]
        assert Path("ran").exists()
        Path("checks.py").unlink()
        assert invoke(*arguments, "--allow-code").code == 2

    def test_structured_replies(self, invoke: Invoke) -> None:
        """A reply is held against the template's own schema, another one, and paths."""
        front = '[output]\ntype = "object"\nrequired = ["title"]\nadditionalProperties = false\nproperties.title = { type = "string" }\n[params]'
        write("ad/line", CLEAN.replace("[params]", front))
        case = '[[tests]]\nname = "{}"\nvariables = {{ brand = "x" }}\n[tests.reply]\n{}\n'
        write(
            "ad/line",
            case.format("own", 'schema = true\njson = [{ path = "$.title" }]')
            + case.format("other", 'schema = { required = ["body"] }'),
            "tests.toml",
        )
        results: list[Any] = invoke("templates", "test", "--route", "default", "--json").json()[2:]
        assert [one["problems"] for one in results] == [[], ["$: 'body' is a required property"]]
        assert results[1]["cost_usd"] == "0", "the same call serves both"

    def test_results_that_cannot_be_written(self, invoke: Invoke) -> None:
        """A JUnit file that can't be written is exit 9."""
        write("ad/line", CLEAN)
        assert invoke("templates", "test", "--junit", "no/such/folder.xml").code == 9

    def test_tables_are_for_people(self, invoke: Invoke) -> None:
        """The table names template, test, stage and result."""
        write("ad/line", CLEAN)
        write("ad/line", TESTS, "tests.toml")
        ran = invoke("templates", "test", "--update")
        assert ran.out.splitlines()[0].split() == ["template", "test", "of", "result", "note"]
        assert "ad/line@draft  Lumé   prompt  fail" in ran.out

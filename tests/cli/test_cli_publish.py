"""The life of a template, command by command: new, publish, promote, rollback, diff, and what show tells."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_kit import COMMAND, Invoke, process
from waiting import HANGS_S

from promptkit.cli.views.labels import user_name

NAME = "clips/opening"
TESTS = """
[[tests]]
name = "tea"
variables = { product = "tea" }
contains = ["tea"]
[[tests]]
name = "coffee"
variables = { product = "coffee", tone = "dry" }
contains = ["coffee"]
[[tests]]
name = "too long"
variables = { product = "" }
error = "product"
"""


@pytest.fixture
def draft(project: Path, invoke: Invoke) -> Path:
    """A new draft in the project."""
    assert invoke("templates", "new", NAME).code == 0
    return project / "templates" / NAME / "draft.jinja"


@pytest.fixture
def published(draft: Path, invoke: Invoke) -> Path:
    """Its folder, with versions 1 and 2, and the first in production."""
    assert invoke("templates", "publish", NAME).code == 0
    edit(draft, "12 words", "9 words")
    assert invoke("templates", "publish", NAME).code == 0
    assert invoke("templates", "promote", f"{NAME}@1", "production").code == 0
    return draft.parent


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def texts(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["what"]: entry["diff"] for entry in entries}


class TestNew:
    def test_a_draft_renders_at_once_and_lint_finds_nothing(self, draft: Path, invoke: Invoke) -> None:
        assert "first line of a short vertical video" in invoke("render", NAME).out
        assert invoke("templates", "lint", f"{NAME}@draft", "--strict").code == 0
        assert draft.read_text().startswith("+++\n# Front matter")

    def test_it_says_where_it_is_and_what_comes_next(self, project: Path, invoke: Invoke) -> None:
        ran = invoke("templates", "new", "a")
        assert ran.out == f"{project / 'templates/a/draft.jinja'}\n"
        assert "promptkit templates publish a" in ran.err

    def test_nothing_is_overwritten(self, draft: Path, invoke: Invoke) -> None:
        draft.write_text("mine")
        ran = invoke("templates", "new", NAME)
        assert (ran.code, draft.read_text()) == (3, "mine")
        assert "left unchanged" in ran.err

    def test_a_shipped_skeleton_comes_with_its_versions(self, project: Path, invoke: Invoke) -> None:
        ran = invoke("templates", "new", "ugc/script", "--from", "ugc/script@1", "--json")
        file = project / "templates/ugc/script/draft.jinja"
        assert ran.json() == {
            "name": "ugc/script",
            "file": str(file),
            "from": "ugc/script@1",
            "versions": [1],
        }
        assert invoke("templates", "publish", "ugc/script").out == "ugc/script@1\n"
        edit(file, "You write the script", "You write the whole script")
        refused = invoke("templates", "publish", "ugc/script")
        assert (refused.code, "the prompt differs from the snapshot" in refused.err) == (3, True)
        assert invoke("templates", "test", "ugc/script@draft", "--update").code == 0
        assert invoke("templates", "publish", "ugc/script").out == "ugc/script@2\n"
        assert "copied with its versions: 1" in invoke("templates", "new", "ugc/cta", "--from", "ugc/cta").err


class TestPublish:
    def test_the_draft_becomes_a_version_once(self, draft: Path, invoke: Invoke) -> None:
        ran = invoke("templates", "publish", NAME)
        assert (ran.code, ran.out) == (0, f"{NAME}@1\n")
        again = invoke("templates", "publish", NAME)
        assert (again.code, again.out) == (0, f"{NAME}@1\n")
        assert "nothing is new" in again.err
        assert invoke("templates", "publish", NAME, "--json").json() == {
            "template": f"{NAME}@1",
            "file": str(draft.with_name("v1.jinja")),
            "new": False,
            "pinned": {},
        }

    def test_it_says_what_it_pinned(self, draft: Path, invoke: Invoke) -> None:
        edit(draft, "[variables.tone]", "[variables.language]\ndefault = 'en'\n[variables.tone]")
        edit(draft, "Answer with", '{% include "shared/family-safe" %}\nAnswer with')
        ran = invoke("templates", "publish", NAME)
        assert 'include "shared/family-safe" is pinned to "shared/family-safe@1"' in ran.err
        assert '{% include "shared/family-safe@1" %}' in draft.with_name("v1.jinja").read_text()
        assert '{% include "shared/family-safe" %}' in draft.read_text()

    def test_lint_errors_refuse(self, draft: Path, invoke: Invoke) -> None:
        edit(draft, "[variables.avoid]", '[lint]\nPK999 = "because"\n[variables.avoid]')
        ran = invoke("templates", "publish", NAME)
        assert ran.code == 3
        assert "isn't published" in ran.err
        assert not draft.with_name("v1.jinja").exists()

    def test_lint_warnings_are_counted(self, draft: Path, invoke: Invoke) -> None:
        edit(draft, 'description = "First line of a short video"\n', "")
        ran = invoke("templates", "publish", NAME)
        assert ran.code == 0
        assert f"lint: 1 warning; `promptkit templates lint {NAME}@draft` lists them" in ran.err

    def test_failing_tests_refuse(self, draft: Path, invoke: Invoke) -> None:
        draft.with_name("tests.toml").write_text(TESTS.replace('["coffee"]', '["cocoa"]'))
        ran = invoke("templates", "publish", NAME)
        assert ran.code == 3
        assert "test 'coffee': the prompt doesn't contain \"cocoa\"" in ran.err
        assert not draft.with_name("v1.jinja").exists()

    def test_shipped_skeletons_stay(self, project: Path, invoke: Invoke) -> None:
        assert project.exists()
        ran = invoke("templates", "publish", "ugc/script")
        assert ran.code == 3
        assert "can't be changed" in ran.err


class TestLabels:
    def test_a_label_moves_and_comes_back(self, published: Path, invoke: Invoke) -> None:
        ran = invoke("templates", "promote", f"{NAME}@2", "production", "--reason", "retention up")
        assert ran.out == f"{NAME} production: 1 -> 2\n"
        assert "9 words" in invoke("render", NAME).out
        again = invoke("templates", "promote", f"{NAME}@2", "production")
        assert (again.out, "was already there" in again.err) == (f"{NAME} production: 2\n", True)
        back = invoke("templates", "rollback", NAME, "production", "--reason", "too short", "--json").json()
        assert back.pop("at")[:2] == "20"
        assert back.pop("by")
        assert back == {
            "template": NAME,
            "new": True,
            "label": "production",
            "from": 2,
            "to": 1,
            "why": "too short",
            "forced": False,
            "rollback": True,
        }
        assert "12 words" in invoke("render", NAME).out
        assert (published / "versions.toml").read_text().count("{ label") == 3
        assert invoke("templates", "rollback", NAME, "production").code == 3

    def test_failing_tests_refuse_unless_forced_with_a_reason(self, published: Path, invoke: Invoke) -> None:
        (published / "tests.toml").write_text(TESTS.replace('["coffee"]', '["cocoa"]'))
        promote = ("templates", "promote", f"{NAME}@2", "production")
        ran = invoke(*promote)
        assert ran.code == 3
        assert "test 'coffee'" in ran.err
        assert invoke(*promote, "--force").code == 2
        assert invoke(*promote, "--force", "--reason", " ").code == 2
        forced = invoke(*promote, "--force", "--reason", "launch today")
        assert forced.code == 0
        assert "in spite of: test 'coffee'" in forced.err
        assert 'why = "launch today", forced = true' in (published / "versions.toml").read_text()

    def test_who_moved_it_is_known_by_git(
        self, published: Path, project: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        git = shutil.which("git")
        assert git is not None
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        for arguments in (("init", "-q"), ("config", "user.name", "Ana Müller")):
            subprocess.run([git, *arguments], cwd=project, check=True)  # noqa: S603 - git itself
        invoke("templates", "promote", f"{NAME}@2", "staging")
        assert 'by = "Ana Müller"' in (published / "versions.toml").read_text()

    def test_who_moved_it_is_else_the_user_of_the_machine(
        self, published: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setenv("LOGNAME", "ben")
        invoke("templates", "promote", f"{NAME}@2", "staging")
        assert 'by = "ben"' in (published / "versions.toml").read_text()

    def test_who_is_at_work_is_always_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
            monkeypatch.setenv(name, "")
        monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
        assert user_name(tmp_path / "gone") == "user 4000000"

    def test_show_tells_labels_and_their_history(self, published: Path, invoke: Invoke) -> None:
        assert published.exists()
        invoke("templates", "promote", f"{NAME}@2", "production", "--reason", "retention up")
        invoke("templates", "rollback", NAME, "production")
        shown = invoke("templates", "show", NAME).out
        assert "1 production, 2, draft" in shown
        moves = [line.split() for line in shown.splitlines() if line.startswith("production")]
        assert [move[1:4] for move in moves] == [["2", "->", "1"], ["1", "->", "2"], ["nothing", "->", "1"]]
        assert moves[0][-1] == "rollback"
        assert "retention up" in shown
        history = invoke("templates", "show", NAME, "--json").json()["history"]
        assert [(move["from"], move["to"], move["rollback"]) for move in history] == [
            (None, 1, False),
            (1, 2, False),
            (2, 1, True),
        ]
        assert "label" not in invoke("templates", "show", "ugc/script").out


class TestDiff:
    def test_production_beside_the_draft(self, published: Path, invoke: Invoke) -> None:
        edit(published / "draft.jinja", "max_length = 300", "max_length = 200")
        ran = invoke("templates", "diff", NAME)
        assert ran.code == 0
        assert ran.out.startswith(
            f"{NAME}@1 -> {NAME}@draft\n\nvariables\n  ~ product.max_length: 300 -> 200\n"
        )
        assert "\nsource: system message\n@@ -1,2 +1,2 @@\n-You write" in ran.out
        assert "\nprompt of 'made-up values': system message\n" in ran.out
        assert "Per call, old -> new (mean of 1 example)" in ran.out
        assert "openai/gpt-6-luna" in ran.out
        assert "\x1b" not in ran.out

    def test_two_versions_as_json(self, published: Path, invoke: Invoke) -> None:
        found = invoke("templates", "diff", f"{NAME}@1", "@2", "--json").json()
        digests = [side["template_digest"] for side in (found["old"], found["new"])]
        assert all(digest in (published / "versions.toml").read_text() for digest in digests)
        assert (found["same"], found["changes"]) == (False, [])
        assert "+You write" in texts(found["source"])["system message"]
        (prompt,) = found["prompts"]
        assert list(texts(prompt["messages"])) == ["system message"]
        assert (prompt["made_up"], prompt["problems"]) == ([], [None, None])
        assert prompt["input_tokens"] == found["input_tokens"]
        cost = {one["target"]: one for one in found["cost"]}["openai/gpt-6-luna"]
        assert cost["max_output_tokens"] == [2000, 2000]
        assert all(
            float(low) < float(high)
            for low, high in zip(cost["input_usd"], cost["with_all_output_usd"], strict=True)
        )

    def test_the_saved_examples_are_rendered(self, published: Path, invoke: Invoke) -> None:
        (published / "tests.toml").write_text(TESTS)
        found = invoke("templates", "diff", f"{NAME}@1", f"{NAME}@2", "--json").json()
        assert [one["example"] for one in found["prompts"]] == ["tea", "coffee"]
        assert "(mean of 2 examples)" in invoke("templates", "diff", f"{NAME}@1", f"{NAME}@2").out

    def test_the_same_twice(self, published: Path, invoke: Invoke) -> None:
        assert published.exists()
        ran = invoke("templates", "diff", f"{NAME}@1", f"{NAME}@1")
        assert (ran.code, ran.out) == (0, f"{NAME}@1 -> {NAME}@1\nno differences\n")

    def test_what_cannot_be_rendered_says_why(self, published: Path, invoke: Invoke) -> None:
        draft = published / "draft.jinja"
        edit(
            draft,
            "[variables.avoid]",
            "[variables.code]\npattern = '[0-9]{4}'\n[variables.size]\n[variables.avoid]",
        )
        edit(draft, "Tone: {{ tone }}", "Tone: {{ tone }} {{ code }} {{ size }}")
        out = invoke("templates", "diff", NAME).out
        assert "prompt of 'made-up values' can't be rendered" in out
        assert "A call" not in out
        edit(draft, "pattern = '[0-9]{4}'", "max_length = 4")
        out = invoke("templates", "diff", NAME).out
        assert "prompt of 'made-up values': placeholders for code, size" in out
        assert "+Tone: warm [cod [size]" in out
        assert '  + code: {"name": "code"' in out

    def test_a_price_that_is_not_known_is_said(self, published: Path, invoke: Invoke) -> None:
        assert published.exists()
        target = ("--target", "nvidia/some-model")
        assert "unknown (2,000 tokens)" in invoke("templates", "diff", f"{NAME}@1", "@2", *target).out
        found = invoke("templates", "diff", f"{NAME}@1", "@2", *target, "--json").json()
        assert found["cost"][0]["input_usd"] == [None, None]

    def test_partials_have_text_alone(self, project: Path, invoke: Invoke) -> None:
        folder = project / "templates/shared/mood"
        folder.mkdir(parents=True)
        (folder / "draft.jinja").write_text("Calm.")
        assert invoke("templates", "publish", "shared/mood").code == 0
        (folder / "draft.jinja").write_text("Loud.")
        assert invoke("templates", "diff", "shared/mood").out == (
            "shared/mood@1 -> shared/mood@draft\n\nsource: text\n@@ -1 +1 @@\n-Calm.\n+Loud.\n"
        )

    def test_a_moved_pin_changes_variables(self, project: Path, invoke: Invoke) -> None:
        """`show` and `diff` name the partial that declares a variable."""
        partial, folder = project / "templates/shared/mood", project / "templates/clips/mood"
        for path in (partial, folder):
            path.mkdir(parents=True)
        (folder / "draft.jinja").write_text(
            '+++\n[variables.brand]\n+++\n{% message "user" %}{{ brand }} {% include "shared/mood" %}{% endmessage %}'
        )
        for longest in (20, 30):
            (partial / "draft.jinja").write_text(
                f"+++\n[variables.mood]\nmax_length = {longest}\ndefault = 'calm'\n+++\n{{{{ mood }}}}"
            )
            for name in ("shared/mood", "clips/mood"):
                assert invoke("templates", "publish", name).code == 0
        out = invoke("templates", "diff", "clips/mood@1", "@2").out
        assert "\nvariables\n  ~ mood.max_length: 20 -> 30 (shared/mood@2)\n" in out
        (change,) = invoke("templates", "diff", "clips/mood@1", "@2", "--json").json()["changes"]
        assert change == {
            "path": ["variables", "mood", "max_length"],
            "how": "changed",
            "old": 20,
            "new": 30,
            "from": "shared/mood@2",
        }
        shown = {
            line.split()[0]: line.split()[-1]
            for line in invoke("templates", "show", "clips/mood").out.splitlines()
            if line
        }
        assert (shown["variable"], shown["brand"], shown["mood"]) == ("from", "(required)", "shared/mood@2")
        variables = invoke("templates", "show", "clips/mood", "--json").json()["variables"]
        assert [(each["name"], each["from"]) for each in variables] == [
            ("brand", None),
            ("mood", "shared/mood@2"),
        ]
        (folder / "draft.jinja").write_text(
            '+++\n[variables.brand]\n+++\n{% message "user" %}{{ brand }}{% endmessage %}'
        )
        ran = invoke("templates", "diff", "clips/mood@2", "@draft")
        assert ran.code == 0, ran.err
        out = ran.out
        assert '  - mood: {"name": "mood"' in out
        assert " (shared/mood@2)\n" in out
        (folder / "draft.jinja").write_text('{% message "user" %}none{% endmessage %}')
        assert "\nvariables\n  - value: {" in invoke("templates", "diff", "clips/mood@2", "@draft").out

    def test_what_is_gone_and_other_sizes_are_told(self, published: Path, invoke: Invoke) -> None:
        draft = published / "draft.jinja"
        edit(draft, "max_output_tokens = 2000", "max_output_tokens = 3000")
        edit(draft, 'reasoning = "low"\n', "")
        edit(draft, "Product:", "Product, to be shown in the very first second of the video:")
        out = invoke("templates", "diff", NAME).out
        assert '  - reasoning: "low"' in out
        assert "(2,000 -> 3,000 tokens)" in out

    def test_a_long_value_is_cut_for_people(self, published: Path, invoke: Invoke) -> None:
        edit(published / "draft.jinja", "First line of a short video", "long " * 100)
        out = invoke("templates", "diff", NAME).out
        assert "…" in next(line for line in out.splitlines() if line.startswith("  ~ value:"))

    def test_a_terminal_has_colours(self, published: Path, project: Path) -> None:
        assert published.exists()
        env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
        code = (
            "import pty, sys, os; out = []\n"
            "def read(fd):\n data = os.read(fd, 65536); out.append(data); return data\n"
            "sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], read)))"
        )
        done = subprocess.run(  # noqa: S603 - our own command on a terminal
            [sys.executable, "-c", code, COMMAND, "templates", "diff", f"{NAME}@1", "@2"],
            cwd=project,
            env=env,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=HANGS_S,
            check=True,
        )
        assert b"\x1b[32m+You write" in done.stdout
        assert b"\x1b[36m@@" in done.stdout

    def test_there_is_nothing_to_compare_with(self, project: Path, published: Path, invoke: Invoke) -> None:
        (published / "draft.jinja").unlink()
        assert invoke("templates", "diff", NAME).code == 3
        assert invoke("templates", "new", "fresh").code == 0
        ran = invoke("templates", "diff", "fresh")
        assert (ran.code, "nothing of fresh is published" in ran.err) == (3, True)
        assert project.exists()


def test_two_commands_at_once_never_make_one_version_twice(
    draft: Path, project: Path, invoke: Invoke
) -> None:
    """Real processes that publish and promote at the same time leave whole files and every move."""
    assert invoke("templates", "publish", NAME).code == 0
    edit(draft, "12 words", "9 words")
    commands = [("publish", NAME)] * 2 + [("promote", f"{NAME}@1", label) for label in ("a", "b", "c")]
    running = [
        subprocess.Popen(  # noqa: S603 - our own command
            [COMMAND, "templates", *arguments],
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        for arguments in commands
    ]
    outs = [one.communicate(timeout=HANGS_S)[0] for one in running]
    assert [one.returncode for one in running] == [0] * 5
    assert outs[:2] == [f"{NAME}@2\n"] * 2
    shown = json.loads(process("templates", "show", NAME, "--json", cwd=project).out)
    assert (shown["versions"], shown["labels"]) == ([1, 2], {"a": 1, "b": 1, "c": 1})


class TestWhatMergesAndCrashesLeave:
    """What is wrong with versions is told by lint with file and line, and by the command that meets it."""

    def test_a_file_without_its_seal(self, published: Path, invoke: Invoke) -> None:
        left = published / "v3.jinja"
        left.write_bytes((published / "draft.jinja").read_bytes() + b"\n")
        ran = invoke("templates", "lint")
        assert ran.code == 3
        assert "clips/opening/v3.jinja: error" in ran.out
        assert "publishing never ended" in ran.out
        (published / "draft.jinja").write_bytes(left.read_bytes())
        assert invoke("templates", "publish", NAME).out == f"{NAME}@3\n"
        assert invoke("templates", "lint").code == 0

    def test_a_seal_without_its_file(self, published: Path, invoke: Invoke) -> None:
        (published / "v2.jinja").unlink()
        ran = invoke("templates", "lint")
        assert (ran.code, "clips/opening/versions.toml:6: error" in ran.out) == (3, True)
        assert "git checkout" in ran.out

    def test_a_conflict(self, published: Path, invoke: Invoke) -> None:
        file = published / "versions.toml"
        edit(file, "[labels]", "<<<<<<< HEAD\n[labels]")
        for command in (("run", NAME), ("templates", "lint"), ("templates", "promote", f"{NAME}@2", "a")):
            ran = invoke(*command)
            assert ran.code == 3
            assert "clips/opening/versions.toml:8" in ran.out + ran.err
            assert "Keep the lines of both sides" in ran.out + ran.err

    def test_moves_out_of_order(self, published: Path, invoke: Invoke) -> None:
        file = published / "versions.toml"
        edit(file, " },\n]\n", ' },\n  { label = "production", to = 2, at = 2020-01-01T00:00:00Z },\n]\n')
        ran = invoke("templates", "lint")
        assert ran.code == 3
        assert "clips/opening/versions.toml:11: error" in ran.out
        assert "order of their times" in ran.out

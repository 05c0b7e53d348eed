"""`run` and `render`: one text, one prompt, and the exit code that says how it went."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_kit import VALUES, Invoke

from promptkit.simulator.server import Simulator


@pytest.mark.usefixtures("project")
class TestRun:
    def test_the_text_is_on_stdout_and_what_it_took_on_stderr(self, invoke: Invoke) -> None:
        """`run` prints the text; target, tokens, cost and id go to stderr."""
        ran = invoke("run", "ugc/hooks", *VALUES)
        assert (ran.code, ran.out.count("\n")) == (0, 1)
        assert ran.err.startswith("promptkit: openai/gpt-6-luna, ")
        assert "$0.0" in ran.err

    def test_quiet_says_nothing(self, invoke: Invoke) -> None:
        """With -q only the text is printed."""
        assert invoke("run", "ugc/hooks", *VALUES, "-q").err == ""

    def test_json_is_what_the_interface_promises(self, invoke: Invoke) -> None:
        """`run --json` has all fields of the interface; money is a decimal string."""
        told = invoke("run", "ugc/hooks", *VALUES, "--json", "--tag", "client=barly").json()
        assert list(told) == [
            "id", "text", "target", "served_model", "template", "template_digest", "prompt_digest", "status",
            "usage", "cost_usd", "charged_usd", "latency_s", "attempts", "tags",
        ]  # fmt: skip
        assert list(told["usage"]) == [
            "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
        ]  # fmt: skip
        assert (told["target"], told["status"], told["tags"]) == (
            "openai/gpt-6-luna",
            "ok",
            {"client": "barly"},
        )
        assert told["cost_usd"] == told["charged_usd"] == told["attempts"][0]["cost_usd"]
        assert float(told["cost_usd"]) > 0

    def test_a_fallback_shows_every_attempt(self, invoke: Invoke, sim: Simulator) -> None:
        """Where the first target fails, the next answers, and --json tells both attempts."""
        sim.script([{"provider": "openai", "fault": "openai.unauthorized"}])
        told = invoke("run", "ugc/hooks", *VALUES, "--json").json()
        assert [(one["target"], one["state"], one.get("fault")) for one in told["attempts"]] == [
            ("openai/gpt-6-luna", "failed", "auth"),
            ("anthropic/claude-haiku-5-5", "ok", None),
        ]

    def test_every_target_failing_is_told_one_by_one(self, invoke: Invoke, sim: Simulator) -> None:
        """Exit 5 lists each attempt: target, fault, and what the provider said."""
        sim.script(["openai.server_error", "anthropic.api_error", "gemini.internal"])
        ran = invoke("run", "ugc/hooks", *VALUES)
        assert ran.code == 5
        assert "  gemini/gemini-2.5-flash-lite: transient: 500" in ran.err

    def test_keys_that_are_refused_everywhere_are_exit_4(self, invoke: Invoke, sim: Simulator) -> None:
        """Where every provider refuses its key, the exit code says so."""
        sim.script(["openai.unauthorized"])
        ran = invoke("run", "ugc/hooks", *VALUES, "--target", "openai/gpt-6-luna")
        assert (ran.code, "every key was refused" in ran.err) == (4, True)

    def test_a_cap_without_room_is_exit_6_and_sends_nothing(self, invoke: Invoke, sim: Simulator) -> None:
        """A budget below the ceiling refuses the call before anything is sent."""
        before = len(sim.requests())
        ran = invoke("run", "ugc/hooks", *VALUES, "--budget", "0.0001")
        assert (ran.code, len(sim.requests()) - before) == (6, 0)
        assert "has no room left" in ran.err

    @pytest.mark.parametrize(
        ("arguments", "code", "says"),
        [
            (["ugc/hoks", *VALUES], 3, "ugc/hooks"),
            (["ugc/hooks@9", *VALUES], 3, "ugc/hooks has: 1"),
            (["ugc/hooks"], 3, "brand: missing"),
            (["ugc/hooks", "-v", "brand"], 2, "is not a variable"),
            (["ugc/hooks", "-v", "brand:={"], 2, "not valid JSON"),
            (["ugc/hooks", "--vars", "none.json"], 2, "none.json: not readable"),
            (["ugc/hooks", "--vars", "list.json"], 2, "list.json: must contain one JSON object"),
            (["ugc/hooks", "--vars", "rows.csv"], 2, "rows.csv: not valid JSON"),
            (["ugc/hooks", "--vars", "latin.json"], 2, "latin.json: not a UTF-8 text"),
            (["ugc/hooks", *VALUES, "--route", "defualt"], 2, "Did you mean 'default'?"),
            (["ugc/hooks", *VALUES, "--target", "openai"], 2, "provider/model"),
            (["ugc/hooks", *VALUES, "--tag", "client"], 2, "is not a tag, such as client=barly"),
            (["ugc/hooks", *VALUES, "--budget", "much"], 2, "is not an amount in USD, such as 2.50"),
            (["ugc/hooks", *VALUES, "--budget", "-1"], 2, "budget"),
            (["ugc/hooks", *VALUES, "--config", "none.toml"], 2, "promptkit init"),
            (["ugc/hooks", "--colour"], 2, "no such option"),
        ],
    )
    def test_what_is_wrong_is_said_with_a_remedy(
        self, invoke: Invoke, arguments: list[str], code: int, says: str
    ) -> None:
        """A wrong argument has its exit code, and a message that helps."""
        Path("list.json").write_text("[1]", encoding="utf-8")
        Path("latin.json").write_bytes(b'{"brand": "Lum\xe9"}')
        ran = invoke("run", *arguments)
        assert (ran.code, ran.out) == (code, "")
        assert says.lower() in ran.err.lower()


class TestRender:
    def test_it_needs_no_project(
        self, invoke: Invoke, machine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`render` works in an empty folder, and leaves it empty: no network, no database."""
        folder = machine / "empty"
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder)
        ran = invoke("render", "ugc/hooks", *VALUES)
        assert ran.code == 0
        assert ran.out.startswith("--- system ---\n")
        assert "--- user ---\nBrand: Barly" in ran.out
        assert not list(folder.iterdir())
        assert not (machine / "data").exists()

    def test_json_has_messages_and_digests(self, invoke: Invoke, project: Path) -> None:
        """`render --json` gives roles and texts with both digests, the prompt's equal to that of `run`."""
        del project
        told = invoke("render", "ugc/hooks", *VALUES, "--json").json()
        assert [message["role"] for message in told["messages"]] == ["system", "user"]
        assert told["prompt_digest"] == invoke("run", "ugc/hooks", *VALUES, "--json").json()["prompt_digest"]

    def test_variables_come_from_files_too(self, invoke: Invoke, project: Path) -> None:
        """--vars reads JSON or TOML, K=@FILE a text, K:=JSON a value; -v wins."""
        (project / "v.json").write_text(json.dumps({"brand": "Lumé", "product": "cream", "count": 2}))
        (project / "v.toml").write_text('brand = "Lumé"\nproduct = "cream"\ncount = 2\n', encoding="utf-8")
        (project / "who.txt").write_text("people with dry skin", encoding="utf-8")
        more = ("-v", "audience=@who.txt", "-v", "count:=3")
        first = invoke("render", "ugc/hooks", "--vars", "v.json", *more).out
        assert first == invoke("render", "ugc/hooks", "--vars", "v.toml", *more).out
        for expected in ("Brand: Lumé", "Audience: people with dry skin", "Number of hooks: 3"):
            assert expected in first

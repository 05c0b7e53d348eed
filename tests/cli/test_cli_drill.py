"""The command `drill`: an outage rehearsed with the user's own configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_kit import ROWS, Invoke

from promptkit.simulator.server import Simulator

CONFIG = """\
database = "sqlite:///promptkit.db"
[budgets]
per_job_usd = 1
[routes.default]
targets = ["openai/gpt-6-luna", "anthropic/claude-haiku-5-5", "gemini/gemini-2.5-flash-lite"]
[routes.alone]
targets = ["openai/gpt-6-luna"]
max_wait_s = 5
outage_s = 5
[providers.openai]
timeout_s = 30
"""


@pytest.fixture(autouse=True)
def studio_folder(tmp_path: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a key, at the providers' real addresses."""
    del machine
    (tmp_path / "promptkit.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "rows.csv").write_text(ROWS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return tmp_path


def by_name(told: Any) -> dict[str, Any]:
    return {one["scenario"]: one for one in told["scenarios"]}


def test_a_route_that_stands_every_outage_is_clean(studio_folder: Path, invoke: Invoke) -> None:
    """Each outage of the first provider, two at once and five minutes of all three: nothing lost, exit 0."""
    names = (
        "well",
        "down",
        "silent:openai",
        "throttled:openai",
        "credit:openai",
        "cut:openai",
        "stream",
        "all",
    )
    scenarios = [text for name in names for text in ("--scenario", name)]
    ran = invoke("drill", "ugc/hooks", "rows.csv", "--json", "--calls", "3", "--concurrency", "2", *scenarios)
    assert ran.code == 0, ran.out
    told = ran.json()
    assert told["clean"] is True
    assert told["change"] == []
    found = by_name(told)
    assert len(found) == 15
    for one in found.values():
        assert (one["answered"], one["lost"], one["paid_twice"], one["hints_ignored"]) == (3, 0, 0, 0)
    # In the time that was played: what a real night would have taken.
    assert found["silent:openai"]["first_answer_s"] >= 30
    assert found["all"]["first_answer_s"] >= 300
    assert found["down:openai"]["requests"] > 3
    assert found["stream:openai"]["requests"] > 3
    assert found["stream:gemini"]["requests"] == 3
    assert "openai, anthropic, gemini have none" in told["notes"][0]
    assert "timeout" not in "".join(told["notes"])
    assert not (studio_folder / "promptkit.db").exists()


def test_a_route_that_does_not_is_told_what_to_change(invoke: Invoke) -> None:
    ran = invoke(
        "drill",
        "ugc/hooks",
        "--route",
        "alone",
        "--calls",
        "2",
        "--scenario",
        "credit",
        "--scenario",
        "throttled",
    )
    assert ran.code == 1
    assert "openai throttles for 60 s, with a retry-after hint: passed" in ran.err
    assert "2 of 2" in ran.out
    assert (
        "change: all calls go to openai alone: add a target at another provider to [routes.alone]" in ran.out
    )
    assert "note: outage_s = 5 is shorter than the 60 s" in ran.out
    assert ran.out.endswith("verdict: failed\n")
    assert "openai is out of credit: 2 rows lost" in ran.err


def test_the_last_resort_is_played_too(studio_folder: Path, invoke: Invoke) -> None:
    """Without the embedded model on the machine, and its rows counted apart."""
    config = CONFIG.replace("max_wait_s = 5\n", 'max_wait_s = 5\nlast_resort = "local/smollm2-135m"\n')
    (studio_folder / "promptkit.toml").write_text(config, encoding="utf-8")
    ran = invoke(
        "drill", "ugc/hooks", "--route", "alone", "--calls", "2", "--scenario", "down:openai", "--json"
    )
    assert ran.code == 0
    one = by_name(ran.json())["down:openai"]
    assert (one["answered"], one["degraded"], one["lost"], one["first_answer_s"]) == (0, 2, 0, None)


def test_caps_hold_in_a_drill_and_are_named(studio_folder: Path, invoke: Invoke) -> None:
    (studio_folder / "promptkit.toml").write_text(CONFIG.replace("= 1\n", "= 0.0001\n"), encoding="utf-8")
    ran = invoke("drill", "ugc/hooks", "--scenario", "well", "--calls", "2", "--json")
    assert ran.code == 1
    told = ran.json()
    assert told["scenarios"][0]["waiting"] == 2
    assert any("Raise that cap" in text for text in told["change"])


def test_the_first_skeleton_of_the_project_is_drilled(studio_folder: Path, invoke: Invoke) -> None:
    draft = studio_folder / "templates" / "a" / "line" / "draft.jinja"
    draft.parent.mkdir(parents=True)
    draft.write_text(
        '+++\n[variables.brand]\n+++\n{% message "user" %}{{ brand }}{% endmessage %}', encoding="utf-8"
    )
    ran = invoke("drill", "--scenario", "well", "--calls", "1", "--json", "-q")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json()["template"] == "a/line@draft"


def test_the_list_plays_nothing(invoke: Invoke) -> None:
    ran = invoke("drill", "--list")
    assert ran.code == 0
    assert "down:openai+gemini" in ran.out
    listed = invoke("drill", "--list", "--json", "--route", "alone").json()
    assert [one["scenario"] for one in listed][:2] == ["well", "down:openai"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scenario", "dwon"), "Did you mean 'down'?"),
        (("--route", "nowhere"), "unknown route"),
        (("ugc/hooks", "empty.csv"), "has no rows"),
    ],
)
def test_what_can_not_be_played_is_a_usage_error(
    studio_folder: Path, invoke: Invoke, arguments: tuple[str, ...], said: str
) -> None:
    (studio_folder / "empty.csv").write_text("brand,product,audience\n", encoding="utf-8")
    ran = invoke("drill", *arguments)
    assert ran.code == 2
    assert said in ran.err


def test_the_user_s_own_simulator_hears_nothing(project: Path, sim: Simulator, invoke: Invoke) -> None:
    """Addresses of the configuration aren't asked, and the ledger stays as it is."""
    before = (len(sim.requests()), (project / "promptkit.db").read_bytes())
    ran = invoke("drill", "ugc/hooks", "--scenario", "well", "--calls", "2")
    assert ran.code == 0
    assert (len(sim.requests()), (project / "promptkit.db").read_bytes()) == before


def test_rows_are_streamed_as_a_job_would_send_them(studio_folder: Path, invoke: Invoke) -> None:
    """Cells are bound as in a batch, rows that can't be are no calls, and a route without another target loses the rest."""
    (studio_folder / "rows.csv").write_text(f"{ROWS},,,a4\n", encoding="utf-8")
    names = ("--scenario", "stream:openai", "--calls", "4", "--tag", "client=@brand", "--json")
    ran = invoke("drill", "ugc/hooks", "rows.csv", "--route", "alone", *names)
    assert ran.code == 1
    [one] = ran.json()["scenarios"]
    assert (one["answered"], one["lost"], one["paid_twice"]) == (0, 3, 0)
    assert 3 <= one["requests"] <= 3 * 6
    assert any("add a target at another provider" in text for text in ran.json()["change"])

"""`log` and `show`: what was done, found again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli_kit import VALUES, Invoke

from promptkit.simulator.server import Simulator

pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def made(invoke: Invoke, sim: Simulator, project: Path) -> list[str]:
    """Four calls: three rows of a job, one of which fell back, and one alone."""
    del project
    sim.script([{"fault": "openai.insufficient_quota", "times": 1}])
    invoke(
        "batch",
        "ugc/hooks",
        "rows.csv",
        "--job",
        "night",
        "--key",
        "sku",
        "--tag",
        "client=barly",
        "--concurrency",
        "1",
    )
    invoke("run", "ugc/cta", *VALUES, "--tag", "client=lume", "--target", "gemini/gemini-2.5-flash-lite")
    return [call["id"] for call in invoke("log", "--json").json()]


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ([], 4),
        (["-n", "2"], 2),
        (["--tag", "client=barly"], 3),
        (["--tag", "client=barly", "--tag", "client=lume"], 1),
        (["--template", "ugc/cta"], 1),
        (["--template", "ugc/hooks@1"], 3),
        (["--target", "gemini"], 1),
        (["--target", "gemini/gemini-2.5-flash-lite"], 1),
        (["--job", "night"], 3),
        (["--key", "a2"], 1),
        (["--since", "1h"], 4),
        (["-q", "people with dry"], 1),
        (["--text", "PROTEIN"], 1),
        (["--fault", "auth"], 0),
    ],
)
def test_every_filter_finds_its_calls(
    invoke: Invoke, made: list[str], arguments: list[str], count: int
) -> None:
    """Each option of `log` narrows the list; -q takes the text to look for."""
    assert len(made) == 4
    assert len(invoke("log", "--json", *arguments).json()) == count


def test_the_log_is_a_table_newest_first(invoke: Invoke, made: list[str]) -> None:
    """A line a call: id, time, template, status, target, tokens, cost, and what it belongs to."""
    lines = invoke("log").out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == made
    assert made == sorted(made, reverse=True)
    assert "client=lume" in lines[2]
    assert "night client=barly" in lines[3]


def test_quiet_is_only_long_in_log(invoke: Invoke, made: list[str]) -> None:
    """In `log` -q takes the text to look for, so that quiet is --quiet there."""
    assert made
    assert invoke("log", "-q", "nowhere to be found").err == "promptkit: no such call\n"
    assert invoke("log", "-q", "nowhere to be found", "--quiet").err == ""


def test_a_call_in_full_proves_its_prompt(invoke: Invoke, made: list[str]) -> None:
    """`show` renders the prompt again from the ledger, and its digest is the recorded one."""
    page = invoke("show", made[0]).out
    for expected in (
        "--- system ---",
        "Brand: Barly",
        "--- reply ---",
        "client=lume",
        "the digest is the same",
    ):
        assert expected in page
    told = invoke("show", made[0], "--json").json()
    assert told["prompt_digest_matches"] is True
    assert told["messages"][1]["content"].startswith("Brand: Barly")
    assert told["attempts"][0]["price_source"].startswith("genai-prices")


def test_every_attempt_is_shown(invoke: Invoke, made: list[str]) -> None:
    """A call that was tried again shows each attempt with its fault."""
    attempts = invoke("show", made[-1], "--json").json()["attempts"]
    assert (attempts[0]["state"], attempts[0]["fault"]) == ("failed", "quota")
    assert attempts[-1]["state"] == "ok"
    assert "quota" in invoke("show", made[-1]).out


def test_the_beginning_of_an_id_is_enough(invoke: Invoke, made: list[str]) -> None:
    """A unique prefix finds the call; one that fits several names them; case doesn't matter."""
    short = next(
        made[0][:length]
        for length in range(1, 14)
        if sum(one.startswith(made[0][:length]) for one in made) == 1
    )
    assert invoke("show", short.upper(), "--json").json()["id"] == made[0]
    ran = invoke("show", made[0][:1])
    assert (ran.code, "fits several calls" in ran.err) == (2, True)
    for text in ("zz", "not-an-id"):
        ran = invoke("show", text)
        assert (ran.code, "`promptkit log` lists the calls" in ran.err) == (2, True)


def test_what_was_not_kept_can_not_be_shown(invoke: Invoke, project: Path) -> None:
    """Where the storage settings keep variables and replies out, `show` says so and fails nothing."""
    file = project / "promptkit.toml"
    file.write_text(
        file.read_text("utf-8") + '[storage]\nreplies = "hash"\nvariables = "none"\n', encoding="utf-8"
    )
    call = invoke("run", "ugc/hooks", *VALUES, "--json").json()["id"]
    page = invoke("show", call)
    assert page.code == 0
    assert "variables were not kept" in page.out
    assert "(not kept; SHA-256 " in page.out
    assert "(not compared)" in page.out
    assert invoke("show", call, "--json").json()["prompt_digest_matches"] is None


def test_an_edited_draft_is_shown_as_it_was_sent(invoke: Invoke, project: Path) -> None:
    """A draft that changed since is rendered from the source that was used then."""
    here = project / "templates/my/line"
    here.mkdir(parents=True)
    text = '+++\n[variables.brand]\n+++\n{% message "user" %}One line for {{ brand }}{% endmessage %}\n'
    (here / "draft.jinja").write_text(text, encoding="utf-8")
    call = invoke("run", "my/line", "-v", "brand=Barly", "--json").json()["id"]
    (here / "draft.jinja").write_text(text.replace("One line", "Two lines"), encoding="utf-8")
    page = invoke("show", call).out
    assert "One line for Barly" in page
    assert "the digest is the same" in page


def test_a_call_that_failed_is_shown_with_all_its_attempts(invoke: Invoke, sim: Simulator) -> None:
    """No reply, the error, and an attempt of unknown outcome at what it can cost at most."""
    sim.script([{"fault": "wire.reset_after", "times": 1}, "openai.bad_request"])
    assert invoke("run", "ugc/hooks", *VALUES, "--target", "openai/gpt-6-luna").code == 5
    call = invoke("log", "--json").json()[0]["id"]
    page = invoke("show", call).out
    for expected in (
        "--- reply ---\n(none)",
        "error     ",
        "unknown_outcome",
        "up to $0.00",
        "invalid_request",
    ):
        assert expected in page


def test_books_that_were_changed_prove_nothing(invoke: Invoke, project: Path) -> None:
    """A digest that differs is said out loud; a source that isn't what it was can't be rendered."""
    call = invoke("run", "ugc/hooks", *VALUES, "--json").json()["id"]
    with closing(sqlite3.connect(project / "promptkit.db")) as books:
        books.execute("UPDATE calls SET prompt_digest = 'sha256:' || substr('0', 1, 1)")
        books.commit()
        assert "NOT THE SAME" in invoke("show", call).out
        books.execute("UPDATE templates SET source = source || 'x'")
        books.commit()
    ran = invoke("show", call)
    assert (ran.code, "can't be rendered again" in ran.out, "(not compared)" in ran.out) == (0, True, True)


def test_without_a_ledger_there_is_nothing_to_show(invoke: Invoke, project: Path) -> None:
    """A missing database is said, and not made."""
    (project / "promptkit.db").unlink()
    for command in (["log"], ["show", "38g0"], ["db", "backup", "b.db"], ["db", "migrate"]):
        ran = invoke(*command)
        assert (ran.code, "there is no ledger yet" in ran.err) == (9, True)
    assert not (project / "promptkit.db").exists()

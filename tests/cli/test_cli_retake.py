"""`retake`, `rate`, and chains of batches: what belongs together is counted together."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from cli_kit import COMMAND, VALUES, Invoke
from waiting import HANGS_S

from promptkit.simulator.server import Simulator

CHAIN = Path(__file__).parents[2] / "examples/chain.sh"
VIDEOS = (
    "video,client,brand,product,audience\nb-1,barly,Barly,protein bar,runners\nl-7,lume,Lumé,cream,parents\n"
)
pytestmark = pytest.mark.usefixtures("project")


def run(invoke: Invoke, *more: str, ref: str = "ugc/hooks") -> str:
    """A call, by its id."""
    return invoke("run", ref, *VALUES, "--tag", "client=barly", *more, "--json").json()["id"]


class TestRetake:
    """A text again, after a client's note."""

    def test_it_goes_back_to_the_call_with_what_belongs_to_it(self, invoke: Invoke) -> None:
        """The parent's variables, tags, deliverable and targets go along; text and note are those of the round."""
        first = run(invoke, "--tag", "deliverable=v1", "--target", "gemini/gemini-2.5-flash-lite")
        made = invoke("retake", first[:-1] + first[-1].upper(), "--note", "Plus court 🙏", "--json").json()
        assert made["parent"] == first
        assert made["template"] == "ugc/retake@1"
        assert made["tags"] == {"client": "barly", "deliverable": "v1"}
        assert made["target"] == "gemini/gemini-2.5-flash-lite"
        page = invoke("show", made["id"], "--json").json()
        assert (page["parent"], page["deliverable"]) == (first, "v1")
        text = invoke("show", first, "--json").json()["text"]
        assert page["variables"]["text"] == text.strip()
        assert {name: page["variables"][name] for name in ("note", "brand", "round")} == {
            "note": "Plus court 🙏", "brand": "Barly", "round": 1
        }  # fmt: skip
        parent = invoke("show", first, "--json").json()
        assert parent["children"] == [made["id"]]
        assert f"{made['id']} (ugc/retake@1)" in invoke("show", first).out

    def test_rounds_are_counted_and_only_the_new_text_goes_on(self, invoke: Invoke, project: Path) -> None:
        """A retake of a retake is the next round, of the text behind NEW TEXT alone."""
        first = run(invoke)
        second = invoke("retake", first, "--note", "more dynamic", "--json").json()["id"]
        told = "CHANGES:\nmore dynamic | a | b | TEXT\nNEW TEXT:\nRun. Eat. Smile."  # as the template asks for it
        with closing(sqlite3.connect(project / "promptkit.db")) as books:
            books.execute("UPDATE replies SET text = ? WHERE call_id = (SELECT max(id) FROM calls)", (told,))
            books.commit()
        third = invoke(
            "retake", second, "--note", "hm", "--route", "default", "--tag", "round=2", "--json"
        ).json()
        variables = invoke("show", third["id"], "--json").json()["variables"]
        assert (variables["round"], variables["text"]) == (2, "Run. Eat. Smile.")
        assert third["tags"] == {"client": "barly", "round": "2"}

    def test_what_was_not_kept_can_not_be_made_again(self, invoke: Invoke, project: Path) -> None:
        """Without the text, or with a template that takes none, nothing is sent and the way out is told."""
        kept = run(invoke)
        ran = invoke("retake", kept, "--note", "x", "--template", "ugc/hooks")
        assert (ran.code, "is not a template for retakes: it declares no text and no note" in ran.err) == (
            2,
            True,
        )
        with (project / "promptkit.toml").open("a", encoding="utf-8") as file:
            file.write('[storage]\nreplies = "hash"\n')
        lost = run(invoke)
        ran = invoke("retake", lost, "--note", "x")
        assert (ran.code, "was not kept ([storage] replies)" in ran.err) == (2, True)
        assert len(invoke("log", "--json").json()) == 2

    def test_a_failed_call_has_no_text(self, invoke: Invoke, sim: Simulator) -> None:
        """There is nothing to go back to."""
        sim.script(["openai.bad_request"])
        invoke("run", "ugc/hooks", *VALUES, "--target", "openai/gpt-6-luna")
        call = invoke("log", "--json").json()[0]["id"]
        ran = invoke("retake", call, "--note", "x")
        assert (ran.code, "has no reply to revise" in ran.err) == (2, True)


class TestRate:
    """What became of replies."""

    def test_verdicts_are_kept_shown_and_found(self, invoke: Invoke) -> None:
        """Several calls at once; `log` finds them, `show` and `report` tell; `clear` takes it back."""
        first, second, third = (run(invoke) for _ in range(3))
        assert (
            invoke("rate", first, second, "reject", "--note", "too long").err
            == "promptkit: 2 calls: reject\n"
        )
        told = invoke("rate", third, "accept", "--json").json()
        assert told == [{"id": third, "verdict": "accept", "note": None}]
        found = invoke("log", "--verdict", "reject", "--json").json()
        assert {call["id"] for call in found} == {first, second}
        assert invoke("log", "--verdict", "none", "--json").json() == []
        assert ": too long" in invoke("show", first).out
        assert invoke("show", third, "--json").json()["verdict"] == "accept"
        assert "1 accepted, 2 rejected" in invoke("report").out
        invoke("rate", first, "clear")
        assert invoke("show", first, "--json").json()["verdict_note"] is None
        assert [call["id"] for call in invoke("log", "--verdict", "none", "--json").json()] == [first]

    @pytest.mark.parametrize(
        ("words", "told"),
        [(["accept"], "takes calls and a verdict"), (["abc", "good"], "does not end with a verdict")],
    )
    def test_what_is_no_verdict_is_exit_2(self, invoke: Invoke, words: list[str], told: str) -> None:
        """The way to say it is told."""
        ran = invoke("rate", *words)
        assert (ran.code, told in ran.err) == (2, True)


def test_the_chain_adds_up_to_one_cost_a_deliverable(invoke: Invoke, sim: Simulator, project: Path) -> None:
    """examples/chain.sh: brief, hooks, script, storyboard; failed attempts and a retake count, and each call has its parent."""
    (project / "videos.csv").write_text(VIDEOS, encoding="utf-8")
    sim.script([{"fault": "openai.insufficient_quota", "times": 1}])
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(  # noqa: S603 - our own example
        ["/bin/sh", CHAIN, "videos.csv"],
        cwd=project, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=HANGS_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "b-1" in done.stdout
    last = invoke("log", "-n", "1", "--json").json()[0]["id"]
    retake = invoke("retake", last, "--note", "shorter", "--json").json()
    told = invoke("report", "--by", "deliverable", "--json").json()
    calls = {group["key"]["deliverable"]: group["calls"] for group in told["groups"]}
    assert sorted(calls.values()) == [4, 5]
    assert told["total"]["attempts"] > 9
    whole = sum(Decimal(call["cost_usd"]) for call in invoke("log", "--json").json())
    assert sum(Decimal(group["cost_usd"]) for group in told["groups"]) == whole
    line: list[str] = []
    call = retake["id"]
    while call is not None:
        page = invoke("show", call, "--json").json()
        line.append(page["template"].partition("@")[0])
        call = page["parent"]
    assert line == [f"ugc/{name}" for name in ("retake", "storyboard", "script", "hooks", "brief")]


def test_a_column_of_the_users_own_is_no_parent(invoke: Invoke, project: Path) -> None:
    """A column `call` that names no call of the ledger passes through, and nothing else."""
    (project / "rows.csv").write_text(
        "brand,product,audience,call\nBarly,bar,runners,Monday\nLumé,cream,parents,0000000000000\n",
        encoding="utf-8",
    )
    assert invoke("batch", "ugc/hooks", "rows.csv", "-o", "out.csv").code == 0
    for call in invoke("log", "--json").json():
        assert invoke("show", call["id"], "--json").json()["parent"] is None


def test_a_text_keeps_its_name(invoke: Invoke, project: Path) -> None:
    """`--text-as` names the text's column; the job remembers it when it goes on and is written again."""
    named = ("batch", "ugc/hooks", "rows.csv", "-o", "out.csv", "--job", "night")
    assert invoke(*named, "--text-as", "hooks", "--limit", "1").code == 0
    assert invoke("jobs", "resume", "night").code == 0
    for name in ("out.csv", "again.csv"):
        assert invoke("jobs", "export", "night", "-o", name).code == 0
        assert (project / name).read_text("utf-8").startswith("brand,product,audience,sku,hooks,status,")
    taken = invoke(*named[:-1], "other", "--text-as", "sku")
    assert (taken.code, "has a column of that name" in taken.err) == (2, True)

"""`--cache`, `--no-cache` and `[routes.NAME] cache`; what `run`, `log` and `show` say of both caches."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_kit import VALUES, Invoke

from promptkit.simulator.server import Simulator

pytestmark = pytest.mark.usefixtures("project")
RULES = " ".join(f"Rule {n}: keep it short and name the product once." for n in range(90))
ANTHROPIC = ("--target", "anthropic/claude-haiku-5-5")


def run(invoke: Invoke, *more: str) -> dict[str, Any]:
    """A call of the shipped template; what `--json` says of it."""
    ran = invoke("run", "ugc/hooks", *VALUES, "--json", *more)
    assert ran.code == 0, ran.err
    return ran.json()


def test_the_same_call_again_is_served_and_said(invoke: Invoke, sim: Simulator) -> None:
    """Nothing is sent and nothing charged; `run`, `log` and `show` name the call it comes from and what that saved."""
    paid = run(invoke, "--cache", "7d")
    before = len(sim.requests())
    ran = invoke("run", "ugc/hooks", *VALUES, "--cache", "7d")
    assert (ran.code, ran.out.strip()) == (0, paid["text"].strip())
    assert f"from the reply cache (call {paid['id']}), $0, saved $" in ran.err
    again = run(invoke, "--cache", "7d")
    assert (again["cached_from"], again["saved_usd"]) == (paid["id"], paid["cost_usd"])
    assert (again["attempts"], again["cost_usd"], again["charged_usd"]) == ([], "0", "0")
    assert len(sim.requests()) == before
    assert f"the reply cache: call {paid['id']}, saved $" in invoke("show", again["id"]).out
    shown = invoke("show", again["id"], "--json").json()
    assert (shown["cached_from"], shown["text"]) == (paid["id"], paid["text"])
    [newest, *_, oldest] = invoke("log", "-n", "3", "--json").json()
    assert (newest["cached_from"], oldest.get("cached_from")) == (paid["id"], None)
    assert "cached" in invoke("log", "-n", "1").out


def test_a_call_made_anew_serves_the_later_ones(invoke: Invoke, project: Path) -> None:
    """`--no-cache` beats the route's `cache`: the call is sent, and its reply is the one that is served from then on."""
    config = project / "promptkit.toml"
    config.write_text(config.read_text().replace("[routes.default]\n", '[routes.default]\ncache = "12h"\n'))
    first, served = run(invoke), run(invoke)
    assert served["cached_from"] == first["id"]
    anew = run(invoke, "--no-cache")
    assert "cached_from" not in anew
    assert len(anew["attempts"]) == 1
    assert run(invoke)["cached_from"] == anew["id"]


def test_a_batch_is_served_too(invoke: Invoke, sim: Simulator) -> None:
    """Its rows cost nothing where the same calls were paid before, in another job."""
    assert invoke("batch", "ugc/hooks", "rows.csv", "-o", "a.jsonl", "--cache", "1h", "--job", "a").code == 0
    before = len(sim.requests())
    assert invoke("batch", "ugc/hooks", "rows.csv", "-o", "b.jsonl", "--cache", "1h", "--job", "b").code == 0
    assert len(sim.requests()) == before
    assert [json.loads(line)["cost_usd"] for line in Path("b.jsonl").read_text().splitlines()] == ["0"] * 3


@pytest.mark.parametrize("words", [("--cache", "7x"), ("--cache", "7d", "--no-cache")])
def test_what_is_no_age_is_exit_2(invoke: Invoke, sim: Simulator, words: tuple[str, ...]) -> None:
    """And nothing is sent; `--cache` with `--no-cache` says both, which can't be."""
    before = len(sim.requests())
    assert invoke("run", "ugc/hooks", *VALUES, *words).code == 2
    assert len(sim.requests()) == before


@pytest.mark.parametrize("which", ["original", "copy"])
def test_a_rejected_reply_is_served_no_more(invoke: Invoke, which: str) -> None:
    """By the verdict on the call that was paid, as well as by the one on a call that it served."""
    paid = run(invoke, "--cache", "7d")
    copy = run(invoke, "--cache", "7d")
    assert copy["cached_from"] == paid["id"]
    assert invoke("rate", (paid if which == "original" else copy)["id"], "reject").code == 0
    anew = run(invoke, "--cache", "7d")
    assert "cached_from" not in anew
    assert run(invoke, "--cache", "7d")["cached_from"] == anew["id"]


def test_an_accepted_copy_goes_on_serving(invoke: Invoke) -> None:
    """Only a rejection takes a reply out of the cache."""
    paid = run(invoke, "--cache", "7d")
    assert invoke("rate", run(invoke, "--cache", "7d")["id"], "accept").code == 0
    assert run(invoke, "--cache", "7d")["cached_from"] == paid["id"]


@pytest.mark.parametrize("which", ["original", "copy"])
def test_a_forgotten_reply_is_served_no_more(invoke: Invoke, which: str) -> None:
    """Of an original that was forgotten no copy serves in its place; a copy that was forgotten takes nothing else along."""
    paid = run(invoke, "--cache", "7d")
    copy = run(invoke, "--cache", "7d")
    forgotten = paid if which == "original" else copy
    assert invoke("db", "forget", "--call", forgotten["id"], "--yes").code == 0
    again = run(invoke, "--cache", "7d")
    assert again.get("cached_from") == (None if which == "original" else paid["id"])


def test_show_tells_what_the_providers_cache_did(invoke: Invoke, project: Path) -> None:
    """Tokens read and written, and what that saved against uncached input: less than nothing for the call that writes."""
    folder = project / "templates/my/rules"
    folder.mkdir(parents=True)
    (folder / "draft.jinja").write_text(
        "+++\n[variables.brand]\n[params]\nmax_output_tokens = 50\n+++\n"
        f"{{% message 'system' %}}{RULES}{{% endmessage %}}\n{{% message 'user' %}}{{{{ brand }}}}{{% endmessage %}}\n"
    )
    pages: list[str] = []
    for brand in ("Barly", "Klim"):
        made = invoke("run", "my/rules", "-v", f"brand={brand}", "--json", *ANTHROPIC).json()
        pages += [line for line in invoke("show", made["id"]).out.splitlines() if line.startswith("cache")]
    wrote, read = pages
    assert re.fullmatch(r"cache +0 tokens read, 1,\d\d\d written; cost \$0\.0000\d+ more", wrote)
    assert re.fullmatch(r"cache +1,\d\d\d tokens read, 0 written; saved \$0\.0001?\d+", read)

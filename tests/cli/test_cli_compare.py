"""The command `compare`: one template on each, side by side, and nothing paid twice."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cli_kit import Invoke

from promptkit.cli.views.comparison import comparison_json
from promptkit.cli.views.comparison_html import html_page
from promptkit.ledger.records import Money
from promptkit.reports.comparison import Cell, Comparison, ComparisonColumn, ComparisonRow
from promptkit.simulator.server import Simulator
from promptkit.types import Status, Usage

OPENAI = "openai/gpt-6-luna"
ANTHROPIC = "anthropic/claude-haiku-5-5"
GEMINI = "gemini/gemini-2.5-flash-lite"
THREE = f"{OPENAI},{ANTHROPIC},{GEMINI}"
ZONE = ZoneInfo("Europe/Paris")
DRAFT = """+++
description = "A line"
[variables.brand]
description = "Brand name"
max_length = 80
{more}
[params]
max_output_tokens = 200
{checks}
+++
{{% message "user" %}}{text} {{{{ brand }}}}{{% endmessage %}}
"""


def write(project: Path, name: str, *, text: str = "A line for", more: str = "", checks: str = "") -> None:
    folder = project / "templates" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "draft.jinja").write_text(DRAFT.format(text=text, more=more, checks=checks))


def asked(sim: Simulator) -> int:
    return len(sim.requests())


@pytest.mark.usefixtures("project")
class TestOneOnEach:
    def test_by_targets(self, invoke: Invoke, sim: Simulator) -> None:
        """Each target gets each row; every text is a call in the books, with the comparison's tag."""
        before = asked(sim)
        ran = invoke("compare", "ugc/hooks", "rows.csv", "--targets", THREE, "--json")
        assert ran.code == 0, ran.err
        told = ran.json()
        assert [one["label"] for one in told["columns"]] == [OPENAI, ANTHROPIC, GEMINI]
        assert [line["input"]["brand"] for line in told["rows"]] == ["Barly", "Lumé", "Klim"]
        for line in told["rows"]:
            assert [cell["target"] for cell in line["cells"]] == [OPENAI, ANTHROPIC, GEMINI]
            assert all(cell["text"] and cell["usage"]["output_tokens"] for cell in line["cells"])
        assert asked(sim) - before == 9
        assert "9 calls: about $" in ran.err
        log = invoke("log", "--tag", f"compare={told['compare']}", "--json").json()
        assert {call["id"] for call in log} == {
            cell["call"] for line in told["rows"] for cell in line["cells"]
        }
        with sqlite3.connect("promptkit.db") as books:
            (pico,) = books.execute("SELECT sum(cost_pico) FROM attempts").fetchone()
        assert sum(float(one["cost_usd"]) for one in told["columns"]) == pytest.approx(pico / 1e12)

    def test_by_versions(self, project: Path, invoke: Invoke) -> None:
        """Versions go over one route; a value that only one of them declares goes to that one alone."""
        write(project, "my/line")
        assert invoke("templates", "publish", "my/line").code == 0
        write(project, "my/line", text="One warm line for", more='[variables.tone]\ndefault = "warm"')
        ran = invoke("compare", "my/line", "rows.csv", "--versions", "1,draft", "-v", "tone=dry", "--json")
        assert ran.code == 0, ran.err
        told = ran.json()
        assert [one["label"] for one in told["columns"]] == ["@1", "@draft"]
        assert [one["template"] for one in told["columns"]] == ["my/line@1", "my/line@draft"]
        assert all(cell["target"] == OPENAI for line in told["rows"] for cell in line["cells"])
        second = told["rows"][0]["cells"][1]["call"]
        assert invoke("show", second, "--json").json()["variables"] == {"brand": "Barly", "tone": "dry"}

    def test_by_both(self, project: Path, invoke: Invoke) -> None:
        """Each target with each version."""
        write(project, "my/line")
        assert invoke("templates", "publish", "my/line").code == 0
        write(project, "my/line", text="Another line for")
        both = ("--targets", f"{OPENAI},{GEMINI}", "--versions", "1", "--versions", "draft")
        ran = invoke("compare", "my/line", "rows.csv", *both, "--limit", "1", "--json")
        labels = [one["label"] for one in ran.json()["columns"]]
        assert labels == [f"{OPENAI} @1", f"{OPENAI} @draft", f"{GEMINI} @1", f"{GEMINI} @draft"]

    def test_the_first_rows(self, project: Path, invoke: Invoke, sim: Simulator) -> None:
        """A handful of rows unless more are wanted; more rows pay for the new ones alone."""
        Path("many.csv").write_text("brand\n" + "".join(f"Brand {n}\n" for n in range(9)))
        write(project, "my/line")
        two = ("compare", "my/line@draft", "many.csv", "--targets", f"{OPENAI},{GEMINI}", "--json")
        ran = invoke(*two)
        assert len(ran.json()["rows"]) == 5
        assert "the first 5 rows of many.csv; --limit N changes that" in ran.err
        before = asked(sim)
        more = invoke(*two, "--limit", "7")
        assert asked(sim) - before == 4
        assert more.json()["rows"][:5] == ran.json()["rows"]
        fewer = invoke(*two, "--limit", "2")
        assert fewer.json()["rows"] == ran.json()["rows"][:2]

    def test_for_people(self, invoke: Invoke) -> None:
        """Off a terminal a text stays on its lines, below its row and column; figures come last."""
        ran = invoke("compare", "ugc/hooks", "rows.csv", "--targets", THREE, "--limit", "1")
        lines = ran.out.splitlines()
        assert lines[0].startswith("row 1  brand: Barly · product: bar")
        assert lines[1].startswith(f"A  {OPENAI} · $0.")
        assert lines[2].startswith("   ")
        assert [line[0] for line in lines[-3:]] == ["A", "B", "C"]
        assert "promptkit log --tag compare=hooks-rows-" in ran.err

    def test_from_standard_input(
        self, project: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Rows that can be read once reach every column."""
        write(project, "my/line")
        (tmp_path / "in.csv").write_text("brand\nBarly\n")
        with (tmp_path / "in.csv").open() as file:
            monkeypatch.setattr("sys.stdin", file)
            ran = invoke("compare", "my/line@draft", "-", "--targets", f"{OPENAI},{GEMINI}", "--json")
        assert [cell["status"] for cell in ran.json()["rows"][0]["cells"]] == ["ok", "ok"]


@pytest.mark.usefixtures("project")
class TestMoney:
    def test_nothing_is_paid_twice(self, invoke: Invoke, sim: Simulator) -> None:
        """The same command again shows what is there, and sends nothing."""
        command = ("compare", "ugc/hooks", "rows.csv", "--targets", THREE, "--json")
        first = invoke(*command)
        before = asked(sim)
        again = invoke(*command)
        assert asked(sim) == before
        assert again.json() == first.json()
        assert "9 of 9 texts already paid; nothing to pay" in again.err

    def test_a_budget_is_of_all_columns(self, invoke: Invoke, sim: Simulator) -> None:
        """--budget caps the columns together: what one leaves is all that the next may spend; the rest waits."""
        command = ("compare", "ugc/hooks", "rows.csv", "--targets", THREE, "--json")
        stopped = invoke(*command, "--budget", "0.0018")
        assert stopped.code == 6
        told = stopped.json()
        charged = sum(float(one["charged_usd"]) for one in told["columns"])
        assert 0 < charged <= 0.0018
        waiting = [cell for line in told["rows"] for cell in line["cells"] if cell["status"] == "waiting"]
        assert waiting
        assert all("budget" in cell["error"] or "cap" in cell["error"] for cell in waiting)
        before = asked(sim)
        ran = invoke(*command, "--budget", "1")
        assert ran.code == 0, ran.err
        assert asked(sim) - before == len(waiting)

    def test_a_failure_fills_its_cell(self, invoke: Invoke, sim: Simulator) -> None:
        """What fails at one target leaves the others alone, says why, and can be made again."""
        sim.script([{"provider": "openai", "fault": "openai.bad_request"}])
        command = ("compare", "ugc/hooks", "rows.csv", "--targets", f"{OPENAI},{GEMINI}", "--json")
        ran = invoke(*command)
        assert ran.code == 1, ran.err
        cells = [line["cells"] for line in ran.json()["rows"]]
        assert {cell[0]["status"] for cell in cells} == {"failed"}
        assert all(cell[0]["error"] for cell in cells)
        assert {cell[1]["status"] for cell in cells} == {"ok"}
        sim.script([])
        assert invoke(*command).json()["columns"][0]["failed"] == 3
        again = invoke(*command, "--retry-failed")
        assert (again.code, again.json()["columns"][0]["texts"]) == (0, 3)

    def test_an_outage_leaves_its_cells_waiting(self, invoke: Invoke, sim: Simulator) -> None:
        """Without failover a target that is down makes no text: its cells wait and say so."""
        sim.script([{"provider": "openai", "fault": "openai.server_error"}])
        command = ("compare", "ugc/hooks", "rows.csv", "--targets", f"{OPENAI},{GEMINI}", "--limit", "1")
        ran = invoke(*command, "--json")
        assert ran.code in {1, 5}, ran.err
        cells = ran.json()["rows"][0]["cells"]
        assert cells[0]["text"] is None
        assert cells[0]["error"]
        assert cells[1]["status"] == "ok"


class TestChecks:
    def test_texts_are_held_against_the_checks(self, project: Path, invoke: Invoke) -> None:
        """Where a template has [checks], what they find stands with the text and is counted."""
        write(project, "my/line", checks='[checks]\nrequired = ["unobtainium"]')
        ran = invoke(
            "compare",
            "my/line@draft",
            "rows.csv",
            "--targets",
            f"{OPENAI},{GEMINI}",
            "--limit",
            "1",
            "--json",
        )
        told = ran.json()
        assert [one["checks_failed"] for one in told["columns"]] == [1, 1]
        assert "unobtainium" in told["rows"][0]["cells"][0]["problems"][0]


@pytest.mark.usefixtures("project")
class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (("ugc/hooks", "rows.csv", "--targets", OPENAI), 2, "one column is nothing to compare"),
            (("ugc/hooks", "rows.csv"), 2, "one column is nothing to compare"),
            (("ugc/hooks", "rows.csv", "--targets", f"{OPENAI},{OPENAI}"), 2, "are the same"),
            (("ugc/hooks@1", "rows.csv", "--versions", "1,draft"), 2, "names a version"),
            (("ugc/hooks", "rows.csv", "--targets", THREE, "--route", "default"), 2, "not both"),
            (("ugc/hooks", "rows.csv", "--targets", THREE, "--tag", "compare=x"), 2, "--job x"),
            (("ugc/hooks", "rows.csv", "--targets", THREE, "-v", "brnd=x"), 3, "brnd"),
            (("ugc/hooks", "rows.csv", "--versions", "1,99"), 3, "99"),
            (("ugc/hooks", "none.csv", "--targets", THREE), 2, "none.csv"),
            (("ugc/hooks", "empty.csv", "--targets", THREE), 2, "no rows"),
            (
                ("ugc/hooks", "rows.csv", "--targets", f"{OPENAI},mistral/mistral-small-2603"),
                4,
                "MISTRAL_API_KEY",
            ),
            (("ugc/hooks", "rows.csv", "--targets", THREE, "-o", "no/such.html"), 9, "folder doesn't exist"),
        ],
    )
    def test_before_anything_is_sent(
        self, invoke: Invoke, sim: Simulator, arguments: tuple[str, ...], code: int, said: str
    ) -> None:
        """What can't be compared is refused before it costs anything."""
        Path("empty.csv").write_text("brand,product,audience\n")
        before = asked(sim)
        ran = invoke("compare", *arguments)
        assert (ran.code, asked(sim)) == (code, before), ran.err
        assert said in ran.err


class Reading(HTMLParser):
    """What a browser would make of a page: tags with their attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><style>body{display:none}</style>",
    "</div></td></table><h1>gone</h1>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eevil\u2066",
    "nul\x00 esc\x1b[31m",
    "]]><!-- -->",
    "&lt;b&gt; &amp;",
    "عربى نص",
    "x" * 200_000,
)


def hostile(text: str) -> Comparison:
    """A comparison in which everything that can be is that text."""
    cell = Cell(Status.OK, text, text, (text,), Money(1, 1, 0, 1), Usage(1, 2), 1.0, text, text)
    waits = Cell(None, why=text)
    side = ComparisonColumn(text, text, text, (text, text), text, has_checks=True)
    return Comparison(text, text, text, (side, side), (ComparisonRow(1, {text: text}, (cell, waits)),))


class TestPage:
    @pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
    def test_all_is_escaped(self, text: str) -> None:
        """Whatever stands in a comparison, wherever: a browser sees text, and no tag or attribute of it."""
        plain, read = (
            Reading(html_page(hostile("x"), ZONE, 0.0)),
            Reading(html_page(hostile(text), ZONE, 0.0)),
        )
        assert read.tags == plain.tags
        assert [name for name, _ in read.attributes] == [name for name, _ in plain.attributes]
        assert "script" not in read.tags
        assert text.replace("\x00", "␀").replace("\x1b", "␛") in read.text

    def test_it_needs_nothing_else(self) -> None:
        """No script, no resource from elsewhere; a policy that allows its own style alone."""
        read = Reading(html_page(hostile("x"), ZONE, 0.0))
        assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(read.tags)
        assert not {"src", "href", "style", "srcset"} & {name for name, _ in read.attributes}
        policies = [value for name, value in read.attributes if name == "content" and "-src" in (value or "")]
        assert len(policies) == 1
        assert f"{policies[0]}".startswith("default-src 'none'; style-src 'sha256-")

    def test_the_policy_names_the_style_that_stands_there(self) -> None:
        """The digest is of the very bytes between the style's tags."""
        html = html_page(hostile("x"), ZONE, 0.0)
        style = html.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in html

    @pytest.mark.usefixtures("project")
    def test_it_is_written_whole(self, invoke: Invoke) -> None:
        """-o writes the page; the terminal then has the figures alone."""
        ran = invoke("compare", "ugc/hooks", "rows.csv", "--targets", THREE, "-o", "c.html")
        assert ran.code == 0, ran.err
        assert "c.html shows 3 rows side by side" in ran.err
        assert "row 1" not in ran.out
        read = Reading(Path("c.html").read_text("utf-8"))
        assert all(
            label in read.text for label in (OPENAI, ANTHROPIC, GEMINI, "people with dry skin", "Row 3")
        )

    @pytest.mark.usefixtures("project")
    def test_texts_that_are_kept_nowhere_else_stay(self, invoke: Invoke) -> None:
        """Where [storage] keeps no replies, the page has them, and isn't overwritten without them."""
        with Path("promptkit.toml").open("a") as file:
            file.write('[storage]\nreplies = "none"\n')
        command = ("compare", "ugc/hooks", "rows.csv", "--targets", f"{OPENAI},{GEMINI}", "-o", "c.html")
        assert invoke(*command, "--limit", "1").code == 0
        before = Path("c.html").read_bytes()
        again = invoke(*command, "--limit", "1")
        assert (again.code, Path("c.html").read_bytes()) == (0, before), again.err
        assert "is unchanged" in again.err
        more = invoke(*command, "--limit", "2")
        assert (more.code, Path("c.html").read_bytes()) == (9, before)
        assert "stored nowhere else" in more.err


def test_json_has_unknown_as_null() -> None:
    """What is not known is null in JSON."""
    told = comparison_json(hostile("x"), None)
    assert isinstance(told["columns"], list)
    second = told["columns"][1]
    assert isinstance(second, dict)
    assert (second["cost_per_text_usd"], second["median_latency_s"], told["output"]) == (None, None, None)

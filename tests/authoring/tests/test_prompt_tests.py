"""Prompts and replies against what is expected of them; paths, snapshots, functions, JUnit."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from promptkit.authoring.junit import junit
from promptkit.authoring.prompt_tests import (
    check_prompt,
    prompt_test_problems,
    read_snapshot,
    run_prompt_tests,
    snapshot_difference,
    snapshot_file,
    snapshot_text,
    write_snapshot,
)
from promptkit.authoring.reply_expectations import (
    JsonExpectation,
    PathStep,
    ProjectFunctions,
    ReplyExpectation,
    check_reply,
    read_path,
    values_at,
)
from promptkit.authoring.template_tests import (
    PromptOrReply,
    TemplateTest,
    TemplateTestOutcome,
    TemplateTestResult,
    TextExpectation,
    read_template_tests,
)
from promptkit.errors import TemplateError, UsageError
from promptkit.templates.library import Library
from promptkit.templates.reference import prompt_digest
from promptkit.types import Json, Message, Prompt, Role, Rules, TemplateRef

MESSAGES = (Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "Brand: Barly"))
PROMPT = Prompt(MESSAGES, prompt_digest(MESSAGES), TemplateRef("a/b", "draft"), "")


def case(
    says: dict[Role | None, TextExpectation] | None = None, max_tokens: int | None = None
) -> TemplateTest:
    return TemplateTest("a", {}, "t", 1, says or {}, max_tokens)


@pytest.mark.parametrize(
    ("expected", "problems"),
    [
        (case({None: TextExpectation(("brief", "Barly"), ("x",))}), []),
        (case({None: TextExpectation(("Lumé",))}), ['the prompt doesn\'t contain "Lumé"']),
        (case({Role.SYSTEM: TextExpectation(("Barly",), ("brief",))}), [
            'the system message doesn\'t contain "Barly"',
            'the system message contains "brief"',
        ]),
        (case({Role.ASSISTANT: TextExpectation(("a" * 99,))}), [f'the assistant message doesn\'t contain "{58 * "a"}…']),
        (case(max_tokens=14), []),
        (case(max_tokens=12), ["about 14 tokens; at most 12 are expected"]),
    ],
)  # fmt: skip
def test_prompts(expected: TemplateTest, problems: list[str]) -> None:
    """Words are sought as they stand, in all messages or in those of a role; tokens are estimated."""
    assert list(check_prompt(expected, PROMPT)) == problems


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$", ()),
        ("$.a.b", ("a", "b")),
        ("a[0]", ("a", 0)),
        ("[-1]", (-1,)),
        ("$.a[*].b", ("a", None, "b")),
        ("$.*", (None,)),
        ("$['a b']", ("a b",)),
        ("$.a..b", None),
        ("$.a[", None),
        ("$.a[x]", None),
    ],
)
def test_paths(path: str, steps: tuple[PathStep, ...] | None) -> None:
    """The part of JSONPath that is understood; what isn't is told apart."""
    assert read_path(path) == steps


def test_what_paths_find() -> None:
    """Members, items from either end, and all of them; nothing where nothing is."""
    value: Json = {"a": [{"b": 1}, {"b": 2}, {"c": 3}], "d": {"x": 1, "y": 2}, "e": "text"}

    def at(path: str) -> list[Json]:
        return values_at(value, read_path(path) or ())

    assert at("$.a[*].b") == [1, 2]
    assert at("$.a[-1].c") == [3]
    assert at("$.d.*") == [1, 2]
    assert at("$.a[3]") == at("$.a.b") == at("$.d[0]") == at("$.e[0]") == at("$.nothing") == []
    assert at("$") == [value]


@pytest.mark.parametrize(
    ("test", "reply", "problems"),
    [
        (JsonExpectation("$.a"), '{"a": null}', []),
        (JsonExpectation("$.b"), '{"a": 1}', ["nothing at $.b"]),
        (JsonExpectation("$.a", 2), '{"a": 1}', ["$.a is 1, not 2"]),
        (JsonExpectation("$.a", 1), '```json\n{"a": 1}\n```\n', []),
        (JsonExpectation("$.a", matches="^x"), '{"a": "y"}', ["$.a is \"y\", which doesn't match '^x'"]),
        (JsonExpectation("$.a", matches="^x"), '{"a": 1}', ["$.a is 1, which doesn't match '^x'"]),
        (JsonExpectation("$.a", matches="^x"), '{"a": "xy"}', []),
        (JsonExpectation("$.a", min_items=1), '{"a": []}', ["$.a has 0 items; 1 to any are expected"]),
        (JsonExpectation("$.a", max_items=1), '{"a": [1, 2]}', ["$.a has 2 items; 0 to 1 are expected"]),
        (JsonExpectation("$.a", min_items=1, max_items=2), '{"a": [1, 2]}', []),
        (JsonExpectation("$.a", min_items=1), '{"a": "x"}', ['$.a is "x", not a list']),
        (
            JsonExpectation("$.a"),
            "no JSON",
            ["the reply is not JSON: Expecting value: line 1 column 1 (char 0)"],
        ),
    ],
)
def test_replies_as_json(test: JsonExpectation, reply: str, problems: list[str]) -> None:
    """What stands at a path is held against the test; a fence of Markdown doesn't matter."""
    assert list(check_reply(ReplyExpectation(Rules(), json=(test,)), reply)) == problems


def test_replies_by_rules() -> None:
    """The rules of `[checks]` serve here, too."""
    assert check_reply(ReplyExpectation(Rules(max_words=1)), "two words") == (
        "2 words; at most 1 are allowed",
    )


def test_snapshots_show_how_they_differ() -> None:
    """Line by line, the first dozen lines of it; blank lines at the ends don't count."""
    assert snapshot_text(PROMPT) == "--- system ---\nBe brief.\n\n--- user ---\nBrand: Barly\n"
    assert snapshot_difference("\na\n\n", "a") == ""
    assert (
        snapshot_difference("a\nb\nc", "a\nx\nc")
        == "the prompt differs from the snapshot; `promptkit templates test --update` accepts the change:\n@@ -1,3 +1,3 @@\n a\n-b\n+x\n c"
    )
    many = snapshot_difference("\n".join("abcdefgh"), "\n".join("ijklmnop"))
    assert many.endswith("… 5 more lines")


def test_snapshot_files(tmp_path: Path) -> None:
    """Kept below `snapshots`; what can't be read or written is the template's error."""
    path = snapshot_file(tmp_path / "tests.toml", "a-b")
    assert read_snapshot(path) is None
    write_snapshot(path, "é\n")
    assert path == tmp_path / "snapshots" / "a-b.txt"
    assert read_snapshot(path) == "é\n"
    path.write_bytes(b"\xff")
    with pytest.raises(TemplateError, match="can't be read"):
        read_snapshot(path)
    with pytest.raises(TemplateError, match="can't be written"):
        write_snapshot(tmp_path / "no" / "such" / "folder.txt", "x")


TEMPLATE = """+++
[variables.brand]
max_length = 5
+++
{% message "user" %}
Brand: {{ brand }}
{% endmessage %}
"""


def outcomes(folder: Path, tests: str, *, update: bool = False) -> list[tuple[str, ...]]:
    (folder / "a").mkdir(exist_ok=True)
    (folder / "a" / "draft.jinja").write_text(TEMPLATE)
    (folder / "a" / "tests.toml").write_text(tests)
    template = Library([folder]).load("a")
    return [
        result.problems for result in run_prompt_tests(template, read_template_tests(template), update=update)
    ]


def test_errors_that_are_expected(tmp_path: Path) -> None:
    """A test may expect that its variables are refused, and with which words."""
    one = '[[tests]]\nname = "a"\nvariables = { brand = "Barly Bar" }\n'
    assert outcomes(tmp_path, f'{one}error = "at most 5 characters"') == [()]
    (problems,) = outcomes(tmp_path, f'{one}error = "missing"')
    assert problems[0].startswith("it fails with 'a@draft: brand: 9 characters")
    (problems,) = outcomes(tmp_path, f'{one}contains = ["x"]')
    assert "9 characters" in problems[0]
    assert outcomes(tmp_path, '[[tests]]\nname = "a"\nvariables = { brand = "x" }\nerror = "y"') == [
        ("it renders, but 'y' is expected",)
    ]


def test_snapshots_in_the_file_itself(tmp_path: Path) -> None:
    """A text in place of `true` is the snapshot; `--update` puts the new one in its place."""
    one = '[[tests]]\nname = "a"\nvariables = { brand = "x" }\nsnapshot = """\n--- user ---\nBrand: %s\n"""'
    assert outcomes(tmp_path, one % "x") == [()]
    (problems,) = outcomes(tmp_path, one % "y")
    assert problems[0].endswith("-Brand: y\n+Brand: x\n(the snapshot is in tests.toml)")
    assert outcomes(tmp_path, f"{one % 'y'}\n# end\n", update=True) == [()]
    assert (tmp_path / "a" / "tests.toml").read_text() == f"{one % 'x'}\n# end\n"
    assert not (tmp_path / "a" / "snapshots").exists()


@pytest.mark.parametrize(
    "tests",
    [
        '[[tests]]\nname = "a"\nvariables = { brand = "x" }\nsnapshot = "y"',
        '[[tests]]\nname = "a"\nvariables = { brand = "x\\\\" }\nsnapshot = """\ny"""',
        '[[tests]]\nname = "a"\nvariables = { brand = "x" }\nsnapshot = """\ny"""\ncontains = ["""\ny"""]',
    ],
    ids=["one line", "an escape", "twice"],
)
def test_snapshots_that_must_be_changed_by_hand(tests: str, tmp_path: Path) -> None:
    """What can't be replaced for sure is left as it is, and said."""
    (problems,) = outcomes(tmp_path, tests, update=True)
    assert problems[-1].endswith("change it there by hand)")
    assert (tmp_path / "a" / "tests.toml").read_text() == tests


def test_a_gate_before_publishing(tmp_path: Path) -> None:
    """All problems of a template's offline tests, each with its test's name; none without tests."""
    outcomes(tmp_path, '[[tests]]\nname = "a"\nvariables = { brand = "x" }\ncontains = ["y", "z"]')
    template = Library([tmp_path]).load("a")
    assert prompt_test_problems(template) == [
        "test 'a': the prompt doesn't contain \"y\"",
        "test 'a': the prompt doesn't contain \"z\"",
    ]
    (tmp_path / "a" / "tests.toml").unlink()
    assert prompt_test_problems(template) == []
    (tmp_path / "a" / "tests.toml").write_bytes(b"\xff")
    with pytest.raises(TemplateError, match="can't be read"):
        prompt_test_problems(template)


CODE = """
_hidden = 1
def fine(text, variables): return None
def yes(text, variables): return True
def no(text, variables): return False
def says(text, variables): return f"{text} {variables['brand']}"
def many(text, variables): return ["a", "b"]
def asserts(text, variables): assert text == "y", "not y"
def bare(text, variables): assert text == "y"
def breaks(text, variables): return 1 / 0
"""


@pytest.mark.parametrize(
    ("name", "problems"),
    [
        ("fine", ()),
        ("yes", ()),
        ("no", ("checks:no: returned False",)),
        ("says", ("checks:says: x Barly",)),
        ("many", ("checks:many: a", "checks:many: b")),
        ("asserts", ("checks:asserts: not y",)),
        ("bare", ("checks:bare: an assertion failed",)),
        ("breaks", ("checks:breaks raised ZeroDivisionError: division by zero",)),
    ],
)
def test_functions(name: str, problems: tuple[str, ...], tmp_path: Path) -> None:
    """What a function returns or raises is what it has against the reply."""
    (tmp_path / "checks.py").write_text(CODE)
    assert ProjectFunctions(tmp_path).check(f"checks:{name}", "x", {"brand": "Barly"}) == problems


def test_functions_are_found_below_the_project(tmp_path: Path) -> None:
    """A dotted module is a file in a folder, loaded once; what can't be found or loaded is said."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "checks.py").write_text("def ok(text, variables): pass\nx = 1\n")
    functions = ProjectFunctions(tmp_path)
    assert functions.allowed
    assert not ProjectFunctions(None).allowed
    assert functions.find("tools.checks:ok") is functions.find("tools.checks:ok")
    for name, why in {
        "tools.checks:okay": "no function 'okay'",
        "tools.checks:x": "no function 'x'",
        "checks:ok": "no module checks",
        "os:getcwd": "no module os",
    }.items():
        with pytest.raises(UsageError, match=why):
            functions.find(name)
    (tmp_path / "checks.py").write_text("1 / 0")
    with pytest.raises(UsageError, match="can't be loaded: ZeroDivisionError"):
        functions.find("checks:ok")


def test_junit() -> None:
    """A suite for each template; failures and skips with their words, and nothing that XML can't hold."""
    results = [
        TemplateTestResult(
            "b@1", "x", PromptOrReply.PROMPT, ("first\nsecond", "third \x00 & <"), seconds=0.5
        ),
        TemplateTestResult("a@1", "y", PromptOrReply.REPLY, note="not run", skipped=True),
        TemplateTestResult("a@1", "z \x07", PromptOrReply.PROMPT),
    ]
    assert [one.outcome for one in results] == [
        TemplateTestOutcome.FAIL,
        TemplateTestOutcome.SKIPPED,
        TemplateTestOutcome.OK,
    ]
    a, b = fromstring(junit(results))  # noqa: S314 - our own text
    assert a.attrib == {"name": "a@1", "tests": "2", "failures": "0", "skipped": "1", "time": "0.000"}
    assert [one.attrib["name"] for one in a] == ["y (reply)", "z \ufffd (prompt)"]
    assert a[0][0].attrib == {"message": "not run"}
    failure = b[0][0]
    assert failure.attrib["message"] == "first"
    assert failure.text == "first\nsecond\nthird \ufffd & <"

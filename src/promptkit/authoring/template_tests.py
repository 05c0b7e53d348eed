"""tests.toml: the tests of a template, beside its versions; and their results.

[[tests]]
name = "one brand, in English"
variables = { brand = "Barly", product = "protein bar", audience = "runners" }
snapshot = true
max_tokens = 900
contains = ["Barly"]
[tests.system]
not_contains = ["Barly"]
[tests.reply]
max_words = 120
language = "en"
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from promptkit._util import toml
from promptkit.authoring.reply_expectations import ReplyExpectation, plain, read_expectation
from promptkit.errors import TemplateError
from promptkit.templates.template import Template
from promptkit.types import Role

FILE = "tests.toml"
_NOT_IN_SLUG = re.compile(r"[^\w]+")


@dataclass(frozen=True, slots=True)
class TextExpectation:
    """Words that the prompt, or its messages of one role, must and must not contain."""

    contains: tuple[str, ...] = ()
    not_contains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TemplateTest:
    """A test: variables, and what is expected of the prompt and of the reply.

    `texts` is by role, with None for the whole prompt. `snapshot` is True for a file under
    `snapshots/`, or the text itself. `error` means that rendering must fail with this text.
    """

    name: str
    variables: Mapping[str, object]
    file: str
    line: int | None
    texts: Mapping[Role | None, TextExpectation] = field(default_factory=dict[Role | None, TextExpectation])
    max_tokens: int | None = None
    snapshot: bool | str = False
    error: str | None = None
    reply: ReplyExpectation | None = None

    @property
    def slug(self) -> str:
        """Its name as a file name."""
        return slug(self.name)


def read_template_tests(template: Template) -> tuple[TemplateTest, ...]:
    """Read the tests beside a template's file; none if there is no tests.toml.

    Raises:
        TemplateError: the file is not valid.
    """
    path = Path(template.file).parent / FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as cause:
        raise TemplateError(f"can't be read: {cause}", file=path) from None
    return parse_tests(text, file=str(path))


def parse_tests(text: str, *, file: str) -> tuple[TemplateTest, ...]:
    """Read the text of a tests.toml.

    Raises:
        TemplateError: the text is not valid, with file and line.
    """
    document = toml.parse(text, file=file, error=TemplateError)
    tables = document.tables("tests")
    document.finish()
    tests: dict[str, TemplateTest] = {}
    for table in tables:
        test = _read_test(table)
        if not test.slug:
            raise table.fail("a test's name needs a letter or a digit", "name")
        if test.slug in tests:
            raise table.fail(f"two tests have the name {test.name!r}, or nearly the same name", "name")
        tests[test.slug] = test
    return tuple(tests.values())


def _read_test(table: toml.Table) -> TemplateTest:
    texts: dict[Role | None, TextExpectation] = {None: _read_text_expectation(table)}
    for role in Role:
        if role in table:
            role_table = table.table(role)
            texts[role] = _read_text_expectation(role_table)
            role_table.finish()
    snapshot: object = table.raw("snapshot", default=False)
    if not isinstance(snapshot, bool | str):
        raise table.fail("snapshot must be true, or the text of the prompt", "snapshot")
    test = TemplateTest(
        name=table.text("name"),
        variables={name: plain(value) for name, value in table.table("variables").data.items()},
        file=table.file,
        line=table.fail("", "name").line,
        texts=texts,
        max_tokens=table.integer("max_tokens", None, least=1),
        snapshot=snapshot,
        error=table.text("error", None),
        reply=read_expectation(table.table("reply")) if "reply" in table else None,
    )
    table.finish()
    expects = any(text != TextExpectation() for text in texts.values()) or test.max_tokens or test.snapshot
    if not (expects or test.error or test.reply):
        raise table.fail(
            f"the test {test.name!r} expects nothing",
            remedy="Give it snapshot = true, or a contains = [...].",
        )
    if test.error and (expects or test.reply):
        raise table.fail(f"the test {test.name!r} expects an error and a prompt", "error")
    return test


def _read_text_expectation(table: toml.Table) -> TextExpectation:
    return TextExpectation(table.texts("contains", ()), table.texts("not_contains", ()))


def slug(name: str) -> str:
    """Return a name as a file name: letters, digits and dashes, without accents if letters remain."""
    # File systems disagree on how an accent is encoded.
    bare = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slugs = (_NOT_IN_SLUG.sub("-", text).strip("-").lower() for text in (bare, name))
    return next((text for text in slugs if text), "")


class PromptOrReply(StrEnum):
    """The text that was tested: the prompt (offline), or the reply to it."""

    PROMPT = "prompt"
    REPLY = "reply"


class TemplateTestOutcome(StrEnum):
    """How a test ended."""

    OK = "ok"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class TemplateTestResult:
    """The result of a test. `note` is additional information, such as the target.

    `cost_pico` is the cost of this run: 0 for a prompt or a stored reply, None if unknown.
    `stopped` means that a cap left no room for its call.
    """

    template: str
    name: str
    tested: PromptOrReply
    problems: tuple[str, ...] = ()
    note: str = ""
    file: str = ""
    line: int | None = None
    seconds: float = 0.0
    cost_pico: int | None = 0
    skipped: bool = False
    stopped: bool = False

    @property
    def outcome(self) -> TemplateTestOutcome:
        """How it ended."""
        if self.problems:
            return TemplateTestOutcome.FAIL
        return TemplateTestOutcome.SKIPPED if self.skipped else TemplateTestOutcome.OK


def failures(results: Iterable[TemplateTestResult]) -> list[TemplateTestResult]:
    """Return the failed results."""
    return [result for result in results if result.problems]

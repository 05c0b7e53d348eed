"""The offline half of a template's tests: rendered prompts and their snapshots. No network, no database."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import perf_counter

from promptkit.authoring.reply_expectations import shortened
from promptkit.authoring.template_tests import (
    FILE,
    PromptOrReply,
    TemplateTest,
    TemplateTestResult,
    TextExpectation,
    failures,
    read_template_tests,
)
from promptkit.errors import TemplateError
from promptkit.providers.tokens import estimate_input_tokens
from promptkit.templates.template import Template
from promptkit.types import Json, Prompt, Role


def prompt_test_problems(template: Template) -> list[str]:
    """Return the problems of a template's offline tests, as a check before it is published.

    Raises:
        TemplateError: tests.toml is not valid.
    """
    return [
        f"test {result.name!r}: {problem}"
        for result in failures(run_prompt_tests(template, read_template_tests(template)))
        for problem in result.problems
    ]


def run_prompt_tests(
    template: Template, tests: Iterable[TemplateTest], *, update: bool = False
) -> tuple[TemplateTestResult, ...]:
    """Render the prompt of every test and compare it with what the test expects.

    Args:
        template: the version to test.
        tests: its tests.
        update: replace snapshots that differ with the current prompt.
    """
    return tuple(_run(template, test, update=update) for test in tests)


def _run(template: Template, test: TemplateTest, *, update: bool) -> TemplateTestResult:
    started = perf_counter()
    problems, note = _problems(template, test, update=update)
    return TemplateTestResult(
        template=str(template.ref),
        name=test.name,
        tested=PromptOrReply.PROMPT,
        problems=problems,
        note=note,
        file=test.file,
        line=test.line,
        seconds=perf_counter() - started,
    )


def _problems(template: Template, test: TemplateTest, *, update: bool) -> tuple[tuple[str, ...], str]:
    """Return the problems of a test, and a note."""
    try:
        prompt = render(template, test)
    except TemplateError as error:
        if test.error is None:
            return (str(error),), ""
        return () if test.error in str(error) else (
            f"it fails with {error.message!r}, not {test.error!r}",
        ), ""
    if test.error is not None:
        return (f"it renders, but {test.error!r} is expected",), ""
    problem, note = _check_snapshot(test, prompt, update=update)
    return (*check_prompt(test, prompt, template.spec.output), *([problem] if problem else [])), note


def render(template: Template, test: TemplateTest) -> Prompt:
    """Return a test's prompt.

    Raises:
        TemplateError: its variables don't fit, or rendering fails.
    """
    return template.render(template.bind(test.variables))


def check_prompt(
    test: TemplateTest, prompt: Prompt, schema: Mapping[str, Json] | None = None
) -> tuple[str, ...]:
    """Return the problems of a rendered prompt, except those of its snapshot.

    Args:
        test: what is expected.
        prompt: the rendered prompt.
        schema: the template's output schema, which counts as tokens too.
    """
    problems = [problem for role, text in test.texts.items() for problem in _check_text(text, prompt, role)]
    if test.max_tokens is not None and (tokens := estimate_input_tokens(prompt, schema)) > test.max_tokens:
        problems.append(f"about {tokens:,} tokens; at most {test.max_tokens:,} are expected")
    return tuple(problems)


def _check_text(expectation: TextExpectation, prompt: Prompt, role: Role | None) -> Iterator[str]:
    text = "\n".join(message.content for message in prompt.messages if role in (None, message.role))
    where = "the prompt" if role is None else f"the {role} message"
    for words in expectation.contains:
        if words not in text:
            yield f"{where} doesn't contain {shortened(words)}"
    for words in expectation.not_contains:
        if words in text:
            yield f"{where} contains {shortened(words)}"


# Snapshots

_MAX_LINES = 12


def _check_snapshot(test: TemplateTest, prompt: Prompt, *, update: bool) -> tuple[str, str]:
    """Return the difference between a prompt and its snapshot, if any, and a note."""
    if test.snapshot is False:
        return "", ""
    tests_file, current = Path(test.file), snapshot_text(prompt)
    if isinstance(test.snapshot, str):
        difference = snapshot_difference(test.snapshot, current)
        if difference and update and _replace_in_tests(tests_file, test.snapshot, current):
            return "", "snapshot written"
        by_hand = ", and can't be replaced automatically: change it there by hand" if update else ""
        return (difference and f"{difference}\n(the snapshot is in {FILE}{by_hand})"), ""
    path = snapshot_file(tests_file, test.slug)
    kept = read_snapshot(path)
    difference = (
        "there is no snapshot; --update writes it" if kept is None else snapshot_difference(kept, current)
    )
    if difference and update:
        write_snapshot(path, current)
        return "", "snapshot written"
    return difference, ""


def snapshot_text(prompt: Prompt) -> str:
    """Return a prompt as a snapshot contains it and `promptkit render` prints it."""
    return "\n\n".join(f"--- {message.role} ---\n{message.content}" for message in prompt.messages) + "\n"


def snapshot_difference(kept: str, current: str) -> str:
    """Return the first lines in which a prompt differs from its snapshot; empty if it doesn't."""
    before, after = kept.strip("\n"), current.strip("\n")
    if before == after:
        return ""
    lines = list(
        difflib.unified_diff(before.split("\n"), after.split("\n"), "snapshot", "now", n=1, lineterm="")
    )[2:]
    more = len(lines) - _MAX_LINES
    return "\n".join(
        [
            "the prompt differs from the snapshot; `promptkit templates test --update` accepts the change:",
            *lines[:_MAX_LINES],
            *([f"… {more} more lines"] if more > 0 else []),
        ]
    )


def snapshot_file(tests_file: Path, slug: str) -> Path:
    """Return the path of a test's snapshot."""
    return tests_file.parent / "snapshots" / f"{slug}.txt"


def read_snapshot(path: Path) -> str | None:
    """Read a snapshot; None if there is none.

    Raises:
        TemplateError: it can't be read.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as cause:
        raise TemplateError(f"the snapshot can't be read: {cause}", file=path) from None


def _replace_in_tests(tests_file: Path, kept: str, current: str) -> bool:
    """Replace a snapshot in tests.toml itself.

    Returns:
        Whether it was replaced. The old text must be between triple quotes, exactly once, and the
        new one must need no escapes.
    """
    text = read_snapshot(tests_file) or ""
    quoted = [(quotes, f"{quotes}\n{kept}{quotes}") for quotes in ('"""', "'''")]
    matches = [(quotes, literal) for quotes, literal in quoted if text.count(literal) == 1]
    if len(matches) != 1 or any(mark in current for mark in ("\\", '"""', "'''")):
        return False
    ((quotes, literal),) = matches
    write_snapshot(tests_file, text.replace(literal, f"{quotes}\n{current}{quotes}"))
    return True


def write_snapshot(path: Path, text: str) -> None:
    """Write a snapshot.

    Raises:
        TemplateError: it can't be written.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")
    except OSError as cause:
        raise TemplateError(f"the snapshot can't be written: {cause.strerror}", file=path) from None

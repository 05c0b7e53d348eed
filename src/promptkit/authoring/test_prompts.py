"""The offline half of a template's tests: what its prompts say. No network, no database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import Final

from promptkit.authoring import snapshots
from promptkit.errors import TemplateError, counted
from promptkit.providers.tokens import estimate_input_tokens
from promptkit.templates.template import Template
from promptkit.types import Json, Prompt, Role, Rules
from promptkit.validation.schema import NotJson, read_json
from promptkit.validation.text import check_text, text_of

from .test_cases import FILE, Case, JsonTest, ReplyTest, Says, find, read_cases, read_path

_BY_HAND: Final = ", and not by itself between triple quotes: change it there by hand"


def cases_of(template: Template) -> tuple[Case, ...]:
    """The tests that stand beside a template's file; none where there is no tests.toml.

    Raises:
        TemplateError: the file is broken.
    """
    path = Path(template.file).parent / FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as cause:
        raise TemplateError(f"can't be read: {cause}", file=path) from None
    return read_cases(text, file=str(path))


def try_prompts(template: Template, cases: Iterable[Case], *, update: bool = False) -> tuple[Result, ...]:
    """Render every test and hold the prompt against what it expects.

    Args:
        template: the version to test.
        cases: its tests.
        update: keep what is rendered now as the snapshot, where it differs.
    """
    return tuple(_try(template, case, update=update) for case in cases)


def problems_of(template: Template) -> list[str]:
    """The problems of a template's offline tests, one text each: a gate before it is published.

    Raises:
        TemplateError: tests.toml is broken.
    """
    return [
        f"test {result.name!r}: {problem}"
        for result in failed(try_prompts(template, cases_of(template)))
        for problem in result.problems
    ]


def render(template: Template, case: Case) -> Prompt:
    """A test's prompt.

    Raises:
        TemplateError: its variables don't fit, or rendering fails.
    """
    return template.render(template.bind(case.variables))


def _try(template: Template, case: Case, *, update: bool) -> Result:
    started = perf_counter()
    problems, note = _problems(template, case, update=update)
    return Result(
        template=str(template.ref),
        name=case.name,
        stage=Stage.PROMPT,
        problems=problems,
        note=note,
        file=case.file,
        line=case.line,
        seconds=perf_counter() - started,
    )


def _problems(template: Template, case: Case, *, update: bool) -> tuple[tuple[str, ...], str]:
    """What is wrong, and a note."""
    try:
        prompt = render(template, case)
    except TemplateError as error:
        if case.error is None:
            return (str(error),), ""
        return () if case.error in str(error) else (
            f"it fails with {error.message!r}, not {case.error!r}",
        ), ""
    if case.error is not None:
        return (f"it renders, where {case.error!r} is expected",), ""
    difference, note = _snapshot(case, prompt, update=update)
    said = judge_prompt(case, prompt, template.spec.output)
    return (*said, *([difference] if difference else ())), note


def _snapshot(case: Case, prompt: Prompt, *, update: bool) -> tuple[str, str]:
    """How the prompt differs from its snapshot, and a note."""
    if case.snapshot is False:
        return "", ""
    now = snapshots.show(prompt)
    if isinstance(case.snapshot, str):
        difference = snapshots.difference(case.snapshot, now)
        if difference and update and snapshots.rewrite(Path(case.file), case.snapshot, now):
            return "", "snapshot written"
        return (difference and f"{difference}\n(it stands in {FILE}{_BY_HAND if update else ''})"), ""
    path = snapshots.file_of(Path(case.file), case.slug)
    kept = snapshots.read(path)
    difference = (
        "no snapshot is kept: --update keeps this one" if kept is None else snapshots.difference(kept, now)
    )
    if difference and update:
        snapshots.write(path, now)
        return "", "snapshot written"
    return difference, ""


class Verdict(StrEnum):
    """How a test ended."""

    OK = "ok"
    FAIL = "fail"
    SKIPPED = "skipped"


class Stage(StrEnum):
    """What was tested: the prompt (offline), or the reply to it."""

    PROMPT = "prompt"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Result:
    """One test of one template. `note` is what else is to be known (replayed, the target, ...).

    `cost_pico` is what it cost now: 0 for a prompt or a replayed reply, None where unknown.
    `stopped`: a cap left no room for its call.
    """

    template: str
    name: str
    stage: Stage
    problems: tuple[str, ...] = ()
    note: str = ""
    file: str = ""
    line: int | None = None
    seconds: float = 0.0
    cost_pico: int | None = 0
    skipped: bool = False
    stopped: bool = False

    @property
    def verdict(self) -> Verdict:
        """How it ended."""
        if self.problems:
            return Verdict.FAIL
        return Verdict.SKIPPED if self.skipped else Verdict.OK


def failed(results: Iterable[Result]) -> list[Result]:
    """Those that failed."""
    return [one for one in results if one.verdict is Verdict.FAIL]


_SHOWN: Final = 60


def judge_prompt(case: Case, prompt: Prompt, schema: Mapping[str, Json] | None = None) -> tuple[str, ...]:
    """What is wrong with a rendered prompt, but for its snapshot.

    Args:
        case: the test.
        prompt: what its variables gave.
        schema: the template's output schema, which counts as tokens, too.
    """
    problems = [
        problem for role, says in case.says.items() for problem in _unsaid(says, _text_of(prompt, role), role)
    ]
    if case.max_tokens is not None and (tokens := estimate_input_tokens(prompt, schema)) > case.max_tokens:
        problems.append(f"about {tokens:,} tokens; at most {case.max_tokens:,} are expected")
    return tuple(problems)


def _text_of(prompt: Prompt, role: Role | None) -> str:
    return "\n".join(message.content for message in prompt.messages if role in (None, message.role))


def _unsaid(says: Says, text: str, role: Role | None) -> Iterator[str]:
    where = "the prompt" if role is None else f"the {role} message"
    for words in says.contains:
        if words not in text:
            yield f"{where} doesn't contain {_short(words)}"
    for words in says.not_contains:
        if words in text:
            yield f"{where} contains {_short(words)}"


def judge_reply(
    test: ReplyTest, text: str, *, structured: bool = False, checks: Rules | None = None
) -> tuple[str, ...]:
    """What is wrong with a reply, but for its schema and its function.

    Args:
        test: what is expected.
        text: the reply as it came.
        checks: the template's own for this call, which a test expects, too.
        structured: whether its template asks for JSON: the texts in it are what words, length and
            language are about, as in a call.
    """
    value = read_json(text) if structured or test.json else NotJson()
    told = text_of(value) if structured and not isinstance(value, NotJson) else text
    problems = [
        problem.message for rules in (test.rules, checks) if rules for problem in check_text(told, rules)
    ]
    if test.json:
        if isinstance(value, NotJson):
            problems.append(value.why)
        else:
            problems += [problem for one in test.json for problem in _amiss(one, value)]
    return tuple(problems)


def _amiss(test: JsonTest, value: Json) -> Iterator[str]:
    found = find(value, read_path(test.path) or ())
    if not found:
        yield f"nothing at {test.path}"
    for one in found:
        if test.equals is not None and one != test.equals:
            yield f"{test.path} is {_short(one)}, not {_short(test.equals)}"
        if test.matches is not None and not (isinstance(one, str) and re.search(test.matches, one)):
            yield f"{test.path} is {_short(one)}, which doesn't match {test.matches!r}"
        size = len(one) if isinstance(one, list | dict) else None
        for least, most in [(test.min_items, test.max_items)]:
            if (least is not None or most is not None) and size is None:
                yield f"{test.path} is {_short(one)}, not a list"
            elif size is not None and not (least or 0) <= size <= (size if most is None else most):
                yield f"{test.path} has {counted(size, 'item')}; {least or 0} to {'any' if most is None else most} are expected"


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"

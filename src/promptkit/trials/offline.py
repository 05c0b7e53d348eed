"""The offline half of a template's tests: what its prompts say. No network, no database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Final

from promptkit.errors import TemplateError
from promptkit.templates import Skeleton
from promptkit.types import Prompt

from . import snapshots
from .case import FILE, Case, read_cases
from .judging import judge_prompt
from .results import Result, Stage, failed

_BY_HAND: Final = ", and not by itself between triple quotes: change it there by hand"


def cases_of(skeleton: Skeleton) -> tuple[Case, ...]:
    """The tests that stand beside a skeleton's file; none where there is no tests.toml.

    Raises:
        TemplateError: the file is broken.
    """
    path = Path(skeleton.file).parent / FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as cause:
        raise TemplateError(f"can't be read: {cause}", file=path) from None
    return read_cases(text, file=str(path))


def try_prompts(skeleton: Skeleton, cases: Iterable[Case], *, update: bool = False) -> tuple[Result, ...]:
    """Render every test and hold the prompt against what it expects.

    Args:
        skeleton: the version to test.
        cases: its tests.
        update: keep what is rendered now as the snapshot, where it differs.
    """
    return tuple(_try(skeleton, case, update=update) for case in cases)


def problems_of(skeleton: Skeleton) -> list[str]:
    """The problems of a skeleton's offline tests, one text each: a gate before it is published.

    Raises:
        TemplateError: tests.toml is broken.
    """
    return [
        f"test {result.name!r}: {problem}"
        for result in failed(try_prompts(skeleton, cases_of(skeleton)))
        for problem in result.problems
    ]


def render(skeleton: Skeleton, case: Case) -> Prompt:
    """A test's prompt.

    Raises:
        TemplateError: its variables don't fit, or rendering fails.
    """
    return skeleton.render(skeleton.bind(case.variables))


def _try(skeleton: Skeleton, case: Case, *, update: bool) -> Result:
    started = perf_counter()
    problems, note = _problems(skeleton, case, update=update)
    return Result(
        template=str(skeleton.ref),
        name=case.name,
        stage=Stage.PROMPT,
        problems=problems,
        note=note,
        file=case.file,
        line=case.line,
        seconds=perf_counter() - started,
    )


def _problems(skeleton: Skeleton, case: Case, *, update: bool) -> tuple[tuple[str, ...], str]:
    """What is wrong, and a note."""
    try:
        prompt = render(skeleton, case)
    except TemplateError as error:
        if case.error is None:
            return (str(error),), ""
        return () if case.error in str(error) else (f"it fails with {error.what!r}, not {case.error!r}",), ""
    if case.error is not None:
        return (f"it renders, where {case.error!r} is expected",), ""
    difference, note = _snapshot(case, prompt, update=update)
    said = judge_prompt(case, prompt, skeleton.spec.output)
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

"""Holding a prompt or a reply against what a test expects. Pure: texts in, problems out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from promptkit.checks import NotJson, check_text, read_json, text_of
from promptkit.errors import counted
from promptkit.tokens import estimate_input_tokens
from promptkit.types import Json, Prompt, Role, Rules

from .case import Case, JsonTest, ReplyTest, Says
from .json_path import find, read_path

_SHOWN: Final = 60


def judge_prompt(case: Case, prompt: Prompt, schema: Mapping[str, Json] | None = None) -> tuple[str, ...]:
    """What is wrong with a rendered prompt, but for its snapshot.

    Args:
        case: the test.
        prompt: what its variables gave.
        schema: the skeleton's output schema, which counts as tokens, too.
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
        checks: the skeleton's own for this call, which a test expects, too.
        structured: whether its skeleton asks for JSON: the texts in it are what words, length and
            language are about, as in a call.
    """
    value = read_json(text) if structured or test.json else NotJson()
    told = text_of(value) if structured and not isinstance(value, NotJson) else text
    problems = [
        problem.what for rules in (test.rules, checks) if rules for problem in check_text(told, rules)
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

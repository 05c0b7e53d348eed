"""Whether a reply is what was asked for, and how to ask for a better one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from promptkit.errors import TemplateError, counted
from promptkit.templates.template import Template
from promptkit.types import (
    Call,
    Completion,
    Failure,
    Fault,
    Finish,
    Json,
    Message,
    OnFailure,
    Outcome,
    Role,
    Rules,
    Target,
    Value,
)
from promptkit.validation.schema import broken_schema, read_reply
from promptkit.validation.text import Problem, check_text, rules_for, text_of

REPAIR: Final = "repair"
"""How the detail of an attempt begins that was asked for a better reply."""


_SHOWN: Final = 20_000
"""So many characters of a reply are shown to the model that is to repair it."""


_TOLD: Final = 2_000
"""So many characters of what is wrong with it."""


_SAID: Final = 300
"""So many of those stand in the detail of the attempt."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What a call's reply must be.

    Attributes:
        schema: the JSON Schema of a structured reply, None for plain text.
        rules: what its text must keep to (of a structured one: the texts in its fields).
        on_failure: what becomes of a text that doesn't.
        read: makes of the JSON what the caller asked for; a ValueError says why it can't.
    """

    schema: Mapping[str, Json] | None = None
    rules: Rules | None = None
    on_failure: OnFailure = OnFailure.FLAG
    read: Callable[[Json], object] | None = None


def judge_of(
    template: Template, bound: Mapping[str, Value], read: Callable[[Json], object] | None = None
) -> Judge | None:
    """What the replies to a template must be; None where any will do.

    Args:
        template: its `[output]` and `[checks]`.
        bound: the call's variables, which may hold words and the language for the checks.
        read: see `Judge`.

    Raises:
        TemplateError: no reply could ever be held against its schema.
    """
    spec = template.spec
    if spec.output is None and spec.checks is None:
        return None
    if spec.output is not None and (broken := broken_schema(spec.output)):
        raise TemplateError(
            f"the JSON Schema in [output] can't serve: {broken}",
            file=template.file,
            remedy="Nothing was sent: no reply could be held against it.",
        )
    if spec.checks is None:
        return Judge(spec.output, read=read)
    defaults = {name: one.default for name, one in spec.variables.items() if one.default is not None}
    return Judge(spec.output, rules_for(spec.checks, {**defaults, **bound}), spec.checks.on_failure, read)


@dataclass(frozen=True, slots=True)
class Judged:
    """A reply that was looked at: `fault` is None where it is taken.

    `value` is what a structured reply says, None where it says nothing that fits; `flags` are
    those of its problems that it is kept with.
    """

    fault: Fault | None = None
    problems: tuple[Problem, ...] = ()
    value: object = None

    @property
    def flags(self) -> tuple[Problem, ...]:
        """What it is kept with."""
        return self.problems if self.fault is None else ()


def judge_text(text: str, by: Judge) -> Judged:
    """Hold a text against what was asked for, as it would be on its way in."""
    return judge(Completion(text, Finish.STOP, None), by)


def judge(reply: Completion, by: Judge) -> Judged:
    """Hold a reply against what was asked for.

    One that hit its length limit, or that somebody has read as it came, is never asked for again:
    it is kept, without a value unless that fits, and with what is wrong with it as flags.
    """
    stays = reply.finish is Finish.LENGTH or reply.shown
    unfit: tuple[Problem, ...] = ()
    value: object = None
    text = reply.text
    if by.schema is not None:
        plain, problems = read_reply(reply.text, by.schema)
        if not problems:
            value, problems = _read(plain, by)
        if problems and not stays:
            return Judged(Fault.INVALID_OUTPUT, problems)
        unfit = problems if reply.finish is Finish.STOP else ()
        text = reply.text if problems else text_of(plain)
    if by.rules is None:
        return Judged(None, unfit, value)
    broken = check_text(text, by.rules)
    if broken and by.on_failure is not OnFailure.FLAG and not stays:
        return Judged(Fault.CHECK, broken, value)
    return Judged(None, (*unfit, *broken), value)


def _read(plain: Json, by: Judge) -> tuple[object, tuple[Problem, ...]]:
    if by.read is None:
        return plain, ()
    try:
        return by.read(plain), ()
    except ValueError as cause:
        return None, (Problem("schema", str(cause)),)


@dataclass(slots=True)
class Hearing:
    """The replies of one call, judged as they come.

    Attributes:
        call: what was asked.
        by: what its replies must be; None: anything will do.
        quotes: whether the books may say words of a reply.
    """

    call: Call
    by: Judge | None = None
    quotes: bool = True
    rejected: str | None = None
    """The text of the last reply that wasn't taken."""
    _judged: Judged = Judged()
    _repairs: dict[Target, Call] | None = None

    @property
    def value(self) -> object:
        """What the reply that was taken says, where it is structured."""
        return self._judged.value

    @property
    def flags(self) -> tuple[str, ...]:
        """What it doesn't keep to of its checks, and is kept with."""
        if self.by is None:  # asked several times a call
            return ()
        return tuple(self._told(problem) for problem in self._judged.flags)

    @property
    def repairs_checks(self) -> bool:
        """Whether a target whose reply failed its checks is asked once more."""
        return self.by is None or self.by.on_failure is OnFailure.RETRY

    def call_to(self, target: Target) -> Call:
        """What to ask a target: the call, or to repair the reply that it gave."""
        return self.call if self._repairs is None else self._repairs.get(target, self.call)

    def is_repair(self, target: Target) -> bool:
        """Whether a target is asked to repair a reply."""
        return self._repairs is not None and target in self._repairs

    def hear(self, target: Target, outcome: Outcome) -> Outcome:
        """Judge what came of an attempt: a reply that isn't taken is a failure, which was paid."""
        if self.by is None or not isinstance(outcome, Completion):
            return outcome
        self._judged = judged = judge(outcome, self.by)
        if judged.fault is None:
            return outcome
        self.rejected = outcome.text
        repaired = repair(self.call, outcome.text, judged.problems)
        self._repairs = {**(self._repairs or {}), target: repaired}
        return Failure(
            judged.fault,
            self._why(judged),
            status=200,
            usage=outcome.usage,
            served_model=outcome.served_model,
            tier=outcome.tier,
            request_id=outcome.request_id,
            text=outcome.text,
            billed=True,
        )

    def _told(self, problem: Problem) -> str:
        return f"{problem.rule}: {problem.message}" if self.quotes else problem.rule

    def _why(self, judged: Judged) -> str:
        first = "the reply isn't the JSON that was asked for"
        head = first if judged.fault is Fault.INVALID_OUTPUT else "the reply fails its checks"
        if self.quotes:
            told = _cut("; ".join(problem.message for problem in judged.problems), _SAID)
        elif judged.fault is Fault.CHECK:
            told = ", ".join(dict.fromkeys(problem.rule for problem in judged.problems))
        else:
            told = counted(len(judged.problems), "problem")
        return f"{head}: {told}"


def repair(call: Call, reply: str, problems: Sequence[Problem]) -> Call:
    """The same call once more: with the reply that came and what is wrong with it, both bounded.

    The prompt keeps the digest of the one that was asked for: what is added is said by the books
    of the attempt before.
    """
    messages = call.prompt.messages
    begun = ""
    if messages and messages[-1].role is Role.ASSISTANT:  # the reply went on from there
        begun, messages = messages[-1].content, messages[:-1]
    told = _cut("\n".join(f"- {problem.message}" for problem in problems), _TOLD)
    ask = (
        "Reply again in full, with JSON alone."
        if call.schema
        else "Write the whole reply again, and nothing else."
    )
    return replace(
        call,
        prompt=replace(
            call.prompt,
            messages=(
                *messages,
                Message(Role.ASSISTANT, _cut(begun + reply, _SHOWN)),
                Message(Role.USER, f"That reply can't be used:\n{told}\n{ask}"),
            ),
        ),
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"

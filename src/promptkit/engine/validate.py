"""Whether a reply is what was asked for, and the request for its repair. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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

REPAIR = "repair"
"""The detail of an attempt that repairs a reply begins with this."""

_QUOTED_REPLY = 20_000
"""A repair quotes this many characters of the reply."""

_QUOTED_PROBLEMS = 2_000
"""A repair lists the problems in this many characters."""

_DETAIL = 300
"""The detail of an attempt lists them in this many."""


@dataclass(frozen=True, slots=True)
class ReplyRules:
    """What a call's reply must be.

    Attributes:
        schema: the JSON Schema of a structured reply, None for plain text.
        rules: the checks of its text (of a structured reply: of the texts in its fields).
        on_failure: what happens to a text that fails them.
        read: turns the JSON into what the caller asked for; raises ValueError where it can't.
    """

    schema: Mapping[str, Json] | None = None
    rules: Rules | None = None
    on_failure: OnFailure = OnFailure.FLAG
    read: Callable[[Json], object] | None = None


def reply_rules(
    template: Template, bound: Mapping[str, Value], read: Callable[[Json], object] | None = None
) -> ReplyRules | None:
    """Return what the replies to a template must be; None where any reply will do.

    Args:
        template: its `[output]` and `[checks]`.
        bound: the call's variables, which may contain words and the language for the checks.
        read: see `ReplyRules`.

    Raises:
        TemplateError: no reply can be validated against its schema.
    """
    spec = template.spec
    if spec.output is None and spec.checks is None:
        return None
    if spec.output is not None and (broken := broken_schema(spec.output)):
        raise TemplateError(
            f"the JSON Schema in [output] is invalid: {broken}",
            file=template.file,
            remedy="Nothing was sent: no reply can be validated against it.",
        )
    if spec.checks is None:
        return ReplyRules(spec.output, read=read)
    defaults = {
        name: variable.default for name, variable in spec.variables.items() if variable.default is not None
    }
    rules = rules_for(spec.checks, {**defaults, **bound})
    return ReplyRules(spec.output, rules, spec.checks.on_failure, read)


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of validating a reply: `fault` is None if it is accepted.

    `value` is that of a structured reply, None where it doesn't fit.
    """

    fault: Fault | None = None
    problems: tuple[Problem, ...] = ()
    value: object = None

    @property
    def flags(self) -> tuple[Problem, ...]:
        """Return the problems that an accepted reply is kept with."""
        return self.problems if self.fault is None else ()


@dataclass(slots=True)
class CallValidator:
    """Validates the replies of one call as they arrive.

    Attributes:
        call: what was asked.
        rules: what its replies must be; None: any reply will do.
        quotes: whether messages may quote a reply.
    """

    call: Call
    rules: ReplyRules | None = None
    quotes: bool = True
    rejected: str | None = None
    """The text of the last reply that was rejected."""
    _validation: Validation = Validation()
    _repairs: dict[Target, Call] | None = None

    def call_to(self, target: Target) -> Call:
        """Return what to ask a target: the call, or the repair of the reply that it gave."""
        return self.call if self._repairs is None else self._repairs.get(target, self.call)

    def is_repair(self, target: Target) -> bool:
        """Return whether a target is asked to repair a reply."""
        return self._repairs is not None and target in self._repairs

    def validate(self, target: Target, outcome: Outcome) -> Outcome:
        """Turn a reply that is rejected into a failure, which was paid; return any other outcome as it is."""
        if self.rules is None or not isinstance(outcome, Completion):
            return outcome
        self._validation = validation = validate_reply(outcome, self.rules)
        if validation.fault is None:
            return outcome
        self.rejected = outcome.text
        repaired = repair(self.call, outcome.text, validation.problems)
        self._repairs = {**(self._repairs or {}), target: repaired}
        return Failure(
            validation.fault,
            self._why(validation),
            status=200,
            usage=outcome.usage,
            served_model=outcome.served_model,
            tier=outcome.tier,
            request_id=outcome.request_id,
            text=outcome.text,
            billed=True,
        )

    def _why(self, validation: Validation) -> str:
        wrong_json = validation.fault is Fault.INVALID_OUTPUT
        head = "the reply isn't the JSON that was asked for" if wrong_json else "the reply fails its checks"
        if self.quotes:
            problems = _cut("; ".join(problem.message for problem in validation.problems), _DETAIL)
        elif wrong_json:
            problems = counted(len(validation.problems), "problem")
        else:
            problems = ", ".join(dict.fromkeys(problem.rule for problem in validation.problems))
        return f"{head}: {problems}"

    @property
    def value(self) -> object:
        """Return the value of the accepted reply, where it is structured."""
        return self._validation.value

    @property
    def flags(self) -> tuple[str, ...]:
        """Return the problems that the accepted reply is kept with."""
        if self.rules is None:  # asked several times per call
            return ()
        return tuple(
            f"{problem.rule}: {problem.message}" if self.quotes else problem.rule
            for problem in self._validation.flags
        )

    @property
    def repairs_checks(self) -> bool:
        """Return whether a reply that failed its checks is repaired by the same target."""
        return self.rules is None or self.rules.on_failure is OnFailure.RETRY


def validate_text(text: str, rules: ReplyRules) -> Validation:
    """Validate a text as if it had just arrived."""
    return validate_reply(Completion(text, Finish.STOP, None), rules)


def validate_reply(reply: Completion, rules: ReplyRules) -> Validation:
    """Validate a reply.

    A reply that was cut at its length limit, or that the caller has read as it arrived, is never
    repaired: it is kept with its problems as flags, and without a value unless that fits.
    """
    is_kept = reply.finish is Finish.LENGTH or reply.shown
    schema_problems: tuple[Problem, ...] = ()
    value: object = None
    text = reply.text
    if rules.schema is not None:
        json_value, problems = read_reply(reply.text, rules.schema)
        if not problems:
            value, problems = _read(json_value, rules)
        if problems and not is_kept:
            return Validation(Fault.INVALID_OUTPUT, problems)
        schema_problems = problems if reply.finish is Finish.STOP else ()
        text = reply.text if problems else text_of(json_value)
    if rules.rules is None:
        return Validation(None, schema_problems, value)
    failed = check_text(text, rules.rules)
    if failed and rules.on_failure is not OnFailure.FLAG and not is_kept:
        return Validation(Fault.CHECK, failed, value)
    return Validation(None, (*schema_problems, *failed), value)


def _read(json_value: Json, rules: ReplyRules) -> tuple[object, tuple[Problem, ...]]:
    if rules.read is None:
        return json_value, ()
    try:
        return rules.read(json_value), ()
    except ValueError as cause:
        return None, (Problem("schema", str(cause)),)


def repair(call: Call, reply: str, problems: Sequence[Problem]) -> Call:
    """Return the call with the reply that came and a list of its problems, both bounded.

    The prompt keeps its digest: the ledger has the added text with the attempt before.
    """
    messages = call.prompt.messages
    prefill = ""
    if messages and messages[-1].role is Role.ASSISTANT:  # the reply continued it
        prefill, messages = messages[-1].content, messages[:-1]
    listed = _cut("\n".join(f"- {problem.message}" for problem in problems), _QUOTED_PROBLEMS)
    instruction = (
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
                Message(Role.ASSISTANT, _cut(prefill + reply, _QUOTED_REPLY)),
                Message(Role.USER, f"That reply can't be used:\n{listed}\n{instruction}"),
            ),
        ),
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"

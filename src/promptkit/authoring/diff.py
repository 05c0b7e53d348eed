"""Compare two versions of a template: front matter, sources, rendered prompts, tokens and cost."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from enum import Enum, StrEnum
from typing import Any, cast

from promptkit.authoring.examples import Example, complete
from promptkit.errors import TemplateError
from promptkit.providers.prices import Tariff
from promptkit.providers.tokens import estimate_input_tokens
from promptkit.templates.jinja.syntax import Token, tokens_of
from promptkit.templates.source import read_source
from promptkit.templates.template import Template
from promptkit.types import Json, Prompt, Target, TemplateSpec, Usage


@dataclass(frozen=True, slots=True)
class TargetPricing:
    """A target's rates (None if unknown), and its output limit for the old and the new version."""

    target: Target
    tariff: Tariff | None
    limits: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ExampleDiff:
    """An example rendered with both versions: the messages that differ, and about how many input tokens each has.

    `generated` are required variables that the example lacks. `problems` are the reasons why a
    version can't render it, or None.
    """

    example: str
    generated: tuple[str, ...]
    texts: tuple[TextDiff, ...]
    tokens: tuple[int | None, int | None]
    problems: tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class CostDiff:
    """The cost of a call at a target, before and after, in pico-USD; None if unknown.

    `input_pico` is the estimated input without cache; `most_pico` adds the whole output limit.
    """

    target: Target
    input_pico: tuple[int | None, int | None]
    most_pico: tuple[int | None, int | None]
    limits: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TemplateDiff:
    """The differences between two versions. `tokens` are the means over the examples that both render."""

    old: Template
    new: Template
    spec: tuple[SpecChange, ...]
    sources: tuple[TextDiff, ...]
    examples: tuple[ExampleDiff, ...]
    tokens: tuple[int | None, int | None]
    costs: tuple[CostDiff, ...]

    @property
    def is_same(self) -> bool:
        """Whether nothing differs, includes and all."""
        return self.old.digest == self.new.digest


def diff(
    old: Template, new: Template, examples: Sequence[Example], targets: Sequence[TargetPricing]
) -> TemplateDiff:
    """Compare two versions.

    Args:
        old: the version before.
        new: the version after.
        examples: the values that both are rendered with.
        targets: the targets of a route, with their prices.
    """
    examples_ = tuple(_diff_example(old, new, example) for example in examples)
    tokens = _mean_tokens(examples_)
    return TemplateDiff(
        old,
        new,
        tuple(_with_origin(change, old, new) for change in spec_changes(old.spec, new.spec)),
        text_diffs(sources(old), sources(new)),
        examples_,
        tokens,
        tuple(_diff_cost(target, tokens) for target in targets),
    )


def _with_origin(change: SpecChange, old: Template, new: Template) -> SpecChange:
    """Return a change with the include that declares its variable."""
    if change.path[0] != "variables" or len(change.path) == 1:
        return change
    name = change.path[1]
    template = new if name in new.spec.variables else old
    declared = template.inherited.get(name)
    return change if declared is None else replace(change, origin=str(declared.ref))


def _diff_example(old: Template, new: Template, example: Example) -> ExampleDiff:
    prompts: list[Prompt | None] = []
    problems: list[str | None] = []
    tokens: list[int | None] = []
    generated: dict[str, None] = {}
    for template in (old, new):
        values, missing = complete(example, template.spec.variables)
        generated |= dict.fromkeys(missing)
        try:
            prompt = template.render(template.bind(values))
        except TemplateError as error:
            prompt, problem = None, error.message
        else:
            problem = None
        prompts.append(prompt)
        problems.append(problem)
        tokens.append(None if prompt is None else estimate_input_tokens(prompt, template.spec.output))
    before, after = prompts
    return ExampleDiff(
        example.name,
        tuple(generated),
        text_diffs(_messages(before), _messages(after)) if before and after else (),
        (tokens[0], tokens[1]),
        (problems[0], problems[1]),
    )


def _messages(prompt: Prompt) -> dict[str, str]:
    return titled((message.role.value, message.content) for message in prompt.messages)


def _mean_tokens(examples: Sequence[ExampleDiff]) -> tuple[int | None, int | None]:
    pairs = [(old, new) for old, new in (example.tokens for example in examples) if None not in {old, new}]
    if not pairs:
        return None, None
    old, new = (round(sum(pair[index] or 0 for pair in pairs) / len(pairs)) for index in (0, 1))
    return old, new


def _diff_cost(target: TargetPricing, tokens: tuple[int | None, int | None]) -> CostDiff:
    inputs = [_pico(target.tariff, count, 0) for count in tokens]
    most = [_pico(target.tariff, count, limit) for count, limit in zip(tokens, target.limits, strict=True)]
    return CostDiff(target.target, (inputs[0], inputs[1]), (most[0], most[1]), target.limits)


def _pico(tariff: Tariff | None, input_tokens: int | None, output_tokens: int) -> int | None:
    if tariff is None or input_tokens is None:
        return None
    return tariff.pico(Usage(input_tokens, output_tokens))


class ChangeKind(StrEnum):
    """Whether a key was added, removed or changed."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class SpecChange:
    """A key that was added, removed or changed: `("variables", "brand", "max_length")`, 80, 120.

    `old` is None for an added key, `new` for a removed one. `origin` is the include that declares a
    variable, of the new version if it has the variable; empty if the template declares it.
    """

    path: tuple[str, ...]
    kind: ChangeKind
    old: Json = None
    new: Json = None
    origin: str = ""


def spec_changes(old: TemplateSpec, new: TemplateSpec) -> tuple[SpecChange, ...]:
    """Return the changes in the front matter: description, variables, parameters, output schema, and so on."""
    return tuple(changes(to_json(old), to_json(new)))


def changes(old: Json, new: Json, path: tuple[str, ...] = ()) -> Iterator[SpecChange]:
    """Yield the changes between two JSON values; a list is one value."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            key_path = (*path, key)
            if key not in new:
                yield SpecChange(key_path, ChangeKind.REMOVED, old=old[key])
            elif key not in old:
                yield SpecChange(key_path, ChangeKind.ADDED, new=new[key])
            else:
                yield from changes(old[key], new[key], key_path)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield SpecChange(path, ChangeKind.CHANGED, old, new)


def to_json(value: object) -> Json:
    """Return a value of the front matter as JSON, without fields that have their default."""
    if is_dataclass(value):
        return {
            field.name: to_json(getattr(value, field.name))
            for field in fields(value)
            if not _is_default(field, getattr(value, field.name))
        }
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [to_json(item) for item in cast("list[object]", value)]
        return sorted(items, key=str) if isinstance(value, (set, frozenset)) else items
    return cast("Json", value) if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default_factory is not MISSING:
        return value == field.default_factory()
    return field.default is not MISSING and value == field.default


@dataclass(frozen=True, slots=True)
class TextDiff:
    """A text that changed: its title, and its lines as in `diff -u`, without the file names.

    All lines of a new text are added, all lines of a removed one are removed.
    """

    title: str
    lines: tuple[str, ...]


def text_diffs(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[TextDiff, ...]:
    """Return the texts that differ, by title: in the order of the new version, then the removed ones."""
    titles = dict.fromkeys((*new, *old))
    pairs = ((title, old.get(title), new.get(title)) for title in titles)
    return tuple(TextDiff(title, unified(before, after)) for title, before, after in pairs if before != after)


def unified(old: str | None, new: str | None) -> tuple[str, ...]:
    """Return the lines of `diff -u`; None is a text that doesn't exist."""
    before, after = ([] if text is None else text.split("\n") for text in (old, new))
    return tuple(difflib.unified_diff(before, after, lineterm="", n=3))[2:]


AROUND_MESSAGES = "around the messages"


def sources(template: Template) -> dict[str, str]:
    """Return the parts of a template's source by title: each message, the text around them, each include.

    An include's title has no version, so that two versions of it are compared.
    """
    own, *included = template.sources()
    inside, around = _split(_body(own.text))
    parts = titled(inside)
    parts[AROUND_MESSAGES if inside else "text"] = around
    for part in included:
        title = f"include {part.ref.partition('@')[0]}"
        parts[f"include {part.ref}" if title in parts else title] = _body(part.text)
    return parts


def titled(texts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return texts by title, from their roles: `system message`, `user message`, `user message 2`."""
    count = Counter[str]()
    by_title: dict[str, str] = {}
    for role, text in texts:
        count[role] += 1
        by_title[f"{role} message" + (f" {count[role]}" if count[role] > 1 else "")] = text
    return by_title


def _body(text: str) -> str:
    """Return a source without its front matter, which is compared key by key."""
    return read_source(text, file="").body


def _split(body: str) -> tuple[list[tuple[str, str]], str]:
    """Return the role and the text of each message block, and the body with each block left out."""
    inside: list[tuple[str, str]] = []
    around: list[str] = []
    end = 0
    for role, start, stop in _message_blocks(body):
        inside.append((role, body[start:stop].strip("\n")))
        around += (body[end:start], "…")
        end = stop
    return inside, "".join((*around, body[end:]))


def _message_blocks(body: str) -> Iterator[tuple[str, int, int]]:
    """Yield the role of each message block, and where its text begins and ends."""
    tokens = list(tokens_of(body))
    for at, token in enumerate(tokens):
        if token.kind == "block_begin" and tokens[at + 1].text == "message":
            opened = next(i for i in range(at, len(tokens)) if tokens[i].kind == "block_end")
            closing = next(i for i in range(opened, len(tokens)) if _closes(tokens, i))
            role = "".join(part.text[1:-1] for part in tokens[at:opened] if part.kind == "string")
            yield role, tokens[opened].end, tokens[closing].start


def _closes(tokens: list[Token], at: int) -> bool:
    return tokens[at].kind == "block_begin" and tokens[at + 1].text == "endmessage"

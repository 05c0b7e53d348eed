"""Two versions of a template side by side."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from enum import Enum, StrEnum
from typing import Any, Final, cast

from promptkit.errors import TemplateError
from promptkit.providers.prices import Tariff
from promptkit.providers.tokens import estimate_input_tokens
from promptkit.templates.jinja.syntax import Token, tokens_of
from promptkit.templates.source import read_source
from promptkit.templates.template import Template
from promptkit.types import Format, Json, Kind, Message, Prompt, Target, TemplateSpec, Usage, Value, Variable


@dataclass(frozen=True, slots=True)
class Offer:
    """What a target takes for a call: its rates (None where unknown) and its output limit for each side."""

    target: Target
    tariff: Tariff | None
    limits: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rendering:
    """An example on both sides: which messages differ, and about how many input tokens each side has.

    `made_up` are required variables that the example lacks; `problems` says of each side why it
    can't be rendered, or is None.
    """

    example: str
    made_up: tuple[str, ...]
    texts: tuple[TextDiff, ...]
    tokens: tuple[int | None, int | None]
    problems: tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call costs at a target, before and after, in pico-USD; None where it isn't known.

    `input_pico` is the estimated input uncached, `most_pico` with the whole output limit added.
    """

    target: Target
    input_pico: tuple[int | None, int | None]
    most_pico: tuple[int | None, int | None]
    limits: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Diff:
    """Two versions side by side; `tokens` are the mean over the examples that both render."""

    old: Template
    new: Template
    spec: tuple[Change, ...]
    sources: tuple[TextDiff, ...]
    renderings: tuple[Rendering, ...]
    tokens: tuple[int | None, int | None]
    bills: tuple[Bill, ...]

    @property
    def is_same(self) -> bool:
        """Whether nothing differs, includes and all."""
        return self.old.digest == self.new.digest


def diff(old: Template, new: Template, examples: Sequence[Example], offers: Sequence[Offer]) -> Diff:
    """Compare two versions.

    Args:
        old: the one before.
        new: the one after.
        examples: what both are rendered with.
        offers: the targets of a route.
    """
    renderings = tuple(_rendering(old, new, example) for example in examples)
    tokens = _mean(renderings)
    return Diff(
        old,
        new,
        tuple(_with_origin(change, old, new) for change in spec_changes(old.spec, new.spec)),
        compare(sources(old), sources(new)),
        renderings,
        tokens,
        tuple(_bill(offer, tokens) for offer in offers),
    )


def _with_origin(change: Change, old: Template, new: Template) -> Change:
    if change.path[0] != "variables" or len(change.path) == 1:
        return change
    name = change.path[1]
    side = new if name in new.spec.variables else old
    declared = side.inherited.get(name)
    return change if declared is None else replace(change, origin=str(declared.ref))


def _rendering(old: Template, new: Template, example: Example) -> Rendering:
    sides = [_render(template, example) for template in (old, new)]
    prompts = [prompt for prompt, _, _ in sides]
    told = [{} if prompt is None else rendered(prompt.messages) for prompt in prompts]
    counts = [
        None if prompt is None else estimate_input_tokens(prompt, template.spec.output)
        for prompt, template in zip(prompts, (old, new), strict=True)
    ]
    return Rendering(
        example.name,
        tuple(dict.fromkeys((*sides[0][1], *sides[1][1]))),
        compare(*told) if all(prompts) else (),
        (counts[0], counts[1]),
        (sides[0][2], sides[1][2]),
    )


def _render(template: Template, example: Example) -> tuple[Prompt | None, tuple[str, ...], str | None]:
    """The prompt, what was made up for it, and why there is none."""
    values, made_up = completed(example, template.spec.variables)
    try:
        return template.render(template.bind(values)), made_up, None
    except TemplateError as cause:
        return None, made_up, cause.message


def _mean(renderings: Sequence[Rendering]) -> tuple[int | None, int | None]:
    pairs = [(old, new) for old, new in (each.tokens for each in renderings) if None not in {old, new}]
    if not pairs:
        return None, None
    old, new = (round(sum(side[index] or 0 for side in pairs) / len(pairs)) for index in (0, 1))
    return old, new


def _bill(offer: Offer, tokens: tuple[int | None, int | None]) -> Bill:
    inputs = [_pico(offer.tariff, count, 0) for count in tokens]
    most = [_pico(offer.tariff, count, limit) for count, limit in zip(tokens, offer.limits, strict=True)]
    return Bill(offer.target, (inputs[0], inputs[1]), (most[0], most[1]), offer.limits)


def _pico(tariff: Tariff | None, input_tokens: int | None, output_tokens: int) -> int | None:
    if tariff is None or input_tokens is None:
        return None
    return tariff.pico(Usage(input_tokens, output_tokens))


class How(StrEnum):
    """What became of a key."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """A key that is new, gone or changed: `("variables", "brand", "max_length")`, 80, 120.

    `old` is None where it was added, `new` where it was removed. `origin` is the include that declares a
    variable, on the new side if it is there; empty if the template declares it.
    """

    path: tuple[str, ...]
    how: How
    old: Json = None
    new: Json = None
    origin: str = ""


def spec_changes(old: TemplateSpec, new: TemplateSpec) -> tuple[Change, ...]:
    """What changed in the front matter: description, variables, parameters, output schema, all else."""
    return tuple(changes(plain(old), plain(new)))


def changes(old: Json, new: Json, path: tuple[str, ...] = ()) -> Iterator[Change]:
    """What changed between two JSON values; lists are told whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            here = (*path, key)
            if key not in new:
                yield Change(here, How.REMOVED, old=old[key])
            elif key not in old:
                yield Change(here, How.ADDED, new=new[key])
            else:
                yield from changes(old[key], new[key], here)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield Change(path, How.CHANGED, old, new)


def plain(value: object) -> Json:
    """A value of the front matter as JSON; what stands at its default is left out."""
    if is_dataclass(value):
        told: Mapping[str, Any] = {
            field.name: getattr(value, field.name)
            for field in fields(value)
            if not _is_default(field, getattr(value, field.name))
        }
        return plain(told)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [plain(item) for item in cast("list[object]", value)]
        return sorted(items, key=str) if isinstance(value, (set, frozenset)) else items
    return cast("Json", value) if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default_factory is not MISSING:
        return value == field.default_factory()
    return field.default is not MISSING and value == field.default


_FORMATS: Final[Mapping[Format, str]] = {
    Format.DATE: "2026-01-31",
    Format.URL: "https://example.com",
    Format.EMAIL: "name@example.com",
    Format.LANGUAGE: "en",
}


@dataclass(frozen=True, slots=True)
class Example:
    """A named set of values."""

    name: str
    variables: Mapping[str, object] = field(default_factory=dict[str, object])


BARE: Final = Example("made-up values")
"""What serves where no example is saved: nothing but what is required, made up."""


def completed(
    example: Example, variables: Mapping[str, Variable]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """The values of an example that a side declares, and what it requires besides, made up.

    Returns:
        The values, and the names of those that were made up.
    """
    given = {name: value for name, value in example.variables.items() if name in variables}
    lacking = [name for name, variable in variables.items() if variable.required and name not in given]
    return {**{name: stand_in(variables[name]) for name in lacking}, **given}, tuple(lacking)


def stand_in(variable: Variable) -> Value:  # noqa: PLR0911 - one return a kind
    """A value that a variable accepts, recognisable in a text; a pattern can't be met by guessing."""
    if variable.choices and variable.kind is not Kind.LIST:
        return variable.choices[0]
    match variable.kind:
        case Kind.STRING:
            return _text(variable)
        case Kind.BOOLEAN:
            return True
        case Kind.LIST:
            return _list(variable)
        case Kind.OBJECT:
            return {name: stand_in(inner) for name, inner in variable.fields.items() if inner.required}
        case Kind.MESSAGES:
            return [{"role": "user", "content": _text(variable)}]
        case _:
            return _number(variable)


def _text(variable: Variable) -> str:
    if variable.format is not None:
        return _FORMATS[variable.format]
    text = f"[{variable.name}]"
    least = variable.min_length or 0
    return (text * (least // len(text) + 1))[:least] if least > len(text) else text[: variable.max_length]


def _number(variable: Variable) -> int | float:
    least, most = variable.minimum, variable.maximum
    number = float(least if least is not None else 1.0 if most is None else min(1.0, most))
    if variable.kind is Kind.INTEGER:
        number = math.floor(number) if least is None else math.ceil(number)
    return int(number) if float(number).is_integer() else number


def _list(variable: Variable) -> Value:
    length = max(variable.min_length or 0, 1 if variable.max_length != 0 else 0)
    if variable.choices:
        return [variable.choices[index % len(variable.choices)] for index in range(length)]
    item = variable.items or Variable(variable.name)
    return [stand_in(item) for _ in range(length)]


FRAME: Final = "around the messages"


@dataclass(frozen=True, slots=True)
class TextDiff:
    """A text that changed: what it is, and its lines as in `diff -u`, without the file names.

    A text that is new or gone has all its lines as added or removed.
    """

    title: str
    lines: tuple[str, ...]


def compare(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[TextDiff, ...]:
    """The texts that differ, by title; in the order of the new side, then what is gone."""
    titles = dict.fromkeys((*new, *old))
    pairs = ((title, old.get(title), new.get(title)) for title in titles)
    return tuple(TextDiff(title, unified(one, two)) for title, one, two in pairs if one != two)


def unified(old: str | None, new: str | None) -> tuple[str, ...]:
    """The lines of `diff -u`; None is a text that isn't there."""
    before, after = ([] if text is None else text.split("\n") for text in (old, new))
    return tuple(difflib.unified_diff(before, after, lineterm="", n=3))[2:]


def rendered(messages: Iterable[Message]) -> dict[str, str]:
    """Messages by what they are called: `system message`, `user message 2`."""
    return _titled((message.role.value, message.content) for message in messages)


def sources(template: Template) -> dict[str, str]:
    """The parts of a template's source: each message, what stands around them, each include.

    An include is called by its name without its version, so that two versions of it meet.
    """
    own, *included = template.sources()
    inside, frame = _split(_body(own.text))
    found = _titled(inside)
    found[FRAME if inside else "text"] = frame
    for part in included:
        title = f"include {part.ref.partition('@')[0]}"
        found[f"include {part.ref}" if title in found else title] = _body(part.text)
    return found


def _titled(texts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each text under its role; the second of a role gets a number."""
    count = Counter[str]()
    found: dict[str, str] = {}
    for role, text in texts:
        count[role] += 1
        found[f"{role} message" + (f" {count[role]}" if count[role] > 1 else "")] = text
    return found


def _body(text: str) -> str:
    """A source without its front matter, which is told key by key."""
    return read_source(text, file="").body


def _split(body: str) -> tuple[list[tuple[str, str]], str]:
    """The text inside each message block with its role, and the body with each of them left out."""
    inside: list[tuple[str, str]] = []
    frame: list[str] = []
    end = 0
    for role, start, stop in _messages(body):
        inside.append((role, body[start:stop].strip("\n")))
        frame += (body[end:start], "…")
        end = stop
    return inside, "".join((*frame, body[end:]))


def _messages(body: str) -> Iterator[tuple[str, int, int]]:
    """The role of each message block, and where its text begins and ends."""
    tokens = list(tokens_of(body))
    for at, token in enumerate(tokens):
        if token.kind == "block_begin" and tokens[at + 1].text == "message":
            opened = next(i for i in range(at, len(tokens)) if tokens[i].kind == "block_end")
            closing = next(i for i in range(opened, len(tokens)) if _closes(tokens, i))
            role = "".join(each.text[1:-1] for each in tokens[at:opened] if each.kind == "string")
            yield role, tokens[opened].end, tokens[closing].start


def _closes(tokens: list[Token], at: int) -> bool:
    return tokens[at].kind == "block_begin" and tokens[at + 1].text == "endmessage"

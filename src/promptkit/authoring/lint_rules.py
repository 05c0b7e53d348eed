"""Rules on variables and descriptions: PK1xx."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import Final

from promptkit.providers.schemas import not_taken
from promptkit.providers.tokens import estimate_text_tokens
from promptkit.providers.wire_formats import for_provider
from promptkit.templates.jinja.syntax import Lexeme
from promptkit.types import (
    Call,
    Failure,
    Kind,
    Message,
    Model,
    Params,
    Prompt,
    Provider,
    Reasoning,
    Role,
    Target,
    TemplateRef,
    Variable,
    WireRequest,
    usd,
)

from .lint_subject import Piece, Spot, Subject, World


def undeclared(subject: Subject, _world: World) -> Iterator[Spot]:
    """Names that are set on some ways through the template and read on others."""
    if subject.template.is_partial:
        return
    for name, place in subject.uses.undeclared.items():
        yield Spot(
            f"{name} is read where nothing may have set it, and it isn't declared",
            place.file,
            place.line,
            f"Set it on every way to this line, or declare [variables.{name}].",
        )
    for path, place in subject.uses.unknown_fields.items():
        yield Spot(
            f"{'.'.join(path)} is no declared field",
            place.file,
            place.line,
            "Declare it among the variable's fields, or correct the name.",
        )


def unused(subject: Subject, _world: World) -> Iterator[Spot]:
    """Variables that neither the text nor the checks read, also those of includes."""
    if subject.template.is_partial:
        return  # the templates that include it may read them
    checks = subject.spec.checks
    elsewhere = {*checks.banned_from, *checks.required_from, checks.language_from} if checks else set[str]()
    for name in subject.uses.unused:
        if name not in elsewhere:
            declared = subject.template.part.declarations[name]
            is_own = declared.source is subject.source
            yield Spot(
                f"the variable {name} is declared {'' if is_own else f'in {declared.ref} '}and never used",
                declared.source.file,
                declared.line,
                "Use it in the text, or take its declaration out: callers are asked for it in vain."
                if is_own
                else f"Use it in {subject.template.ref}, or move its declaration into a partial of its own.",
            )


def shadowed(subject: Subject, _world: World) -> Iterator[Spot]:
    """Variables that a `set`, `for`, `with` or macro gives another meaning."""
    for name, place in subject.uses.shadowed.items():
        yield Spot(
            f"{name} hides the variable of the same name",
            place.file,
            place.line,
            "Choose another name here: below this line the caller's value can't be read.",
        )


def undescribed(subject: Subject, _world: World) -> Iterator[Spot]:
    """A template without a description."""
    if not subject.spec.description.strip():
        yield Spot(
            "no description",
            subject.file,
            subject.key_line("description"),
            'Say what it makes: description = "..." in the front matter.',
        )


def undescribed_variable(subject: Subject, _world: World) -> Iterator[Spot]:
    """Variables without a description."""
    for name, variable in subject.source.spec.variables.items():
        if not variable.description.strip():
            yield Spot(
                f"the variable {name} has no description",
                subject.file,
                subject.key_line("variables", name),
                f'Say what belongs there: description = "..." below [variables.{name}].',
            )


REASONING_TOKENS: Final[Mapping[Reasoning, int]] = {
    Reasoning.LOW: 1024,
    Reasoning.MEDIUM: 4096,
    Reasoning.HIGH: 16384,
}
"""About what a level spends before the first word of the answer."""


_LEAST_ANSWER: Final = 64


_PROMPT: Final = Prompt((Message(Role.USER, "-"),), "", TemplateRef("lint"), "")


def no_limit(subject: Subject, world: World) -> Iterator[Spot]:
    """No output limit: the route's default decides what is cut."""
    if subject.template.is_partial or subject.spec.params.max_output_tokens is not None:
        return
    yield Spot(
        f"no output limit: {world.route.max_output_tokens:,} tokens, the route's default, will be sent",
        subject.file,
        subject.key_line("params", "max_output_tokens"),
        "Name what the longest good answer takes: [params] max_output_tokens = ...",
    )


def eaten_by_reasoning(subject: Subject, world: World) -> Iterator[Spot]:
    """An output limit that reasoning alone may use up."""
    params = _params(subject, world)
    if subject.template.is_partial or params.max_output_tokens is None:
        return
    eaten = [
        (spent, target)
        for target, _, model in world.pairs()
        if (spent := _spent(params, model)) and params.max_output_tokens < spent + _LEAST_ANSWER
    ]
    if eaten:
        spent, target = max(eaten)
        level = params.reasoning or "no level named"
        yield Spot(
            f"max_output_tokens = {params.max_output_tokens} counts reasoning too, and {target} ({level}) may "
            f"spend {spent:,} before its first word",
            subject.file,
            subject.key_line("params", "max_output_tokens"),
            'Raise the limit (what isn\'t used costs nothing), or set reasoning = "off" where the model can.',
        )


def _spent(params: Params, model: Model) -> int:
    """What the model may think at the asked level, in tokens; 0 where it doesn't."""
    levels = model.reasoning
    if not levels or "reasoning" in model.rejects:
        return 0
    level = params.reasoning or Reasoning.LOW
    value = levels.get(level)
    if level is Reasoning.OFF:
        # Some models always think: their word for off is then that of another level.
        level = next((one for one in REASONING_TOKENS if value and levels.get(one) == value), level)
    if isinstance(value, int):
        return 0  # a budget in tokens is kept to half of the limit
    return REASONING_TOKENS.get(level, 0)


def left_out(subject: Subject, world: World) -> Iterator[Spot]:
    """Parameters that a target leaves out or changes."""
    for target, wire in _encoded(subject, world):
        if isinstance(wire, WireRequest):
            for warning in wire.warnings:
                yield Spot(
                    f"{target}: {warning}",
                    subject.file,
                    subject.key_line("params", _named(warning)),
                    "Leave it out, or choose a route whose models take it.",
                )


def schema_not_taken(subject: Subject, world: World) -> Iterator[Spot]:
    """An output schema with words that a target's structured output doesn't know."""
    schema = subject.spec.output
    if schema is None or subject.template.is_partial:
        return
    for target, provider, _ in world.pairs():
        for what in not_taken(schema, provider.adapter):
            yield Spot(
                f"{target}: {what}",
                subject.file,
                subject.key_line("output", ""),
                "Say it more simply in [output], or take the target off the route.",
            )


def refused(subject: Subject, world: World) -> Iterator[Spot]:
    """Parameters or a schema that a target doesn't take at all: no call to it can be made."""
    for target, wire in _encoded(subject, world):
        if isinstance(wire, Failure):
            yield Spot(
                f"{target} takes no such call: {wire.detail}",
                subject.file,
                subject.key_line("output", "") if subject.spec.output else subject.key_line("params", ""),
                "Change the parameter or the schema, or take the target off the route.",
            )


def _params(subject: Subject, world: World) -> Params:
    params = subject.spec.params
    if params.max_output_tokens is None:
        return replace(params, max_output_tokens=world.route.max_output_tokens)
    return params


def _encoded(subject: Subject, world: World) -> Iterator[tuple[Target, WireRequest | Failure]]:
    if subject.template.is_partial:
        return
    call = Call(_PROMPT, _params(subject, world), subject.spec.output)
    for target, provider, model in world.pairs():
        yield target, _encode(call, provider, model)


def _encode(call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
    return for_provider(provider).encode(call, provider, model)


def _named(warning: str) -> str:
    """The parameter that a warning is about."""
    return next((name for name in Params.__slots__ if name in warning), "")


_MOVABLE_TOKENS: Final = 40
"""A shorter stretch is a label beside its value: it can't be moved."""


def broken_prefix(subject: Subject, world: World) -> Iterator[Spot]:
    """A value that differs from call to call, in front of text that doesn't."""
    before, breaker, after = _split(subject.flow)
    if breaker is None or not after:
        return
    lost = [one for one in (_lost(world, before, after, target) for target in world.route.targets) if one]
    if not lost:
        return
    dearest = max(lost, key=lambda one: one.pico_per_call)
    cost = f"{usd(round(dearest.pico_per_call * 1000)):.4f}"
    yield Spot(
        f"{breaker.variable} stands before {after:,} tokens of text that is the same in every call: "
        f"{dearest.tokens:,} tokens aren't cached, ${cost} per 1,000 calls on {dearest.target}",
        breaker.file,
        breaker.line,
        "Put stable text first (the system message, rules, examples), and what differs behind it.",
    )


@dataclass(frozen=True, slots=True)
class _Lost:
    """What one target doesn't cache, and what that costs a call."""

    target: Target
    tokens: int
    pico_per_call: Fraction


def _split(flow: tuple[Piece, ...]) -> tuple[int, Piece | None, int]:
    """Stable tokens before the first break, the break, and the movable stable tokens behind it."""
    stretches: list[str] = [""]
    breaker: Piece | None = None
    for piece in flow:
        if piece.variable:
            breaker = breaker or piece
            stretches.append("")
        else:
            stretches[-1] += piece.text
    counts = [estimate_text_tokens(text) for text in stretches]
    return counts[0], breaker, sum(count for count in counts[1:] if count >= _MOVABLE_TOKENS)


def _lost(world: World, before: int, after: int, target: Target) -> _Lost | None:
    provider, model = world.catalog.pair(target)
    if provider.adapter == "anthropic" and not provider.prompt_cache:
        return None  # it caches only what is marked
    least = model.cache_min_tokens
    card = world.prices.card(provider, model, world.at)
    tariff = None if card is None else card.tariff()
    if tariff is None or before + after < least:
        return None
    band = tariff.bands[0]
    saved = Fraction(band.uncached - band.cache_read, tariff.denominator)
    tokens = after if before >= least else before + after
    return _Lost(target, tokens, saved * tokens) if saved > 0 else None


_CHARACTERS_PER_TOKEN: Final = 3
"""Dense text: figures, marks, languages other than English."""


_NEAR: Final = 0.8


def gone(subject: Subject, world: World) -> Iterator[Spot]:
    """A model on the route that its provider no longer has."""
    for target in world.route.targets:
        if target in world.gone:
            yield Spot(
                f"{target}, on the route {world.route.name!r}, is gone: its provider said so when last asked",
                subject.file,
                1,
                "Name another model in the route; promptkit providers list shows those that are known.",
            )


def near_window(subject: Subject, world: World) -> Iterator[Spot]:
    """A prompt that may come near the context window of a model, by the bounds of its variables."""
    limit = subject.spec.params.max_output_tokens or world.route.max_output_tokens
    tokens = _longest(subject)
    for target, _, model in world.pairs():
        window = model.context_window
        if window is not None and tokens + limit > window * _NEAR:
            yield Spot(
                f"up to about {tokens:,} tokens of prompt and {limit:,} of answer, and {target} takes {window:,} in all",
                subject.file,
                subject.key_line("variables", ""),
                "Lower max_length of the longest variables, or choose a model with a larger window.",
            )


def _longest(subject: Subject) -> int:
    """The tokens of the prompt with every variable as long as it may be; without bound, it counts nothing."""
    variables = subject.spec.variables
    printed = Counter(piece.variable for piece in subject.flow if piece.variable in variables)
    text = sum(estimate_text_tokens(piece.text) for piece in subject.flow)
    # Of an object each field is printed by itself: together they are the object, once.
    return text + sum(
        _most(variables[name]) * (1 if variables[name].kind is Kind.OBJECT else times)
        for name, times in printed.items()
    )


def _most(variable: Variable) -> int:
    match variable.kind:
        case Kind.STRING:
            return (variable.max_length or 0) // _CHARACTERS_PER_TOKEN
        case Kind.LIST if variable.items is not None:
            return (variable.max_length or 0) * _most(variable.items)
        case Kind.OBJECT:
            return sum(map(_most, variable.fields.values()))
        case _:
            return 0


_BLANK_LINES: Final = re.compile(r"\n(?:[ \t]*\n){2,}")


_TRAILING: Final = re.compile(r"(?P<text>[^\s])?(?P<blanks>[ \t]+)(?=\n)")


_BRACES: Final = re.compile(r"(?<!\{)\{ ?(?P<name>[A-Za-z_]\w*) ?\}(?!\})")


_ENDS: Final = frozenset({"block_end", "comment_end"})


_OPENS: Final = frozenset({"if", "for"})


_TURNS: Final = frozenset({"else", "elif"})


_CLOSES: Final = frozenset({"endif", "endfor"})


def blank_lines(subject: Subject, _world: World) -> Iterator[Spot]:
    """Two or more blank lines in a row."""
    for token, first, last in subject.texts:
        text = token.text
        for found in _BLANK_LINES.finditer(text):
            at_edge = (first and not text[: found.start()].strip()) or (
                last and not text[found.end() :].strip()
            )
            if not at_edge:
                yield Spot(
                    f"{found.group().count(chr(10)) - 1} blank lines in a row",
                    subject.file,
                    subject.line(token.line + text.count("\n", 0, found.start()) + 1),
                    "One is enough: models read more of them as a change of subject, and each costs a token.",
                )


def trailing_blanks(subject: Subject, _world: World) -> Iterator[Spot]:
    """Blanks at the end of a line."""
    for token, _, _ in subject.texts:
        for found in _TRAILING.finditer(token.text):
            yield Spot(
                f"{len(found['blanks'])} blank{'s' if len(found['blanks']) > 1 else ''} at the end of the line",
                subject.file,
                subject.line(token.line + token.text.count("\n", 0, found.start("blanks"))),
                "Take them out: nobody sees them, and they are sent.",
            )


def braces(subject: Subject, _world: World) -> Iterator[Spot]:
    """A declared variable in single braces, which is sent as it stands."""
    for token, _, _ in subject.texts:
        for found in _BRACES.finditer(token.text):
            if found["name"] in subject.spec.variables:
                yield Spot(
                    f"{found.group()} is plain text: the variable is not put in",
                    subject.file,
                    subject.line(token.line + token.text.count("\n", 0, found.start())),
                    f"Write {{{{ {found['name']} }}}}.",
                )


@dataclass(slots=True)
class _Line:
    """Whether the line of output that is being written has text on it, over branches."""

    visible: bool = False
    outer: list[tuple[bool, list[bool]]] = field(default_factory=list[tuple[bool, list[bool]]])

    def text(self, text: str) -> None:
        head, newline, tail = text.rpartition("\n")
        del head
        self.visible = bool(tail.strip()) or (self.visible and not newline)

    def block(self, name: str) -> None:
        if name in _OPENS:
            self.outer.append((self.visible, []))
        elif name in _TURNS and self.outer:
            before, ends = self.outer[-1]
            ends.append(self.visible)
            self.visible = before
        elif name in _CLOSES and self.outer:
            _, ends = self.outer.pop()
            self.visible = self.visible or any(ends)
        elif name in ("message", "endmessage"):
            self.visible = False


def swallowed_newline(subject: Subject, _world: World) -> Iterator[Spot]:
    """A tag at the end of a line of text: it swallows the newline, and the next line is glued on."""
    line, name = _Line(), ""
    tokens = [token for token in subject.lexemes if token.kind != "whitespace"]
    for index, (token, following) in enumerate(pairwise([*tokens, Lexeme(0, "end", "")])):
        match token.kind:
            case "data":
                line.text(token.text)
            case "variable_begin":
                line.visible = True
            case "block_begin":
                name = following.text
            case "block_end":
                line.block(name)
            case _:
                pass
        swallows = token.kind in _ENDS and token.text.endswith("}\n") and not token.text.startswith("-")
        if swallows and line.visible and _is_glued(tokens, index + 1):
            mark = token.text[0]
            yield Spot(
                "the tag swallows the end of this line: the next one is glued to it",
                subject.file,
                subject.line(token.line),
                f"End the tag with +{mark}}} to keep the newline, or put it on a line of its own.",
            )


def _is_glued(tokens: list[Lexeme], start: int) -> bool:
    """Whether what comes next on the output line is text."""
    for token, following in pairwise([*tokens[start:], Lexeme(0, "end", "")]):
        if token.kind == "data":
            return not token.text.startswith("\n")
        if token.kind == "variable_begin":
            return True
        if token.kind == "block_begin" and following.text == "endmessage":
            return False
    return False

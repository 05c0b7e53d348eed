"""The lint rules: each yields the violations of one template."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

from promptkit.authoring.lint_context import LintContext, LintedTemplate, OutputPiece, Violation
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
    Reasoning,
    Role,
    Target,
    TemplateRef,
    Variable,
    WireRequest,
    usd,
)

# Rules on variables and descriptions (PK1xx).


def undeclared(linted: LintedTemplate, _context: LintContext) -> Iterator[Violation]:
    """Yield names that some branches set and others read unset (PK101)."""
    if linted.template.is_partial:
        return
    for name, position in linted.names.undeclared.items():
        yield Violation(
            f"{name} is not declared, and it may be read before it is set",
            position.file,
            position.line,
            f"Set it in every branch before this line, or declare [variables.{name}].",
        )
    for path, position in linted.names.unknown_fields.items():
        yield Violation(
            f"{'.'.join(path)} is not a declared field",
            position.file,
            position.line,
            "Declare it in the variable's fields, or correct the name.",
        )


def unused(linted: LintedTemplate, _context: LintContext) -> Iterator[Violation]:
    """Yield variables that neither the text nor the checks read, also those of includes (PK102)."""
    if linted.template.is_partial:
        return  # the templates that include it may read them
    checks = linted.spec.checks
    in_checks = {*checks.banned_from, *checks.required_from, checks.language_from} if checks else set[str]()
    for name in linted.names.unused:
        if name not in in_checks:
            declared = linted.template.part.declarations[name]
            is_own = declared.source is linted.source
            yield Violation(
                f"the variable {name} is declared {'' if is_own else f'in {declared.ref} '}and never used",
                declared.source.file,
                declared.line,
                "Use it in the text, or remove its declaration: callers provide it for nothing."
                if is_own
                else f"Use it in {linted.template.ref}, or move its declaration into a partial of its own.",
            )


def shadowed(linted: LintedTemplate, _context: LintContext) -> Iterator[Violation]:
    """Yield variables whose name a `set`, `for`, `with` or macro reuses (PK103)."""
    for name, position in linted.names.shadowed.items():
        yield Violation(
            f"{name} hides the variable of the same name",
            position.file,
            position.line,
            "Choose another name here: below this line the template can't read the caller's value.",
        )


def no_description(linted: LintedTemplate, _context: LintContext) -> Iterator[Violation]:
    """Yield a template without a description (PK104)."""
    if not linted.spec.description.strip():
        yield Violation(
            "no description",
            linted.file,
            linted.key_line("description"),
            'Say what the template makes: description = "..." in the front matter.',
        )


def no_variable_description(linted: LintedTemplate, _context: LintContext) -> Iterator[Violation]:
    """Yield variables without a description (PK105)."""
    for name, variable in linted.source.spec.variables.items():
        if not variable.description.strip():
            yield Violation(
                f"the variable {name} has no description",
                linted.file,
                linted.key_line("variables", name),
                f'Say what belongs there: description = "..." below [variables.{name}].',
            )


# Rules on whitespace and text (PK2xx).

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")
_TRAILING_BLANKS = re.compile(r"(?P<blanks>[ \t]+)(?=\n)")
_SINGLE_BRACES = re.compile(r"(?<!\{)\{ ?(?P<name>[A-Za-z_]\w*) ?\}(?!\})")


def blank_lines(linted: LintedTemplate, _context: LintContext) -> Iterator[Violation]:
    """Yield two or more consecutive blank lines (PK201)."""
    for token, first, last in linted.texts:
        text = token.text
        for match in _BLANK_LINES.finditer(text):
            at_begin = first and not text[: match.start()].strip()
            at_end = last and not text[match.end() :].strip()
            if not at_begin and not at_end:
                yield Violation(
                    f"{match.group().count(chr(10)) - 1} blank lines in a row",
                    linted.file,
                    linted.line(token.line + text.count("\n", 0, match.start()) + 1),
                    "One is enough: models read several as a change of subject, and each costs a token.",
                )


def trailing_blanks(linted: LintedTemplate, _context: LintContext) -> Iterator[Violation]:
    """Yield blanks at the end of a line (PK202)."""
    for token, _, _ in linted.texts:
        for match in _TRAILING_BLANKS.finditer(token.text):
            count = len(match["blanks"])
            yield Violation(
                f"{count} blank{'s' if count > 1 else ''} at the end of the line",
                linted.file,
                linted.line(token.line + token.text.count("\n", 0, match.start("blanks"))),
                "Remove them: they are invisible, and they are sent.",
            )


def single_braces(linted: LintedTemplate, _context: LintContext) -> Iterator[Violation]:
    """Yield declared variables in single braces, which are sent as plain text (PK204)."""
    for token, _, _ in linted.texts:
        for match in _SINGLE_BRACES.finditer(token.text):
            if match["name"] in linted.spec.variables:
                yield Violation(
                    f"{match.group()} is plain text: the variable's value is not inserted",
                    linted.file,
                    linted.line(token.line + token.text.count("\n", 0, match.start())),
                    f"Write {{{{ {match['name']} }}}}.",
                )


def swallowed_newline(linted: LintedTemplate, _context: LintContext) -> Iterator[Violation]:
    """Yield tags at the end of a line of text, which join that line and the next (PK203)."""
    line, name = _OutputLine(), ""
    tokens = [token for token in linted.lexemes if token.kind != "whitespace"]
    for index, (token, following) in enumerate(pairwise([*tokens, Lexeme(0, "end", "")])):
        match token.kind:
            case "data":
                line.add_text(token.text)
            case "variable_begin":
                line.visible = True
            case "block_begin":
                name = following.text
            case "block_end":
                line.end_block(name)
            case _:
                pass
        is_end = token.kind in ("block_end", "comment_end")
        swallows = is_end and token.text.endswith("}\n") and not token.text.startswith("-")
        if swallows and line.visible and _text_follows(tokens, index + 1):
            yield Violation(
                "the tag removes the end of this line: the next line is joined to it",
                linted.file,
                linted.line(token.line),
                f"End the tag with +{token.text[0]}}} to keep the newline, or put it on a line of its own.",
            )


@dataclass(slots=True)
class _OutputLine:
    """Whether the current line of output has text on it, across branches."""

    visible: bool = False
    outer: list[tuple[bool, list[bool]]] = field(default_factory=list[tuple[bool, list[bool]]])

    def add_text(self, text: str) -> None:
        _, newline, tail = text.rpartition("\n")
        self.visible = bool(tail.strip()) or (self.visible and not newline)

    def end_block(self, name: str) -> None:
        if name in ("if", "for"):
            self.outer.append((self.visible, []))
        elif name in ("else", "elif") and self.outer:
            before, ends = self.outer[-1]
            ends.append(self.visible)
            self.visible = before
        elif name in ("endif", "endfor") and self.outer:
            _, ends = self.outer.pop()
            self.visible = self.visible or any(ends)
        elif name in ("message", "endmessage"):
            self.visible = False


def _text_follows(tokens: list[Lexeme], start: int) -> bool:
    """Return whether the output line goes on with text."""
    for token, following in pairwise([*tokens[start:], Lexeme(0, "end", "")]):
        if token.kind == "data":
            return not token.text.startswith("\n")
        if token.kind == "variable_begin":
            return True
        if token.kind == "block_begin" and following.text == "endmessage":
            return False
    return False


# Rules on the prompt cache (PK3xx).

_MOVABLE_TOKENS = 40
"""A shorter stretch is a label of the value beside it, and can't be moved."""


def broken_prefix(linted: LintedTemplate, context: LintContext) -> Iterator[Violation]:
    """Yield a value that differs between calls, before text that doesn't (PK301)."""
    before, value, after = _split_at_first_value(linted.output)
    if value is None or not after:
        return
    losses = [_cache_loss(context, before, after, target) for target in context.route.targets]
    known = [loss for loss in losses if loss is not None]
    if known:
        highest = max(known, key=lambda loss: loss.pico_per_call)
        cost = f"{usd(round(highest.pico_per_call * 1000)):.4f}"
        yield Violation(
            f"{value.variable} comes before {after:,} tokens of text that is the same in every call: "
            f"{highest.tokens:,} tokens aren't cached, ${cost} per 1,000 calls on {highest.target}",
            value.file,
            value.line,
            "Put stable text first (the system message, rules, examples), and values after it.",
        )


def _split_at_first_value(output: tuple[OutputPiece, ...]) -> tuple[int, OutputPiece | None, int]:
    """Return the stable tokens before the first value, that value, and the movable stable tokens after it."""
    stretches: list[str] = [""]
    value: OutputPiece | None = None
    for piece in output:
        if piece.variable:
            value = value or piece
            stretches.append("")
        else:
            stretches[-1] += piece.text
    counts = [estimate_text_tokens(text) for text in stretches]
    return counts[0], value, sum(count for count in counts[1:] if count >= _MOVABLE_TOKENS)


@dataclass(frozen=True, slots=True)
class _CacheLoss:
    """The tokens that a target doesn't cache, and their extra cost per call."""

    target: Target
    tokens: int
    pico_per_call: Fraction


def _cache_loss(context: LintContext, before: int, after: int, target: Target) -> _CacheLoss | None:
    provider, model = context.catalog.pair(target)
    if provider.adapter == "anthropic" and not provider.prompt_cache:
        return None  # it caches only what is marked
    card = context.prices.card(provider, model, context.at)
    tariff = None if card is None else card.tariff()
    if tariff is None or before + after < model.cache_min_tokens:
        return None
    band = tariff.bands[0]
    saved = Fraction(band.uncached - band.cache_read, tariff.denominator)
    tokens = after if before >= model.cache_min_tokens else before + after
    return _CacheLoss(target, tokens, saved * tokens) if saved > 0 else None


# Rules on output and parameters (PK4xx).

REASONING_TOKENS = {Reasoning.LOW: 1024, Reasoning.MEDIUM: 4096, Reasoning.HIGH: 16384}
"""About the number of tokens that a level spends before the first word of the reply."""
_MIN_REPLY_TOKENS = 64
_SOME_PROMPT = Prompt((Message(Role.USER, "-"),), "", TemplateRef("lint"), "")


def no_output_limit(linted: LintedTemplate, context: LintContext) -> Iterator[Violation]:
    """Yield a template without an output limit (PK401)."""
    if linted.template.is_partial or linted.spec.params.max_output_tokens is not None:
        return
    yield Violation(
        f"no output limit: the route's default of {context.route.max_output_tokens:,} tokens is sent",
        linted.file,
        linted.key_line("params", "max_output_tokens"),
        "Set it to the size of the longest good reply: [params] max_output_tokens = ...",
    )


def limit_below_reasoning(linted: LintedTemplate, context: LintContext) -> Iterator[Violation]:
    """Yield an output limit that reasoning alone may use up (PK402)."""
    params = _params(linted, context)
    limit = params.max_output_tokens
    if linted.template.is_partial or limit is None:
        return
    too_high = [
        (spent, target)
        for target, _, model in context.targets()
        if (spent := _reasoning_tokens(params, model)) and limit < spent + _MIN_REPLY_TOKENS
    ]
    if too_high:
        spent, target = max(too_high)
        yield Violation(
            f"max_output_tokens = {limit} includes reasoning, and {target} "
            f"({params.reasoning or 'no level set'}) may spend {spent:,} before its first word",
            linted.file,
            linted.key_line("params", "max_output_tokens"),
            'Raise the limit (unused tokens cost nothing), or set reasoning = "off" if the model allows it.',
        )


def _reasoning_tokens(params: Params, model: Model) -> int:
    """Return the tokens that a model may spend on reasoning; 0 if it doesn't reason."""
    levels = model.reasoning
    if not levels or "reasoning" in model.rejects:
        return 0
    level = params.reasoning or Reasoning.LOW
    value = levels.get(level)
    if level is Reasoning.OFF:
        # Some models always reason: their value for off is that of another level.
        level = next((other for other in REASONING_TOKENS if value and levels.get(other) == value), level)
    if isinstance(value, int):
        return 0  # a budget in tokens is limited to half of the output limit
    return REASONING_TOKENS.get(level, 0)


def schema_not_taken(linted: LintedTemplate, context: LintContext) -> Iterator[Violation]:
    """Yield keywords of the output schema that a target's structured output doesn't accept (PK403)."""
    schema = linted.spec.output
    if schema is None or linted.template.is_partial:
        return
    for target, provider, _ in context.targets():
        for problem in not_taken(schema, provider.adapter):
            yield Violation(
                f"{target}: {problem}",
                linted.file,
                linted.key_line("output", ""),
                "Simplify [output], or remove the target from the route.",
            )


def parameter_left_out(linted: LintedTemplate, context: LintContext) -> Iterator[Violation]:
    """Yield parameters that a target leaves out or changes (PK404)."""
    for target, request in _encoded(linted, context):
        if isinstance(request, WireRequest):
            for warning in request.warnings:
                name = next((name for name in Params.__slots__ if name in warning), "")
                yield Violation(
                    f"{target}: {warning}",
                    linted.file,
                    linted.key_line("params", name),
                    "Remove it, or choose a route whose models accept it.",
                )


def call_refused(linted: LintedTemplate, context: LintContext) -> Iterator[Violation]:
    """Yield parameters or schemas for which a target refuses every call (PK405)."""
    for target, request in _encoded(linted, context):
        if isinstance(request, Failure):
            yield Violation(
                f"{target} refuses such calls: {request.detail}",
                linted.file,
                linted.key_line("output" if linted.spec.output else "params", ""),
                "Change the parameter or the schema, or remove the target from the route.",
            )


def _encoded(linted: LintedTemplate, context: LintContext) -> Iterator[tuple[Target, WireRequest | Failure]]:
    """Yield the request that each target of the route would get."""
    if linted.template.is_partial:
        return
    call = Call(_SOME_PROMPT, _params(linted, context), linted.spec.output)
    for target, provider, model in context.targets():
        yield target, for_provider(provider).encode(call, provider, model)


def _params(linted: LintedTemplate, context: LintContext) -> Params:
    params = linted.spec.params
    if params.max_output_tokens is None:
        return replace(params, max_output_tokens=context.route.max_output_tokens)
    return params


# Rules on the models of the route (PK5xx).

_CHARACTERS_PER_TOKEN = 3
"""For dense text: figures, marks, languages other than English."""
_NEAR = 0.8


def model_gone(linted: LintedTemplate, context: LintContext) -> Iterator[Violation]:
    """Yield models of the route that no longer exist (PK501)."""
    for target in context.route.targets:
        if target in context.gone:
            yield Violation(
                f"{target}, on the route {context.route.name!r}, no longer exists: "
                "its provider reported so at the last call",
                linted.file,
                1,
                "Use another model in the route. `promptkit providers list` shows the known ones.",
            )


def near_context_window(linted: LintedTemplate, context: LintContext) -> Iterator[Violation]:
    """Yield a prompt that may come near the context window of a model (PK502)."""
    limit = linted.spec.params.max_output_tokens or context.route.max_output_tokens
    tokens = _max_prompt_tokens(linted)
    for target, _, model in context.targets():
        window = model.context_window
        if window is not None and tokens + limit > window * _NEAR:
            yield Violation(
                f"up to about {tokens:,} tokens of prompt and {limit:,} of reply; "
                f"the context window of {target} is {window:,}",
                linted.file,
                linted.key_line("variables", ""),
                "Lower max_length of the longest variables, or choose a model with a larger window.",
            )


def _max_prompt_tokens(linted: LintedTemplate) -> int:
    """Return the tokens of the prompt with every variable at its longest; an unbounded one counts nothing."""
    variables = linted.spec.variables
    prints = Counter(piece.variable for piece in linted.output if piece.variable in variables)
    text = sum(estimate_text_tokens(piece.text) for piece in linted.output)
    # The fields of an object are printed one by one: together they are the object, once.
    return text + sum(
        _max_tokens(variables[name]) * (1 if variables[name].kind is Kind.OBJECT else count)
        for name, count in prints.items()
    )


def _max_tokens(variable: Variable) -> int:
    match variable.kind:
        case Kind.STRING:
            return (variable.max_length or 0) // _CHARACTERS_PER_TOKEN
        case Kind.LIST if variable.items is not None:
            return (variable.max_length or 0) * _max_tokens(variable.items)
        case Kind.OBJECT:
            return sum(map(_max_tokens, variable.fields.values()))
        case _:
            return 0

"""The command `templates diff`: what a version changes, in text, variables, tokens and cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Final

import typer

from promptkit.authoring.diff import (
    ChangeKind,
    CostDiff,
    ExampleDiff,
    SpecChange,
    TargetPricing,
    TemplateDiff,
    TextDiff,
    diff,
)
from promptkit.authoring.examples import GENERATED, Example
from promptkit.authoring.template_tests import read_template_tests
from promptkit.batch.columns import usd_text
from promptkit.cli import options
from promptkit.engine.context import Session
from promptkit.providers.params import output_limit
from promptkit.providers.prices import Prices
from promptkit.templates.reference import DRAFT
from promptkit.templates.template import Template
from promptkit.types import Json, Route, dollars

from .face import Face

Old = Annotated[
    str, typer.Argument(metavar="A", help="The version before; alone, it is compared with the draft.")
]


New = Annotated[str | None, typer.Argument(metavar="B", help="The version after: ugc/script@2, or @2 alone.")]


_SIGNS: Final = {ChangeKind.ADDED: "+", ChangeKind.REMOVED: "-", ChangeKind.CHANGED: "~"}


_COLOURS: Final = {"+": "32", "-": "31", "@": "36", "~": "33"}


_SHOWN: Final = 300


def diff_templates(
    face: Face,
    old: Old,
    new: New = None,
    route: options.RouteName = None,
    target: options.Targets = None,
) -> None:
    """Show what changed between two versions.

    Message by message: the source, and the prompts of the examples in tests.toml. Then variables,
    parameters and output schema, and about how many tokens and what a call costs on a route,
    before and after.

    Examples:
        promptkit templates diff ugc/script
        promptkit templates diff ugc/script@1 ugc/script@2 --route longform
        promptkit templates diff ugc/script@1 @2 --json
    """
    session = face.session()
    before = session.library.load(old, allow_draft=new is not None)
    after = session.library.load(_other(before, new))
    offers = tuple(_offers(session, before, after, session.route(route, target)))
    found = diff(before, after, _examples(before, after), offers)
    if face.as_json:
        face.print_json(diff_json(found))
    else:
        _print(face, found)


def _other(before: Template, new: str | None) -> str:
    if new is None:
        return f"{before.ref.name}@{DRAFT}"
    return f"{before.ref.name}{new}" if new.startswith("@") else new


def _examples(before: Template, after: Template) -> tuple[Example, ...]:
    """The examples of both sides' tests, those of the newer side first; else made-up values."""
    if before.is_partial or after.is_partial:
        return ()
    cases = [case for side in (before, after) for case in read_template_tests(side) if case.error is None]
    return tuple({case.name: Example(case.name, case.variables) for case in cases}.values()) or (GENERATED,)


def _offers(session: Session, before: Template, after: Template, route: Route) -> Iterator[TargetPricing]:
    prices, now = Prices(), datetime.now(UTC)
    for target in route.targets:
        provider, model = session.settings.catalog.pair(target)
        card = prices.card(provider, model, now)
        old, new = (output_limit(session.params(side, route), model) for side in (before, after))
        yield TargetPricing(target, None if card is None else card.tariff(), (old, new))


# ------------------------------------------------------------------------------ for people
def _print(face: Face, found: TemplateDiff) -> None:
    lines = [f"{found.old.ref} -> {found.new.ref}"]
    if found.is_same:
        lines.append("nothing differs")
    for section, group in groupby(found.spec, key=lambda change: change.path[0]):
        lines += ["", section, *(f"  {_change(change)}" for change in group)]
    for text in found.sources:
        lines += _text("source", text)
    for rendering in found.examples:
        lines += _rendering(rendering)
    face.print("\n".join(_coloured(line) if face.color else line for line in lines))
    _print_cost(face, found)


def _change(change: SpecChange) -> str:
    name = ".".join(change.path[1:]) or "it"
    match change.kind:
        case ChangeKind.ADDED:
            return f"+ {name}: {_short(change.new)}"
        case ChangeKind.REMOVED:
            return f"- {name}: {_short(change.old)}"
        case _:
            return f"~ {name}: {_short(change.old)} -> {_short(change.new)}"


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _text(what: str, text: TextDiff) -> list[str]:
    return ["", f"{what}: {text.title}", *text.lines]


def _rendering(rendering: ExampleDiff) -> Iterator[str]:
    what = f"prompt of {rendering.example!r}"
    told = dict.fromkeys(problem for problem in rendering.problems if problem is not None)
    for problem in told:
        yield from ("", f"{what} can't be made: {problem}")
    if rendering.texts and rendering.generated:
        yield from ("", f"{what}: made up: {', '.join(rendering.generated)}")
    for text in rendering.texts:
        yield from _text(what, text)


def _coloured(line: str) -> str:
    colour = _COLOURS.get(line.lstrip()[:1])
    return line if colour is None else f"\x1b[{colour}m{line}\x1b[0m"


def _print_cost(face: Face, found: TemplateDiff) -> None:
    if found.is_same or None in found.tokens or not found.costs:
        return
    old, new = found.tokens
    tokens = f"about {old:,}" if old == new else f"about {old:,} -> {new:,}"
    made = sum(None not in rendering.tokens for rendering in found.examples)
    face.print("")
    face.table(
        ("target", "input tokens", "input", "with all output"),
        [
            (
                str(bill.target),
                tokens,
                _costs(bill.input_pico),
                _most(bill),
            )
            for bill in found.costs
        ],
        title=f"A call, before -> after (mean of {made} example{'s'[: made - 1]})",
    )


def _costs(pico: Sequence[int | None]) -> str:
    old, new = map(dollars, pico)
    return old if old == new else f"{old} -> {new}"


def _most(bill: CostDiff) -> str:
    old, new = bill.limits
    limits = f"{old:,}" if old == new else f"{old:,} -> {new:,}"
    return f"{_costs(bill.most_pico)} ({limits} tokens)"


# ---------------------------------------------------------------------------- for programs
def diff_json(found: TemplateDiff) -> dict[str, Json]:
    """A diff as JSON."""
    return {
        "old": {"template": str(found.old.ref), "template_digest": found.old.digest},
        "new": {"template": str(found.new.ref), "template_digest": found.new.digest},
        "same": found.is_same,
        "changes": [
            {"path": list(change.path), "how": change.kind.value, "old": change.old, "new": change.new}
            for change in found.spec
        ],
        "source": [_text_json(text) for text in found.sources],
        "prompts": [
            {
                "example": one.example,
                "made_up": list(one.generated),
                "messages": [_text_json(text) for text in one.texts],
                "input_tokens": list(one.tokens),
                "problems": list(one.problems),
            }
            for one in found.examples
        ],
        "input_tokens": list(found.tokens),
        "cost": [
            {
                "target": str(bill.target),
                "input_usd": [usd_text(pico) for pico in bill.input_pico],
                "with_all_output_usd": [usd_text(pico) for pico in bill.most_pico],
                "max_output_tokens": list(bill.limits),
            }
            for bill in found.costs
        ],
    }


def _text_json(text: TextDiff) -> dict[str, Json]:
    return {"what": text.title, "diff": "\n".join(text.lines)}

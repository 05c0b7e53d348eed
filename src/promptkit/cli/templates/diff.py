"""`promptkit templates diff`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

from typer import Argument

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
from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.output import Table, plain, shortened, to_json, usd_text
from promptkit.errors import counted
from promptkit.providers.params import output_limit
from promptkit.providers.prices import Prices
from promptkit.templates.reference import DRAFT
from promptkit.types import Json, Route, dollars

if TYPE_CHECKING:
    from promptkit.engine.context import Session
    from promptkit.templates.template import Template

Old = Annotated[str, Argument(metavar="A", help="The old version; without B, it is compared with the draft.")]
New = Annotated[str | None, Argument(metavar="B", help="The new version: ugc/script@2, or only @2.")]

_COLORS = {"+": "32", "-": "31", "@": "36", "~": "33"}
_VALUE_LENGTH = 300


def diff_templates(
    cli: Cli, old: Old, new: New = None, route: options.RouteName = None, target: options.Targets = None
) -> None:
    """Show what changed between two versions.

    It compares the source and the prompts of the examples in tests.toml, message by message; then
    variables, parameters and output schema; then the estimated tokens and cost of a call on a route.

    Examples:
        promptkit templates diff ugc/script
        promptkit templates diff ugc/script@1 ugc/script@2 --route longform
        promptkit templates diff ugc/script@1 @2 --json
    """
    session = cli.session()
    before = session.library.load(old, allow_draft=new is not None)
    after = session.library.load(_new_ref(before, new))
    offers = tuple(_offers(session, before, after, session.route(route, target)))
    result = diff(before, after, _examples(before, after), offers)
    if cli.as_json:
        cli.print_json(diff_json(result))
        return
    cli.print("\n".join(_colored(line) if cli.color else line for line in _lines(result)))
    if not result.is_same and None not in result.tokens and result.costs:
        cli.print("\n" + _cost_table(result).text(color=cli.color))


def _new_ref(before: Template, new: str | None) -> str:
    if new is None:
        return f"{before.ref.name}@{DRAFT}"
    return f"{before.ref.name}{new}" if new.startswith("@") else new


def _examples(before: Template, after: Template) -> tuple[Example, ...]:
    """Return the examples of both sides' tests, those of the new side first; without any, an empty one."""
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


# -------------------------------------------------------------------------------------- text


def _lines(result: TemplateDiff) -> Iterator[str]:
    yield f"{result.old.ref} -> {result.new.ref}"
    if result.is_same:
        yield "no differences"
    for section, changes in groupby(result.spec, key=lambda change: change.path[0]):
        yield from ("", section, *(f"  {_change_text(change)}" for change in changes))
    for text in result.sources:
        yield from _text_lines("source", text)
    for rendering in result.examples:
        yield from _rendering_lines(rendering)


def _change_text(change: SpecChange) -> str:
    name = ".".join(change.path[1:]) or "value"
    origin = f" ({change.origin})" if change.origin else ""
    match change.kind:
        case ChangeKind.ADDED:
            return f"+ {name}: {_value_text(change.new)}{origin}"
        case ChangeKind.REMOVED:
            return f"- {name}: {_value_text(change.old)}{origin}"
        case _:
            return f"~ {name}: {_value_text(change.old)} -> {_value_text(change.new)}{origin}"


def _value_text(value: Json) -> str:
    return shortened(json.dumps(value, ensure_ascii=False), _VALUE_LENGTH)


def _rendering_lines(rendering: ExampleDiff) -> Iterator[str]:
    title = f"prompt of {rendering.example!r}"
    for problem in dict.fromkeys(problem for problem in rendering.problems if problem is not None):
        yield from ("", f"{title} can't be rendered: {problem}")
    if rendering.texts and rendering.generated:
        yield from ("", f"{title}: placeholders for {', '.join(rendering.generated)}")
    for text in rendering.texts:
        yield from _text_lines(title, text)


def _text_lines(title: str, text: TextDiff) -> list[str]:
    return ["", f"{title}: {text.title}", *text.lines]


def _colored(line: str) -> str:
    color = _COLORS.get(line.lstrip()[:1])
    return line if color is None else f"\x1b[{color}m{line}\x1b[0m"


def _cost_table(result: TemplateDiff) -> Table:
    old, new = result.tokens
    tokens = f"about {old:,}" if old == new else f"about {old:,} -> {new:,}"
    examples = sum(None not in rendering.tokens for rendering in result.examples)
    return Table(
        ("target", "input tokens", "input", "with all output"),
        [(str(bill.target), tokens, _cost_text(bill.input_pico), _most_text(bill)) for bill in result.costs],
        title=f"Per call, old -> new (mean of {counted(examples, 'example')})",
    )


def _cost_text(pico: Sequence[int | None]) -> str:
    old, new = map(dollars, pico)
    return old if old == new else f"{old} -> {new}"


def _most_text(bill: CostDiff) -> str:
    old, new = bill.limits
    limits = f"{old:,}" if old == new else f"{old:,} -> {new:,}"
    return f"{_cost_text(bill.most_pico)} ({limits} tokens)"


# -------------------------------------------------------------------------------------- JSON


def diff_json(result: TemplateDiff) -> dict[str, Json]:
    """Return a diff as JSON."""
    return {
        "old": {"template": str(result.old.ref), "template_digest": result.old.digest},
        "new": {"template": str(result.new.ref), "template_digest": result.new.digest},
        "same": result.is_same,
        "changes": [
            to_json(change, ("kind", "origin"), how=change.kind.value, **{"from": change.origin or None})
            for change in result.spec
        ],
        "source": [_text_json(text) for text in result.sources],
        "prompts": [
            {
                "example": rendering.example,
                "made_up": list(rendering.generated),
                "messages": [_text_json(text) for text in rendering.texts],
                "input_tokens": list(rendering.tokens),
                "problems": list(rendering.problems),
            }
            for rendering in result.examples
        ],
        "input_tokens": list(result.tokens),
        "cost": [
            {
                "target": str(bill.target),
                "input_usd": [usd_text(pico) for pico in bill.input_pico],
                "with_all_output_usd": [usd_text(pico) for pico in bill.most_pico],
                "max_output_tokens": plain(bill.limits),
            }
            for bill in result.costs
        ],
    }


def _text_json(text: TextDiff) -> dict[str, Json]:
    return {"what": text.title, "diff": "\n".join(text.lines)}

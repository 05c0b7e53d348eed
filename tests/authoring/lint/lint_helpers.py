"""Making a world to lint in, without disk or network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from promptkit.authoring.lint import LintFinding, lint
from promptkit.authoring.lint_context import LintContext
from promptkit.providers.prices import Prices
from promptkit.routing.catalog import Catalog
from promptkit.templates.jinja.compiler import compile_source
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template
from promptkit.types import Model, OnReject, PriceOverride, Provider, Reasoning, Route, Target, TemplateRef

LEVELS: Mapping[Reasoning, str | int] = {
    Reasoning.OFF: "none",
    Reasoning.LOW: "low",
    Reasoning.MEDIUM: "medium",
    Reasoning.HIGH: "high",
}
THINKS = Model(
    "thinks",
    context_window=1_000_000,
    max_output_tokens=100_000,
    rejects=frozenset({"temperature"}),
    reasoning=LEVELS,
    price=PriceOverride(Decimal("1.00"), Decimal("4.00"), Decimal("0.10")),
)
"""A reasoning model: a dollar a million tokens of input, a tenth of it from the cache."""


def world(
    model: Model = THINKS, *, adapter: str = "openai", api: str = "responses", gone: bool = False
) -> LintContext:
    """A world with one target, `p/<model>`."""
    target = Target("p", model.id)
    provider = Provider("p", adapter, api, "openai", base_url="http://127.0.0.1:1", models={model.id: model})
    route = Route("default", (target,))
    at = datetime(2026, 11, 22, tzinfo=UTC)
    return LintContext(Catalog({"p": provider}), Prices(), route, at, frozenset({target} if gone else ()))


REFUSES = replace(THINKS, id="refuses", on_reject=OnReject.REFUSE)


def template(text: str, name: str = "a/b", includes: Mapping[str, str] | None = None) -> Template:
    """A draft, with includes by the name they are written with."""
    return Template(part(text, name, includes or {}))


def part(text: str, name: str, includes: Mapping[str, str]) -> Part:
    source = read_source(text, file=f"{name}/draft.jinja")
    compiled = compile_source(source)
    inner = {written: part(includes[written], written, includes) for written in compiled.includes}
    return Part.join(TemplateRef(name.partition("@")[0], "draft"), source, compiled, inner)


def found(
    text: str, code: str, in_world: LintContext | None = None, includes: Mapping[str, str] | None = None
) -> list[LintFinding]:
    """What one rule finds in a text."""
    findings = lint(template(text, includes=includes), in_world or world())
    return [one for one in findings if one.code == code]


def user(body: str, front: str = "") -> str:
    """A template with one user message."""
    head = f"+++\n{front}\n+++\n" if front else ""
    return f'{head}{{% message "user" %}}\n{body}\n{{% endmessage %}}\n'

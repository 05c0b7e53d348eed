"""Linting one skeleton: every rule, less what its front matter switches off."""

from __future__ import annotations

from collections.abc import Iterator

from promptkit.errors import closest
from promptkit.templates import Skeleton

from .findings import Finding, Rule, Spot, World
from .rules import RULES
from .subject import Subject


def lint(skeleton: Skeleton, world: World) -> tuple[Finding, ...]:
    """Hold a skeleton against every rule.

    Args:
        skeleton: a skeleton or a partial.
        world: the route it would take, and what is known of its targets.

    Returns:
        The findings by line; none of a rule that `[lint]` switches off.
    """
    subject = Subject(skeleton)
    found = {code: tuple(rule.check(subject, world)) for code, rule in RULES.items() if rule.check}
    switches = skeleton.spec.lint
    findings = [
        _finding(RULES[code], spot, skeleton)
        for code, spots in found.items()
        if code not in switches
        for spot in spots
    ]
    findings += [_finding(rule, spot, skeleton) for rule, spot in _switches(subject, found)]
    return tuple(sorted(findings, key=lambda one: (one.file or "", one.line or 0, one.code)))


def _finding(rule: Rule, spot: Spot, skeleton: Skeleton) -> Finding:
    return Finding(
        rule.code, rule.name, rule.severity, spot.what, str(skeleton.ref), spot.file, spot.line, spot.remedy
    )


def _switches(subject: Subject, found: dict[str, tuple[Spot, ...]]) -> Iterator[tuple[Rule, Spot]]:
    """What is wrong with the switches themselves."""
    for code in subject.spec.lint:
        line = subject.key_line("lint", code)
        if code not in found:
            what = f"{code} can't be switched off" if code in RULES else f"there is no rule {code}"
            yield RULES["PK702"], Spot(what, subject.file, line, closest(code, found))
        elif not found[code]:
            what = f"{code} is switched off and finds nothing here"
            yield RULES["PK701"], Spot(what, subject.file, line, "Take the line out.")

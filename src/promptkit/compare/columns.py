"""What stands side by side: versions of a skeleton, targets, or both."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from promptkit.errors import UsageError
from promptkit.session import Session
from promptkit.templates import Skeleton, parse_ref
from promptkit.types import Route, TemplateRef

_UNFIT: Final = re.compile(r"[^A-Za-z0-9.]+")
_LONGEST: Final = 40


@dataclass(frozen=True, slots=True)
class Column:
    """One of the things that are compared: a version of a skeleton on a route.

    `label` says what sets it apart from the others: `openai/gpt-6-luna`, `@2`, or both.
    """

    label: str
    skeleton: Skeleton
    route: Route

    @property
    def slug(self) -> str:
        """A name for its job: another text, or other targets, make another one."""
        told = json.dumps([self.skeleton.digest, self.route.strategy, *map(str, self.route.targets)])
        digest = hashlib.sha256(told.encode()).hexdigest()[:6]
        return f"{_UNFIT.sub('-', self.label).strip('-')[-_LONGEST:]}-{digest}"


def columns_of(
    session: Session,
    ref: str,
    versions: Sequence[str],
    targets: Sequence[str],
    *,
    route: str | None = None,
    tags: Mapping[str, str],
) -> tuple[Column, ...]:
    """The columns of a comparison: each target with each version.

    Args:
        session: the skeletons and the routes.
        ref: the skeleton; it names no version where `versions` do.
        versions: `2`, `draft`, a label; empty for the one that `ref` means.
        targets: `provider/model`; empty for a route, the same for all versions.
        route: its name; None for the one that rules or the configuration say.
        tags: of all calls, for the rules.

    Raises:
        UsageError: fewer than two columns, or two that are the same; an unknown route or target.
        TemplateError: a version isn't there, or is broken.
        NoUsableKey: a column has no target that can be asked.
    """
    skeletons = [
        (at, session.library.load(one, allow_draft=False)) for at, one in _refs(ref, versions).items()
    ]
    if targets:
        if route is not None:
            raise UsageError("give a route or targets, not both")
        ways = [(target, session.route(None, [target])) for target in targets]
    else:
        ways = [("", session.route(route, ref=ref, tags=tags))]
    columns = tuple(
        Column(" ".join(part for part in (target, at) if part), skeleton, way)
        for target, way in ways
        for at, skeleton in skeletons
    )
    if len(columns) < 2:  # noqa: PLR2004 - one is compared with nothing
        raise UsageError(
            "one column is nothing to compare",
            remedy="Name two or more: --targets openai/gpt-6-luna,anthropic/claude-haiku-5-5, or --versions 1,2",
        )
    _refuse_twins(columns)
    for column in columns:
        session.plan(column.route, template=column.skeleton.ref.name, tags=tags)
    return columns


def _refs(ref: str, versions: Sequence[str]) -> dict[str, TemplateRef]:
    """The references by what sets them apart; nothing does where there is one."""
    named = parse_ref(ref)
    if not versions:
        return {"": named}
    if named.at is not None:
        raise UsageError(
            f"{ref} names a version, and so does --versions", remedy=f"Leave the version out: {named.name}"
        )
    refs = [parse_ref(f"{named.name}@{version.removeprefix('@')}") for version in versions]
    return {f"@{ref.at}": ref for ref in refs}


def _refuse_twins(columns: Sequence[Column]) -> None:
    seen: dict[tuple[str, Route], str] = {}
    for column in columns:
        key = (column.skeleton.digest, column.route)
        if key in seen:
            raise UsageError(
                f"{seen[key]} and {column.label} are the same: what differs could only be chance",
                remedy="Name each target and each version once.",
            )
        seen[key] = column.label

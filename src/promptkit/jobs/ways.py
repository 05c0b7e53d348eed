"""Over which route a row goes: its job's, or one that a rule names for its tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from promptkit.session import Session
from promptkit.types import Route

if TYPE_CHECKING:
    from promptkit.routing.flow import Plan


def way_of(  # noqa: PLR0913 - what a row's way depends on
    session: Session,
    template: str,
    route: Route,
    detours: Mapping[str, Route] | None,
    tags: Mapping[str, str],
    *,
    resend_unknown: bool = True,
    fastest: bool = False,
) -> tuple[Route, Plan]:
    """The route and the plan of the rows with these tags.

    Args:
        session: settings and rules.
        template: the skeleton's name.
        route: the job's.
        detours: the routes that rules may send rows over, as the job pinned them; None for none.
        tags: the rows'.
        resend_unknown: whether an unknown outcome may be sent again.
        fastest: the target that answers fastest goes first, whatever the route says.

    Raises:
        NoUsableKey: no target can be asked.
        UsageError: the rules leave no target.
    """
    settings = session.settings
    if detours is not None and settings.rules:
        name = settings.rules.ruling(template, tags).route
        route = detours.get(name or "") or settings.routes.get(name or "") or route
    if fastest:
        route = replace(route, strategy="fastest", weights=())
    return route, session.plan(route, template=template, tags=tags, resend_unknown=resend_unknown)

"""One call as a script asks for it: what it says, in the words of the rooms below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from promptkit.calls import make_reply
from promptkit.errors import UsageError
from promptkit.routing.budgets import pico_of_usd
from promptkit.routing.reply_cache import read_age
from promptkit.session import Session, checked_tags
from promptkit.shapes import shape_of
from promptkit.types import Reply, TemplateRef


async def ask(
    session: Session,
    ref: str | TemplateRef,
    variables: Mapping[str, object] | None,
    route: str | None,
    targets: Sequence[str] | None,
    listen: Callable[[str], None] | None = None,
    *,
    tags: Mapping[str, str] | None,
    budget_usd: Decimal | None,
    parent_id: int | None,
    cache: str | None,
    output: type[Any] | None = None,
) -> Reply[Any]:
    """Make the call; see `AsyncPromptKit.run`. `listen` is told each piece of its text."""
    told = checked_tags(tags)
    shape = None if output is None else shape_of(output)
    skeleton = session.skeleton(ref)
    if shape is not None:
        skeleton = skeleton.shaped(shape.schema)
    chosen = session.route(route, targets, ref=skeleton.ref, tags=told)
    return await make_reply(
        session,
        skeleton,
        variables or {},
        route=chosen,
        tags=told,
        cap_pico=None if budget_usd is None else cap_of(budget_usd),
        parent_id=parent_id,
        cache_s=chosen.cache_s if cache is None else read_age(cache),
        listen=listen,
        read=None if shape is None else shape.read,
    )


def cap_of(budget_usd: Decimal | float | str) -> int:
    """A budget in pico-USD.

    Raises:
        UsageError: negative, not a number, or finer than a pico-dollar.
    """
    try:
        return pico_of_usd(Decimal(str(budget_usd)))
    except (ValueError, ArithmeticError) as cause:
        raise UsageError(f"the budget {budget_usd} can't stand: {cause}") from None

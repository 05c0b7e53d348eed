"""`promptkit budgets`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from promptkit.cli.command import Cli
from promptkit.cli.output import to_json, usd_text
from promptkit.reports.caps import CapStatus, cap_statuses
from promptkit.routing.budgets import Per
from promptkit.types import Json, dollars

if TYPE_CHECKING:
    from promptkit.engine.context import Session

_COLUMNS = ("~money of", ">cap", ">spent", ">reserved", ">over", "~refused", ">soft cap", "resets")


def budgets(cli: Cli) -> None:
    """Show every cap: spent, reserved, and left.

    The caps are those of promptkit.toml, and those of jobs that are not done. A call is refused if
    its max cost exceeds what the cap leaves. If reservations of other calls are the reason, it waits
    for them. A soft cap only produces a notice.

    Examples:
        promptkit budgets
        promptkit budgets --json
    """
    session = cli.session()
    caps = _read_caps(cli, session)
    if cli.as_json:
        cli.print_json([_cap_json(cap) for cap in caps])
    elif caps:
        cli.print_table(_COLUMNS, [_table_row(cap, session.settings.timezone) for cap in caps])
    else:
        cli.notice("there are no caps; set them under [budgets] in promptkit.toml")


def _read_caps(cli: Cli, session: Session) -> list[CapStatus]:
    settings = session.settings
    if not settings.database_path.exists():
        return cap_statuses(settings.budgets, session.period(), None)
    with cli.ledger(settings) as ledger:
        return cap_statuses(settings.budgets, session.period(), ledger)


def _table_row(cap: CapStatus, zone: ZoneInfo) -> tuple[str, ...]:
    per_job = cap.scope is None
    soft = "" if cap.soft_pico is None else dollars(cap.soft_pico)
    return (
        _name(cap),
        "" if cap.cap_pico is None else dollars(cap.cap_pico),
        "" if per_job else dollars(cap.spent_pico),
        "" if per_job else dollars(cap.reserved_pico),
        dollars(cap.over_pico) if cap.over_pico else "",
        _refused_text(cap),
        f"{soft}, passed" if cap.soft_passed else soft,
        "" if cap.resets is None else f"{cap.resets.astimezone(zone):%Y-%m-%d %H:%M}",
    )


def _name(cap: CapStatus) -> str:
    """Return `the day`, `the month, client=barly`, `job night` or `each job`."""
    name = f"the {cap.per}"
    if cap.per is Per.JOB:
        name = "each job" if cap.job is None else f"job {cap.job}"
    return name if cap.tag is None else f"{name}, {cap.tag[0]}={cap.tag[1]}"


def _refused_text(cap: CapStatus) -> str:
    """Return which calls would be refused now, and which would wait."""
    above = cap.refuses_above_pico
    if cap.stopped:
        return "everything: a bill exceeded its max cost; raise the cap"
    if above is None:
        return "nothing"
    if above == 0:
        return "everything that costs"
    text = f"a call above {dollars(above)}"
    return f"{text}; above {dollars(cap.left_pico)} waits" if cap.reserved_pico else text


def _cap_json(cap: CapStatus) -> dict[str, Json]:
    return to_json(
        cap,
        tag=None if cap.tag is None else f"{cap.tag[0]}={cap.tag[1]}",
        left_usd=usd_text(cap.left_pico),
        refuses_above_usd=usd_text(cap.refuses_above_pico),
        soft_passed=cap.soft_passed,
    )

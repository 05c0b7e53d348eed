"""The command `budgets`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from promptkit.batch.columns import usd_text
from promptkit.reports.caps import CapStatus, cap_statuses
from promptkit.routing.budgets import Per
from promptkit.types import Json, dollars

from .face import Face

if TYPE_CHECKING:
    from promptkit.engine.context import Session


def budgets(face: Face) -> None:
    """Show every cap: spent, held, and what it would refuse.

    Caps are those of promptkit.toml as it is now, and of the jobs that aren't done. A call is
    refused if it could cost more than the cap leaves; while other calls hold what it lacks, it
    waits for them. A soft cap is told when it is passed, and stops nothing.

    Examples:
        promptkit budgets
        promptkit budgets --json
    """
    session = face.session()
    lines = _standings(face, session)
    if face.as_json:
        face.print_json([_json(line) for line in lines])
        return
    if not lines:
        face.say("there are no caps: [budgets] in promptkit.toml sets them")
        return
    zone = session.settings.timezone
    face.table(
        ("~money of", ">cap", ">spent", ">held", ">over", "~refused", ">soft cap", "resets"),
        [_row(line, zone) for line in lines],
    )


def _standings(face: Face, session: Session) -> list[CapStatus]:
    settings = session.settings
    if not settings.database_path.exists():
        return cap_statuses(settings.budgets, session.period(), None)
    with face.ledger(settings) as ledger:
        return cap_statuses(settings.budgets, session.period(), ledger)


def _row(line: CapStatus, zone: ZoneInfo) -> tuple[str, ...]:
    each = line.scope is None
    soft = "" if line.soft_pico is None else dollars(line.soft_pico)
    return (
        _name(line),
        "" if line.cap_pico is None else dollars(line.cap_pico),
        "" if each else dollars(line.spent_pico),
        "" if each else dollars(line.reserved_pico),
        dollars(line.over_pico) if line.over_pico else "",
        _refused(line),
        f"{soft}, passed" if line.soft_passed else soft,
        "" if line.resets is None else f"{line.resets.astimezone(zone):%Y-%m-%d %H:%M}",
    )


def _name(line: CapStatus) -> str:
    """`the day`, `the month, client=barly`, `job night`, `each job`."""
    if line.per is Per.JOB:
        what = "each job" if line.job is None else f"job {line.job}"
    else:
        what = f"the {line.per}"
    return what if line.tag is None else f"{what}, {line.tag[0]}={line.tag[1]}"


def _refused(line: CapStatus) -> str:
    """What would be refused now, and what would wait."""
    above = line.refuses_above_pico
    if line.stopped:
        return "everything: a bill passed its ceiling; raise the cap"
    if above is None:
        return "nothing"
    if above == 0:
        return "everything that costs"
    told = f"a call above {dollars(above)}"
    return f"{told}; above {dollars(line.left_pico)} waits" if line.reserved_pico else told


def _json(line: CapStatus) -> dict[str, Json]:
    return {
        "scope": line.scope,
        "per": line.per.value,
        "tag": None if line.tag is None else f"{line.tag[0]}={line.tag[1]}",
        "job": line.job,
        "cap_usd": usd_text(line.cap_pico),
        "soft_usd": usd_text(line.soft_pico),
        "spent_usd": usd_text(line.spent_pico),
        "reserved_usd": usd_text(line.reserved_pico),
        "over_usd": usd_text(line.over_pico),
        "left_usd": usd_text(line.left_pico),
        "refuses_above_usd": usd_text(line.refuses_above_pico),
        "soft_passed": line.soft_passed,
        "stopped": line.stopped,
        "resets": None if line.resets is None else line.resets.isoformat().replace("+00:00", "Z"),
    }

"""The doctor command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from promptkit.errors import worst

from .face import Face

if TYPE_CHECKING:
    from .examine import Finding


_COLORS: Final = {"ok": "32", "warn": "33", "fail": "1;31"}


def doctor(face: Face) -> int:
    """Examine this machine, the configuration and the ledger.

    Python and SQLite, the embedded model, the configuration, the seals of templates, which keys
    there are (never shown), the database, the clock, and what cron will find. Exits with 0 unless
    something fails.

    Examples:
        promptkit doctor
        promptkit doctor --config /srv/studio/promptkit.toml --json
    """
    from .examine import examine

    findings = list["Finding"]()
    for finding in examine(face.settings, whole=face.verbose):
        findings.append(finding)
        if not face.as_json:
            face.print(_line(finding, color=face.color))
    if face.as_json:
        face.print_json([finding.as_json() for finding in findings])
    return worst([finding.code for finding in findings])


def _line(finding: Finding, *, color: bool) -> str:
    word = f"{finding.health:<4}"
    shown = f"\x1b[{_COLORS[finding.health]}m{word}\x1b[0m" if color else word
    line = f"{shown}  {finding.name:<11}  {finding.says}"
    return f"{line}\n{'':19}{finding.remedy}" if finding.remedy else line

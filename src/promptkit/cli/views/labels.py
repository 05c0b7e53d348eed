"""Moves of labels: `templates show` prints their history, `promote` and `rollback` the last one."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from promptkit.authoring.labels import MovedLabel, Signature
from promptkit.authoring.publish import OwnTemplates
from promptkit.cli.output import Table, listed, to_json

if TYPE_CHECKING:
    from promptkit.cli.command import Cli
    from promptkit.engine.context import Session
    from promptkit.templates.versions import LabelMove, Versions
    from promptkit.types import Json


def history_table(versions: Versions) -> Table:
    """Return the moves of all labels, newest first."""
    return Table(
        ("label", "moved", "when (UTC)", "who", "~why"), [_move_row(move) for move in versions.moves[::-1]]
    )


def _move_row(move: LabelMove) -> tuple[str, str, str, str, str]:
    when = "" if move.at is None else f"{move.at:%Y-%m-%d %H:%M}"
    marks = listed(("rollback" if move.rollback else "", "forced" if move.forced else ""))
    why = ": ".join(part for part in (marks, move.why) if part)
    return move.label, _from_to(move), when, move.by, why


def _from_to(move: LabelMove) -> str:
    return f"{'nothing' if move.origin is None else move.origin} -> {move.to}"


def history_json(versions: Versions) -> list[Json]:
    """Return the moves of all labels, oldest first, as JSON."""
    return [_move_json(move) for move in versions.moves]


def _move_json(move: LabelMove) -> dict[str, Json]:
    return to_json(move, ("origin", "line"), **{"from": move.origin})


def print_move(cli: Cli, moved: MovedLabel) -> None:
    """Print where a label is now."""
    if cli.as_json:
        cli.print_json({"template": moved.name, "new": moved.is_new, **_move_json(moved.move)})
    elif moved.is_new:
        cli.print(f"{moved.name} {moved.move.label}: {_from_to(moved.move)}")
    else:
        cli.print(f"{moved.name} {moved.move.label}: {moved.move.to}")
        cli.notice("the label was already there")


def publisher_of(session: Session) -> OwnTemplates:
    """Return where a project's templates are published."""
    return OwnTemplates(session.library, session.settings.templates)


def sign(session: Session, reason: str | None) -> Signature:
    """Return who moves a label, when and why."""
    now = datetime.now(UTC).replace(microsecond=0)
    return Signature(now, user_name(session.settings.root), (reason or "").strip())


def user_name(folder: Path) -> str:
    """Return the user's name by git's configuration in a folder, else the one on this machine."""
    return _git_user(folder) or _machine_user()


def _git_user(folder: Path) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - git, with fixed arguments
            [git, "config", "user.name"],
            cwd=folder,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=5.0,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip()


def _machine_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the user of a container may have no name
        return f"user {os.getuid()}"

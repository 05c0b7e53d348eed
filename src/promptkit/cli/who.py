"""Who is at work: for the history of labels."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_PATIENCE_S: Final = 5.0


def who(folder: Path) -> str:
    """The name that git knows in a folder, else the user's name on this machine."""
    return _git_user(folder) or _machine_user()


def _git_user(folder: Path) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    try:
        asked = subprocess.run(  # noqa: S603 - git, with nothing of the user's in it
            [git, "config", "user.name"],
            cwd=folder,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode(errors="replace").strip()


def _machine_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"user {os.getuid()}"

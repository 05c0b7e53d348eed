"""The files of a new project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from promptkit.config.paths import FILE_NAME, shipped
from promptkit.errors import OutputError, UsageError

NAME: Final = "my/hook"
"""The template that a project begins with."""


_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


_KEYS: Final = """\
# Keys of this project, one KEY=VALUE a line. Readable by you alone, and never in git.
#OPENAI_API_KEY=
#ANTHROPIC_API_KEY=
#GEMINI_API_KEY=
"""


_GITIGNORE: Final = """\
.env
promptkit.db*
"""


_PROVIDERS: Final = """\
Provider files of your own: NAME.toml. A new name is a new provider; a shipped name replaces the
shipped file whole. To change a single key, write [providers.NAME] into promptkit.toml instead.
"""


@dataclass(frozen=True, slots=True)
class File:
    """A file to be written; a private one is readable by its owner alone."""

    text: str
    private: bool = False


def project_files(zone: str | None) -> dict[str, File]:
    """The files of a project by their paths.

    Args:
        zone: the machine's time zone, for the configuration; None where it isn't known.
    """
    config = shipped("config.example.toml").read_text("utf-8")
    if zone is not None:
        config = config.replace('timezone = "UTC"', f'timezone = "{zone}"', 1)
    templates = shipped("templates")
    return {
        FILE_NAME: File(config),
        f"templates/{NAME}/draft.jinja": File((templates / "demo/hook/v1.jinja").read_text("utf-8")),
        "providers/README": File(_PROVIDERS),
        "rows.csv": File((templates / "sample/demo.csv").read_text("utf-8")),
        ".env": File(_KEYS, private=True),
        ".gitignore": File(_GITIGNORE),
    }


def write_project(folder: Path, files: Mapping[str, File]) -> None:
    """Write a project: all of its files, or none where one of them is there already.

    Raises:
        UsageError: a file is there.
        OutputError: it can't be written.
    """
    there = [name for name in files if os.path.lexists(folder / name)]
    if there:
        raise UsageError(
            f"{folder} has {', '.join(there)} already; nothing was written",
            remedy="Name an empty folder: promptkit init my-project",
        )
    for name, file in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, _NEW, _mode(file)), "w", encoding="utf-8") as written:
                written.write(file.text)
        except OSError as cause:
            raise OutputError(f"can't be written: {cause.strerror}", file=path) from None


def _mode(file: File) -> int:
    return 0o600 if file.private else 0o666


def machine_zone() -> str | None:
    """The name of the machine's time zone, where its files tell it."""
    try:
        linked = str(Path("/etc/localtime").readlink())
    except OSError:
        return None
    _, found, name = linked.partition("zoneinfo/")
    return name if found and "/" in name else None

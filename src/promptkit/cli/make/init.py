"""`promptkit init`: the files of a new project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument

from promptkit.cli.command import Cli
from promptkit.config.paths import FILE_NAME, shipped
from promptkit.errors import OutputError, UsageError

_TEMPLATE = "my/hook"
"""The template of a new project."""

_KEYS = """\
# Keys of this project, one KEY=VALUE per line. Only you can read this file; keep it out of git.
#OPENAI_API_KEY=
#ANTHROPIC_API_KEY=
#GEMINI_API_KEY=
"""

_GITIGNORE = """\
.env
promptkit.db*
"""

_PROVIDERS = """\
Your own provider files: NAME.toml. A new name is a new provider; the name of a shipped provider
replaces its whole file. To change a single key, write [providers.NAME] into promptkit.toml instead.
"""

Folder = Annotated[Path, Argument(metavar="DIR", help="The folder; created if it does not exist.")]


def init(cli: Cli, folder: Folder = Path()) -> None:
    """Create a project in a folder.

    The project contains promptkit.toml, the draft of a template in templates/, providers/ for your
    own provider files, .env for keys, .gitignore and rows.csv. If one of these files exists, nothing
    is written.

    Examples:
        promptkit init
        promptkit init studio
    """
    files = project_files(machine_zone())
    _write_project(folder, files)
    if cli.as_json:
        cli.print_json([str(folder / name) for name in files])
        return
    cli.print("\n".join(str(folder / name) for name in files))
    enter = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    cli.notice(
        "next, without a key, on the embedded model:\n"
        f"  {enter}promptkit batch {_TEMPLATE}@draft rows.csv -o hooks.csv --route demo\n"
        "or with a key in .env, with a shipped template:\n"
        f"  {enter}promptkit batch ugc/hooks rows.csv -o hooks.csv --budget 1"
    )


@dataclass(frozen=True, slots=True)
class File:
    """A file of the project; a private one is readable by its owner only."""

    text: str
    private: bool = False


def project_files(zone: str | None) -> dict[str, File]:
    """Return the files of a project by their paths.

    Args:
        zone: the machine's time zone, for the configuration; None if it is unknown.
    """
    config = shipped("config.example.toml").read_text("utf-8")
    if zone is not None:
        config = config.replace('timezone = "UTC"', f'timezone = "{zone}"', 1)
    templates = shipped("templates")
    return {
        FILE_NAME: File(config),
        f"templates/{_TEMPLATE}/draft.jinja": File((templates / "demo/hook/v1.jinja").read_text("utf-8")),
        "providers/README": File(_PROVIDERS),
        "rows.csv": File((templates / "sample/demo.csv").read_text("utf-8")),
        ".env": File(_KEYS, private=True),
        ".gitignore": File(_GITIGNORE),
    }


def machine_zone() -> str | None:
    """Return the name of the machine's time zone, if its files contain it."""
    try:
        target = str(Path("/etc/localtime").readlink())
    except OSError:
        return None
    _, folder, name = target.partition("zoneinfo/")
    return name if folder and "/" in name else None


def _write_project(folder: Path, files: Mapping[str, File]) -> None:
    """Write all files of a project, or none if one of them exists.

    Raises:
        UsageError: a file exists.
        OutputError: a file is not writable.
    """
    existing = [name for name in files if os.path.lexists(folder / name)]
    if existing:
        raise UsageError(
            f"{folder} already contains {', '.join(existing)}; nothing was written",
            remedy="Name an empty folder: promptkit init my-project",
        )
    for name, file in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if file.private else 0o666)
            with os.fdopen(opened, "w", encoding="utf-8") as stream:
                stream.write(file.text)
        except OSError as cause:
            raise OutputError(f"not writable: {cause.strerror}", file=path) from None

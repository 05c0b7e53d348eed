"""Which schema a database has, and bringing it up to date. Alembic is imported only for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, inspect, text

from promptkit.errors import LedgerError

HEAD: Final = "pk0001"
"""The newest revision."""

REVISIONS: Final = (HEAD,)
"""All revisions, oldest first."""

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def revision(connection: Connection, path: Path) -> str | None:
    """The revision of a database, None for an empty one.

    Raises:
        LedgerError: it is of a newer schema, or of another program.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    found: str | None = None
    if "alembic_version" in tables:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found in REVISIONS:
        return found
    if found is not None and found.startswith("pk"):
        raise LedgerError(
            f"a newer promptkit wrote this database (schema {found}, this one knows {HEAD})",
            file=path,
            remedy="upgrade: pip install -U promptkit-router",
        )
    raise LedgerError(
        "this database belongs to another program",
        file=path,
        remedy="name another file under `database` in promptkit.toml",
    )


def upgrade(connection: Connection) -> None:
    """Run what is missing, in the connection's own transaction: all of it or nothing."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(MIGRATIONS))

    def steps(current: Any, _context: object) -> Any:
        return scripts._upgrade_revs(HEAD, current)  # noqa: SLF001 # what alembic's own `upgrade` calls  # pyright: ignore[reportPrivateUsage]

    with EnvironmentContext(Config(), scripts, fn=steps, destination_rev=HEAD) as environment:
        environment.configure(connection=connection, transaction_per_migration=False)
        environment.run_migrations()

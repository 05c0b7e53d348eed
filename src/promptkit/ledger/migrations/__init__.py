"""Alembic's migrations of the ledger, run by `promptkit.ledger.schema` without an alembic.ini."""

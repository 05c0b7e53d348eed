"""The first schema: all tables of the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "pk0001"


down_revision = None


branch_labels = None


depends_on = None


ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "budgets",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("cap_pico", sa.BigInteger(), nullable=False),
        sa.Column("spent_pico", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reserved_pico", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("over_pico", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stopped_cap_pico", sa.BigInteger(), nullable=True),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "spent_pico + reserved_pico <= cap_pico + over_pico", name=op.f("ck_budgets_within_cap")
        ),
        sa.CheckConstraint(
            "spent_pico >= 0 AND reserved_pico >= 0 AND over_pico >= 0", name=op.f("ck_budgets_not_negative")
        ),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_budgets")),
    )
    op.create_table(
        "health",
        sa.Column("circuit", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("failures", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("until_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("probe_owner_id", sa.BigInteger(), nullable=True),
        sa.Column("probe_until_us", sa.BigInteger(), nullable=True),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("circuit", "provider", "account", "model", name=op.f("pk_health")),
    )
    op.create_table(
        "leases",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("kind", "provider", "account", "model", "owner_id", name=op.f("pk_leases")),
    )
    op.create_table(
        "price_sources",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_sources")),
    )
    op.create_table(
        "tagsets",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tagsets")),
    )
    op.create_table(
        "templates",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("includes", sa.Text(), nullable=False),
        sa.Column("first_used_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_templates")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("template_digest", sa.Text(), nullable=False),
        sa.Column("template_ref", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("output_schema", sa.Text(), nullable=True),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("key_column", sa.Text(), nullable=True),
        sa.Column("columns", sa.Text(), nullable=False),
        sa.Column("input_path", sa.Text(), nullable=True),
        sa.Column("input_sha256", sa.Text(), nullable=True),
        sa.Column("output_path", sa.Text(), nullable=True),
        sa.Column("ingest", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("ingested", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("ingested_us", sa.BigInteger(), nullable=True),
        sa.Column("redo_of_id", ID, nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["redo_of_id"], ["jobs.id"], name=op.f("fk_jobs_redo_of_id")),
        sa.ForeignKeyConstraint(
            ["template_digest"], ["templates.digest"], name=op.f("fk_jobs_template_digest")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("name", name=op.f("uq_jobs_name")),
    )
    op.create_table(
        "tags",
        sa.Column("tagset_id", ID, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tagset_id"], ["tagsets.id"], name=op.f("fk_tags_tagset_id")),
        sa.PrimaryKeyConstraint("tagset_id", "name", name=op.f("pk_tags")),
    )
    op.create_index(op.f("ix_tags_name_value"), "tags", ["name", "value"])
    op.create_table(
        "rows",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("row_key", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=True),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("variables", sa.Text(), nullable=True),
        sa.Column("passthrough", sa.Text(), nullable=True),
        sa.Column("tagset_id", ID, nullable=True),
        sa.Column("deliverable", sa.Text(), nullable=True),
        sa.Column("parent_call_id", sa.BigInteger(), nullable=True),
        sa.Column("redo_of_id", ID, nullable=True),
        sa.Column("canary", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unknowns", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("call_id", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_rows_job_id")),
        sa.ForeignKeyConstraint(["redo_of_id"], ["rows.id"], name=op.f("fk_rows_redo_of_id")),
        sa.ForeignKeyConstraint(["tagset_id"], ["tagsets.id"], name=op.f("fk_rows_tagset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rows")),
        sa.UniqueConstraint(
            "job_id",
            "row_key",
            "ordinal",
            "generation",
            name=op.f("uq_rows_job_id_row_key_ordinal_generation"),
        ),
    )
    op.create_index(op.f("ix_rows_job_id_position"), "rows", ["job_id", "position"])
    op.create_table(
        "calls",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("template_digest", sa.Text(), nullable=False),
        sa.Column("template_ref", sa.Text(), nullable=False),
        sa.Column("prompt_digest", sa.Text(), nullable=False),
        sa.Column("variables", sa.Text(), nullable=True),
        sa.Column("tagset_id", ID, nullable=True),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("deliverable", sa.Text(), nullable=True),
        sa.Column("job_id", ID, nullable=True),
        sa.Column("row_id", ID, nullable=True),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("pack_id", sa.BigInteger(), nullable=True),
        sa.Column("pack_items", sa.BigInteger(), nullable=True),
        sa.Column("share_begin", sa.BigInteger(), nullable=True),
        sa.Column("share_end", sa.BigInteger(), nullable=True),
        sa.Column("cache_key", sa.BigInteger(), nullable=True),
        sa.Column("cached_from_id", sa.BigInteger(), nullable=True),
        sa.Column("saved_pico", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("finish", sa.Text(), nullable=True),
        sa.Column("text_sha256", sa.Text(), nullable=True),
        sa.Column("flags", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("verdict_us", sa.BigInteger(), nullable=True),
        sa.Column("verdict_note", sa.Text(), nullable=True),
        sa.Column("forgotten_us", sa.BigInteger(), nullable=True),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_calls_job_id")),
        sa.ForeignKeyConstraint(["row_id"], ["rows.id"], name=op.f("fk_calls_row_id")),
        sa.ForeignKeyConstraint(["tagset_id"], ["tagsets.id"], name=op.f("fk_calls_tagset_id")),
        sa.ForeignKeyConstraint(
            ["template_digest"], ["templates.digest"], name=op.f("fk_calls_template_digest")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calls")),
    )
    op.create_index(
        op.f("ix_calls_cache_key"), "calls", ["cache_key"], sqlite_where=sa.text("cache_key IS NOT NULL")
    )
    op.create_index(
        op.f("ix_calls_deliverable"),
        "calls",
        ["deliverable"],
        sqlite_where=sa.text("deliverable IS NOT NULL"),
    )
    op.create_index(op.f("ix_calls_job_id"), "calls", ["job_id"], sqlite_where=sa.text("job_id IS NOT NULL"))
    op.create_index(
        op.f("ix_calls_cached_from_id"),
        "calls",
        ["cached_from_id"],
        sqlite_where=sa.text("cached_from_id IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_calls_pack_id"), "calls", ["pack_id"], sqlite_where=sa.text("pack_id IS NOT NULL")
    )
    op.create_index(
        op.f("ix_calls_parent_id"), "calls", ["parent_id"], sqlite_where=sa.text("parent_id IS NOT NULL")
    )
    op.create_index(op.f("ix_calls_row_id"), "calls", ["row_id"], sqlite_where=sa.text("row_id IS NOT NULL"))
    op.create_table(
        "attempts",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("call_id", ID, nullable=False),
        sa.Column("target_number", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("http_status", sa.BigInteger(), nullable=True),
        sa.Column("retry_after_us", sa.BigInteger(), nullable=True),
        sa.Column("served_model", sa.Text(), nullable=True),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_1h_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("max_cost_pico", sa.BigInteger(), nullable=True),
        sa.Column("cost_pico", sa.BigInteger(), nullable=True),
        sa.Column("cost_basis", sa.Text(), nullable=True),
        sa.Column("cache_saved_pico", sa.BigInteger(), nullable=True),
        sa.Column("estimate_pico", sa.BigInteger(), nullable=True),
        sa.Column("price_source_id", ID, nullable=True),
        sa.Column("charged_pico", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("billed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.Column("latency_us", sa.BigInteger(), nullable=True),
        sa.Column("first_byte_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_attempts_call_id")),
        sa.ForeignKeyConstraint(
            ["price_source_id"], ["price_sources.id"], name=op.f("fk_attempts_price_source_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_call_id"), "attempts", ["call_id"])
    op.create_table(
        "reservations",
        sa.Column("attempt_id", ID, autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("max_cost_pico", sa.BigInteger(), nullable=True),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_reservations_attempt_id")),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_reservations")),
    )
    op.create_index(op.f("ix_reservations_owner_id"), "reservations", ["owner_id"])
    op.create_table(
        "replies",
        sa.Column("call_id", ID, autoincrement=False, nullable=False),
        sa.Column("attempt_id", ID, nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_replies_attempt_id")),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_replies_call_id")),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_replies")),
    )

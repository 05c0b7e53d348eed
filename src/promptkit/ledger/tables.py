"""The ledger's tables, as SQLModel classes over one metadata.

Ids are made by the client (63 bits, ordered by time) and are the rowid on SQLite. Times are
microseconds since the epoch, money is pico-USD; both are BigInteger. What is not known is
NULL, never 0. JSON is kept as compact text, so that both databases store the same bytes.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import declared_attr
from sqlmodel import Field, SQLModel

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


Id = BigInteger().with_variant(Integer(), "sqlite")
"""INTEGER on SQLite makes it the rowid: one tree instead of two."""


class _Table(SQLModel):
    metadata = METADATA

    @declared_attr.directive
    @classmethod
    def __tablename__(cls) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - SQLModel types it as a column
        """The class's name in snake case: PriceSources is price_sources."""
        return "".join(f"_{char.lower()}" if char.isupper() else char for char in cls.__name__).lstrip("_")


def _id(references: str | None = None) -> Any:
    if references is None:
        return Field(sa_type=Id, primary_key=True, sa_column_kwargs={"autoincrement": False})
    return Field(
        sa_type=Id, primary_key=True, foreign_key=references, sa_column_kwargs={"autoincrement": False}
    )


def _link(references: str) -> Any:
    return Field(sa_type=Id, foreign_key=references)


def _maybe_link(references: str) -> Any:
    return Field(default=None, sa_type=Id, foreign_key=references, nullable=True)


def _big() -> Any:
    return Field(sa_type=BigInteger)


def _zero() -> Any:
    return Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})


def _maybe_big() -> Any:
    return Field(default=None, sa_type=BigInteger, nullable=True)


def _text(*, key: bool = False) -> Any:
    return Field(sa_type=Text, primary_key=key)


def _maybe_text() -> Any:
    return Field(default=None, sa_type=Text, nullable=True)


def _partial(*columns: str) -> Index:
    """An index that leaves out the rows where its first column is NULL."""
    given = text(f"{columns[0]} IS NOT NULL")  # PostgreSQL keeps it whole: its dialect costs 20 ms to import
    return Index(None, *columns, sqlite_where=given)


class Templates(_Table, table=True):
    """A distinct source that was used, by its digest; `includes` maps names to digests (JSON)."""

    digest: str = _text(key=True)
    ref: str = _text()
    source: str = _text()
    includes: str = _text()
    first_used_us: int = _big()


class Jobs(_Table, table=True):
    """A job and what it pinned at its first start.

    `ingest` counts the readings of its input, `ingested` is the last complete one.
    """

    __table_args__ = (UniqueConstraint("name"),)
    id: int = _id()
    name: str = _text()
    state: str = _text()
    template_digest: str = Field(sa_type=Text, foreign_key="templates.digest")
    template_ref: str = _text()
    route: str = _text()
    params: str = _text()
    output_schema: str | None = _maybe_text()
    options: str = _text()
    key_column: str | None = _maybe_text()
    columns: str = _text()
    input_path: str | None = _maybe_text()
    input_sha256: str | None = _maybe_text()
    output_path: str | None = _maybe_text()
    ingest: int = _zero()
    ingested: int = _zero()
    ingested_us: int | None = _maybe_big()
    redo_of_id: int | None = _maybe_link("jobs.id")
    note: str | None = _maybe_text()
    created_us: int = _big()
    ended_us: int | None = _maybe_big()


class Rows(_Table, table=True):
    """A row of a job's input: one generation of the content behind a key.

    `seen` is the last reading of the input that had it; rows not seen in the latest one are
    neither sent nor written out. `unknowns` counts attempts with an unknown outcome.
    """

    __table_args__ = (
        UniqueConstraint("job_id", "row_key", "ordinal", "generation"),
        Index(None, "job_id", "position"),
    )
    id: int = _id()
    job_id: int = _link("jobs.id")
    row_key: str = _text()
    ordinal: int = _zero()
    generation: int = _zero()
    content: str = _text()
    position: int = _big()
    line: int | None = _maybe_big()
    seen: int = _big()
    state: str = _text()
    variables: str | None = _maybe_text()
    passthrough: str | None = _maybe_text()
    tagset_id: int | None = _maybe_link("tagsets.id")
    deliverable: str | None = _maybe_text()
    parent_call_id: int | None = _maybe_big()
    redo_of_id: int | None = _maybe_link("rows.id")
    canary: int = _zero()
    unknowns: int = _zero()
    call_id: int | None = _maybe_big()
    error: str | None = _maybe_text()
    ended_us: int | None = _maybe_big()


class Tagsets(_Table, table=True):
    """A set of tags, stored once; its id comes from the digest of its canonical JSON."""

    id: int = _id()
    tags: str = _text()


class Tags(_Table, table=True):
    """One tag of a set, for queries by tag."""

    __table_args__ = (Index(None, "name", "value"),)
    tagset_id: int = _id("tagsets.id")
    name: str = _text(key=True)
    value: str = _text()


class Calls(_Table, table=True):
    """One request for a text, over all its attempts; `status` is NULL until it ends.

    `cache_key` is the key under which the reply cache finds its reply. A cache hit names the call
    with the reply in `cached_from_id`, and the cost that it saved in `saved_pico`. The call that
    carries a pack has the number of its rows in `pack_items`; the call of such a row names the
    carrier in `pack_id`, and its share of the request's cost in `share_begin` and `share_end` (see
    `_util.shares`). `flags` is a JSON list of the failed checks that the reply was kept with.
    """

    __table_args__ = (
        _partial("job_id"),
        _partial("row_id"),
        _partial("parent_id"),
        _partial("deliverable"),
        _partial("pack_id"),
        _partial("cache_key"),
        _partial("cached_from_id"),
    )
    id: int = _id()
    template_digest: str = Field(sa_type=Text, foreign_key="templates.digest")
    template_ref: str = _text()
    prompt_digest: str = _text()
    variables: str | None = _maybe_text()
    tagset_id: int | None = _maybe_link("tagsets.id")
    parent_id: int | None = _maybe_big()
    deliverable: str | None = _maybe_text()
    job_id: int | None = _maybe_link("jobs.id")
    row_id: int | None = _maybe_link("rows.id")
    route: str | None = _maybe_text()
    pack_id: int | None = _maybe_big()
    pack_items: int | None = _maybe_big()
    share_begin: int | None = _maybe_big()
    share_end: int | None = _maybe_big()
    cache_key: int | None = _maybe_big()
    cached_from_id: int | None = _maybe_big()
    saved_pico: int | None = _maybe_big()
    status: str | None = _maybe_text()
    error: str | None = _maybe_text()
    finish: str | None = _maybe_text()
    text_sha256: str | None = _maybe_text()
    flags: str | None = _maybe_text()
    verdict: str | None = _maybe_text()
    verdict_us: int | None = _maybe_big()
    verdict_note: str | None = _maybe_text()
    forgotten_us: int | None = _maybe_big()
    started_us: int = _big()
    ended_us: int | None = _maybe_big()


class Attempts(_Table, table=True):
    """One request to one target. Committed before the request is sent, closed with its settlement.

    `cache_saved_pico` is the saving of the provider's prompt cache; below 0 if writing it cost more.
    If `cost_basis` is `estimated`, the tokens are an estimate, too, and `estimate_pico` is their
    cost; `cost_pico` stays NULL.
    """

    __table_args__ = (Index(None, "call_id"),)
    id: int = _id()
    call_id: int = _link("calls.id")
    target_number: int = _big()
    number: int = _big()
    provider: str = _text()
    model: str = _text()
    state: str = _text()
    fault: str | None = _maybe_text()
    detail: str | None = _maybe_text()
    http_status: int | None = _maybe_big()
    retry_after_us: int | None = _maybe_big()
    served_model: str | None = _maybe_text()
    tier: str | None = _maybe_text()
    request_id: str | None = _maybe_text()
    input_tokens: int | None = _maybe_big()
    output_tokens: int | None = _maybe_big()
    cache_read_tokens: int | None = _maybe_big()
    cache_write_tokens: int | None = _maybe_big()
    cache_write_1h_tokens: int | None = _maybe_big()
    reasoning_tokens: int | None = _maybe_big()
    max_cost_pico: int | None = _maybe_big()
    cost_pico: int | None = _maybe_big()
    cost_basis: str | None = _maybe_text()
    cache_saved_pico: int | None = _maybe_big()
    estimate_pico: int | None = _maybe_big()
    price_source_id: int | None = _maybe_link("price_sources.id")
    charged_pico: int = _zero()
    billed: int = _zero()
    started_us: int = _big()
    ended_us: int | None = _maybe_big()
    latency_us: int | None = _maybe_big()
    first_byte_us: int | None = _maybe_big()


class Replies(_Table, table=True):
    """The text of a call's reply. A table of its own, because lists of calls never read it."""

    call_id: int = _id("calls.id")
    attempt_id: int | None = _maybe_link("attempts.id")
    text: str = _text()


class Budgets(_Table, table=True):
    """A scope that money is counted in: `job:<id>`, `day:2026-11-22`.

    `over_pico` is the amount above the cap that no admission caused: a provider billed above the
    max cost, or the cap was lowered. An admission never raises it; the CHECK enforces that.
    `stopped_cap_pico` is the cap that a provider's bill overran: up to it, nothing is admitted.
    """

    __table_args__ = (
        CheckConstraint("spent_pico + reserved_pico <= cap_pico + over_pico", name="within_cap"),
        CheckConstraint("spent_pico >= 0 AND reserved_pico >= 0 AND over_pico >= 0", name="not_negative"),
    )
    scope: str = _text(key=True)
    cap_pico: int = _big()
    spent_pico: int = _zero()
    reserved_pico: int = _zero()
    over_pico: int = _zero()
    stopped_cap_pico: int | None = _maybe_big()
    updated_us: int = _big()


class Reservations(_Table, table=True):
    """The reservation of an open attempt: its process, and its max cost in its scopes (JSON)."""

    __table_args__ = (Index(None, "owner_id"),)
    attempt_id: int = _id("attempts.id")
    owner_id: int = _big()
    max_cost_pico: int | None = _maybe_big()
    scopes: str = _text()


class Health(_Table, table=True):
    """A circuit of a provider (throttle, health, terminal), shared by all processes.

    `account` is the fingerprint of a key; it and `model` are empty if the circuit is of all of them.
    `until_us` 0: closed, its failures are counted. `probe_owner_id` is the process with the probe.
    """

    circuit: str = _text(key=True)
    provider: str = _text(key=True)
    account: str = _text(key=True)
    model: str = _text(key=True)
    failures: int = _zero()
    until_us: int = _zero()
    fault: str = _text()
    why: str = _text()
    probe_owner_id: int | None = _maybe_big()
    probe_until_us: int | None = _maybe_big()
    updated_us: int = _big()


class Leases(_Table, table=True):
    """A provider's limit, by kind, as leased to all processes together.

    For a rate, `at_us` is when its next unit is free. For a day, it is when the day began, and
    `amount` is what is used of it. For `concurrency`, it is until when the owner shares the slots.
    """

    kind: str = _text(key=True)
    provider: str = _text(key=True)
    account: str = _text(key=True)
    model: str = _text(key=True)
    owner_id: int = Field(sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False})
    at_us: int = _big()
    amount: int = _zero()


class PriceSources(_Table, table=True):
    """A source of rates, like `genai-prices 0.2.3`; its id comes from the text's digest."""

    id: int = _id()
    source: str = _text()


def _table(name: str) -> Table:
    return METADATA.tables[name]


TEMPLATES = _table("templates")
JOBS = _table("jobs")
ROWS = _table("rows")
TAGSETS = _table("tagsets")
TAGS = _table("tags")
CALLS = _table("calls")
ATTEMPTS = _table("attempts")
REPLIES = _table("replies")
BUDGETS = _table("budgets")
RESERVATIONS = _table("reservations")
HEALTH = _table("health")
LEASES = _table("leases")
PRICE_SOURCES = _table("price_sources")

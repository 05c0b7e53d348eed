"""What many rows share is stored once: tag sets, price sources, template sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from promptkit.templates import StoredSource

from . import tables as t
from .encoding import read_object, storable, to_json
from .statements import or_ignore


def store_tagsets(connection: Connection, sets: Mapping[int, str]) -> None:
    """Sets of tags by their id, each as canonical JSON."""
    if not sets:
        return
    connection.execute(
        or_ignore(connection, t.TAGSETS), [{"id": number, "tags": text} for number, text in sets.items()]
    )
    members = [
        {"tagset_id": number, "name": name, "value": str(value)}
        for number, text in sets.items()
        for name, value in read_object(text).items()
    ]
    connection.execute(or_ignore(connection, t.TAGS), members)


def store_price_sources(connection: Connection, sources: Mapping[str, int]) -> None:
    """Price sources and their ids."""
    if sources:
        rows = [{"id": number, "source": source} for source, number in sources.items()]
        connection.execute(or_ignore(connection, t.PRICE_SOURCES), rows)


def store_templates(connection: Connection, sources: Iterable[StoredSource], now_us: int) -> None:
    """Template sources; one that is there already stays as it is."""
    rows = [
        {
            "digest": source.digest,
            "ref": source.ref,
            "source": storable(source.text),
            "includes": to_json(source.includes),
            "first_used_us": now_us,
        }
        for source in sources
    ]
    if rows:
        connection.execute(or_ignore(connection, t.TEMPLATES), rows)

"""What `show` tells of packs: the request that carried rows, and a row's part in it."""

from __future__ import annotations

from collections.abc import Sequence

from promptkit._util.shares import PARTS, Share
from promptkit.engine.pack import item_ids, packed_prompt
from promptkit.errors import counted
from promptkit.ledger.records import CallRecord, PackItem
from promptkit.templates.template import Template
from promptkit.types import Json, Prompt
from promptkit.types.ids import show_id


def rebuilt(template: Template, items: Sequence[PackItem]) -> Prompt:
    """The prompt of a pack, made again from the variables of its rows.

    Raises:
        TemplateError: a row can't be rendered any more.
    """
    prompts = [template.render(template.bind(item.variables or {})) for item in items]
    return packed_prompt(prompts, item_ids(len(items)))


def pack_text(call: CallRecord) -> str | None:
    """In one line: how many rows a request carried, or which one carried this row, and its part."""
    if call.pack_items is not None:
        return f"one request for {counted(call.pack_items, 'row')}"
    if call.pack_id is None or call.share is None:
        return None
    return f"went in the request of {show_id(call.pack_id)}; {percent(call.share)} of it are its own"


def percent(share: Share) -> str:
    """`12.3 %`."""
    return f"{(share.end - share.begin) / PARTS:.1%}".replace("%", " %")


def item_row(item: PackItem) -> tuple[str, ...]:
    """A row of the table of a pack's items."""
    status = "open" if item.status is None else item.status.value
    return (show_id(item.id), item.key, status, percent(item.share), item.error or "")


ITEM_COLUMNS = ("item", "~row", "status", ">share", "~why")


def pack_json(call: CallRecord, items: Sequence[PackItem]) -> dict[str, Json]:
    """For programs."""
    share = call.share
    return {
        "pack": None if call.pack_id is None else show_id(call.pack_id),
        "share": None if share is None else (share.end - share.begin) / PARTS,
        "items": [
            {
                "call": show_id(item.id),
                "key": item.key,
                "status": None if item.status is None else item.status.value,
                "error": item.error,
                "share": (item.share.end - item.share.begin) / PARTS,
            }
            for item in items
        ]
        if call.pack_items is not None
        else None,
    }

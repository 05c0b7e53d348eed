"""One call in full: read from the ledger, rendered again, compared by its digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from promptkit._util.shares import PARTS, Share
from promptkit.cli.output import (
    Page,
    Table,
    cost_json,
    duration,
    iso,
    local_time,
    plain,
    spent,
    to_json,
    usage_json,
    usd_text,
)
from promptkit.errors import TemplateError, UsageError, counted
from promptkit.templates.template import Template
from promptkit.types import Json, Prompt, Status, dollars
from promptkit.types.ids import id_range, show_id

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.ledger.records import AttemptRecord, CallRecord, ChildCall, PackItem


@dataclass(frozen=True, slots=True)
class CallView:
    """A call with its prompt, rendered again.

    `prompt` is None if it can't be rendered again, and `why` is the reason. `items` are the rows of
    a packed request.
    """

    call: CallRecord
    prompt: Prompt | None
    why: str = ""
    children: tuple[ChildCall, ...] = ()
    items: tuple[PackItem, ...] = ()

    @property
    def matches(self) -> bool | None:
        """Whether the prompt is the one that was sent, by its digest; None without a prompt."""
        return None if self.prompt is None else self.prompt.digest == self.call.prompt_digest


def find_call(ledger: Ledger, text: str) -> int:
    """Return the id of the call that a user names by its id, or by a unique beginning of it.

    Raises:
        UsageError: no call, or several calls, have such an id.
    """
    remedy = "`promptkit log` lists the calls with their ids."
    try:
        low, high = id_range(text)
    except ValueError:
        raise UsageError(f"{text!r} is not the id of a call, such as 38g0qj26ewp2c", remedy=remedy) from None
    match ledger.calls.ids_between(low, high):
        case (call_id,):
            return call_id
        case ():
            raise UsageError(f"no call {text}", remedy=remedy)
        case call_ids:
            raise UsageError(
                f"{text} fits several calls: {', '.join(map(show_id, call_ids))} ...",
                remedy="Write more of the id.",
            )


def read_call(ledger: Ledger, call_id: int) -> CallView:
    """Read a call and render its prompt again.

    Raises:
        UsageError: there is no such call.
    """
    call = ledger.calls.get(call_id)
    if call is None:
        raise UsageError(f"no call {show_id(call_id)}")
    children = ledger.calls.children(call_id)
    if call.forgotten_us is not None:
        return CallView(call, None, "its texts were erased", children)
    items = ledger.calls.pack_items(call_id) if call.pack_items is not None else ()
    if any(item.variables is None for item in items) if items else call.variables is None:
        return CallView(call, None, "its variables were not kept ([storage] variables)", children, items)
    try:
        template = Template.rebuild(call.template_digest, ledger.calls.stored_source)
        if items:
            return CallView(call, _packed_prompt(template, items), "", children, items)
        return CallView(call, template.render(template.bind(call.variables or {})), "", children)
    except TemplateError as cause:
        return CallView(call, None, str(cause), children, items)


def _packed_prompt(template: Template, items: Sequence[PackItem]) -> Prompt:
    """Render the prompt of a pack again, from the variables of its rows.

    Raises:
        TemplateError: a row can't be rendered any more.
    """
    from promptkit.engine.pack import item_ids, packed_prompt

    prompts = [template.render(template.bind(item.variables or {})) for item in items]
    return packed_prompt(prompts, item_ids(len(items)))


# -------------------------------------------------------------------------------------- text

_ITEM_COLUMNS = ("item", "~row", "status", ">share", "~why")
_ATTEMPT_COLUMNS = (">#", "target", "state", "fault", ">in", ">out", ">cost", ">took", ">first", "~detail")


def call_page(view: CallView, zone: ZoneInfo) -> Page:
    """Return a call as a page."""
    items = [Table(_ITEM_COLUMNS, [_item_row(item) for item in view.items])] if view.items else []
    attempts = Table(_ATTEMPT_COLUMNS, [_attempt_row(attempt) for attempt in view.call.attempts])
    return Page(
        _facts(view, zone),
        [*_prompt_texts(view), _reply_text(view.call), *items, attempts, _comparison(view)],
    )


def _facts(view: CallView, zone: ZoneInfo) -> dict[str, str | None]:
    call = view.call
    took = "" if call.ended_us is None else f", {duration((call.ended_us - call.started_us) / 1e6)}"
    erased_us = call.forgotten_us
    return {
        "call": f"{show_id(call.id)}  {'open' if call.status is None else call.status.value}",
        "template": call.template_ref,
        "when": f"{local_time(call.started_us, zone)} {zone.key}{took}",
        "cost": spent(call.money),
        "pack": _pack_text(call),
        "from": reply_cache_text(call.cached_from_id, call.saved_pico),
        "cache": prompt_cache_text(call),
        "route": call.route,
        "job": call.job,
        "row": call.key,
        "tags": " ".join(f"{name}={value}" for name, value in call.tags.items()),
        "for": call.deliverable,
        "parent": None if call.parent_id is None else show_id(call.parent_id),
        "children": ", ".join(f"{show_id(child.id)} ({child.template_ref})" for child in view.children),
        "rated": _rating_text(call, zone),
        "erased": None if erased_us is None else f"{local_time(erased_us, zone)}; costs are kept",
        "error": call.error,
        "flags": "; ".join(call.flags),
    }


def _pack_text(call: CallRecord) -> str | None:
    if call.pack_items is not None:
        return f"one request for {counted(call.pack_items, 'row')}"
    if call.pack_id is None or call.share is None:
        return None
    return f"in the request of {show_id(call.pack_id)}; its share is {_percent(call.share)}"


def _percent(share: Share) -> str:
    return f"{_part(share):.1%}".replace("%", " %")


def _part(share: Share) -> float:
    return (share.end - share.begin) / PARTS


def reply_cache_text(cached_from: int | None, saved_pico: int | None) -> str | None:
    """Return the call whose reply was used again, and what that saved."""
    if cached_from is None:
        return None
    return f"the reply cache: call {show_id(cached_from)}, saved {dollars(saved_pico)}"


def prompt_cache_text(call: CallRecord) -> str | None:
    """Return what the providers' prompt caches did for a call."""
    usages = [attempt.usage for attempt in call.attempts if attempt.usage is not None]
    read = sum(usage.cache_read_tokens for usage in usages)
    written = sum(usage.cache_write_tokens for usage in usages)
    if not (read or written):
        return None
    pico = sum(attempt.cost.cache_saved_pico for attempt in call.attempts if attempt.cost is not None)
    effect = f"saved {dollars(pico)}" if pico >= 0 else f"cost {dollars(-pico)} more"
    return f"{read:,} tokens read, {written:,} written; {effect}"


def _rating_text(call: CallRecord, zone: ZoneInfo) -> str | None:
    if call.verdict is None or call.verdict_us is None:
        return None
    rating = f"{call.verdict}, {local_time(call.verdict_us, zone)}"
    return f"{rating}: {call.verdict_note}" if call.verdict_note else rating


def _prompt_texts(view: CallView) -> list[str]:
    if view.prompt is None:
        return [f"--- prompt ---\n(can't be rendered again: {view.why})"]
    return [f"--- {message.role} ---\n{message.content}" for message in view.prompt.messages]


def _reply_text(call: CallRecord) -> str:
    if call.text is not None:
        is_partial = call.status in (Status.FAILED, Status.REFUSED)
        return f"--- {'partial reply' if is_partial else 'reply'} ---\n{call.text}"
    if call.forgotten_us is not None:
        return "--- reply ---\n(erased)"
    if call.pack_items is not None:
        return "--- reply ---\n(with the items)"
    if call.text_sha256 is not None:
        return f"--- reply ---\n(not kept; SHA-256 {call.text_sha256})"
    return "--- reply ---\n(none)"


def _item_row(item: PackItem) -> tuple[str, ...]:
    status = "open" if item.status is None else item.status.value
    return show_id(item.id), item.key, status, _percent(item.share), item.error or ""


def _attempt_row(attempt: AttemptRecord) -> tuple[str, ...]:
    estimate = attempt.estimate
    usage, about = (attempt.usage, "") if estimate is None else (estimate.usage, "~")
    return (
        str(attempt.number),
        str(attempt.target),
        attempt.state.value,
        attempt.fault.value if attempt.fault else "",
        "" if usage is None else f"{about}{usage.input_tokens:,}",
        "" if usage is None else f"{about}{usage.output_tokens:,}",
        _cost_text(attempt),
        "" if attempt.latency_us is None else duration(attempt.latency_us / 1e6),
        "" if attempt.first_byte_us is None else duration(attempt.first_byte_us / 1e6),
        attempt.detail,
    )


def _cost_text(attempt: AttemptRecord) -> str:
    """Return the cost, or the most that it can be."""
    if attempt.cost is not None:
        return dollars(attempt.cost.pico)
    estimate = attempt.estimate
    about = "" if estimate is None or estimate.pico is None else f"~{dollars(estimate.pico)}, "
    return f"{about}up to {dollars(attempt.charged_pico)}" if attempt.charged_pico else "unknown"


def _comparison(view: CallView) -> str:
    sent = view.call.prompt_digest
    if view.prompt is None:
        return f"sent: {sent} (not compared)"
    if view.matches:
        return f"rendered again from the ledger: the digest is the same ({sent[:19]}...)"
    return f"rendered again from the ledger: NOT THE SAME; sent {sent}, now {view.prompt.digest}"


# -------------------------------------------------------------------------------------- JSON


def call_json(view: CallView) -> dict[str, Json]:
    """Return a call in full as JSON."""
    call = view.call
    return cost_json(call.money) | to_json(
        call,
        ("row_id", "money", "verdict_us", "forgotten_us"),
        prompt_digest_matches=view.matches,
        messages=None if view.prompt is None else [plain(message) for message in view.prompt.messages],
        share=None if call.share is None else _part(call.share),
        items=None if call.pack_items is None else [_item_json(item) for item in view.items],
        children=[show_id(child.id) for child in view.children],
        rated=iso(call.verdict_us),
        erased=iso(call.forgotten_us),
        attempts=[_attempt_json(attempt) for attempt in call.attempts],
    )


def _item_json(item: PackItem) -> dict[str, Json]:
    return to_json(item, ("id", "row_id", "variables"), call=show_id(item.id), share=_part(item.share))


def _attempt_json(attempt: AttemptRecord) -> dict[str, Json]:
    cost, estimate = attempt.cost, attempt.estimate
    return to_json(
        attempt,
        ("id", "call_id", "retry_after_us", "cost", "billed", "latency_us", "first_byte_us"),
        cost_usd=usd_text(None if cost is None else cost.pico),
        cache_saved_usd=usd_text(None if cost is None else cost.cache_saved_pico),
        usage=usage_json(attempt.usage),
        price_source=None if cost is None else cost.source,
        estimate=None
        if estimate is None
        else {"usage": usage_json(estimate.usage), "cost_usd": usd_text(estimate.pico)},
        latency_s=None if attempt.latency_us is None else attempt.latency_us / 1e6,
        first_byte_s=None if attempt.first_byte_us is None else attempt.first_byte_us / 1e6,
    )

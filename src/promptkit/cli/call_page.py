"""One call in full: read from the ledger, rendered again, proved by its digest."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from promptkit.batch.columns import usd_text
from promptkit.errors import TemplateError, UsageError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import AttemptRecord, CallRecord, ChildCall, PackItem
from promptkit.templates.template import Template
from promptkit.types import Json, Prompt, Status, Usage, dollars
from promptkit.types.ids import id_range, show_id

from .face import Face
from .making import usage_json
from .money import spent
from .pack_page import ITEM_COLUMNS, item_row, pack_json, pack_text, rebuilt
from .times import iso, lasting, when


@dataclass(frozen=True, slots=True)
class CallPage:
    """A call with its prompt as it renders now.

    `prompt` is None where it can't be rendered again, and `why` says why not.
    """

    call: CallRecord
    prompt: Prompt | None
    why: str = ""
    children: tuple[ChildCall, ...] = ()
    items: tuple[PackItem, ...] = ()
    """Of a request that carried rows: theirs."""

    @property
    def proved(self) -> bool | None:
        """Whether the prompt is the one that was sent, by its digest; None where there is none to compare."""
        return None if self.prompt is None else self.prompt.digest == self.call.prompt_digest


def find_call(ledger: Ledger, text: str) -> int:
    """The id that a text means: all of it, or its first characters where they fit one call.

    Raises:
        UsageError: it fits no call, or several.
    """
    try:
        low, high = id_range(text)
    except ValueError:
        raise UsageError(f"{text!r} is no call's id", remedy="promptkit log lists them.") from None
    match ledger.calls.ids_between(low, high):
        case (only,):
            return only
        case ():
            raise UsageError(f"no call {text}", remedy="promptkit log lists them.")
        case found:
            raise UsageError(
                f"{text} fits several calls: {', '.join(map(show_id, found))} ...",
                remedy="Write more of the id.",
            )


def read_page(ledger: Ledger, call_id: int) -> CallPage:
    """Read a call and render its prompt again.

    Raises:
        UsageError: there is no such call.
    """
    call = ledger.calls.get(call_id)
    if call is None:
        raise UsageError(f"no call {show_id(call_id)}")
    children = ledger.calls.children(call_id)
    if call.forgotten_us is not None:
        return CallPage(call, None, "its texts were erased", children)
    items = ledger.calls.pack_items(call_id) if call.pack_items is not None else ()
    lost = any(item.variables is None for item in items) if items else call.variables is None
    if lost:
        return CallPage(call, None, "its variables were not kept ([storage] variables)", children, items)
    try:
        template = Template.rebuild(call.template_digest, ledger.calls.stored_source)
        if items:
            return CallPage(call, rebuilt(template, items), "", children, items)
        return CallPage(call, template.render(template.bind(call.variables or {})), "", children)
    except TemplateError as cause:
        return CallPage(call, None, str(cause), children, items)


# ------------------------------------------------------------------------------- for people
def print_page(face: Face, page: CallPage, zone: ZoneInfo) -> None:
    """Print a call for people."""
    face.print("\n".join([_head(page, zone), "", *_prompt(page), *_reply(page.call), ""]))
    if page.items:
        face.table(ITEM_COLUMNS, [item_row(item) for item in page.items])
        face.print("")
    face.table(_COLUMNS, [_attempt(attempt) for attempt in page.call.attempts])
    face.print(f"\n{_verdict(page)}")


def _head(page: CallPage, zone: ZoneInfo) -> str:
    call = page.call
    took = "" if call.ended_us is None else f", {lasting((call.ended_us - call.started_us) / 1e6)}"
    facts = {
        "call": f"{show_id(call.id)}  {'open' if call.status is None else call.status.value}",
        "template": call.template_ref,
        "when": f"{when(call.started_us, zone)} {zone.key}{took}",
        "cost": spent(call.money),
        "pack": pack_text(call),
        "from": cached_text(call.cached_from_id, call.saved_pico),
        "cache": prompt_cache_text(call),
        "route": call.route,
        "job": call.job,
        "row": call.key,
        "tags": " ".join(f"{name}={value}" for name, value in call.tags.items()),
        "for": call.deliverable,
        "parent": None if call.parent_id is None else show_id(call.parent_id),
        "children": ", ".join(f"{show_id(one.id)} ({one.template_ref})" for one in page.children),
        "rated": _rated(call, zone),
        "erased": None if call.forgotten_us is None else f"{when(call.forgotten_us, zone)}; costs are kept",
        "error": call.error,
        "flags": "; ".join(call.flags),
    }
    return "\n".join(f"{name:<9} {fact}" for name, fact in facts.items() if fact)


def _rated(call: CallRecord, zone: ZoneInfo) -> str | None:
    if call.verdict is None or call.verdict_us is None:
        return None
    told = f"{call.verdict}, {when(call.verdict_us, zone)}"
    return f"{told}: {call.verdict_note}" if call.verdict_note else told


def cached_text(cached_from: int | None, saved_pico: int | None) -> str | None:
    """Where a reply came from that was served again, and what that saved."""
    if cached_from is None:
        return None
    return f"the reply cache: call {show_id(cached_from)}, saved {dollars(saved_pico)}"


def prompt_cache_text(call: CallRecord) -> str | None:
    """What the providers' prompt caches did for a call."""
    usages = [attempt.usage for attempt in call.attempts if attempt.usage is not None]
    read, written = (
        sum(one.cache_read_tokens for one in usages),
        sum(one.cache_write_tokens for one in usages),
    )
    if not (read or written):
        return None
    pico = sum(attempt.cost.cache_saved_pico for attempt in call.attempts if attempt.cost is not None)
    what = f"saved {dollars(pico)}" if pico >= 0 else f"cost {dollars(-pico)} more"
    return f"{read:,} tokens read, {written:,} written; {what}"


def _prompt(page: CallPage) -> list[str]:
    if page.prompt is None:
        return ["--- prompt ---", f"(can't be rendered again: {page.why})", ""]
    return [f"--- {message.role} ---\n{message.content}\n" for message in page.prompt.messages]


def _reply(call: CallRecord) -> list[str]:
    if call.text is not None:
        broke_off = call.status in (Status.FAILED, Status.REFUSED)
        return [f"--- {'what had come of the reply' if broke_off else 'reply'} ---\n{call.text}"]
    if call.forgotten_us is not None:
        return ["--- reply ---\n(erased)"]
    if call.pack_items is not None:
        return ["--- reply ---\n(with the items)"]
    if call.text_sha256 is not None:
        return [f"--- reply ---\n(not kept; SHA-256 {call.text_sha256})"]
    return ["--- reply ---\n(none)"]


_COLUMNS = (">#", "target", "state", "fault", ">in", ">out", ">cost", ">took", ">first", "~detail")


def _attempt(attempt: AttemptRecord) -> tuple[str, ...]:
    estimate = attempt.estimate
    usage, about = (attempt.usage, "") if estimate is None else (estimate.usage, "~")
    return (
        str(attempt.number),
        str(attempt.target),
        attempt.state.value,
        attempt.fault.value if attempt.fault else "",
        "" if usage is None else f"{about}{usage.input_tokens:,}",
        "" if usage is None else f"{about}{usage.output_tokens:,}",
        _cost(attempt),
        "" if attempt.latency_us is None else lasting(attempt.latency_us / 1e6),
        "" if attempt.first_byte_us is None else lasting(attempt.first_byte_us / 1e6),
        attempt.detail,
    )


def _cost(attempt: AttemptRecord) -> str:
    """The cost, or what it can be at most."""
    if attempt.cost is not None:
        return dollars(attempt.cost.pico)
    estimate = attempt.estimate
    about = "" if estimate is None or estimate.pico is None else f"~{dollars(estimate.pico)}, "
    return f"{about}up to {dollars(attempt.charged_pico)}" if attempt.charged_pico else "unknown"


def _verdict(page: CallPage) -> str:
    if page.proved is None:
        return f"sent: {page.call.prompt_digest} (not compared)"
    if page.proved:
        return f"rendered again from the ledger: the digest is the same ({page.call.prompt_digest[:19]}...)"
    assert page.prompt is not None  # noqa: S101 - it was compared
    return f"rendered again from the ledger: NOT THE SAME; sent {page.call.prompt_digest}, now {page.prompt.digest}"


# ----------------------------------------------------------------------------- for programs
def page_json(page: CallPage) -> dict[str, Json]:
    """A call in full as JSON."""
    call, prompt = page.call, page.prompt
    return {
        "id": show_id(call.id),
        "status": None if call.status is None else call.status.value,
        "template": call.template_ref,
        "template_digest": call.template_digest,
        "prompt_digest": call.prompt_digest,
        "prompt_digest_matches": page.proved,
        "messages": None
        if prompt is None
        else [{"role": message.role.value, "content": message.content} for message in prompt.messages],
        "variables": None if call.variables is None else dict(call.variables),
        "text": call.text,
        "text_sha256": call.text_sha256,
        "finish": None if call.finish is None else call.finish.value,
        "error": call.error,
        "flags": list(call.flags),
        "cost_usd": None if call.money.unknown else usd_text(call.money.known_pico),
        "charged_usd": usd_text(call.money.charged_pico),
        **pack_json(call, page.items),
        "cached_from": None if call.cached_from_id is None else show_id(call.cached_from_id),
        "saved_usd": usd_text(call.saved_pico),
        "tags": dict(call.tags),
        "route": call.route,
        "job": call.job,
        "key": call.key,
        "deliverable": call.deliverable,
        "parent": None if call.parent_id is None else show_id(call.parent_id),
        "children": [show_id(one.id) for one in page.children],
        "verdict": call.verdict,
        "verdict_note": call.verdict_note,
        "rated": iso(call.verdict_us),
        "erased": iso(call.forgotten_us),
        "started": iso(call.started_us),
        "ended": iso(call.ended_us),
        "attempts": [_attempt_json(attempt) for attempt in call.attempts],
    }


def _attempt_json(attempt: AttemptRecord) -> dict[str, Json]:
    usage: Usage | None = attempt.usage
    cost, estimate = attempt.cost, attempt.estimate
    return {
        "number": attempt.number,
        "target_number": attempt.target_number,
        "target": str(attempt.target),
        "served_model": attempt.served_model,
        "tier": attempt.tier,
        "state": attempt.state.value,
        "fault": None if attempt.fault is None else attempt.fault.value,
        "detail": attempt.detail,
        "http_status": attempt.http_status,
        "request_id": attempt.request_id,
        "usage": usage_json(usage),
        "cost_usd": usd_text(None if cost is None else cost.pico),
        "cache_saved_usd": usd_text(None if cost is None else cost.cache_saved_pico),
        "estimate": None
        if estimate is None
        else {"usage": usage_json(estimate.usage), "cost_usd": usd_text(estimate.pico)},
        "charged_usd": usd_text(attempt.charged_pico),
        "max_cost_usd": usd_text(attempt.max_cost_pico),
        "price_source": None if cost is None else cost.source,
        "latency_s": None if attempt.latency_us is None else attempt.latency_us / 1e6,
        "first_byte_s": None if attempt.first_byte_us is None else attempt.first_byte_us / 1e6,
        "started": iso(attempt.started_us),
        "ended": iso(attempt.ended_us),
    }

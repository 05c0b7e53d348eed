"""Records as tuples of columns, in the order of `statements`."""

from __future__ import annotations

from functools import lru_cache

from promptkit.types import AttemptState, Basis, Usage

from .encoding import maybe_json, storable, to_json
from .records import AttemptEnd, AttemptStart, CallEnd, CallStart, RowEnd
from .statements import Column

_NO_USAGE = (None,) * 6


def call_start(call: CallStart, tagset_id: int | None) -> tuple[Column, ...]:
    """For `insert_calls`."""
    return (
        call.id,
        call.template_digest,
        call.template_ref,
        call.prompt_digest,
        maybe_json(call.variables),
        tagset_id,
        call.parent_id,
        call.deliverable,
        call.job_id,
        call.row_id,
        call.route,
        call.pack_id,
        call.pack_items,
        None if call.share is None else call.share.begin,
        None if call.share is None else call.share.end,
        call.cache_key,
        call.cached_from_id,
        call.saved_pico,
        call.started_us,
    )


def attempt_start(attempt: AttemptStart) -> tuple[Column, ...]:
    """For `insert_attempts`."""
    return (
        attempt.id,
        attempt.call_id,
        attempt.hop,
        attempt.number,
        attempt.target.provider,
        attempt.target.model,
        AttemptState.OPEN.value,
        attempt.ceiling_pico,
        0,
        0,
        attempt.started_us,
    )


def attempt_end(end: AttemptEnd, price_source_id: int | None) -> tuple[Column, ...]:
    """For `update_attempts`."""
    cost, estimate = end.cost, end.estimate
    usage = end.usage if estimate is None else estimate.usage
    basis = Basis.ESTIMATED if estimate is not None else None if cost is None else cost.basis
    return (
        end.state.value,
        None if end.fault is None else end.fault.value,
        storable(end.detail) or None,
        end.http_status,
        end.retry_after_us,
        end.served_model,
        end.tier,
        end.request_id,
        *(_NO_USAGE if usage is None else _usage(usage)),
        None if cost is None else cost.pico,
        None if basis is None else basis.value,
        None if cost is None else cost.cache_saved_pico,
        None if estimate is None else estimate.pico,
        price_source_id,
        end.charged_pico,
        int(end.billed),
        end.ended_us,
        end.latency_us,
        end.first_byte_us,
        end.id,
    )


def _usage(usage: Usage) -> tuple[int, ...]:
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.reasoning_tokens,
    )


def call_end(end: CallEnd) -> tuple[Column, ...]:
    """For `update_calls`."""
    return (
        end.status.value,
        None if end.error is None else storable(end.error),
        None if end.finish is None else end.finish.value,
        end.text_sha256,
        to_json(end.flags) if end.flags else None,
        end.ended_us,
        end.id,
    )


def share(end: CallEnd) -> tuple[Column, ...]:
    """For `update_shares`."""
    assert end.share is not None  # noqa: S101 - who has none isn't asked
    return (end.share.begin, end.share.end, end.id)


def row_end(end: RowEnd) -> tuple[Column, ...]:
    """For `update_rows`."""
    error = None if end.error is None else storable(end.error)
    return (end.state.value, end.call_id, error, end.ended_us, end.id)


@lru_cache(maxsize=1024)
def scope_keys(keys: tuple[str, ...]) -> str:
    """For `holds.scopes`: a night has few sets of scopes and many holds."""
    return to_json(keys)


def reply(call_id: int, attempt_id: int | None, text: str) -> tuple[Column, ...]:
    """For `insert_replies`."""
    return (call_id, attempt_id, storable(text))

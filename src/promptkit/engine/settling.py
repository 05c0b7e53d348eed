"""From an outcome to what the books say of the attempt. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from promptkit.catalog import Catalog
from promptkit.config import Keys
from promptkit.ledger import AttemptEnd, AttemptStart
from promptkit.types import (
    Attempt,
    AttemptState,
    Completion,
    Cost,
    Estimate,
    Failure,
    Fault,
    Finish,
    Outcome,
)

_BLOT: Final = "[key]"
_LEAST: Final = 8
"""So many first characters of a key, at the end of a text that was cut, are still blotted out."""


@dataclass(frozen=True, slots=True)
class Settled:
    """An attempt that has ended, before it is written."""

    attempt: Attempt
    outcome: Outcome
    end: AttemptEnd


def settle(  # noqa: PLR0913 - what the books say of an attempt
    start: AttemptStart,
    outcome: Outcome,
    cost: Cost | None,
    latency_s: float,
    ended_us: int,
    *,
    first_byte_s: float | None = None,
    estimate: Estimate | None = None,
    note: str = "",
) -> Settled:
    """Settle an attempt: its cost, or its ceiling where that is unknown.

    Args:
        start: as it was opened.
        outcome: what came of it.
        cost: what it cost, None where nobody knows.
        latency_s: from sending to the last byte.
        ended_us: when it ended.
        first_byte_s: from sending to the first word of a stream.
        estimate: about what it took, where nobody knows.
        note: what its detail begins with.
    """
    failure = outcome if isinstance(outcome, Failure) else None
    charged = (start.ceiling_pico or 0) if cost is None else cost.pico
    state = state_of(outcome)
    attempt = Attempt(
        id=start.id,
        target=start.target,
        state=state,
        fault=failure.fault if failure else None,
        detail=": ".join(told for told in (note, failure.detail if failure else "") if told),
        usage=outcome.usage,
        cost=cost,
        charged_pico=charged,
        latency_s=latency_s,
        first_byte_s=first_byte_s,
        request_id=outcome.request_id,
        served_model=outcome.served_model,
        estimate=estimate,
    )
    hint_s = failure.retry_after_s if failure else None
    end = AttemptEnd(
        id=start.id,
        state=state,
        charged_pico=charged,
        ended_us=ended_us,
        fault=attempt.fault,
        detail=attempt.detail,
        usage=outcome.usage,
        cost=cost,
        served_model=outcome.served_model,
        tier=outcome.tier,
        request_id=outcome.request_id,
        latency_us=int(latency_s * 1e6),
        first_byte_us=None if first_byte_s is None else int(first_byte_s * 1e6),
        estimate=estimate,
        billed=failure is None or failure.billed,
        http_status=failure.status if failure else None,
        retry_after_us=None if hint_s is None else int(hint_s * 1e6),
    )
    return Settled(attempt, outcome, end)


def state_of(outcome: Outcome) -> AttemptState:
    """What became of the attempt."""
    if isinstance(outcome, Completion):
        return AttemptState.OK if outcome.finish is Finish.STOP else AttemptState.TRUNCATED
    return AttemptState.UNKNOWN if outcome.fault is Fault.UNKNOWN_OUTCOME else AttemptState.FAILED


def without_secrets(failure: Failure, secrets: Sequence[str]) -> Failure:
    """The same failure with every key blotted out: a host may echo what it was sent."""
    clean = replace(
        failure,
        detail=blotted(failure.detail, secrets) or "",
        text=blotted(failure.text, secrets) or "",
        served_model=blotted(failure.served_model, secrets),
        tier=blotted(failure.tier, secrets),
        request_id=blotted(failure.request_id, secrets),
    )
    return failure if clean == failure else clean


def accounts_of(catalog: Catalog, keys: Keys) -> dict[str, str]:
    """The accounts in use, by provider, as `address:key`: each a fingerprint that can't be turned back.

    A part is empty where there is none; who has neither is the empty account.
    """
    return {
        provider.name: account_of(provider.base_url, keys.get(provider))
        for provider in catalog.providers.values()
    }


def account_of(base_url: str | None, key: str | None) -> str:
    """What tells one account from another in the ledger; another address is another account."""
    return f"{_fingerprint(base_url)}:{_fingerprint(key)}" if base_url or key else ""


def _fingerprint(text: str | None) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def blotted(text: str | None, secrets: Sequence[str]) -> str | None:
    """A text without the secrets, nor what a cut left of one at its end."""
    if not text:
        return text
    for secret in secrets:
        text = text.replace(secret, _BLOT)
        cut = text.removesuffix("…")
        if len(cut) < len(text):
            lengths = range(len(secret) - 1, _LEAST - 1, -1)
            part = next((length for length in lengths if cut.endswith(secret[:length])), 0)
            text = f"{cut[:-part]}{_BLOT}…" if part else text
    return text

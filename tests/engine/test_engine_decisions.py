"""The decisions of the engine as tables: what the end of an attempt means, and what a user is warned of. Pure."""

from __future__ import annotations

import logging

import pytest

from promptkit._util.notices import NoticeHandler, RepeatFilter
from promptkit._util.shares import Share
from promptkit.engine.attempts import CANCELLED, EndedAttempt, end_attempt
from promptkit.engine.recording import overrun_text, refusal_text, soft_text, warn_of_failure
from promptkit.ledger.records import AttemptStart, Refused, SoftPassed
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
    Target,
    Usage,
)

TARGET = Target("openai", "gpt-6-luna")
MAX_PICO = 900
USAGE = Usage(10, 20)
LISTED = Cost(500, "list")
FREE = Cost(0, "not billed")
DOLLAR = 10**12


def ended(
    outcome: Outcome,
    cost: Cost | None,
    *,
    max_cost_pico: int | None = MAX_PICO,
    estimate: Estimate | None = None,
    note: str = "",
) -> EndedAttempt:
    start = AttemptStart(5, 6, 1, 1, TARGET, max_cost_pico, 1_000)
    attempt = end_attempt(start, outcome, cost, 0.25, first_byte_s=0.125, estimate=estimate, note=note)
    return EndedAttempt(attempt, outcome, 9_000)


@pytest.mark.parametrize(
    ("outcome", "cost", "state", "charged", "billed"),
    [
        (Completion("t", Finish.STOP, USAGE), LISTED, AttemptState.OK, 500, True),
        (Completion("t", Finish.LENGTH, USAGE), LISTED, AttemptState.TRUNCATED, 500, True),
        # a reply without usage: its cost is unknown, and is never 0
        (Completion("t", Finish.STOP, None), None, AttemptState.OK, MAX_PICO, True),
        # a failure that is not billed costs nothing
        (Failure(Fault.RATE_LIMIT, "429", status=429), FREE, AttemptState.FAILED, 0, False),
        # a reply that failed its checks was paid
        (Failure(Fault.CHECK, "no", usage=USAGE, billed=True), LISTED, AttemptState.FAILED, 500, True),
        (Failure(Fault.BROKEN_REPLY, "cut", billed=True), None, AttemptState.FAILED, MAX_PICO, True),
        # sent and never answered: charged at its max cost
        (Failure(Fault.UNKNOWN_OUTCOME, "timeout", billed=True), None, AttemptState.UNKNOWN, MAX_PICO, True),
        (CANCELLED, None, AttemptState.UNKNOWN, MAX_PICO, True),
        # a bill above the max cost counts in full
        (Completion("t", Finish.STOP, USAGE), Cost(1_200, "list"), AttemptState.OK, 1_200, True),
    ],
)
def test_what_the_end_of_an_attempt_means(
    outcome: Outcome,
    cost: Cost | None,
    state: AttemptState,
    charged: int,
    billed: bool,  # noqa: FBT001 - a table
) -> None:
    """Its state, its cost and what the caps count; the ledger's record has the same."""
    end = ended(outcome, cost)
    record = end.record
    assert (end.attempt.state, end.attempt.cost, end.attempt.charged_pico) == (state, cost, charged)
    assert (record.state, record.cost, record.charged_pico, record.billed) == (state, cost, charged, billed)
    assert (record.id, record.ended_us, record.latency_us, record.first_byte_us) == (
        5,
        9_000,
        250_000,
        125_000,
    )


def test_an_attempt_without_a_known_price_is_charged_nothing() -> None:
    """With `allow_unpriced` there is no max cost to charge; the cost stays unknown."""
    attempt = ended(Completion("t", Finish.STOP, USAGE), None, max_cost_pico=None).attempt
    assert (attempt.cost, attempt.charged_pico) == (None, 0)


def test_an_estimate_is_no_cost() -> None:
    """An estimate is recorded beside the unknown cost: the caps count the max cost."""
    estimate = Estimate(USAGE, 300)
    end = ended(CANCELLED, None, estimate=estimate)
    assert (end.attempt.estimate, end.record.estimate) == (estimate, estimate)
    assert (end.attempt.cost, end.attempt.usage, end.record.charged_pico) == (None, None, MAX_PICO)


@pytest.mark.parametrize(
    ("note", "outcome", "detail"),
    [
        ("", Completion("t", Finish.STOP, USAGE), ""),
        ("repair", Completion("t", Finish.STOP, USAGE), "repair"),
        ("", Failure(Fault.CHECK, "too long"), "too long"),
        ("repair", Failure(Fault.CHECK, "too long"), "repair: too long"),
    ],
)
def test_the_detail_of_an_attempt(note: str, outcome: Outcome, detail: str) -> None:
    """A repair is marked as one, before the failure."""
    end = ended(outcome, LISTED, note=note)
    assert (end.attempt.detail, end.record.detail) == (detail, detail)


def test_the_record_of_a_failure() -> None:
    """Status, tier, hint and ids of the response go into the record."""
    failure = Failure(
        Fault.RATE_LIMIT, "429", status=429, retry_after_s=1.5, request_id="r", served_model="m", tier="flex"
    )
    record = ended(failure, FREE).record
    assert (record.http_status, record.retry_after_us, record.tier) == (429, 1_500_000, "flex")
    assert (record.request_id, record.served_model, record.fault) == ("r", "m", Fault.RATE_LIMIT)
    reply = ended(Completion("t", Finish.STOP, USAGE), LISTED).record
    assert (reply.http_status, reply.retry_after_us, reply.fault) == (None, None, None)


def test_the_parts_of_an_attempt_add_up() -> None:
    """The rows of a pack share usage, cost and charge; nothing is lost or counted twice."""
    whole = ended(Completion("t", Finish.STOP, Usage(7, 3)), LISTED).attempt
    parts = [whole.part(Share(*ends)) for ends in ((0, 3_333), (3_333, 6_666), (6_666, 10_000))]
    assert sum(part.charged_pico for part in parts) == whole.charged_pico
    assert sum(part.cost.pico for part in parts if part.cost) == LISTED.pico
    assert sum(part.usage.input_tokens for part in parts if part.usage) == 7
    unknown = ended(CANCELLED, None).attempt.part(Share(0, 5_000))
    assert (unknown.usage, unknown.cost, unknown.charged_pico) == (None, None, MAX_PICO // 2)


@pytest.mark.parametrize(
    ("failures", "warnings"),
    [
        ([Failure(Fault.TRANSIENT, "503")], []),
        ([Failure(Fault.RATE_LIMIT, "429")], []),
        ([Failure(Fault.AUTH, "bad key")], ["openai/gpt-6-luna is skipped (auth): bad key"]),
        # once per target and fault, whatever the detail
        ([Failure(Fault.QUOTA, "a"), Failure(Fault.QUOTA, "b")], ["openai/gpt-6-luna is skipped (quota): a"]),
        (
            [Failure(Fault.UNKNOWN_OUTCOME, "timeout", billed=True)] * 2,
            [
                (
                    "openai/gpt-6-luna did not answer a request (timeout), which may have been billed. "
                    "The attempt is charged at its max cost"
                )
            ],
        ),
        (
            [Failure(Fault.UNKNOWN_OUTCOME, "stopped", billed=True, shown=True)],
            [
                (
                    "openai/gpt-6-luna was stopped: the text so far is kept, and will be billed. "
                    "The attempt is charged at its max cost"
                )
            ],
        ),
    ],
)
def test_failures_that_the_user_is_warned_of(failures: list[Failure], warnings: list[str]) -> None:
    """Keys, quotas and unknown outcomes, once per target."""
    seen: list[str] = []
    log = logging.Logger("test")  # noqa: LOG001
    log.addFilter(RepeatFilter())
    log.addHandler(NoticeHandler(seen.append))
    for failure in failures:
        warn_of_failure(log, TARGET, failure)
    assert seen == warnings


def test_the_texts_about_money() -> None:
    """A refusal, a soft cap and an overrun each give scope and amounts."""
    refused = Refused("job:7", 2 * DOLLAR, DOLLAR, 0, may_free=False)
    assert refusal_text(refused, DOLLAR) == (
        "this job has no room left under its cap of $2.00: $1.00 are spent, and a call can cost up to $1.00"
    )
    stopped = Refused("job:7", 2 * DOLLAR, DOLLAR, 0, may_free=False, stopped=True)
    assert (
        refusal_text(stopped, 0)
        == "this job is stopped: a charge exceeded its max cost under the cap of $2.00"
    )
    assert soft_text(SoftPassed("day:2026-11-22", DOLLAR, 2 * DOLLAR)) == (
        "soft cap passed: the budget day 2026-11-22 has spent $2.00, with a soft cap of $1.00; nothing is stopped"
    )
    attempt = Attempt(0, TARGET, AttemptState.OK, None, "", USAGE, LISTED, 500, 0.1)
    assert overrun_text(attempt, ["job:7"]) == (
        "openai/gpt-6-luna billed more than the max cost of attempt 0000000000000: "
        "nothing more starts under job:7 until the cap is raised"
    )

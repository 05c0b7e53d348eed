"""What the end of a call means, and what the books say of an attempt: pure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.engine.attempts import EndedAttempt, end_attempt, redacted, state_of, without_secrets
from promptkit.engine.calls import CallResult, cost_of, failure_of, is_outage, row_stays, status_of, text_of
from promptkit.errors import AllTargetsFailed, BudgetStop, NoUsableKey, PromptKitError, Unpriced
from promptkit.ledger.records import AttemptStart
from promptkit.routing.flow import GaveUp, Plan, Replied
from promptkit.types import (
    Attempt,
    AttemptState,
    Completion,
    Cost,
    Failure,
    Fault,
    Finish,
    Outcome,
    Status,
    Target,
    Usage,
)

TARGET = Target("openai", "gpt-6-luna")
IMPATIENT = Plan((), 6, 120.0)
PATIENT = replace(IMPATIENT, outage_s=900.0)
SECRET = "sk-canary-openai-0001"


def attempt(fault: Fault | None, pico: int | None = 0) -> Attempt:
    """An attempt that ended so and cost that."""
    cost = None if pico is None else Cost(pico, "list")
    return Attempt(1, TARGET, AttemptState.FAILED, fault, "", None, cost, pico or 7, 0.1)


def gave_up(fault: Fault | None, retry_at_s: float | None = None) -> GaveUp:
    return GaveUp(None if fault is None else Failure(fault, "why"), "why", retry_at_s)


@pytest.mark.parametrize(
    ("fault", "before", "closed", "stays"),
    [
        (None, [], True, True),
        (Fault.BUDGET, [Fault.TRANSIENT], False, True),
        (Fault.UNPRICED, [], False, True),
        (Fault.AUTH, [Fault.AUTH], False, True),
        (Fault.QUOTA, [Fault.MODEL_GONE, Fault.QUOTA], False, True),
        (Fault.AUTH, [Fault.CONTEXT_LENGTH, Fault.AUTH], False, False),
        (Fault.MODEL_GONE, [Fault.CONTENT, Fault.MODEL_GONE], True, False),
        (Fault.RATE_LIMIT, [Fault.RATE_LIMIT], True, True),
        (Fault.NO_CAPACITY, [Fault.AUTH, Fault.NO_CAPACITY], True, True),
        (Fault.RATE_LIMIT, [Fault.RATE_LIMIT], False, False),
        (Fault.TRANSIENT, [Fault.TRANSIENT], True, False),
        (Fault.INVALID_REQUEST, [], False, False),
        (Fault.UNKNOWN_OUTCOME, [Fault.UNKNOWN_OUTCOME], False, False),
    ],
)
def test_a_row_waits_where_it_is_not_what_failed(
    fault: Fault | None,
    before: list[Fault],
    closed: bool,  # noqa: FBT001 - a table
    stays: bool,  # noqa: FBT001 - a table
) -> None:
    """A row is still to be done where any other would have failed as well; else it has failed."""
    result = gave_up(fault, 5.0 if closed else None)
    assert row_stays(result, [attempt(each) for each in before], IMPATIENT) is stays


@pytest.mark.parametrize(
    ("faults", "closed", "outage"),
    [
        ([Fault.TRANSIENT], False, True),
        ([Fault.TRANSIENT, Fault.QUOTA], True, True),
        ([Fault.UNKNOWN_OUTCOME, Fault.BROKEN_REPLY], False, True),
        ([Fault.RATE_LIMIT, Fault.NO_CAPACITY], False, True),
        ([None], True, True),
        ([None], False, False),
        ([Fault.AUTH, Fault.QUOTA], True, False),
        ([Fault.TRANSIENT, Fault.CONTEXT_LENGTH], True, False),
        ([Fault.INVALID_REQUEST, Fault.TRANSIENT], True, False),
        ([Fault.TRANSIENT, Fault.BUDGET], True, False),
    ],
)
def test_an_outage_says_nothing_of_the_row(
    faults: list[Fault | None],
    closed: bool,  # noqa: FBT001 - a table
    outage: bool,  # noqa: FBT001 - a table
) -> None:
    """A row that only passing faults left alone can wait, where the plan lets a batch wait at all."""
    result = gave_up(faults[-1], 5.0 if closed else None)
    before = [attempt(fault) for fault in faults if fault is not None]
    assert is_outage(result, before, PATIENT) is outage
    assert not is_outage(result, before, IMPATIENT)
    assert row_stays(result, before, PATIENT) or not outage


def test_an_unknown_outcome_that_may_not_be_sent_again_is_no_outage() -> None:
    """With `--on-unknown fail` such a row fails."""
    plan = replace(PATIENT, resend_unknown=False)
    result = gave_up(Fault.UNKNOWN_OUTCOME)
    assert not is_outage(result, [attempt(Fault.UNKNOWN_OUTCOME)], plan)
    assert not row_stays(result, [attempt(Fault.UNKNOWN_OUTCOME)], plan)


def test_an_answered_row_is_done() -> None:
    """Whatever failed before, an answer ends the row; its status tells which kind it is."""
    whole, cut = (Completion("text", finish, None) for finish in (Finish.STOP, Finish.LENGTH))
    assert not row_stays(Replied(whole, TARGET), [attempt(Fault.AUTH)], PATIENT)
    assert [status_of(Replied(each, TARGET)) for each in (whole, cut)] == [Status.OK, Status.TRUNCATED]
    assert status_of(Replied(cut, TARGET, degraded=True)) is Status.DEGRADED
    assert (text_of(Replied(whole, TARGET)), text_of(gave_up(None))) == ("text", "")
    assert [status_of(gave_up(fault)) for fault in (None, Fault.CONTENT, Fault.AUTH)] == [
        Status.FAILED,
        Status.REFUSED,
        Status.FAILED,
    ]


@pytest.mark.parametrize(
    ("fault", "attempts", "error"),
    [
        (Fault.BUDGET, [], BudgetStop),
        (Fault.UNPRICED, [], Unpriced),
        (Fault.AUTH, [attempt(Fault.AUTH)], NoUsableKey),
        (Fault.AUTH, [attempt(Fault.QUOTA), attempt(Fault.AUTH)], AllTargetsFailed),
        (Fault.TRANSIENT, [attempt(Fault.TRANSIENT)], AllTargetsFailed),
        (None, [], AllTargetsFailed),
    ],
)
def test_the_error_of_a_call(
    fault: Fault | None, attempts: list[Attempt], error: type[PromptKitError]
) -> None:
    """What a call that nothing answered raises, with every attempt on it."""
    failure = None if fault is None else Failure(fault, "why")
    raised = failure_of(CallResult(1, Status.FAILED, "", None, failure, "why", None, tuple(attempts), 0.1))
    assert type(raised) is error
    assert getattr(raised, "attempts", tuple(attempts)) == tuple(attempts)


@given(st.lists(st.none() | st.integers(0, 10**15)))
def test_costs_add_up(picos: list[int | None]) -> None:
    """The cost of a call is the sum of its attempts' costs, to the pico-dollar; unknown where one is unknown."""
    attempts = [attempt(None, pico) for pico in picos]
    known = [pico for pico in picos if pico is not None]
    assert cost_of(attempts) == (sum(known) if len(known) == len(picos) else None)


_usages = st.none() | st.builds(Usage, st.integers(0, 10**6), st.integers(0, 10**6))
_outcomes: st.SearchStrategy[Outcome] = st.builds(
    Completion, st.text(), st.sampled_from(Finish), _usages
) | st.builds(
    Failure,
    st.sampled_from(Fault),
    st.text(),
    retry_after_s=st.none() | st.floats(0, 1e6),
    usage=_usages,
    billed=st.booleans(),
)


@given(_outcomes, st.none() | st.integers(0, 10**12), st.none() | st.integers(0, 10**12))
def test_what_is_charged(outcome: Outcome, ceiling: int | None, cost: int | None) -> None:
    """What the caps count is the cost, else the ceiling; the attempt and its row in the books say the same."""
    start = AttemptStart(5, 6, 1, 1, TARGET, ceiling, 1_000)
    made = end_attempt(start, outcome, None if cost is None else Cost(cost, "list"), 0.25)
    end = EndedAttempt(made, outcome, 9_000).record
    assert end.charged_pico == made.charged_pico == (cost if cost is not None else ceiling or 0)
    assert (end.id, end.state, end.fault, end.usage, end.cost) == (
        made.id,
        made.state,
        made.fault,
        made.usage,
        made.cost,
    )
    assert end.state is made.state is state_of(outcome)
    assert (end.latency_us, end.ended_us) == (250_000, 9_000)
    if isinstance(outcome, Failure):
        assert (end.billed, end.detail) == (outcome.billed, outcome.detail)
        assert (end.retry_after_us is None) is (outcome.retry_after_s is None)
    else:
        assert end.billed
        assert (end.fault, end.detail) == (None, "")


@given(st.text(), st.text(), st.integers(0, len(SECRET)), st.booleans())
def test_keys_are_blotted_out(before: str, after: str, length: int, cut: bool) -> None:  # noqa: FBT001 - drawn
    """No text holds a whole key, nor, where it was cut, more than seven characters of one at its end."""
    text = f"{before}{SECRET[:length]}…" if cut else f"{before}{SECRET}{after}"
    clean = redacted(text, [SECRET]) or ""
    assert SECRET not in clean
    assert not clean.removesuffix("…").endswith(SECRET[:8]) or not cut


def test_a_failure_without_secrets() -> None:
    """Every text of a failure is looked through; one without a key comes back as it is."""
    dirty = Failure(
        Fault.AUTH, f"key {SECRET}", text=SECRET, served_model=SECRET, tier=SECRET, request_id=SECRET
    )
    assert SECRET not in repr(without_secrets(dirty, [SECRET]))
    clean = Failure(Fault.AUTH, "no key")
    assert without_secrets(clean, [SECRET]) is clean
    assert redacted(None, [SECRET]) is None

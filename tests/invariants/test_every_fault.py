"""The acceptance of the whole house: whatever fails, rows arrive, and the books are right."""

from __future__ import annotations

from datetime import datetime
from itertools import cycle
from typing import Any, Final

import pytest
import virtual_time
from studio import ALL, BIGGEST, REF, Studio, assert_books_agree, attempts_of, brands, run_all

from promptkit.errors import AllTargetsFailed
from promptkit.simulator.faults import ANTHROPIC, GEMINI, OPENAI, REPLY, WIRE
from promptkit.simulator.scenario import LimitRule, Scenario
from promptkit.simulator.server import Simulator
from promptkit.types import AttemptState, Fault, Status

pytestmark = pytest.mark.virtual_time

ENDS: Final = ("bad_request", "unprocessable")
"""A malformed request: sent to one provider, and to no other."""
CONTENT: Final = ("reply.refusal", "reply.content_filter", "reply.blocked_prompt")
TOO_LONG: Final = ("context_length", "too_large")
ANSWERS: Final = ("reply.truncated", "reply.empty", "reply.unknown_model", "reply.no_usage")
UNFIT: Final = ("reply.not_json", "reply.wrong_json", "reply.says")
"""Whole replies that aren't what a template asks for: JSON of its schema, texts that keep to its checks."""
STATUSES: Final = (
    401,
    402,
    403,
    404,
    408,
    409,
    410,
    425,
    429,
    499,
    500,
    501,
    502,
    503,
    504,
    507,
    520,
    524,
    529,
)

TITLED: Final = """+++
description = "Lines for a brand, and their title"
[variables.brand]
[params]
max_output_tokens = 600
[output]
type = "object"
additionalProperties = false
required = ["title", "lines"]
[output.properties.title]
type = "string"
[output.properties.lines]
type = "array"
items = {type = "string"}
[checks]
banned = ["beer"]
on_failure = "retry"
+++
{% message "user" %}Brand: {{ brand }}.{% endmessage %}
"""

TABLES: Final = {"openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI}
NEXT: Final = {"openai": "anthropic", "anthropic": "gemini", "gemini": "openai"}
TARGET: Final = dict(zip(TABLES, ALL, strict=True))


def _failing(family: str) -> list[str]:
    """A family's own faults that another provider can make good."""
    return [f"{family}.{name}" for name in TABLES[family] if name not in (*ENDS, *TOO_LONG)]


def _pairs() -> list[Any]:
    """Each named fault on the first target, in turn with one of the next provider's own on the second."""
    found: list[Any] = []
    for first, second in NEXT.items():
        others = cycle(_failing(second))
        found += [pytest.param(first, fault, next(others), id=fault) for fault in _failing(first)]
    names = [*WIRE, *CONTENT[:2], *(f"http.{status}" for status in STATUSES)]
    turns = cycle(NEXT)
    found += [pytest.param(next(turns), fault, fault, id=fault) for fault in names]
    # Anthropic blocks no prompts: there it is a plain 400.
    return [
        *found,
        pytest.param("gemini", "reply.blocked_prompt", "reply.blocked_prompt", id="blocked_prompt"),
    ]


async def _arrive_by(studio: Studio, third: str, rows: int = 3) -> None:
    """Every row arrives by the third target, the first two failed, and the books agree."""
    async with studio.kit() as kit:
        results = await run_all(kit.batch(REF, brands(rows), job="night"))
        assert [(str(result.target), result.status) for result in results] == [(third, Status.OK)] * rows
        assert all(result.text for result in results)
        ledger = await kit.session.ledger()
        assert_books_agree(ledger, studio)
        attempts = attempts_of(ledger)
        assert {str(attempt.target) for attempt in attempts if attempt.fault is None} == {third}
        assert len({attempt.target for attempt in attempts}) == 3
        assert ledger.reports.spent_by_job(ledger.jobs.newest()[0].id) == ledger.reports.spent_total()


@pytest.mark.parametrize(("first", "fault", "other"), _pairs())
async def test_every_row_arrives_by_the_third(studio: Studio, first: str, fault: str, other: str) -> None:
    """With the first two targets failing in every way of the table, every row still arrives by the
    third, and the ledger's cost equals the bill to the pico-dollar but for unknown outcomes."""
    second = NEXT[first]
    third = TARGET[NEXT[second]]
    studio.configure(
        targets=(TARGET[first], TARGET[second], third),
        route='max_wait_s = 0.05\non_content = "next"',
        timeout_s=0.4 if fault.startswith(("wire.stall", "wire.slow")) else 5,
    )
    studio.sim.script([{"fault": fault, "provider": first}, {"fault": other, "provider": second}])
    await _arrive_by(studio, third)


@pytest.mark.parametrize("name", TOO_LONG)
@pytest.mark.parametrize("first", TABLES)
async def test_what_is_too_long_goes_to_a_larger_window(studio: Studio, first: str, name: str) -> None:
    """A context-length error goes only to a model with a larger window."""
    second = NEXT[first]
    studio.configure(targets=(TARGET[first], TARGET[second], BIGGEST), route="max_wait_s = 0.05")
    studio.sim.script([f"{first}.{name}", f"{second}.{name}"])
    async with studio.kit() as kit:
        results = await run_all(kit.batch(REF, brands(2), job="night"))
        assert [(str(result.target), result.status) for result in results] == [(BIGGEST, Status.OK)] * 2
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_hint_within_patience_is_waited_for(studio: Studio) -> None:
    """Where no other target is left, the hint of a rate limit is waited for, then the same one answers."""
    studio.configure(targets=ALL[:1], route="max_wait_s = 5")
    studio.sim.script([{"fault": "openai.rate_limit", "times": 1, "retry_after_s": 0.3}])
    async with studio.kit() as kit:
        reply = await kit.run(REF, {"brand": "Barly"})
        first, second = reply.attempts
        assert (first.fault, second.fault) == (Fault.RATE_LIMIT, None)
        assert_books_agree(await kit.session.ledger(), studio)
    began, again = (datetime.fromisoformat(str(note["time"])) for note in studio.sim.requests())
    assert (again - began).total_seconds() >= 0.29


async def test_a_hint_past_patience_parks_the_target(studio: Studio) -> None:
    """A target that asks for an hour is left alone, by this call and by the next ones."""
    studio.sim.script([{"fault": "openai.rate_limit", "retry_after_s": 3600.0}])
    async with studio.kit() as kit:
        for _ in range(3):
            assert str((await kit.run(REF, {"brand": "Barly"})).target) == ALL[1]
    assert studio.asked("openai") == 1


@pytest.mark.parametrize(
    "limit",
    [
        LimitRule(requests_per_minute=1),
        LimitRule(tokens_per_minute=1),
        LimitRule(input_tokens_per_minute=1),
        LimitRule(requests_per_day=1),
        LimitRule(tokens_per_day=1),
    ],
    ids=["requests/min", "tokens/min", "input/min", "requests/day", "tokens/day"],
)
async def test_limits_of_a_minute_and_of_a_day(studio: Studio, limit: LimitRule) -> None:
    """Rows beyond a provider's limits, per minute or per day, arrive by the next one."""
    scenario = Scenario(limits={"openai": limit, "anthropic": limit})
    async with Simulator(seed=7, scenario=scenario, clock=virtual_time.clock()) as sim:
        studio.sim = sim
        studio.configure(route="max_wait_s = 0.05")
        async with studio.kit() as kit:
            results = await run_all(kit.batch(REF, brands(6), job="night"))
            assert [result.status for result in results] == [Status.OK] * 6
            assert sum(str(result.target) == ALL[2] for result in results) >= 4
            assert_books_agree(await kit.session.ledger(), studio)


async def test_hosts_that_refuse_connections(studio: Studio) -> None:
    """A host that refuses connections was sent nothing: it costs nothing, and the third answers."""
    studio.configure(route="max_wait_s = 0.05")
    await studio.sim.down("openai")
    await studio.sim.down("anthropic")
    await _arrive_by(studio, ALL[2])
    assert studio.asked() == 3


async def test_the_books_count_what_broke_on_the_way(studio: Studio) -> None:
    """A reply that was sent, billed and lost is charged at its ceiling, and said so once."""
    studio.configure(route="max_wait_s = 0.05")
    studio.sim.script([{"fault": "wire.reset_after", "provider": "openai"}])
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, brands(3), job="night"))
        ledger = await kit.session.ledger()
        lost = [attempt for attempt in attempts_of(ledger) if attempt.state is AttemptState.UNKNOWN]
        assert len(lost) >= 3
        assert all(attempt.cost is None and attempt.charged_pico > 0 and attempt.billed for attempt in lost)
        assert_books_agree(ledger, studio)
    assert len([text for text in studio.said if "charged at its max cost" in text]) == 1


# ---------------------------------------------------------------- what ends a call


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("first", TABLES)
async def test_a_malformed_request_is_sent_once(studio: Studio, first: str, name: str) -> None:
    """An invalid request ends its call at once: it is not sent to every provider."""
    second = NEXT[first]
    studio.configure(targets=(TARGET[first], TARGET[second]))
    studio.sim.script([f"{first}.{name}"])
    async with studio.kit() as kit:
        with pytest.raises(AllTargetsFailed) as caught:
            await kit.run(REF, {"brand": "Barly"})
        assert [attempt.fault for attempt in caught.value.attempts] == [Fault.INVALID_REQUEST]
        [result] = await run_all(kit.batch(REF, brands(1), job="night"))
        assert (result.status, str(result.target)) == (Status.FAILED, TARGET[first])
        assert result.error
        assert "400" in result.error or "422" in result.error
        assert_books_agree(await kit.session.ledger(), studio)
    assert studio.asked() == 2


@pytest.mark.parametrize("fault", CONTENT)
@pytest.mark.parametrize("first", TABLES)
async def test_a_refusal_ends_its_call(studio: Studio, first: str, fault: str) -> None:
    """Where the route doesn't say `next`, a refusal is the row's result: `refused`, paid, sent nowhere else."""
    studio.configure(targets=(TARGET[first], TARGET[NEXT[first]]))
    studio.sim.script([fault])
    async with studio.kit() as kit:
        [result] = await run_all(kit.batch(REF, brands(1), job="night"))
        plain = (first, fault) == ("anthropic", "reply.blocked_prompt")  # it blocks no prompts: a 400
        assert (result.status, result.text) == (Status.FAILED if plain else Status.REFUSED, None)
        ledger = await kit.session.ledger()
        [attempt] = attempts_of(ledger)
        assert attempt.fault is (Fault.INVALID_REQUEST if plain else Fault.CONTENT)
        assert_books_agree(ledger, studio)
    assert studio.asked() == 1


@pytest.mark.parametrize("first", TABLES)
@pytest.mark.parametrize("fault", ANSWERS)
async def test_odd_answers_are_answers(studio: Studio, first: str, fault: str) -> None:
    """A reply that hit its limit, names an unheard-of model or no usage is kept, and sent nowhere else."""
    studio.configure(targets=(TARGET[first], TARGET[NEXT[first]]))
    studio.sim.script([fault])
    async with studio.kit() as kit:
        [result] = await run_all(kit.batch(REF, brands(1), job="night"))
        cut = fault in ("reply.truncated", "reply.empty")
        assert result.status is (Status.TRUNCATED if cut else Status.OK)
        assert bool(result.text) is (fault != "reply.empty")
        assert (result.cost is None) is (fault == "reply.no_usage")
        assert_books_agree(await kit.session.ledger(), studio)
    assert studio.asked() == 1


@pytest.mark.parametrize("first", TABLES)
@pytest.mark.parametrize("fault", UNFIT)
async def test_what_was_not_asked_for_is_repaired_then_fails_over(
    studio: Studio, first: str, fault: str
) -> None:
    """A reply that isn't the JSON of the schema, or fails its checks, is repaired once by the same target;
    with two targets that can't, every row arrives by the third, and the bill is the books."""
    second = NEXT[first]
    third = TARGET[NEXT[second]]
    studio.configure(targets=(TARGET[first], TARGET[second], third))
    studio.publish(TITLED)
    lies = '{"title": "A cheap beer", "lines": ["x"]}'
    studio.sim.script([{"fault": fault, "provider": one, "message": lies} for one in (first, second)])
    await _arrive_by(studio, third)
    assert studio.asked(first) == studio.asked(second) == 2 * 3


def test_every_named_fault_is_covered() -> None:
    """No fault of the simulator is left out of these tables."""
    covered = {param.values[1] for param in _pairs()} | {*ANSWERS, *CONTENT, *UNFIT}
    covered |= {
        "reply.items_missing",
        "reply.items_repeated",
        "reply.items_extra",
    }  # of packs: see their own tests
    covered |= {
        f"{family}.{name}" for family in TABLES for name in (*ENDS, *TOO_LONG) if name in TABLES[family]
    }
    named = {f"{family}.{name}" for family, table in TABLES.items() for name in table}
    assert covered >= named | {*WIRE} | {*REPLY}

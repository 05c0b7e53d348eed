"""`kit.stream`: pieces over real sockets, failover before the first word, books after any end."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from studio import (
    ALL,
    ANTHROPIC,
    BIGGEST,
    GEMINI,
    OPENAI,
    REF,
    THREE,
    Studio,
    assert_books_agree,
    attempts_of,
    until,
)

from promptkit import AsyncPromptKit, StreamCut
from promptkit.errors import AllTargetsFailed, BudgetStop, TemplateNotFound, UsageError
from promptkit.ledger.records import AttemptRecord
from promptkit.providers.local_weights import weights_path
from promptkit.types import AttemptState, Fault, Reply, Status
from promptkit.types.ids import read_id, show_id

pytestmark = pytest.mark.virtual_time
WORDS: dict[str, object] = {"brand": "Barly"}


async def read(kit: AsyncPromptKit, **options: Any) -> tuple[list[str], Reply]:
    async with kit.stream(REF, WORDS, **options) as stream:
        return [piece async for piece in stream], stream.reply


async def only_attempt(kit: AsyncPromptKit) -> AttemptRecord:
    [attempt] = attempts_of(await kit.session.ledger())
    return attempt


async def input_tokens(kit: AsyncPromptKit, target: str) -> int | None:
    reply = await kit.run(REF, WORDS, targets=[target])
    return None if reply.usage is None else reply.usage.input_tokens


@pytest.mark.parametrize("target", [*ALL, BIGGEST])
async def test_each_format_streams(studio: Studio, target: str) -> None:
    """A call on each wire format comes in pieces that make up the reply; usage, cost and bill are those of a whole one."""
    async with studio.kit() as kit:
        whole = await kit.run(REF, WORDS, targets=[target])
        studio.sim.script([{"fault": "wire.slow_first_byte", "seconds": 0.25}])
        pieces, reply = await read(kit, targets=[target], tags={"client": "barly"})
        assert len(pieces) > 1
        assert "".join(pieces) == reply.text
        assert reply.status is whole.status is Status.OK
        assert (reply.usage, reply.cost_pico) == (whole.usage, whole.cost_pico)
        assert (str(reply.target), reply.tags) == (target, {"client": "barly"})
        [attempt] = reply.attempts
        assert attempt.first_byte_s is not None
        assert attempt.first_byte_s == attempt.latency_s == pytest.approx(0.25, abs=0.01)
        ledger = await kit.session.ledger()
        kept = attempts_of(ledger)
        assert [one.first_byte_us is None for one in kept] == [True, False]
        assert kept[1].estimate is None
        assert_books_agree(ledger, studio)
        call = ledger.calls.get(read_id(reply.id))
        assert call is not None
        assert call.text == reply.text


async def test_it_is_an_iterator_without_a_block(studio: Studio) -> None:
    """`async for` over the stream alone reads it, too; reading it again gives nothing and sends nothing."""
    async with studio.kit() as kit:
        stream = kit.stream(REF, WORDS)
        with pytest.raises(UsageError, match="has not ended"):
            _ = stream.reply
        assert studio.asked() == 0
        text = "".join([piece async for piece in stream])
        assert [piece async for piece in stream] == []
        assert stream.reply.text == text
        assert studio.asked() == 1


async def test_a_structured_skeleton_streams(studio: Studio) -> None:
    """The pieces of a structured reply are JSON text; its value is there at the end."""
    studio.publish(
        '+++\n[output]\ntype = "object"\nrequired = ["hook"]\nadditionalProperties = false\n'
        '[output.properties.hook]\ntype = "string"\n+++\n{% message "user" %}One hook.{% endmessage %}\n',
        "ad/json",
    )
    async with studio.kit() as kit:
        for target in ALL:
            async with kit.stream("ad/json", targets=[target]) as stream:
                text = "".join([piece async for piece in stream])
            assert stream.reply.parsed == json.loads(text)


async def test_a_truncated_stream_is_truncated(studio: Studio) -> None:
    """A stream that hits its length limit ends as a truncated reply, priced and kept."""
    studio.sim.script([{"fault": "reply.truncated", "times": None}])
    async with studio.kit() as kit:
        for target in ALL:
            pieces, reply = await read(kit, targets=[target])
            assert (reply.status, reply.text) == (Status.TRUNCATED, "".join(pieces))
        assert_books_agree(await kit.session.ledger(), studio)


@pytest.mark.parametrize("provider", THREE)
@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "wire.reset_before"},
        {"fault": "wire.reset_after"},
        {"fault": "wire.cut_stream", "at": 0.0},
        {"fault": "wire.early_end", "at": 0.0},
        {"fault": "wire.malformed", "at": 0.0},
        {"fault": "wire.stream_error", "at": 0.0},
        {"fault": "http.429"},
        {"fault": "http.401"},
        {"fault": "http.500"},
    ],
    ids=lambda rule: rule["fault"],
)
async def test_before_the_first_word_it_moves_on(studio: Studio, provider: str, rule: dict[str, Any]) -> None:
    """However the first target fails before its first word, the reader gets one whole text from the next one."""
    first = next(target for target in ALL if target.startswith(provider))
    studio.configure(targets=[first, BIGGEST], route="max_wait_s = 0.05")
    studio.sim.script([{**rule, "provider": provider, "times": None}])
    async with studio.kit() as kit:
        pieces, reply = await read(kit)
        assert str(reply.target) == BIGGEST
        assert reply.text == "".join(pieces)
        assert len(reply.attempts) > 1
        assert all(one.first_byte_s is None for one in reply.attempts[:-1])
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_stream_without_a_word_moves_on(studio: Studio) -> None:
    """A stream that only reasoned until its limit is truncated; one that ended empty is asked again."""
    studio.sim.script([{"fault": "reply.empty", "provider": "openai"}])
    async with studio.kit() as kit:
        pieces, reply = await read(kit)
        assert (pieces, reply.status, reply.text) == ([], Status.TRUNCATED, "")


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize(
    "fault", ["wire.cut_stream", "wire.early_end", "wire.malformed", "wire.stream_error"]
)
async def test_after_the_first_word_nothing_is_sent_again(studio: Studio, target: str, fault: str) -> None:
    """A stream that breaks after its first word is a failure with what came; nothing else is asked."""
    studio.configure(targets=[target, *(other for other in ALL if other != target)])
    studio.sim.script([{"fault": fault, "at": 0.6, "billed": True, "times": None}])
    pieces: list[str] = []
    async with studio.kit() as kit:
        stream = kit.stream(REF, WORDS)

        async def reads() -> None:
            async with stream:
                async for piece in stream:
                    pieces.append(piece)  # noqa: PERF401 - what came before it raised

        with pytest.raises(StreamCut, match="nothing was sent again") as caught:
            await reads()
        assert pieces
        assert caught.value.text == "".join(pieces)
        assert studio.asked() == 1
        with pytest.raises(UsageError):
            _ = stream.reply
        ledger = await kit.session.ledger()
        attempt = await only_attempt(kit)
        assert attempt.state is AttemptState.FAILED
        assert attempt.cost is None
        assert attempt.charged_pico == attempt.max_cost_pico
        assert attempt.first_byte_us is not None
        assert attempt.estimate is not None
        assert attempt.estimate.usage.input_tokens > 0 < attempt.estimate.usage.output_tokens
        assert 0 < (attempt.estimate.pico or 0) < attempt.charged_pico
        assert_books_agree(ledger, studio)
        call = ledger.calls.get(attempt.call_id)
        assert call is not None
        assert (call.status, call.text) == (Status.FAILED, "".join(pieces))
        assert show_id(call.id) in str(caught.value)
        if target == ANTHROPIC:  # which tells its input at the start
            studio.sim.script([])
            assert attempt.estimate.usage.input_tokens == await input_tokens(kit, target)


async def test_a_refusal_in_mid_stream_is_told(studio: Studio) -> None:
    """A filter that cuts a stream ends the call even where the route would try the next target."""
    studio.configure(targets=ALL, route='on_content = "next"')
    studio.sim.script([{"fault": "reply.content_filter", "provider": "openai"}])
    async with studio.kit() as kit:
        stream = kit.stream(REF, WORDS)
        with pytest.raises(AllTargetsFailed) as caught:
            _ = [piece async for piece in stream]
        assert isinstance(caught.value, StreamCut)
        assert caught.value.text
        assert caught.value.attempts[0].fault is Fault.CONTENT
        assert studio.asked() == 1
        assert_books_agree(await kit.session.ledger(), studio)


async def given_up(studio: Studio, kit: AsyncPromptKit, pieces: list[str]) -> None:
    """What the books say of a stream that its reader left."""
    attempt = await only_attempt(kit)
    assert (attempt.state, attempt.fault) == (AttemptState.UNKNOWN, Fault.UNKNOWN_OUTCOME)
    assert (attempt.cost, attempt.usage) == (None, None)
    assert attempt.charged_pico == attempt.max_cost_pico
    assert attempt.estimate is not None
    assert attempt.estimate.usage.output_tokens > 0
    assert attempt.request_id
    ledger = await kit.session.ledger()
    call = ledger.calls.get(attempt.call_id)
    assert call is not None
    assert (call.status, (call.text or "").startswith("".join(pieces))) == (Status.FAILED, True)
    assert [scope.reserved_pico for scope in ledger.reports.budgets()] == [0] * len(ledger.reports.budgets())
    assert_books_agree(ledger, studio)


async def test_leaving_the_block_gives_it_up(studio: Studio) -> None:
    """A reader that breaks out of the loop ends the call at once: kept, estimated, charged at its ceiling."""
    for target in ALL:
        studio.sim.script([{"fault": "wire.stall_stream", "times": None}])
        async with studio.kit() as kit:
            pieces: list[str] = []
            async with kit.stream(REF, WORDS, targets=[target]) as stream:
                async for piece in stream:
                    pieces.append(piece)
                    break
            await given_up(studio, kit, pieces)
        (studio.folder / "promptkit.db").unlink()
        assert any("given up" in said or "stopped" in said for said in studio.said)


async def test_a_loop_that_is_left_gives_it_up(studio: Studio) -> None:
    """Without a block, a forgotten iterator ends its call as soon as it is collected."""
    studio.sim.script([{"fault": "wire.stall_stream"}])
    async with studio.kit() as kit:
        pieces: list[str] = []
        async for piece in kit.stream(REF, WORDS):
            pieces.append(piece)
            break
        gc.collect()
        ledger = await kit.session.ledger()
        await until(lambda: attempts_of(ledger)[0].state is not AttemptState.OPEN)
        await until(lambda: not any(scope.reserved_pico for scope in ledger.reports.budgets()))
        await given_up(studio, kit, pieces)


async def test_a_cancelled_reader_gives_it_up(studio: Studio) -> None:
    """A task that is cancelled while it reads leaves the same books; before the first word, too."""
    for fault in ("wire.stall_stream", "wire.stall"):
        studio.sim.script([{"fault": fault}])
        before = studio.asked()
        async with studio.kit() as kit:
            pieces: list[str] = []

            async def reads(kit: AsyncPromptKit = kit, pieces: list[str] = pieces) -> None:
                async for piece in kit.stream(REF, WORDS):
                    pieces.append(piece)  # noqa: PERF401 - it is seen while it comes

            reading = asyncio.create_task(reads())
            await until(lambda: bool(pieces) or (fault == "wire.stall" and studio.asked() > before))  # noqa: B023
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            if pieces:
                await given_up(studio, kit, pieces)
            else:
                attempt = await only_attempt(kit)
                assert (attempt.state, attempt.estimate) == (AttemptState.UNKNOWN, None)
        (studio.folder / "promptkit.db").unlink()


async def test_a_stream_that_stalls_runs_into_its_time_out(studio: Studio) -> None:
    """A stream that stops talking is cut by the provider's time-out, with what had come."""
    studio.configure(timeout_s=0.4)
    studio.sim.script([{"fault": "wire.stall_stream"}])
    async with studio.kit() as kit:
        with pytest.raises(StreamCut, match=r"no complete reply within 0\.4 s"):
            await read(kit)
        assert studio.asked() == 1


async def test_a_slow_reader_holds_nothing_up(studio: Studio) -> None:
    """A reader that takes longer than the provider's time-out still gets the whole text."""
    studio.configure(timeout_s=0.3)
    async with studio.kit() as kit, kit.stream(REF, WORDS) as stream:
        pieces: list[str] = []
        async for piece in stream:
            if not pieces:
                await asyncio.sleep(0.5)
            pieces.append(piece)
        assert stream.reply.text == "".join(pieces)


async def test_caps_hold_under_streams_that_are_given_up(studio: Studio) -> None:
    """Streams given up one after the other use up a cap by their ceilings, never less than the bill."""
    studio.configure(targets=[OPENAI], budgets="per_day_usd = 0.0006")
    studio.sim.script([{"fault": "wire.stall_stream", "times": None}])
    async with studio.kit() as kit:
        given = 0

        async def give_up(kit: AsyncPromptKit = kit) -> None:
            async with kit.stream(REF, WORDS) as stream:
                await anext(aiter(stream))

        with suppress(BudgetStop):
            while True:
                await give_up()
                given += 1
        assert 1 <= given <= 3
        ledger = await kit.session.ledger()
        [day] = [scope for scope in ledger.reports.budgets() if scope.scope.startswith("day:")]
        assert day.reserved_pico == 0
        assert studio.billed_pico <= day.spent_pico <= (day.cap_pico or 0)
        assert_books_agree(ledger, studio)


async def test_many_streams_at_once(studio: Studio) -> None:
    """Streams in parallel, some left early and some broken, leave books that agree with the bill."""
    studio.sim.script([{"fault": "wire.cut_stream", "every": 5, "times": None, "at": 0.7}])

    async def one(kit: AsyncPromptKit, number: int) -> str:
        try:
            async with kit.stream(REF, {"brand": f"B{number}"}, targets=[ALL[number % 3]]) as stream:
                async for _ in stream:
                    if number % 7 == 0:
                        return "left"
        except StreamCut as cut:
            return "cut" if cut.text else "nothing"
        return stream.reply.status

    async with studio.kit() as kit:
        ends = await asyncio.gather(*(one(kit, number) for number in range(42)))
        assert {"left", "cut", Status.OK} == set(ends)
        ledger = await kit.session.ledger()
        assert len(attempts_of(ledger)) == studio.asked() == 42
        assert_books_agree(ledger, studio)
        assert not any(scope.reserved_pico for scope in ledger.reports.budgets())


async def test_what_can_not_begin_sends_nothing(studio: Studio) -> None:
    """A wrong name or tag is raised where the stream is read, and a stream that nobody reads sends nothing."""
    async with studio.kit() as kit:
        with pytest.raises(TemplateNotFound):
            await anext(aiter(kit.stream("ad/nothing")))
        with pytest.raises(UsageError):
            await anext(aiter(kit.stream(REF, WORDS, route="nowhere")))
        async with kit.stream(REF, WORDS):
            pass
    assert studio.asked() == 0


@pytest.mark.parametrize("kept", ["none", "hash", "full"])
async def test_storage_is_respected(studio: Studio, kept: str) -> None:
    """What had come of a stream is kept as replies are: in full, as a digest, or not at all."""
    studio.configure(tables=f'[storage]\nreplies = "{kept}"', targets=[GEMINI])
    studio.sim.script([{"fault": "wire.cut_stream", "at": 0.7}])
    async with studio.kit() as kit:
        with pytest.raises(StreamCut) as caught:
            await read(kit)
        ledger = await kit.session.ledger()
        call = ledger.calls.get(ledger.calls.search()[0].id)
        assert call is not None
        assert call.text == (caught.value.text if kept == "full" else None)
        assert (call.text_sha256 is None) == (kept == "none")


async def test_the_embedded_model_streams(studio: Studio) -> None:
    """The embedded model speaks word by word, too, and can be left in mid-text."""
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    if weights_path(os.environ, Path.home()) is None:
        pytest.skip("the weights are not there: promptkit local fetch")
    async with studio.kit() as kit:
        async with kit.stream(REF, WORDS, route="demo") as stream:
            pieces = [piece async for piece in stream]
        assert len(pieces) > 1
        assert stream.reply.text == "".join(pieces)
        assert (stream.reply.cost_pico, str(stream.reply.target)) == (0, "local/smollm2-135m")
        async with kit.stream(REF, WORDS, route="demo") as stream:
            assert await anext(aiter(stream))
        ledger = await kit.session.ledger()
        assert attempts_of(ledger)[-1].state is AttemptState.UNKNOWN


async def test_a_streamed_reply_that_fails_its_checks_is_kept(studio: Studio) -> None:
    """What was read can't be asked for again: a reply that is not what was asked for is kept, and flagged."""
    studio.publish(
        '+++\n[checks]\non_failure = "retry"\nmax_words = 1\n+++\n{% message "user" %}One word.{% endmessage %}\n',
        "ad/checked",
    )
    async with studio.kit() as kit:
        async with kit.stream("ad/checked") as stream:
            pieces = [piece async for piece in stream]
        assert stream.reply.text == "".join(pieces)
        assert stream.reply.flags
        assert studio.asked() == 1

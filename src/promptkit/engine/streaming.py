"""An attempt on the wire: asked for whole, or read as it comes and passed on piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from promptkit import adapters
from promptkit.adapters import StreamDecoder
from promptkit.tokens import estimate_input_tokens, estimate_text_tokens
from promptkit.transport import StreamBroken, WireStream
from promptkit.types import Call, Failure, Fault, Outcome, Usage, WireBreak, WireRequest

from .lanes import Lane

Heard = Callable[[Mapping[str, str]], None]
"""Is told the headers of an answer, as soon as they are there."""

STOPPED: Final = "stopped while it was under way"


class Exchange:
    """A request that is sent and answered whole.

    Args:
        lane: where it goes.
        wire: what is sent.
        heard: is told the answer's headers.
    """

    def __init__(self, lane: Lane, wire: WireRequest, heard: Heard) -> None:
        self._lane = lane
        self._wire = wire
        self._heard = heard
        self._steady = asyncio.get_running_loop().time
        self._began_s = self._steady()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was sent."""
        return self._steady() - self._began_s

    @property
    def first_byte_s(self) -> float | None:
        """Seconds to the first word of a stream."""
        return None

    async def take(self) -> Outcome:
        """Send the request, and read what comes of it."""
        reply = await self._lane.transport.send(self._wire, self._lane.provider.timeout_s)
        if isinstance(reply, WireBreak):
            return adapters.from_break(reply)
        self._heard(reply.headers)
        return self._lane.adapter.decode(reply)

    def given_up(self) -> Failure:
        """What the going of its caller leaves."""
        return Failure(Fault.UNKNOWN_OUTCOME, STOPPED, billed=True)

    def usage_so_far(self, call: Call) -> Usage | None:
        """About what a stream has taken that ended before its usage was told; None where none began."""
        del call
        return None


class Streaming(Exchange):
    """A request whose answer is passed on as it comes.

    White space before the first word is held back: until that nothing has been shown, and the
    call can go on elsewhere without anybody's notice. Reasoning is never passed on.

    Args:
        lane: where it goes.
        wire: what is sent; it asks for a stream.
        heard: is told the answer's headers.
        listen: is told each piece of the text.
    """

    def __init__(self, lane: Lane, wire: WireRequest, heard: Heard, listen: Callable[[str], None]) -> None:
        super().__init__(lane, wire, heard)
        self._listen = listen
        self._decoder: StreamDecoder | None = None
        self._said: list[str] = []
        self._first_byte_s: float | None = None

    @property
    def first_byte_s(self) -> float | None:
        """Seconds to the first word; None where it never came."""
        return self._first_byte_s

    async def take(self) -> Outcome:
        """Send the request, and pass on what comes of it."""
        lane, broken = self._lane, None
        async with lane.transport.stream(self._wire, lane.provider.timeout_s) as start:
            if isinstance(start, WireBreak):
                return adapters.from_break(start)
            self._heard(start.headers)
            if not isinstance(start, WireStream):
                return lane.adapter.decode(start)
            self._decoder = lane.adapter.stream(start.headers)
            try:
                async for chunk in start.chunks:
                    self._pass_on(self._decoder.feed(chunk))
            except StreamBroken as error:
                broken = error.broken
        return self._marked(self._decoder.end(broken))

    def given_up(self) -> Failure:
        """What the going of its caller leaves: what had arrived, and what the answer said of itself."""
        lost = super().given_up()
        if self._decoder is None:
            return lost
        known = self._decoder.end(WireBreak(sent=True, detail=STOPPED))
        return replace(
            lost,
            status=200,
            usage=known.usage,
            served_model=known.served_model,
            tier=known.tier,
            request_id=known.request_id,
            text="".join(self._said),
            shown=self._first_byte_s is not None,
        )

    def usage_so_far(self, call: Call) -> Usage | None:
        """About what it has taken: what was sent, as far as it told its count, and what arrived."""
        if self._decoder is None:
            return None
        heard = estimate_text_tokens("".join(self._said))
        told = self._decoder.so_far()
        if told is None:
            return Usage(estimate_input_tokens(call.prompt, call.schema), heard)
        # A count that was told early stands still while the text goes on.
        return replace(told, output_tokens=max(told.output_tokens, told.reasoning_tokens + heard))

    def _pass_on(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self._said.append(piece)
            if self._first_byte_s is not None:
                self._listen(piece)
            elif piece.strip():
                self._first_byte_s = self.elapsed_s
                self._listen("".join(self._said))

    def _marked(self, outcome: Outcome) -> Outcome:
        """A failure after the first word can't be made good behind the caller's back."""
        if self._first_byte_s is None:
            return outcome
        if isinstance(outcome, Failure):
            return replace(outcome, text="".join(self._said), billed=True, shown=True)
        return replace(outcome, shown=True)

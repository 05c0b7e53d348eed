"""A static provider on loopback that costs next to nothing: it reads a request and writes fixed bytes.

    python benchmarks/static_server.py [PORT]

It answers OpenAI's Chat Completions and Responses at `/v1/...`; the first line it prints is its port.
"""

from __future__ import annotations

import asyncio
import json
import sys

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1795000000,
    "model": "gpt-6-luna",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Runners, the 4 pm slump is not a law." * 12,
                "refusal": None,
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 412,
        "completion_tokens": 96,
        "total_tokens": 508,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_1",
}
RESPONSES = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1795000000,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": 600,
    "model": "gpt-6-luna",
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [
                {
                    "type": "output_text",
                    "text": "Runners, the 4 pm slump is not a law." * 12,
                    "annotations": [],
                }
            ],
        }
    ],
    "parallel_tool_calls": True,
    "service_tier": "default",
    "store": False,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 412,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 96,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 508,
    },
}


def _answer(body: object) -> bytes:
    data = json.dumps(body).encode()
    head = (
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


class Static(asyncio.Protocol):
    """One connection: as many answers as requests, in order."""

    chat = _answer(CHAT)
    responses = _answer(RESPONSES)

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            assert self._transport is not None
            self._transport.write(self.chat if b"/chat/" in head.split(b"\r\n", 1)[0] else self.responses)


async def main() -> None:
    """Serve until killed."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = await asyncio.get_running_loop().create_server(Static, "127.0.0.1", port, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

"""What the tests of this room share: the fixtures as replies, and calls to encode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.test_utils import BaseTestServer

from promptkit.providers.adapter import Adapter
from promptkit.providers.wire_formats import ADAPTERS
from promptkit.types import Call, Message, Outcome, Params, Prompt, Provider, Role, TemplateRef, WireReply

FIXTURES: Final = Path(__file__).parent / "fixtures"

FORMATS: Final = {
    "openai_responses": ("openai", "responses"),
    "openai_chat": ("openai", "chat"),
    "anthropic_messages": ("anthropic", "messages"),
    "gemini_generate": ("gemini", "generate"),
}

HEADERS: Final = {
    "openai": {"x-request-id": "req_header", "content-type": "application/json"},
    "anthropic": {"request-id": "req_header", "content-type": "application/json"},
    "gemini": {"x-gemini-service-tier": "standard", "content-type": "application/json"},
}


def fixture_names(ending: str) -> list[str]:
    """All fixtures of an ending, as `format/name`."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in FIXTURES.glob(f"*/*{ending}"))


def adapter_of(name: str) -> Adapter:
    return ADAPTERS[FORMATS[name.split("/", maxsplit=1)[0]]]


def headers_of(name: str) -> dict[str, str]:
    return HEADERS[FORMATS[name.split("/", maxsplit=1)[0]][0]]


def decode(name: str) -> Outcome:
    """Decode a whole reply."""
    body = (FIXTURES / f"{name}.json").read_bytes()
    return adapter_of(name).decode(WireReply(200, headers_of(name), body))


def decode_stream(name: str, *, piece: int = 1 << 20) -> tuple[list[str], Outcome]:
    """Decode a stream cut into pieces of so many bytes; its texts and its outcome."""
    raw = (FIXTURES / f"{name}.sse").read_bytes()
    decoder = adapter_of(name).stream(headers_of(name))
    texts: list[str] = []
    for start in range(0, len(raw), piece):
        texts += decoder.feed(raw[start : start + piece])
    return texts, decoder.end()


def prompt(*said: tuple[Role, str]) -> Prompt:
    messages = tuple(Message(role, content) for role, content in said)
    return Prompt(messages, "sha256:0", TemplateRef("ugc/script", "1"), "1:sha256:0")


SYSTEM_AND_USER: Final = prompt((Role.SYSTEM, "You write hooks."), (Role.USER, "Café « Barly » 😀"))


def call(params: Params | None = None, asked: Prompt = SYSTEM_AND_USER) -> Call:
    return Call(asked, params or Params(max_output_tokens=600))


def provider(family: str, api: str) -> Provider:
    return Provider("p", family, api, family)


class Replay:
    """Answers every request with the reply that was put in last; keeps what was asked."""

    def __init__(self) -> None:
        self._reply = (500, dict[str, str](), b"")
        self.asked = b""
        self.path = ""
        self.server: BaseTestServer | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return str(self.server.make_url("")).rstrip("/")

    def put(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        self._reply = (status, dict(headers), body)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked = await request.read()
        self.path = request.path_qs
        status, headers, body = self._reply
        return web.Response(status=status, headers=headers, body=body)

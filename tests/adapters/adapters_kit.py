"""What the tests of this room share: the fixtures as replies, and calls to encode."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from promptkit.adapters import ADAPTERS, Adapter
from promptkit.types import (
    Call,
    Message,
    Outcome,
    Params,
    Prompt,
    Provider,
    Role,
    TemplateRef,
    WireReply,
)

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

"""Opening the SDKs' clients: they ask for models over the wire that takes the calls, with their headers."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from promptkit.providers import http
from promptkit.providers.transport import open_transport
from promptkit.types import Provider

KEY = "key-of-the-tests"
MODEL = {"id": "m1", "object": "model", "created": 1, "owned_by": "x", "type": "model"}
ANTHROPIC_MODEL = {**MODEL, "display_name": "M", "created_at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("sdk", "body", "path", "header"),
    [
        ("openai", {"object": "list", "data": [MODEL]}, "/v9/models", "authorization"),
        ("anthropic", {"data": [ANTHROPIC_MODEL], "has_more": False}, "/v9/v1/models", "authorization"),
        ("google-genai", {"models": [{"name": "models/m1"}]}, "/v9/v1beta/models", "x-goog-api-key"),
    ],
)
async def test_a_client_lists_the_models_of_its_provider(
    sdk: str, body: dict[str, Any], path: str, header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the provider's address, by its key; no request leaves this test."""
    requests: list[httpx2.Request] = []

    async def handle(_wire: object, request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(200, json=body, request=request)

    monkeypatch.setattr(http.Wire, "handle_async_request", handle)
    transport = open_transport(Provider("p", "a", "x", sdk, "http://127.0.0.1:1/v9"), KEY)
    assert await transport.models() == ["m1"]
    await transport.aclose()
    assert [request.url.path for request in requests] == [path]
    assert KEY in requests[0].headers[header]

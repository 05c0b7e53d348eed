"""The openai package: OpenAI itself and every provider that speaks its format."""

from __future__ import annotations

import httpx2
import openai

from promptkit.types import Provider

from .headers import allowed, checked, rule
from .http import HttpTransport, Sdk
from .wire import Wire


def open_openai(provider: Provider, key: str | None) -> HttpTransport:
    """Open a client of the openai package; it neither retries nor follows redirects."""
    may_send = rule(provider, key)
    wire = Wire(connect_timeout_s=provider.connect_timeout_s, may_send=may_send)
    http = openai.DefaultAioHttpClient(
        transport=wire,
        trust_env=False,  # the wire minds the proxies
        follow_redirects=False,
    )
    sdk = openai.AsyncOpenAI(
        api_key=checked(key, provider), base_url=provider.base_url, http_client=http, max_retries=0
    )

    async def list_models() -> list[str]:
        return [model.id async for model in sdk.models.list()]

    return HttpTransport(
        wire=wire,
        base_url=str(sdk.base_url),
        headers=allowed({**sdk.default_headers, **sdk.auth_headers}, may_send),
        sdk=Sdk(http, list_models, _replied),
        key=key,
    )


def _replied(error: Exception) -> httpx2.Response | None:
    return error.response if isinstance(error, openai.APIStatusError) else None

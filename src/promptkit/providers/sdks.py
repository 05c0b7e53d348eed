"""The openai package: OpenAI itself and every provider that speaks its format."""

from __future__ import annotations

import anthropic
import httpx2
import openai
from google import genai
from google.genai import errors, types

from promptkit.types import Provider

from .http import HttpTransport, Sdk, Wire, allowed, checked, rule


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


_PAGE = 1000  # the most that one page of models may hold


def open_anthropic(provider: Provider, key: str | None) -> HttpTransport:
    """Open a client of the anthropic package; it neither retries nor follows redirects."""
    may_send = rule(provider, key)
    wire = Wire(connect_timeout_s=provider.connect_timeout_s, may_send=may_send)
    http = anthropic.DefaultAioHttpClient(
        transport=wire,
        trust_env=False,  # the wire minds the proxies
        follow_redirects=False,
    )
    sdk = anthropic.AsyncAnthropic(
        api_key=checked(key, provider), base_url=provider.base_url, http_client=http, max_retries=0
    )

    async def list_models() -> list[str]:
        return [model.id async for model in sdk.models.list(limit=_PAGE)]

    return HttpTransport(
        wire=wire,
        base_url=str(sdk.base_url),
        headers=allowed({**sdk.default_headers, **sdk.auth_headers}, may_send),
        sdk=Sdk(http, list_models, _anthropic_sdk_replied),
        key=key,
    )


def _anthropic_sdk_replied(error: Exception) -> httpx2.Response | None:
    return error.response if isinstance(error, anthropic.APIStatusError) else None


_VERSION = "v1beta"


def open_genai(provider: Provider, key: str | None) -> HttpTransport:
    """Open a client of the google-genai package; it neither retries nor follows redirects."""
    may_send = rule(provider, key)
    wire = Wire(connect_timeout_s=provider.connect_timeout_s, may_send=may_send)
    http = httpx2.AsyncClient(transport=wire, trust_env=False, follow_redirects=False)
    asked: list[httpx2.Request] = []

    def record(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json={"models": []})

    sdk = genai.Client(
        api_key=checked(key, provider),
        vertexai=False,  # else GOOGLE_GENAI_USE_VERTEXAI decides
        http_options=types.HttpOptions(
            base_url=provider.base_url,
            api_version=provider.api_version or _VERSION,
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_client=httpx2.Client(transport=httpx2.MockTransport(record)),
            httpx_async_client=http,
        ),
    )
    sdk.models.list()
    address = str(asked[0].url.copy_with(query=None))

    async def list_models() -> list[str]:
        models = await sdk.aio.models.list(config=types.ListModelsConfig(page_size=1000))
        return [(model.name or "").removeprefix("models/") async for model in models]

    return HttpTransport(
        wire=wire,
        base_url=address.removesuffix("/models"),
        headers=allowed(asked[0].headers, lambda name: name not in _OWN and may_send(name)),
        sdk=Sdk(http, list_models, _genai_sdk_replied),
        key=key,
    )


_OWN = frozenset(("host", "connection", "content-length", "accept-encoding", "accept"))
"""What the wire says by itself, for each request anew."""


def _genai_sdk_replied(error: Exception) -> httpx2.Response | None:
    response: object = getattr(error, "response", None) if isinstance(error, errors.APIError) else None
    return response if isinstance(response, httpx2.Response) else None

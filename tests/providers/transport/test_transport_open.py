"""Opening a client: which package, which headers, which key; and asking for the models."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from loopback_peer import KEY, Exchange, Opener, Peer, answers, provider_of, reply

from promptkit.errors import ConfigError
from promptkit.providers.transport import DRIVERS, open_transport
from promptkit.types import TransportFailure, WireReply, WireRequest

REQUEST = WireRequest("/ask", b"{}")
STRAY = {
    "OPENAI_API_KEY": "stray-key-1",
    "OPENAI_ADMIN_KEY": "stray-key-2",
    "OPENAI_ORG_ID": "stray-org",
    "OPENAI_PROJECT_ID": "stray-project",
    "OPENAI_CUSTOM_HEADERS": "X-Gateway: stray-token",
    "ANTHROPIC_API_KEY": "stray-key-3",
    "ANTHROPIC_AUTH_TOKEN": "stray-key-4",
    "ANTHROPIC_CUSTOM_HEADERS": "X-Gateway: stray-token",
    "GEMINI_API_KEY": "stray-key-5",
    "GOOGLE_API_KEY": "stray-key-6",
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
}


@pytest.fixture
def stray(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment full of what should not go anywhere by itself."""
    for name, value in STRAY.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("stray")
async def test_without_a_key_none_is_sent(sdk: str, peer: Peer, opener: Opener) -> None:
    """No SDK may take one from the environment instead: its host may not be meant to have it."""
    if sdk == "google-generativeai":  # it can't go without one
        with pytest.raises(ConfigError, match="needs a key"):
            opener(peer.url, key=None)
        return
    transport = opener(peer.url, key=None)
    await transport.send(REQUEST, 60)
    await transport.models()
    assert len(peer.requests) == 2
    for request in peer.requests:
        head = request.lower()
        assert b"stray" not in head
        assert b"no-key" not in head
        assert b"authorization" not in head
        assert b"api-key" not in head


@pytest.mark.usefixtures("stray")
async def test_another_provider_gets_its_own_key_only(peer: Peer, opener: Opener) -> None:
    """Organisation, project and a gateway's headers are for the SDK's own provider."""
    transport = opener(peer.url, name="elsewhere")
    await transport.send(REQUEST, 60)
    await transport.models()
    for request in peer.requests:
        assert KEY.encode() in request
        assert b"stray" not in request


@pytest.mark.usefixtures("stray")
async def test_the_sdks_own_provider_gets_what_the_user_set(peer: Peer) -> None:
    transport = open_transport(provider_of("openai", peer.url), KEY)
    await transport.send(REQUEST, 60)
    await transport.aclose()
    assert b"OpenAI-Organization: stray-org" in peer.requests[0]


_LISTS = {
    "openai": {"object": "list", "data": [{"id": "m1", "object": "model", "created": 1, "owned_by": "x"}]},
    "anthropic": {
        "data": [{"id": "m1", "type": "model", "display_name": "M", "created_at": "2026-01-01T00:00:00Z"}],
        "has_more": False,
        "first_id": "m1",
        "last_id": "m1",
    },
    "google-genai": {"models": [{"name": "models/m1"}]},
    "google-generativeai": {"models": [{"name": "models/m1"}]},
}


async def test_models_are_listed_through_the_sdk(sdk: str, peer: Peer, opener: Opener) -> None:
    """A GET with the key, at the SDK's own path."""
    peer.script = answers(reply(json.dumps(_LISTS[sdk]).encode()))
    assert await opener(peer.url).models() == ["m1"]
    assert peer.requests[0].startswith(b"GET /")
    assert KEY.encode() in peer.requests[0]


async def test_a_refused_key_is_a_reply(sdk: str, peer: Peer, opener: Opener) -> None:
    """Status, headers and body as they came; the question is free, and asked once but by google-auth."""
    peer.script = answers(reply(b'{"error": {"message": "no", "code": 401}}', 401, "X-Request-Id: r1"))
    answer = await opener(peer.url).models()
    assert isinstance(answer, WireReply)
    assert answer.status == 401
    assert answer.headers["x-request-id"] == "r1"
    assert json.loads(answer.body)["error"]["message"] == "no"
    assert len(peer.requests) == (3 if sdk == "google-generativeai" else 1)


async def test_models_that_are_no_json_are_a_break(peer: Peer, opener: Opener) -> None:
    peer.script = answers(reply(b"<html>"))
    assert isinstance(await opener(peer.url).models(), TransportFailure)


async def test_models_of_nobody_are_a_break(free_port: int, opener: Opener) -> None:
    broken = await opener(f"http://127.0.0.1:{free_port}").models()
    assert isinstance(broken, TransportFailure)
    assert "Connect" in broken.detail
    assert KEY not in broken.detail


async def test_models_of_a_server_that_hangs_up_are_a_break(peer: Peer, opener: Opener) -> None:
    async def hang_up(exchange: Exchange) -> None:
        await exchange.request()

    peer.script = hang_up
    assert isinstance(await opener(peer.url).models(), TransportFailure)


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "“quoted”"])
def test_a_key_that_no_header_carries_is_refused(key: str, opener: Opener) -> None:
    """At the opening, without showing it."""
    with pytest.raises(ConfigError, match="the key of") as caught:
        opener("http://127.0.0.1:1", key=key)
    assert not key or key not in str(caught.value)


def test_an_unknown_driver_is_named() -> None:
    with pytest.raises(ConfigError, match="no driver for sdk = 'nope'"):
        open_transport(provider_of("nope", "http://127.0.0.1:1"), KEY)


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DRIVERS, "google-generativeai", "no_such_package.driver:open")
    with pytest.raises(ConfigError, match="no_such_package") as caught:
        open_transport(provider_of("google-generativeai", "http://127.0.0.1:1"), KEY)
    assert caught.value.remedy == "pip install 'promptkit-router[google-generativeai]'"


def test_other_packages_may_bring_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the entry point group `promptkit.transports`."""
    info = tmp_path / "carrier-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[promptkit.transports]\npigeon = carrier_pigeon:fly\n")
    (tmp_path / "carrier_pigeon.py").write_text("def fly(provider, key):\n    return provider.name, key\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert open_transport(provider_of("pigeon", "", name="loft"), "k") == ("loft", "k")


_PACKAGES = ("openai", "anthropic", "google.genai", "aiohttp", "httpx2")


@pytest.mark.parametrize(
    ("sdk", "loaded"),
    [
        (None, set[str]()),
        ("openai", {"openai", "aiohttp", "httpx2"}),
        ("anthropic", {"anthropic", "aiohttp", "httpx2"}),
        ("google-genai", {"google.genai", "aiohttp", "httpx2"}),
    ],
)
def test_an_sdk_is_imported_only_when_it_is_opened(sdk: str | None, loaded: set[str]) -> None:
    code = "import sys, promptkit.providers.transport as t\n"
    if sdk is not None:
        code += "from promptkit.types import Provider\n"
        code += f"t.open_transport(Provider('p', 'a', 'x', {sdk!r}, 'http://127.0.0.1:1'), 'k')\n"
    code += f"print([name for name in {_PACKAGES!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert set(json.loads(done.stdout.replace("'", '"'))) == loaded
    assert done.stderr == ""


def test_the_ended_package_speaks_one_version() -> None:
    provider = dataclasses.replace(provider_of("google-generativeai", "http://127.0.0.1:1"), api_version="v1")
    if find_spec("google.generativeai") is None:
        pytest.skip("the extra `google-generativeai` is not installed")
    with pytest.raises(ConfigError, match="supports v1beta only"):
        open_transport(provider, KEY)


@pytest.mark.usefixtures("stray")
async def test_an_address_of_a_projects_choice_gets_nothing_of_the_users(peer: Peer) -> None:
    """A hostile project may bring a key of its own: the user's organisation and headers stay home."""
    provider = dataclasses.replace(provider_of("openai", peer.url), trusted=False)
    transport = open_transport(provider, KEY)
    await transport.send(REQUEST, 60)
    await transport.aclose()
    assert KEY.encode() in peer.requests[0]
    assert b"stray" not in peer.requests[0]

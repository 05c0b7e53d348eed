"""Where a key may go: the decision as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.config.keys import Origin, Trust, host_of, is_loopback, key_refusal, url_problem
from promptkit.types import Provider


def provider(name: str, url: str | None, variable: str | None) -> Provider:
    return Provider(name, "openai", "chat", "openai", base_url=url, api_key_env=variable)


SHIPPED = [
    provider("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    provider("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    provider("vllm", "http://127.0.0.1:8000/v1", None),
    provider("local", None, None),
]
TRUST = Trust.of(SHIPPED, hosts=["LLM.example.com"], variables=["TOGETHER_API_KEY"])
OWN, PROJECT = Origin.USER, Origin.PROJECT

GOES = None
HTTP, FOREIGN_KEY, FOREIGN_HOST = "http", "trusted_keys", "trusted_hosts"

TABLE = [
    # the key's variable, where it would go, whose key it is, why it doesn't go
    ("OPENAI_API_KEY", "https://api.openai.com/v1", OWN, GOES),
    ("OPENAI_API_KEY", "https://API.OpenAI.com./v2", OWN, GOES),
    ("OPENAI_API_KEY", "https://api.openai.com:8443/v1", OWN, GOES),
    ("OPENAI_API_KEY", "http://api.openai.com/v1", OWN, HTTP),
    ("OPENAI_API_KEY", "https://evil.example/v1", OWN, FOREIGN_HOST),
    ("OPENAI_API_KEY", "https://api.openai.com.evil.example/v1", OWN, FOREIGN_HOST),
    ("OPENAI_API_KEY", "https://evil.example/api.openai.com", OWN, FOREIGN_HOST),
    ("OPENAI_API_KEY", "https://api.openai.com%2eevil.example/v1", OWN, FOREIGN_HOST),
    # the key of one provider isn't sent to another
    ("OPENAI_API_KEY", "https://api.anthropic.com", OWN, FOREIGN_HOST),
    ("ANTHROPIC_API_KEY", "https://api.openai.com/v1", OWN, FOREIGN_HOST),
    # this machine gets keys of providers, and no other secrets of the environment
    ("OPENAI_API_KEY", "http://127.0.0.1:8090/v1", OWN, GOES),
    ("OPENAI_API_KEY", "http://localhost:8090/v1", OWN, GOES),
    ("OPENAI_API_KEY", "http://[::1]:8090/v1", OWN, GOES),
    ("OPENAI_API_KEY", "http://127.0.0.1.evil.example/v1", OWN, HTTP),
    ("OPENAI_API_KEY", "https://localhost.evil.example/v1", OWN, FOREIGN_HOST),
    ("OPENAI_API_KEY", "http://0.0.0.0:8090/v1", OWN, HTTP),
    ("AWS_SECRET_ACCESS_KEY", "http://127.0.0.1:8090/v1", OWN, FOREIGN_KEY),
    ("AWS_SECRET_ACCESS_KEY", "https://api.openai.com/v1", OWN, FOREIGN_KEY),
    # what the user trusts
    ("OPENAI_API_KEY", "https://llm.example.com/v1", OWN, GOES),
    ("OPENAI_API_KEY", "http://llm.example.com/v1", OWN, HTTP),
    ("AWS_SECRET_ACCESS_KEY", "https://llm.example.com/v1", OWN, FOREIGN_KEY),
    ("TOGETHER_API_KEY", "https://llm.example.com/v1", OWN, GOES),
    ("TOGETHER_API_KEY", "https://api.together.example/v1", OWN, FOREIGN_HOST),
    # a project's own key is the project's to send, but not in the open
    ("OPENAI_API_KEY", "https://gateway.example/v1", PROJECT, GOES),
    ("ANYTHING", "https://gateway.example/v1", PROJECT, GOES),
    ("ANYTHING", "http://10.0.0.7:8000/v1", PROJECT, HTTP),
    ("ANYTHING", "http://127.0.0.1:8000/v1", PROJECT, GOES),
]


@pytest.mark.parametrize(("variable", "url", "place", "why"), TABLE)
def test_where_a_key_may_go(variable: str, url: str, place: Origin, why: str | None) -> None:
    """A config file in the working directory can't send a key to a host of its choosing."""
    refusal = key_refusal(variable, url, place, TRUST)
    if why is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert why in refusal
        assert variable in refusal
        assert host_of(url) in refusal


def test_two_providers_may_share_a_key() -> None:
    """A variable belongs to every host that the user's own side names for it."""
    trust = Trust.of([*SHIPPED, provider("mirror", "https://mirror.example", "OPENAI_API_KEY")])
    for url in ("https://mirror.example", "https://api.openai.com"):
        assert key_refusal("OPENAI_API_KEY", url, OWN, trust) is None


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_no_address_gets_a_key_of_the_environment_by_its_looks(tail: str) -> None:
    """Whatever stands in a URL, a key goes to the very host of its provider, or to this machine."""
    url = f"https://{tail}"
    if url_problem(url) is None and key_refusal("ANTHROPIC_API_KEY", url, OWN, TRUST) is None:
        host = host_of(url)
        assert host in {"api.anthropic.com", "llm.example.com"} or is_loopback(host)


@pytest.mark.parametrize(
    "url",
    ["https://api.openai.com/v1", "http://127.0.0.1:8090", "http://[::1]:1/v1", "HTTPS://A.example"],
)
def test_a_plain_address_has_no_problem(url: str) -> None:
    """An address is a scheme, a host, perhaps a port and a path."""
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://user:canary@api.openai.com/v1", "name or password"),
        ("https://api.openai.com\\@evil.example", "name or password"),
        ("https://api.openai.com\\evil", "character"),
        ("https://api.openai.com/v1?key=canary", "query"),
        ("https://api.openai.com/v1#canary", "fragment"),
        ("https://api.openai.com/v1\nX-Canary: 1", "character"),
        ("https://api.openai.com/\u0660", "character"),
        ("ftp://api.openai.com", "not an address"),
        ("api.openai.com/v1", "not an address"),
        ("https://", "not an address"),
        ("https://[::1", "not an address"),
        ("https://host:port/", "not an address"),
        ("", "not an address"),
    ],
)
def test_an_odd_address_is_refused_unrepeated(url: str, problem: str) -> None:
    """Where two URL parsers could disagree about the host, there is no URL; nothing of it is repeated."""
    found = url_problem(url)
    assert found is not None
    assert problem in found
    assert "canary" not in found

"""Reading provider files."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from promptkit._util import toml
from promptkit.config.provider_files import read_provider
from promptkit.errors import ConfigError
from promptkit.types import Checked, Limits, Model, OnReject, PriceOverride, Provider, Reasoning

WHOLE = """\
adapter = "openai"
api = "chat"
base_url = "https://llm.example.com/v1/"
base_url_env = "EXAMPLE_BASE_URL"
api_key_env = "EXAMPLE_API_KEY"
checked = 2026-11-22
checked_how = "simulator"
open_models = true
price_provider = "example"
max_tokens_field = "max_tokens"
connect_timeout_s = 2.5
timeout_s = 60
[limits]
requests_per_minute = 500
requests_per_day = 1000
input_tokens_per_minute = 200000
output_tokens_per_minute = 100000
concurrency = 64
[open_model]
rejects = ["top_k"]
[[models]]
id = "vendor/one"
context_window = 400000
max_output_tokens = 128000
rejects = ["temperature", "top_p"]
on_reject = "refuse"
reasoning = { off = 0, low = "low" }
price_ref = "one"
[models.price]
input_mtok = 0.10
output_mtok = 0.50
cache_read_mtok = 0.01
[[models]]
id = "two"
"""
SMALL = 'adapter = "openai"\nbase_url = "https://llm.example.com"\n'


def read(text: str, base: Provider | None = None, name: str = "example") -> Provider:
    return read_provider(name, toml.parse(text, file="example.toml"), base)


def refused(text: str, base: Provider | None = None, name: str = "example") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(text, base, name)
    return caught.value


def test_a_whole_file() -> None:
    """Every key of a provider file arrives in the Provider; rates stay exact."""
    assert read(WHOLE) == Provider(
        name="example",
        adapter="openai",
        api="chat",
        sdk="openai",
        base_url="https://llm.example.com/v1",
        base_url_env="EXAMPLE_BASE_URL",
        api_key_env="EXAMPLE_API_KEY",
        checked=Checked.SIMULATOR,
        checked_on=date(2026, 11, 22),
        limits=Limits(500, 1000, 200_000, 100_000, 64),
        models={
            "vendor/one": Model(
                "vendor/one",
                400_000,
                128_000,
                frozenset({"temperature", "top_p"}),
                OnReject.REFUSE,
                {Reasoning.OFF: 0, Reasoning.LOW: "low"},
                PriceOverride(Decimal("0.10"), Decimal("0.50"), Decimal("0.01")),
                "one",
            ),
            "two": Model("two"),
        },
        open_models=True,
        open_model=Model("", rejects=frozenset({"top_k"})),
        price_provider="example",
        max_tokens_field="max_tokens",
        connect_timeout_s=2.5,
        timeout_s=60.0,
    )


@pytest.mark.parametrize(
    ("adapter", "api", "sdk"),
    [
        ("openai", "responses", "openai"),
        ("anthropic", "messages", "anthropic"),
        ("gemini", "generate", "google-genai"),
    ],
)
def test_an_adapter_brings_its_defaults(adapter: str, api: str, sdk: str) -> None:
    """Without `api` and `sdk`, the adapter's first format and its official SDK are meant."""
    provider = read(f'adapter = "{adapter}"\nbase_url = "https://llm.example.com"')
    assert (provider.api, provider.sdk, provider.checked) == (api, sdk, Checked.DOCS)


def test_the_embedded_model_has_no_address() -> None:
    """The local adapter runs in this process."""
    assert read('adapter = "local"').base_url is None
    error = refused('adapter = "local"\nbase_url = "http://127.0.0.1:1"')
    assert (error.line, "no base_url" in error.message) == (2, True)


def test_single_keys_change_a_known_provider() -> None:
    """Keys that an override doesn't give stay; limits and models are merged key by key."""
    base = read(WHOLE)
    changed = read(
        """\
        api_key_env = ""
        [limits]
        concurrency = 2
        [[models]]
        id = "vendor/one"
        reasoning = { high = "max" }
        price = { output_mtok = 1 }
        [[models]]
        id = "three"
        """,
        base,
    )
    assert changed.base_url == base.base_url
    assert changed.api_key_env is None
    assert changed.limits == Limits(500, 1000, 200_000, 100_000, 2)
    assert list(changed.models) == ["vendor/one", "two", "three"]
    one = changed.models["vendor/one"]
    assert one.context_window == 400_000
    assert one.reasoning == {Reasoning.OFF: 0, Reasoning.LOW: "low", Reasoning.HIGH: "max"}
    assert one.price == PriceOverride(Decimal("0.10"), Decimal(1), Decimal("0.01"))
    assert changed.open_model == base.open_model


def test_another_adapter_brings_its_own_defaults() -> None:
    """A changed adapter doesn't keep the format and SDK of the old one."""
    changed = read('adapter = "anthropic"', read(WHOLE))
    assert (changed.api, changed.sdk) == ("messages", "anthropic")


@pytest.mark.parametrize(
    ("text", "line", "what", "remedy"),
    [
        ('base_url = "https://a.example"', None, "adapter is missing", None),
        ('adapter = "openai"', None, "base_url is missing", None),
        ('adapter = "opnai"', 1, "adapter can't be 'opnai'", "'openai'"),
        (SMALL + 'api = "messages"', 3, "api can't be 'messages'", "responses"),
        (SMALL + 'sdk = "anthropic"', 3, "sdk can't be 'anthropic'", "openai"),
        (SMALL + 'max_tokens_field = "tokens"', 3, "max_tokens_field can't be", "max_"),
        (SMALL + 'base_ulr = "x"', 3, "unknown key base_ulr", "'base_url'"),
        (SMALL + 'api_key_env = "sk-canary/../x"', 3, "name of an environment variable", "OPENAI_API_KEY"),
        (SMALL + 'base_url_env = "a b"', 3, "name of an environment variable", None),
        ('adapter = "openai"\nbase_url = "https://me:canary@a.example"', 2, "name or password", None),
        (SMALL + "timeout_s = 0", 3, "timeout_s must be at least", None),
        (SMALL + "connect_timeout_s = true", 3, "must be a number", None),
        (SMALL + 'checked = "yesterday"', 3, "must be a date", None),
        (SMALL + 'checked_how = "hope"', 3, "checked_how can't be 'hope'", "docs only"),
        (SMALL + "limits = { concurrency = 0 }", 3, "at least 1", None),
        (SMALL + "[limits]\nrequests_per_second = 1", 4, "unknown key limits.requests", "requests_per_"),
        (SMALL + "[[models]]\ncontext_window = 1", 3, "models.id is missing", None),
        (SMALL + '[[models]]\nid = ""', 4, "empty or given twice", None),
        (SMALL + '[[models]]\nid = "a"\n[[models]]\nid = "a"', 6, "empty or given twice", None),
        (SMALL + '[[models]]\nid = "a"\nrejects = ["temprature"]', 5, "'temprature'", "'temperature'"),
        (SMALL + '[[models]]\nid = "a"\nrejects = ["max_output_tokens"]', 5, "is not a parameter", None),
        (SMALL + '[[models]]\nid = "a"\non_reject = "shrug"', 5, "can't be 'shrug'", "drop"),
        (SMALL + '[[models]]\nid = "a"\n[models.reasoning]\nlow = true', 6, "provider's word", None),
        (SMALL + '[[models]]\nid = "a"\n[models.reasoning]\nlow = 1.5', 6, "provider's word", None),
        (SMALL + '[[models]]\nid = "a"\n[models.reasoning]\nmax = "max"', 6, "unknown key", "low"),
        (SMALL + '[[models]]\nid = "a"\n[models.price]\ninput_mtok = 1', 5, "output_mtok is missing", None),
        (SMALL + '[[models]]\nid = "a"\n[models.price]\ninput_mtok = -1', 6, "at least 0", None),
        (SMALL + '[[models]]\nid = "a"\n[models.price]\ninput = -1', 5, "input_mtok is missing", None),
        (SMALL + '[open_model]\nid = "a"', 4, "unknown key open_model.id", None),
    ],
)
def test_every_complaint_has_file_line_and_remedy(
    text: str, line: int | None, what: str, remedy: str | None
) -> None:
    """A provider file that can't stand is refused by file and line, with the closest word."""
    error = refused(text)
    assert error.file == "example.toml"
    assert error.line == line
    assert what in error.message
    assert (remedy or "") in (error.remedy or "")
    assert "canary" not in str(error)


@pytest.mark.parametrize("name", ["", "OpenAI", "a/b", "../a", "a b"])
def test_a_name_is_plain(name: str) -> None:
    """A provider's name is the first part of a target: lower case, without a slash."""
    assert "is not a name of a provider" in refused(SMALL, name=name).message


def test_a_model_may_have_limits_of_its_own() -> None:
    """Laid over one by one like a provider's; a model without any has none."""
    text = SMALL + '[[models]]\nid = "a"\n[models.limits]\nrequests_per_minute = 60\n[[models]]\nid = "b"\n'
    provider = read(text)
    assert provider.models["a"].limits == Limits(requests_per_minute=60)
    assert provider.models["b"].limits is None
    over = '[[models]]\nid = "a"\n[models.limits]\nconcurrency = 2\n'
    assert read(over, provider).models["a"].limits == Limits(requests_per_minute=60, concurrency=2)
    assert "concurency" in str(refused(text.replace("requests_per_minute", "concurency")))

"""Invariant 8: a folder that somebody else prepared can't send the user's keys away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from config_machine import Machine

from promptkit.config.settings import Settings
from promptkit.errors import ConfigError

CANARY = "sk-canary-of-the-user"
ENV = {
    "OPENAI_API_KEY": CANARY,
    "ANTHROPIC_API_KEY": f"{CANARY}-2",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}-3",
}
EVIL = 'adapter = "openai"\napi = "chat"\nbase_url = "https://evil.example"\napi_key_env = '


def sent(settings: Settings, name: str = "openai") -> str | None:
    """The key that would go out."""
    return settings.keys.get(settings.catalog.provider(name))


def why(settings: Settings, name: str = "openai") -> str:
    return settings.catalog.provider(name).key_why


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("openai", '[providers.openai]\nbase_url = "https://evil.example"'),
        ("openai", '[providers.openai]\nbase_url = "http://evil.example"'),
        ("openai", '[providers.openai]\nbase_url = "https://api.openai.com.evil.example/v1"'),
        ("openai", '[providers.openai]\nbase_url = "http://api.openai.com/v1"'),
        ("openai", '[providers.openai]\napi_key_env = "ANTHROPIC_API_KEY"'),
        ("openai", '[providers.openai]\napi_key_env = "AWS_SECRET_ACCESS_KEY"'),
        ("ollama", '[providers.ollama]\napi_key_env = "AWS_SECRET_ACCESS_KEY"'),
        ("evil", f'[providers.evil]\n{EVIL}"OPENAI_API_KEY"'),
        ("evil", f'[providers.evil]\n{EVIL}"AWS_SECRET_ACCESS_KEY"'),
        ("overlay", 'provider_folders = ["overlay"]'),
        ("openai", 'env_file = "moves.env"'),
        ("openai", 'env_file = "linked.env"\n[providers.openai]\nbase_url = "https://evil.example"'),
        ("openai", 'env_file = "../other/.env"\n[providers.openai]\nbase_url = "https://evil.example"'),
        ("openai", 'env_file = "linked/.env"\n[providers.openai]\nbase_url = "https://evil.example"'),
        ("openai", '[providers.openai]\nbase_url_env = "EVIL_BASE_URL"'),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_hostile_folder_gets_no_key(machine: Machine, name: str, config: str, *, named: bool) -> None:
    """No file of a hostile folder, found or named, sends a key of the user to its host."""
    other = machine.project.parent / "other"
    other.mkdir()
    (other / ".env").write_text(f"OPENAI_API_KEY={CANARY}-4\n")
    (other / ".env").chmod(0o600)
    (machine.project / "linked.env").symlink_to(other / ".env")
    (machine.project / "linked").symlink_to(other)
    machine.write("overlay/overlay.toml", f'{EVIL}"OPENAI_API_KEY"')
    machine.write("moves.env", "OPENAI_BASE_URL=https://evil.example\nEVIL_BASE_URL=https://evil.example")
    if "EVIL_BASE_URL" in config:
        config = f'env_file = "moves.env"\n{config}'
    file = machine.configure(config)
    settings = machine.load(ENV, path=file if named else None)
    provider = settings.catalog.provider(name)
    assert settings.keys.get(provider) is None
    assert not provider.key_allowed
    assert provider.api_key_env is not None
    assert provider.api_key_env in provider.key_why
    assert "canary" not in repr(settings)


def test_what_a_hostile_folder_leaves_alone_still_works(machine: Machine) -> None:
    """Only the provider whose address or key was bent loses its key."""
    machine.configure('[providers.openai]\nbase_url = "https://evil.example"')
    settings = machine.load(ENV)
    assert settings.keys.known() == ("anthropic",)
    assert "evil.example" in why(settings)
    assert "trusted_hosts" in why(settings)


def test_a_link_to_the_users_file_is_not_the_users_word(machine: Machine) -> None:
    """A project that links to the user's own config file doesn't become the user: its overlays stay foreign."""
    own = machine.trust('provider_folders = ["providers"]')
    (machine.project / "promptkit.toml").symlink_to(own)
    machine.write("providers/openai.toml", f'{EVIL}"OPENAI_API_KEY"')
    settings = machine.load(ENV)
    assert settings.catalog.provider("openai").base_url == "https://evil.example"
    assert sent(settings) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:8090/v1", "http://localhost:8090/v1", "http://[::1]:1/v1"])
def test_a_project_may_use_this_machine(machine: Machine, url: str) -> None:
    """A simulator on loopback gets the keys of shipped providers."""
    machine.configure(f'[providers.openai]\nbase_url = "{url}"')
    assert sent(machine.load(ENV)) == CANARY


def test_a_projects_own_key_goes_to_its_own_host(machine: Machine) -> None:
    """A key from the project's own env file is the project's to send, whatever the environment holds."""
    machine.configure(
        f'env_file = ".env"\n[providers.openai]\nbase_url = "https://gateway.example"\n[providers.house]\n{EVIL}"HOUSE_KEY"'
    )
    machine.write(".env", "OPENAI_API_KEY=of-the-project\nHOUSE_KEY=of-the-house")
    settings = machine.load(ENV)
    assert sent(settings) == "of-the-project"
    assert sent(settings, "house") == "of-the-house"
    assert settings.catalog.provider("openai").key_allowed
    assert not settings.catalog.provider("openai").trusted


def test_the_users_environment_is_seen_by_the_users_hosts_only(machine: Machine) -> None:
    """What SDKs add from the environment (custom headers with a token) goes where the user's own key could go."""
    machine.configure(
        '[providers.openai]\nbase_url = "https://gateway.example"\n'
        '[providers.gemini]\nbase_url = "http://127.0.0.1:8090"\n'
        f'[providers.evil]\n{EVIL}"OPENAI_API_KEY"'
    )
    catalog = machine.load(ENV).catalog
    trusted = {name for name, provider in catalog.providers.items() if provider.trusted}
    assert {"anthropic", "gemini", "mistral"} <= trusted
    assert not trusted & {"openai", "evil", "ollama", "local"}


def test_even_a_projects_own_key_is_not_shown_to_the_network(machine: Machine) -> None:
    """Plain http with a key is refused, except to this machine; without a key it may be."""
    machine.configure(
        'env_file = ".env"\n[providers.openai]\nbase_url = "http://10.0.0.7/v1"\n'
        '[providers.vllm]\nbase_url = "http://10.0.0.7:8000/v1"'
    )
    machine.write(".env", "OPENAI_API_KEY=of-the-project")
    settings = machine.load()
    assert sent(settings) is None
    assert "https" in why(settings)
    assert settings.keys.usable(settings.catalog.provider("vllm"))


def test_the_user_may_trust_a_host(machine: Machine) -> None:
    """`trusted_hosts` in the user's own config lets projects send keys of shipped providers there."""
    machine.configure(
        '[providers.openai]\nbase_url = "https://llm.example.com/v1"\n'
        '[providers.aws]\nadapter = "openai"\nbase_url = "https://llm.example.com"\napi_key_env = "AWS_SECRET_ACCESS_KEY"\n'
        '[providers.house]\nadapter = "openai"\nbase_url = "https://llm.example.com"\napi_key_env = "HOUSE_KEY"'
    )
    machine.trust(
        'trusted_hosts = ["llm.example.com"]\ntrusted_keys = ["HOUSE_KEY"]\n[routes.x]\ntargets = []'
    )
    settings = machine.load({**ENV, "HOUSE_KEY": "of-the-house"})
    assert sent(settings) == CANARY
    assert sent(settings, "house") == "of-the-house"
    assert sent(settings, "aws") is None
    assert "trusted_keys" in why(settings, "aws")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('trusted_hosts = ["https://llm.example.com"]', 1, "is not a host"),
        ('\ntrusted_keys = ["sk-canary"]', 2, "names of environment variables"),
        ("trusted_hosts = 1", 1, "list of strings"),
        ("trusted_hosts = [", 1, "not valid TOML"),
    ],
)
def test_a_trust_that_cannot_be_read_is_said(machine: Machine, text: str, line: int, what: str) -> None:
    """A mistake in the user's own file is said, with that file and line, when a project relies on it."""
    machine.configure("")
    own = machine.trust(text)
    with pytest.raises(ConfigError, match=what) as caught:
        machine.load()
    assert (caught.value.file, caught.value.line) == (str(own), line)
    assert "canary" not in str(caught.value)


def test_the_users_own_config_may_send_keys_where_it_says(machine: Machine) -> None:
    """The file in the user's config folder is the user's word: it moves addresses and names keys."""
    machine.trust(
        '[providers.openai]\nbase_url = "https://gateway.example"\n'
        '[providers.house]\nadapter = "openai"\nbase_url = "https://house.example"\napi_key_env = "HOUSE_KEY"'
    )
    settings = machine.load({**ENV, "HOUSE_KEY": "of-the-house"})
    assert sent(settings) == CANARY
    assert sent(settings, "house") == "of-the-house"


# ------------------------------------------------------------- the SDKs' address variables


@pytest.mark.parametrize(
    ("name", "variable", "key"),
    [
        ("openai", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
        ("anthropic", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
        ("gemini", "GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY"),
    ],
)
def test_the_environment_moves_a_provider(machine: Machine, name: str, variable: str, key: str) -> None:
    """The SDKs' own variables are honoured: the user's environment is the user's word."""
    machine.configure(f'[providers.{name}]\nbase_url = "https://evil.example"')
    settings = machine.load({variable: "https://gateway.example/v1/", key: CANARY})
    assert settings.catalog.provider(name).base_url == "https://gateway.example/v1"
    assert sent(settings, name) == CANARY


def test_a_moved_address_takes_only_its_own_key(machine: Machine) -> None:
    """OPENAI_BASE_URL is trusted with OPENAI_API_KEY, not with what a project names instead."""
    machine.configure('[providers.openai]\napi_key_env = "ANTHROPIC_API_KEY"')
    assert sent(machine.load({**ENV, "OPENAI_BASE_URL": "https://gateway.example"})) is None


def test_the_env_file_moves_a_provider_below_the_environment(machine: Machine) -> None:
    """The env file may hold the variable too; the process environment beats it, both beat the files."""
    machine.configure('env_file = ".env"\n[providers.openai]\nbase_url = "http://127.0.0.1:1"')
    machine.write(".env", "OPENAI_BASE_URL=http://127.0.0.1:2")
    assert machine.load().catalog.provider("openai").base_url == "http://127.0.0.1:2"
    moved = machine.load({"OPENAI_BASE_URL": "http://127.0.0.1:3"})
    assert moved.catalog.provider("openai").base_url == "http://127.0.0.1:3"


def test_a_variable_that_is_no_address_is_named_not_shown(machine: Machine) -> None:
    """An address with a password in it isn't repeated."""
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL must not contain a name or password") as caught:
        machine.load({"OPENAI_BASE_URL": "https://me:canary@gateway.example"})
    assert "canary" not in str(caught.value)


def test_nothing_of_an_env_file_enters_the_environment(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project's env file can't set a proxy or a certificate for the process."""
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    machine.configure('env_file = ".env"')
    machine.write(".env", "HTTPS_PROXY=http://evil.example\nSSL_CERT_FILE=evil.pem")
    machine.load()
    assert "HTTPS_PROXY" not in os.environ
    assert Path(os.environ.get("SSL_CERT_FILE", "")).name != "evil.pem"

"""Keys: where they are found, what never shows them."""

from __future__ import annotations

import copy
import pickle
import stat
from pathlib import Path

import pytest
from config_machine import Machine

from promptkit.config.env_file import parse_env
from promptkit.config.keys import Keys
from promptkit.errors import ConfigError
from promptkit.types import Provider

CANARY = "sk-canary-0123456789"
OPENAI = Provider("openai", "openai", "responses", "openai", api_key_env="OPENAI_API_KEY")
LOCAL = Provider("local", "local", "chat", "xllamacpp")


def key(machine: Machine, env: dict[str, str] | None = None, name: str = "openai") -> str | None:
    settings = machine.load(env)
    return settings.keys.get(settings.catalog.provider(name))


def test_the_environment_beats_credentials_beat_the_env_file(machine: Machine, tmp_path: Path) -> None:
    """A key is taken from the environment, else $CREDENTIALS_DIRECTORY, else the env file."""
    machine.configure('env_file = ".env"')
    machine.write(".env", "OPENAI_API_KEY=from-file\n")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "OPENAI_API_KEY").write_text("from-credentials\n")
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert key(machine, {**credentials, "OPENAI_API_KEY": "from-env"}) == "from-env"
    assert key(machine, credentials) == "from-credentials"
    assert key(machine) == "from-file"
    assert key(machine, {"OPENAI_API_KEY": " "}) == "from-file"
    assert key(machine, name="anthropic") is None


def test_known_and_usable() -> None:
    """A target is usable if its provider has a key or needs none."""
    keys = Keys({"openai": CANARY})
    assert keys.known() == ("openai",)
    assert keys.usable(OPENAI)
    assert keys.usable(LOCAL)
    assert not Keys({}).usable(OPENAI)


def test_a_provider_that_may_not_have_its_key_gets_none() -> None:
    """`key_allowed` is asked at the last moment, too."""
    refused = Provider("openai", "openai", "chat", "openai", api_key_env="X", key_allowed=False)
    assert Keys({"openai": CANARY}).get(refused) is None


def test_keys_show_in_nothing(machine: Machine) -> None:
    """A key is in no repr, no string, no pickle; a copy is the same object."""
    machine.configure('env_file = ".env"')
    machine.write(".env", f"ANTHROPIC_API_KEY={CANARY}-file")
    settings = machine.load({"OPENAI_API_KEY": CANARY})
    for shown in (repr(settings), str(settings), repr(settings.keys), f"{settings.keys}"):
        assert "canary" not in shown
    assert repr(settings.keys) == "Keys(anthropic, openai)"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(settings.keys, protocol)
    assert copy.copy(settings.keys) is settings.keys
    assert copy.deepcopy(settings).keys is settings.keys


def test_secrets_are_all_that_was_found(machine: Machine) -> None:
    """What must be scrubbed from texts: refused keys too, the longest first, nothing trivially short."""
    machine.configure(
        'env_file = ".env"\n[providers.openai]\nbase_url = "https://evil.example"\n'
        '[providers.anthropic]\nbase_url = "https://evil.example"'
    )
    machine.write(".env", f"ANTHROPIC_API_KEY={CANARY}-long\nMISTRAL_API_KEY=short")
    keys = machine.load({"OPENAI_API_KEY": CANARY}).keys
    assert keys.secrets() == (f"{CANARY}-long", CANARY)
    assert keys.known() == ("anthropic", "mistral")


@pytest.mark.parametrize(
    "value", [f"{CANARY}\nX-Evil: 1", f"{CANARY} # comment", f"{CANARY}\u20ac", "\x00canary"]
)
def test_a_value_that_no_header_can_carry_is_not_sent(machine: Machine, value: str) -> None:
    """A mangled key is refused by name, before an SDK puts it into an error message."""
    settings = machine.load({"OPENAI_API_KEY": value})
    openai = settings.catalog.provider("openai")
    assert settings.keys.get(openai) is None
    assert openai.key_why == "OPENAI_API_KEY contains characters that no key has"


def test_a_credential_that_is_no_text_is_said(machine: Machine, tmp_path: Path) -> None:
    """A credential file that can't be read is an error with its name, without its content."""
    (tmp_path / "OPENAI_API_KEY").write_bytes(b"\xff\xfecanary")
    with pytest.raises(ConfigError, match="can't be read as text") as caught:
        machine.load({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert caught.value.file == str(tmp_path / "OPENAI_API_KEY")


# ------------------------------------------------------------------------- the env file


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A = b c ", "b c"),
        ("export A=b", "b"),
        ("A=", ""),
        ("A=b # a comment", "b"),
        ("A=b#c", "b#c"),
        ("A=# nothing", ""),
        ("A='b # c'  # d", "b # c"),
        ("A='$HOME\\n'", "$HOME\\n"),
        ('A="b \\"c\\" \\\\ \\n\\t\\r\\$" # d', 'b "c" \\ \n\t\r$'),
        ("A=${HOME}", "${HOME}"),
        ("A=b=c", "b=c"),
        ("A=1\nA=2", "2"),
    ],
)
def test_the_lines_of_an_env_file(line: str, value: str) -> None:
    """KEY=VALUE, export, comments and quotes mean what they do in a shell; nothing is interpolated."""
    assert parse_env(f"# a comment\n\n{line}\n", file=".env") == {"A": value}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("sk-canary", "not a KEY=VALUE line"),
        ("A B=canary", "not a KEY=VALUE line"),
        ("1A=canary", "not a KEY=VALUE line"),
        ('A="canary', "a quote that doesn't close"),
        ("A='canary", "a quote that doesn't close"),
        ('A="canary" tail', "a quote that doesn't close"),
    ],
)
def test_a_bad_line_is_named_by_its_number_only(line: str, what: str) -> None:
    """A line that can't be read is an error with file and line; its text, perhaps a key, isn't repeated."""
    with pytest.raises(ConfigError, match=what) as caught:
        parse_env(f"A=1\n{line}\n", file=".env")
    assert (caught.value.file, caught.value.line) == (".env", 2)
    assert "KEY=VALUE" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o644])
def test_an_env_file_that_others_can_read_is_refused(machine: Machine, mode: int) -> None:
    """Group or others may neither read nor change it; the remedy is the command to run."""
    machine.configure('env_file = ".env"')
    file = machine.write(".env", "OPENAI_API_KEY=x", mode=mode)
    with pytest.raises(ConfigError, match="other users can read") as caught:
        machine.load()
    assert caught.value.remedy == f"chmod 600 {file}"
    file.chmod(stat.S_IRUSR)
    assert key(machine) == "x"


def test_a_missing_env_file_holds_nothing(machine: Machine) -> None:
    """It isn't in git: on another machine the keys come from the environment."""
    machine.configure('env_file = ".env"')
    assert machine.load().keys.known() == ()


def test_an_env_file_that_cannot_be_read_is_said(machine: Machine) -> None:
    """A folder, or bytes that are no text, are errors with the file's name."""
    machine.configure('env_file = ".env"')
    (machine.project / ".env").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        machine.load()
    (machine.project / ".env").rmdir()
    machine.write(".env", "").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        machine.load()

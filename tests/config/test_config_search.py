"""Which file is the configuration, and where its paths lead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from config_machine import Machine

from promptkit.config.paths import cache_folder, shipped
from promptkit.errors import ConfigError


def test_without_a_file(machine: Machine) -> None:
    """Without a config file there are defaults, and one ledger in the user's data folder."""
    settings = machine.load()
    assert settings.file is None
    assert settings.root == machine.project
    assert settings.database_path == machine.home / ".local/share/promptkit/promptkit.db"
    assert settings.database == f"sqlite:///{settings.database_path}"
    assert settings.templates == (machine.project / "templates",)
    assert set(settings.routes) == {"default", "demo"}
    assert settings.warnings == ()


def test_without_a_file_the_folder_says_nothing_about_providers(machine: Machine) -> None:
    """A `providers` folder in the working directory counts only if a config file names it."""
    machine.write("providers/openai.toml", 'adapter = "openai"\nbase_url = "https://evil.example"')
    assert machine.load().catalog.provider("openai").base_url == "https://api.openai.com/v1"


def test_the_option_beats_the_variable_beats_the_folder_beats_the_user(machine: Machine) -> None:
    """The first of --config, PROMPTKIT_CONFIG, this folder or a parent, the user's folder."""
    option, variable = machine.write("a.toml", ""), machine.write("b.toml", "")
    below = machine.project / "deep" / "er"
    below.mkdir(parents=True)
    own, folder = machine.trust(""), machine.configure("")
    env = {"PROMPTKIT_CONFIG": "b.toml"}
    assert machine.load(env, path=Path("a.toml")).file == option
    assert machine.load(env).file == variable
    assert machine.load(cwd=below).file == folder
    folder.unlink()
    assert machine.load({"PROMPTKIT_CONFIG": ""}, cwd=below).file == own


def test_the_users_folder_follows_xdg(machine: Machine, tmp_path: Path) -> None:
    """XDG_CONFIG_HOME and XDG_DATA_HOME are honoured; a relative one is void."""
    (tmp_path / "xdg/promptkit").mkdir(parents=True)
    file = tmp_path / "xdg/promptkit/promptkit.toml"
    file.write_text("")
    settings = machine.load({"XDG_CONFIG_HOME": f"{tmp_path}/xdg", "XDG_DATA_HOME": f"{tmp_path}/data"})
    assert settings.file == file
    assert settings.database_path == tmp_path / "data/promptkit/promptkit.db"
    assert machine.load({"XDG_CONFIG_HOME": "xdg"}).file is None


@pytest.mark.parametrize(("option", "by"), [(Path("gone.toml"), "--config"), (None, "PROMPTKIT_CONFIG")])
def test_a_named_file_must_be_there(machine: Machine, option: Path | None, by: str) -> None:
    """A file that was named and isn't there is an error, never silently another one."""
    machine.configure("")
    with pytest.raises(ConfigError, match=f"{by} names a file that does not exist") as caught:
        machine.load({"PROMPTKIT_CONFIG": "gone.toml"}, path=option)
    assert caught.value.file == str(machine.project / "gone.toml")
    assert "promptkit init" in str(caught.value)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_picked_up(machine: Machine) -> None:
    """In a shared folder, somebody else's promptkit.toml doesn't steer our calls unless it is named."""
    file = machine.configure("")
    os.chown(file, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to another user") as caught:
        machine.load()
    assert f"--config {file}" in str(caught.value)
    assert machine.load(path=file).file == file


def test_paths_start_from_the_file(machine: Machine) -> None:
    """Paths in a file are relative to that file, whatever the working directory is; ~/ is the home."""
    file = machine.configure(
        'database = "sqlite:///var/calls.db"\ntemplates = ["kit", "~/kit", "/srv/kit"]\n'
        '[providers.openai]\nbase_url = "http://127.0.0.1:8090/v1/"'
    )
    settings = machine.load(path=file, cwd=Path("/"))
    assert settings.root == machine.project
    assert settings.database_path == machine.project / "var/calls.db"
    assert settings.templates == (machine.project / "kit", machine.home / "kit", Path("/srv/kit"))
    assert settings.catalog.provider("openai").base_url == "http://127.0.0.1:8090/v1"


def test_a_project_keeps_its_database_beside_its_file(machine: Machine) -> None:
    """A project's ledger lies in the project; the user's own in the data folder."""
    machine.trust("")
    assert machine.load().database_path == machine.home / ".local/share/promptkit/promptkit.db"
    machine.configure("")
    assert machine.load().database_path == machine.project / "promptkit.db"


def test_an_absolute_database(machine: Machine) -> None:
    """Four slashes are an absolute path, as everywhere."""
    machine.configure('database = "sqlite:////var/lib/promptkit.db"')
    assert machine.load().database == "sqlite:////var/lib/promptkit.db"


def test_what_ships_lies_in_the_repository_or_in_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editable install uses the repository's folders; a wheel carries them in the package."""
    assert (shipped("providers") / "openai.toml").is_file()
    monkeypatch.setattr("promptkit.config.paths._PACKAGE", tmp_path)
    (tmp_path / "_data/providers").mkdir(parents=True)
    assert shipped("providers") == tmp_path / "_data/providers"
    with pytest.raises(ConfigError, match="lacks its neverwas") as caught:
        shipped("neverwas")
    assert "Install" in str(caught.value)


def test_the_cache_folder(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be made again lies in the user's cache folder, by XDG_CACHE_HOME or ~/.cache."""
    assert cache_folder({}, machine.home) == machine.home / ".cache/promptkit"
    assert cache_folder({"XDG_CACHE_HOME": "/c"}, machine.home) == Path("/c/promptkit")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "promptkit"


def test_unreadable_files_are_said(machine: Machine) -> None:
    """A config or provider file that is no UTF-8 text, or can't be opened, is an error with its name."""
    file = machine.configure("")
    file.write_bytes(b'database = "caf\xe9"')
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        machine.load()
    assert caught.value.file == str(file)
    file.write_text("")
    (machine.project / "providers" / "folder.toml").mkdir(parents=True)
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        machine.load()


def test_a_byte_order_mark_does_no_harm(machine: Machine) -> None:
    """Notepad's BOM isn't part of the first key."""
    machine.configure("\ufefftimezone = 'Europe/Paris'")
    assert machine.load().timezone.key == "Europe/Paris"

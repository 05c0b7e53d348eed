"""What a distribution holds, and that it does the main job where nothing else of the repo is."""

from __future__ import annotations

import csv
import sqlite3
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from installed_kit import JUNK, Built, Installed

SHIPPED = ("templates/", "providers/", "config.example.toml")
STATEMENT = "SELECT count(*), count(cost_pico), sum(state = 'ok') FROM attempts"


def in_wheel(name: str) -> str | None:
    """Where a tracked file stands in the wheel; None where it doesn't."""
    if name.startswith("src/promptkit/"):
        return name.removeprefix("src/")
    return f"promptkit/_data/{name}" if name.startswith(SHIPPED) else None


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def attempts_in(database: Path) -> tuple[int, int, int]:
    with sqlite3.connect(database) as connection:
        row: tuple[int, int, int] = connection.execute(STATEMENT).fetchone()
    connection.close()
    return row


def without_info(names: Iterable[str]) -> set[str]:
    return {name for name in names if ".dist-info/" not in name and not name.endswith("/")}


def test_the_wheel_holds_the_package_and_what_it_ships(built: Built, tracked: tuple[str, ...]) -> None:
    """The wheel is the package with its templates, provider files and sample configuration, and nothing else."""
    with zipfile.ZipFile(built.wheel) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(name for name in names if name.endswith("/METADATA"))).decode()
        entry_points = wheel.read(next(name for name in names if name.endswith("/entry_points.txt"))).decode()
    assert without_info(names) == {there for name in tracked if (there := in_wheel(name))}
    assert {
        "promptkit/py.typed",
        "promptkit/_data/config.example.toml",
        "promptkit/_data/providers/openai.toml",
        "promptkit/_data/templates/ugc/hooks/v1.jinja",
        "promptkit/_data/templates/ugc/hooks/versions.toml",
        "promptkit/ledger/migrations/versions/pk0001_first.py",
    } <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "Name: promptkit-router\n" in metadata
    assert "promptkit = promptkit.cli:main" in entry_points


def test_the_source_archive_is_what_git_tracks(built: Built, tracked: tuple[str, ...]) -> None:
    """The source archive is the tracked files: no environment, no database, no key, no leftovers."""
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert names == {*tracked, "PKG-INFO"}
    assert not names & set(JUNK)


def test_the_installed_package_is_the_wheel(installed: Installed, tmp_path: Path) -> None:
    """Nothing of the working tree takes part."""
    where = installed.run("python", "-c", "import promptkit; print(promptkit.__file__)", cwd=tmp_path).stdout
    assert Path(where.strip()).is_relative_to(installed.folder)
    assert (
        installed.run("python", "-m", "pip", "check", cwd=tmp_path).stdout
        == "No broken requirements found.\n"
    )
    assert installed.run("promptkit", "--version", cwd=tmp_path).stdout.startswith("promptkit 0.")


def test_rows_become_texts_through_three_providers(installed: Installed, tmp_path: Path) -> None:
    """From another folder, a CSV becomes texts through a template of the kit; each attempt is in the ledger."""
    (tmp_path / "rows.csv").write_text(
        "brand,product,audience,sku\nBarly,bar,runners,a1\nLumé,cream,people with dry skin,a2\n", "utf-8"
    )
    (tmp_path / "promptkit.toml").write_text('database = "sqlite:///studio.db"\n[budgets]\nper_job_usd = 1\n')
    with installed.simulator() as env:
        for target in ("openai/gpt-6-luna", "anthropic/claude-haiku-5-5", "gemini/gemini-2.5-flash-lite"):
            out = f"{target.partition('/')[0]}.csv"
            command = ("batch", "ugc/hooks", "rows.csv", "-o", out, "--target", target, "--job", out)
            installed.run("promptkit", *command, cwd=tmp_path, env=env)
            written = rows_of(tmp_path / out)
            assert [(row["sku"], row["status"], row["target"]) for row in written] == [
                ("a1", "ok", target),
                ("a2", "ok", target),
            ]
            assert all(row["text"] and row["cost_usd"] for row in written)
    assert attempts_in(tmp_path / "studio.db") == (6, 6, 6)


def test_the_embedded_model_answers_without_key_and_network(installed: Installed, tmp_path: Path) -> None:
    """A project of one's own does the main job on the embedded model."""
    installed.run("promptkit", "init", "studio", cwd=tmp_path)
    studio = tmp_path / "studio"
    command = ("batch", "my/hook@draft", "rows.csv", "-o", "hooks.csv", "--route", "demo", "--limit", "2")
    installed.run("promptkit", *command, cwd=studio)
    written = rows_of(studio / "hooks.csv")
    assert [row["target"] for row in written[:2]] == ["local/smollm2-135m"] * 2
    assert all(row["text"] for row in written[:2])
    assert attempts_in(studio / "promptkit.db") == (2, 2, 2)

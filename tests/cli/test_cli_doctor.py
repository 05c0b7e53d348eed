"""Beginning, providers, the doctor, the simulator and the database: the commands around the calls."""

from __future__ import annotations

import json
import os
import signal
import stat
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cli_kit import COMMAND, Invoke, process, started
from waiting import HANGS_S

from promptkit.cli.command import Cli
from promptkit.cli.machine.doctor import Health, clock, cron, database, file_system, local_model
from promptkit.cli.make.init import machine_zone, project_files
from promptkit.config.settings import Settings
from promptkit.ledger.ledger import Ledger
from promptkit.providers.local_weights import SMOLLM2, weights_path
from promptkit.simulator.server import Simulator


@pytest.fixture
def empty(tmp_path: Path, machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working folder."""
    del machine
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


class TestInit:
    def test_a_project_stands_and_its_skeleton_renders(self, invoke: Invoke, empty: Path) -> None:
        """`init DIR` makes a project that can be used at once, and says what to type next."""
        ran = invoke("init", "studio")
        folder = empty / "studio"
        assert ran.code == 0
        assert {Path(line).name for line in ran.out.splitlines()} >= {
            "promptkit.toml",
            ".gitignore",
            "rows.csv",
        }
        assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
        assert ".env\n" in (folder / ".gitignore").read_text("utf-8")
        assert "cd studio && promptkit batch my/hook@draft rows.csv -o hooks.csv --route demo" in ran.err
        config = ("--config", folder / "promptkit.toml")
        assert (
            invoke(
                "batch", "my/hook@draft", folder / "rows.csv", "--route", "demo", "--dry-run", *config
            ).code
            == 0
        )
        assert invoke("db", "path", *config).out == f"{folder / 'promptkit.db'}\n"

    def test_it_overwrites_nothing(self, invoke: Invoke, empty: Path) -> None:
        """Where one of the files is there, none is written."""
        (empty / "rows.csv").write_text("mine", encoding="utf-8")
        ran = invoke("init")
        assert (ran.code, "already contains rows.csv; nothing was written" in ran.err) == (2, True)
        assert [path.name for path in empty.iterdir()] == ["rows.csv"]

    def test_a_folder_that_can_not_be_written_is_exit_9(self, invoke: Invoke, empty: Path) -> None:
        """The message names the file."""
        (empty / "file").write_text("", encoding="utf-8")
        ran = invoke("init", "file/below")
        assert (ran.code, "promptkit.toml: not writable" in ran.err) == (9, True)

    def test_the_configuration_has_the_machines_time_zone(self) -> None:
        """A zone that the machine names is written down; the example's own stands otherwise."""
        assert 'timezone = "Europe/Paris"' in project_files("Europe/Paris")["promptkit.toml"].text
        assert 'timezone = "UTC"' in project_files(None)["promptkit.toml"].text
        zone = machine_zone()
        assert zone is None or ZoneInfo(zone)

    def test_the_list_of_files_as_json(self, invoke: Invoke, empty: Path) -> None:
        """--json prints the paths."""
        assert "studio/rows.csv" in invoke("init", "studio", "--json").json()
        assert (empty / "studio/rows.csv").exists()


class TestDemo:
    @pytest.fixture(autouse=True)
    def _model(self) -> None:
        pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
        if weights_path(os.environ, Path.home()) is None:
            pytest.skip("the weights are not here: promptkit local fetch")

    def test_it_works_in_an_empty_folder_without_a_key(
        self, invoke: Invoke, empty: Path, machine: Path
    ) -> None:
        """Five rows become five texts by a real model; the ledger is where it says, and nothing else is left."""
        ran = invoke("demo")
        ledger_path = machine / "data/promptkit/promptkit.db"
        assert ran.code == 0
        for expected in ("Petit Pas", "5 rows, 5 calls", ", $0\n", f"ledger: {ledger_path}"):
            assert expected in ran.out
        assert "promptkit show " in ran.err
        assert not list(empty.iterdir())
        call = ran.err.partition("promptkit show ")[2].split()[0]
        assert invoke("show", call, "--json").json()["prompt_digest_matches"] is True

    def test_what_to_type_next_can_be_typed(self, empty: Path, machine: Path) -> None:
        """A shell that doesn't find the command by its name is told its path."""
        del machine
        ran = process("demo", cwd=empty, env={**os.environ, "PATH": os.defpath})
        assert f"  {COMMAND} log\n" in ran.err

    def test_its_rows_as_json(self, invoke: Invoke, empty: Path) -> None:
        """--json has each row with its text, and the sums."""
        del empty
        told = invoke("demo", "--json").json()
        assert len(told["rows"]) == told["calls"] == 5
        assert all(row["status"] == "ok" and row["text"] for row in told["rows"])
        assert (told["cost_usd"], told["output_tokens"] > 20) == ("0", True)

    def test_the_weights_that_are_there_are_not_brought_again(self, invoke: Invoke, empty: Path) -> None:
        """`local fetch` prints where they are."""
        del empty
        assert Path(invoke("local", "fetch").out.strip()).stat().st_size == SMOLLM2.size


@pytest.mark.usefixtures("project")
class TestProviders:
    def test_the_list_shows_prices_and_no_key(self, invoke: Invoke) -> None:
        """Keys are said to be there, never shown; prices are per million tokens."""
        ran = invoke("providers", "list", "openai", "mistral", "local")
        assert "OPENAI_API_KEY is set" in ran.out
        assert "MISTRAL_API_KEY isn't set" in ran.out
        assert "openai/gpt-6-luna" in ran.out
        assert "canary" not in ran.out

    def test_the_list_as_json(self, invoke: Invoke) -> None:
        """--json has targets with prices as decimal strings, and how far each file was checked."""
        providers = {one["name"]: one for one in invoke("providers", "list", "--json").json()}
        luna = next(one for one in providers["openai"]["models"] if one["target"] == "openai/gpt-6-luna")
        assert (luna["input_usd_per_mtok"], luna["output_usd_per_mtok"]) == ("0.1", "0.5")
        assert providers["local"]["models"][0]["input_usd_per_mtok"] == "0"
        assert {one["checked_how"] for one in providers.values()} <= {"live", "simulator", "docs only"}

    def test_a_check_asks_each_for_its_models_free_of_charge(self, invoke: Invoke, sim: Simulator) -> None:
        """Key, address and models through the SDKs' own listing: nothing is billed, nothing recorded."""
        before = sim.bill()["total_pico"]
        checks = {one["provider"]: one for one in invoke("providers", "check", "--json").json()}
        assert all(checks[name]["usable"] for name in ("openai", "anthropic", "gemini"))
        assert "4 models" in checks["openai"]["says"]
        assert checks["mistral"]["says"] == "MISTRAL_API_KEY isn't set"
        assert (checks["vllm"]["usable"], "can't be reached" in checks["vllm"]["says"]) == (False, True)
        assert sim.bill()["total_pico"] == before

    def test_a_live_check_says_its_price_first_and_is_in_the_books(self, invoke: Invoke) -> None:
        """--live makes one tiny call each through the engine, under a cap of $0.01."""
        ran = invoke("providers", "check", "openai", "anthropic", "gemini", "--live")
        assert ran.code == 0
        assert ran.err.startswith("promptkit: 3 live calls: at most $0.000")
        assert ran.out.count("replied in") == 3
        assert len(invoke("log", "--tag", "check=live", "--json").json()) == 3

    def test_one_live_call_is_said_as_one(self, invoke: Invoke) -> None:
        """The price of one is of one call."""
        assert invoke("providers", "check", "openai", "--live").err.startswith(
            "promptkit: 1 live call: at most"
        )

    def test_none_that_is_usable_is_exit_4(self, invoke: Invoke) -> None:
        """Scripts can ask whether anything would answer."""
        ran = invoke("providers", "check", "mistral", "vllm")
        assert (ran.code, ran.out.count(" no ")) == (4, 2)

    def test_a_refused_live_call_makes_a_provider_unusable(self, invoke: Invoke, sim: Simulator) -> None:
        """A key that may list models and may not use them is found out."""
        sim.script(["openai.insufficient_quota"])
        ran = invoke("providers", "check", "openai", "--live", "--json")
        (found,) = ran.json()
        assert (ran.code, found["usable"], "insufficient_quota" in found["says"]) == (4, False, True)

    def test_an_unknown_name_is_exit_2(self, invoke: Invoke) -> None:
        """With the closest one."""
        ran = invoke("providers", "check", "opnai")
        assert (ran.code, "Did you mean 'openai'?" in ran.err) == (2, True)


class TestTemplates:
    def test_the_list_and_one_in_full(self, invoke: Invoke, project: Path) -> None:
        """`templates list` names all that can be run, `show` what one takes."""
        del project
        assert "ugc/hooks" in invoke("templates", "list").out
        names = [one["name"] for one in invoke("templates", "list", "--json").json()]
        assert ("ugc/hooks" in names, "shared/voice" in names) == (True, False)
        assert "shared/voice" in [
            one["name"] for one in invoke("templates", "list", "--all", "--json").json()
        ]
        page = invoke("templates", "show", "ugc/hooks").out
        for expected in (
            "ugc/hooks@1",
            "(required)",
            "1 to 20",
            "problem, proof",
            "true, false",
            "1:sha256:",
        ):
            assert expected in page
        told = invoke("templates", "show", "ugc/hooks", "--json").json()
        assert told["params"]["reasoning"] == "low"
        assert next(one for one in told["variables"] if one["name"] == "brand")["required"] is True

    def test_the_source_alone(self, invoke: Invoke, project: Path) -> None:
        """--source prints the file as it is."""
        del project
        assert invoke("templates", "show", "demo/hook", "--source").out.startswith("+++\ndescription")

    def test_the_schema_alone(self, invoke: Invoke, project: Path) -> None:
        """--schema prints the JSON Schema of the variables, for other programs."""
        del project
        told = invoke("templates", "show", "demo/hook", "--schema").json()
        assert told["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert told["properties"]["product"]["type"] == "string"

    def test_a_broken_one_is_listed_and_said(self, invoke: Invoke, project: Path) -> None:
        """One broken template doesn't hide the others."""
        here = project / "templates/my/line"
        here.mkdir(parents=True)
        (here / "draft.jinja").write_text("+++\n+++\n", encoding="utf-8")
        (here / "versions.toml").write_text("<<<<<<< ours\n", encoding="utf-8")
        ran = invoke("templates", "list")
        assert (ran.code, "(broken)" in ran.out, "versions.toml" in ran.err, "ugc/hooks" in ran.out) == (
            0,
            *[True] * 3,
        )


class TestDoctor:
    def test_a_healthy_project(self, invoke: Invoke, project: Path) -> None:
        """Every examination has its line; no key is shown; exit 0."""
        ran = invoke("doctor")
        assert ran.code == 0, ran.out
        for name in (
            "python",
            "sqlite",
            "config",
            "seals",
            "keys",
            "database",
            "clock",
            "cron",
            "local model",
        ):
            assert f"  {name} " in ran.out
        assert "canary" not in ran.out
        assert f"{project / 'promptkit.db'}: " in ran.out
        assert {one["health"] for one in invoke("doctor", "--json").json()} <= {"ok", "warn"}

    def test_what_fails_decides_the_exit_code(self, invoke: Invoke, project: Path) -> None:
        """A configuration that can't stand is 2, a broken seal 3, a database that is none 9."""
        (project / "bad.toml").write_text("colour = 1\n", encoding="utf-8")
        ran = invoke("doctor", "--config", "bad.toml")
        assert (ran.code, "bad.toml:1: unknown key" in ran.out) == (2, True)
        here = project / "templates/my/line"
        here.mkdir(parents=True)
        (here / "v1.jinja").write_text('+++\n+++\n{% message "user" %}x{% endmessage %}\n', encoding="utf-8")
        assert invoke("doctor").code == 3
        (project / "promptkit.db").write_text("a letter to grandmother", encoding="utf-8")
        told = invoke("doctor", "--json")
        failed = {one["name"] for one in told.json() if one["health"] == "fail"}
        assert (told.code, failed) == (9, {"seals", "database"})

    def test_without_a_project_it_says_what_is_missing(
        self, invoke: Invoke, empty: Path, machine: Path
    ) -> None:
        """No file, no keys, no ledger yet: warnings with a remedy, and nothing is made."""
        ran = invoke("doctor")
        assert ran.code == 0
        for expected in ("promptkit init", "there are none", "does not exist yet"):
            assert expected in ran.out
        assert not list(empty.iterdir())
        assert not (machine / "data").exists()

    def test_a_shared_database_is_a_warning(self, invoke: Invoke, project: Path) -> None:
        """Others could read the prompts."""
        (project / "promptkit.db").chmod(0o644)
        assert f"chmod 600 {project / 'promptkit.db'}" in invoke("doctor").out

    @pytest.mark.parametrize(
        ("folder", "kind"),
        [
            ("/srv/studio", "nfs4"),
            ("/srv", "nfs4"),
            ("/home/a b/c", "cifs"),
            ("/home", "ext4"),
            ("/srv2", "ext4"),
        ],
    )
    def test_the_file_system_is_that_of_the_nearest_mount(self, folder: str, kind: str) -> None:
        """Mounts below mounts count, names alike don't, and \\040 is a space."""
        mounts = "dev / ext4 rw 0 0\nnas:/x /srv nfs4 rw 0 0\n//pc/y /home/a\\040b cifs rw 0 0\nodd\n"
        assert file_system(Path(folder), mounts) == kind

    def test_cron_lacks_what_this_shell_has(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that only the shell's environment has would be missing at night."""
        monkeypatch.setenv("MISTRAL_API_KEY", "sk-only-in-this-shell")
        settings = Cli(config=project / "promptkit.toml").settings()
        told = list(cron({"MISTRAL_API_KEY": "sk-only-in-this-shell"}, settings))
        assert [one.health for one in told] == [Health.WARN, Health.OK, Health.WARN]
        assert "MISTRAL_API_KEY comes from the environment of this shell" in told[2].text
        assert "sk-only" not in str(told)

    def test_the_clock_names_the_budget_day(self, project: Path) -> None:
        """Time, zone, and the day that caps count."""
        settings: Settings = Cli(config=project / "promptkit.toml").settings()
        (found,) = clock(settings, datetime(2026, 11, 21, 23, tzinfo=UTC))
        assert "2026-11-21 23:00:00 in UTC; the budget day is 2026-11-21" in found.text
        (found,) = clock(settings, datetime(1970, 1, 1, tzinfo=UTC))
        assert (found.health, "timedatectl" in (found.remedy or "")) == (Health.FAIL, True)

    def test_a_network_drive_is_no_place_for_the_ledger(self, project: Path) -> None:
        """SQLite's WAL needs shared memory, which such a drive doesn't give."""
        settings = Cli(config=project / "promptkit.toml").settings()
        found = next(database(settings, f"nas:/x {project} nfs4 rw 0 0\n", whole=False))
        assert (found.health, "network drive (nfs4)" in found.text) == (Health.FAIL, True)

    def test_caps_keys_and_folders_that_are_missing_are_warnings(self, invoke: Invoke, project: Path) -> None:
        """No cap, a target without a key, a template folder that isn't there."""
        text = (
            (project / "promptkit.toml")
            .read_text("utf-8")
            .replace("per_job_usd = 5.00\nper_day_usd = 20.00\n", "")
        )
        (project / "promptkit.toml").write_text('templates = ["templates"]\n' + text, encoding="utf-8")
        (project / ".env").write_text("OPENAI_API_KEY=sk-canary-openai-0001\n", encoding="utf-8")
        ran = invoke("doctor")
        for expected in (
            "there are no caps",
            "gemini is on a route, and is skipped",
            "templates, which does not exist",
        ):
            assert expected in ran.out
        assert ran.code == 0

    def test_a_machine_without_the_model_is_told_how_to_get_it(self, tmp_path: Path) -> None:
        """The weights are one command away."""
        pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
        (found,) = local_model({"XDG_CACHE_HOME": str(tmp_path)}, tmp_path)
        assert (found.health, found.remedy) == (Health.WARN, "promptkit local fetch")


class TestDatabase:
    def test_a_backup_is_whole_private_and_never_overwrites(self, invoke: Invoke, project: Path) -> None:
        """`db backup FILE` copies the ledger; a file that is there is kept."""
        assert invoke("db", "backup", "copy.db").code == 0
        assert stat.S_IMODE((project / "copy.db").stat().st_mode) == 0o600
        with Ledger.open(project / "copy.db") as ledger:
            assert ledger.calls.search() == ()
        assert invoke("db", "backup", "copy.db").code == 9

    def test_migrating_says_the_schema(self, invoke: Invoke, project: Path) -> None:
        """`db migrate` is safe to call at any time."""
        assert invoke("db", "migrate").out.startswith(f"{project / 'promptkit.db'}: schema pk")


class TestSimulate:
    def test_it_serves_until_it_is_told_to_stop(self, tmp_path: Path) -> None:
        """The address is said at once, as JSON too; SIGTERM ends it with 143."""
        running = started("simulate", "--port", "0", "--json", cwd=tmp_path)
        assert running.stdout is not None
        said = "".join(iter(running.stdout.readline, "}\n")) + "}"
        told = json.loads(said)
        assert told["base_urls"]["openai"] == f"{told['url']}/v1"
        running.send_signal(signal.SIGTERM)
        assert (running.communicate(timeout=HANGS_S)[1], running.returncode) == ("", 143)

    def test_what_it_prints_is_a_configuration(self, tmp_path: Path) -> None:
        """For people it prints the lines to put into promptkit.toml."""
        running = started("simulate", "--port", "0", "--seed", "3", cwd=tmp_path)
        assert running.stdout is not None
        lines = [running.stdout.readline() for _ in range(8)]
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=HANGS_S)
        assert running.returncode == 130
        assert set(tomllib.loads("".join(lines))["providers"]) == {"openai", "anthropic", "gemini"}

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--latency", "soon"], "latency"),
            (["--scenario", "none.toml"], "none.toml"),
            (["--port", "99999"], "--port"),
        ],
    )
    def test_what_can_not_be_simulated_is_exit_2(
        self, invoke: Invoke, arguments: list[str], says: str
    ) -> None:
        """A wrong option is said and serves nothing."""
        ran = invoke("simulate", *arguments)
        assert (ran.code, says in ran.err) == (2, True)


def test_a_missing_package_is_said_with_the_command_to_run(tmp_path: Path) -> None:
    """Without the extra `local`, `demo` says how to install it, before it brings 93 MB."""
    blocker = tmp_path / "sitecustomize.py"
    blocker.write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'xllamacpp' else find(name, *more)\n",
        encoding="utf-8",
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    ran = process("demo", cwd=tmp_path, env=env)
    assert (ran.code, "pip install 'promptkit-router[local]'" in ran.err) == (2, True)

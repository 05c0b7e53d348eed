"""What the keys of promptkit.toml mean, and what can't stand."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest
from config_machine import Machine

from promptkit.config.paths import shipped
from promptkit.config.settings import Keep, Kept, Storage
from promptkit.routing.budgets import Budgets, Cap, Caps
from promptkit.routing.plan import Rule, Rules
from promptkit.types import OnContent, Route, Target

LUNA, HAIKU = Target("openai", "gpt-6-luna"), Target("anthropic", "claude-haiku-5-5")
FLASH, SMOL = Target("gemini", "gemini-2.5-flash-lite"), Target("local", "smollm2-135m")

WHOLE = """\
database = "sqlite:///calls.db"
templates = ["templates"]
provider_folders = ["providers"]
env_file = ".env"
timezone = "Europe/Paris"
day_starts_at = "12:00"
allow_unpriced = true
[storage]
replies = "hash"
[storage.clients.acme]
variables = "none"
[routes.default]
targets = ["openai/gpt-6-luna", "ollama/qwen:7b"]
strategy = "ordered"
attempts = 3
max_wait_s = 1.5
last_resort = "local/smollm2-135m"
on_content = "next"
max_output_tokens = 2000
[budgets]
per_job_usd = 5.00
per_day_usd = 0.000000000001
soft_per_month_usd = 100
[budgets.tags."client=barly"]
per_month_usd = 50.00
soft_per_month_usd = 40
[budgets.tags." campaign = xmas=26 "]
per_day_usd = 2
[rules."client=familyco"]
allow = ["anthropic", "openai/gpt-6-luna"]
route = "default"
[rules."template=ugc/offer"]
deny = ["ollama"]
[providers.openai]
timeout_s = 5
[providers.house]
adapter = "openai"
base_url = "http://127.0.0.1:9"
"""


def test_a_whole_file(machine: Machine) -> None:
    """Every key arrives: routes checked, caps exact, storage per client."""
    machine.configure(WHOLE)
    settings = machine.load()
    assert settings.timezone.key == "Europe/Paris"
    assert settings.day_starts_at == time(12)
    assert settings.allow_unpriced
    assert settings.budgets == Budgets(
        Cap(5 * 10**12),
        Cap(1),
        Cap(soft_pico=100 * 10**12),
        {
            ("client", "barly"): Caps(month=Cap(50 * 10**12, 40 * 10**12)),
            ("campaign", "xmas=26"): Caps(day=Cap(2 * 10**12)),
        },
    )
    assert settings.rules == Rules(
        (
            Rule(("client", "familyco"), allow=("anthropic", "openai/gpt-6-luna"), route="default"),
            Rule(("template", "ugc/offer"), deny=("ollama",)),
        )
    )
    assert settings.routes["default"] == Route(
        "default",
        (LUNA, Target("ollama", "qwen:7b")),
        attempts=3,
        max_wait_s=1.5,
        last_resort=SMOL,
        on_content=OnContent.NEXT,
        max_output_tokens=2000,
    )
    assert settings.storage == Storage(Keep.HASH, Keep.FULL, {"acme": Kept(Keep.HASH, Keep.NONE)})
    assert settings.catalog.provider("openai").timeout_s == 5
    assert settings.catalog.provider("house").api == "responses"


def test_weights_go_with_their_targets(machine: Machine) -> None:
    """A weighted route has a share for each target; 0 is one."""
    machine.configure(
        '[routes.a]\ntargets = ["ollama/x", "ollama/y"]\nstrategy = "weighted"\nweights = [3, 0]'
    )
    route = machine.load().routes["a"]
    assert (route.strategy, route.weights) == ("weighted", (3, 0))


def test_storage_goes_by_the_tag_client(machine: Machine) -> None:
    """A client's own setting holds for calls tagged with it, the general one for all others."""
    machine.configure(WHOLE)
    storage = machine.load().storage
    assert storage.of({"client": "acme"}) == Kept(Keep.HASH, Keep.NONE)
    assert storage.of({"client": "barly"}) == storage.of({}) == Kept(Keep.HASH, Keep.FULL)


def test_the_built_in_routes(machine: Machine) -> None:
    """`default` asks three providers in order; `demo` is the embedded model."""
    routes = machine.load().routes
    assert routes == {"default": Route("default", (LUNA, HAIKU, FLASH)), "demo": Route("demo", (SMOL,))}


def test_the_default_route_is_what_own_provider_files_leave_of_it(machine: Machine) -> None:
    """A provider file of one's own may list other models; the built-in route keeps what there is."""
    machine.configure("")
    for name in ("openai", "anthropic"):
        machine.write(f"providers/{name}.toml", f'adapter = "{name}"\nbase_url = "https://a.example"')
    assert machine.load().routes["default"].targets == (FLASH,)
    machine.write("providers/gemini.toml", 'adapter = "gemini"\nbase_url = "https://a.example"')
    assert set(machine.load().routes) == {"demo"}


def test_a_provider_file_replaces_the_shipped_one_whole(machine: Machine) -> None:
    """Overlays go by whole files: the first folder wins, dot files are no providers."""
    machine.configure('providers = ["a", "b"]')
    machine.write("a/openai.toml", 'adapter = "openai"\nbase_url = "https://a.example"')
    machine.write("b/openai.toml", 'adapter = "openai"\nbase_url = "https://b.example"')
    machine.write("a/.#draft.toml", "half a line")
    openai = machine.load().catalog.provider("openai")
    assert (openai.base_url, openai.models, openai.api_key_env) == ("https://a.example", {}, None)


def test_a_folder_that_is_not_there_is_said(machine: Machine) -> None:
    """A folder that the file names and nobody made is, as a rule, a typing error: said, no failure."""
    file = machine.configure('templates = ["tempaltes"]')
    (warning,) = machine.load().warnings
    assert warning == f"{file}: templates names {machine.project / 'tempaltes'}, which does not exist"


def test_the_old_name_of_max_wait_is_read_with_a_notice(machine: Machine) -> None:
    """`patience_s` works until 1.0; beside the new name it is an error."""
    file = machine.configure('[routes.a]\ntargets = ["ollama/x"]\npatience_s = 7')
    settings = machine.load()
    assert settings.routes["a"].max_wait_s == 7
    assert settings.warnings == (f"{file}:3: patience_s is now max_wait_s; the old name works until 1.0",)
    error = machine.refused('[routes.a]\ntargets = ["ollama/x"]\nmax_wait_s = 7\npatience_s = 7')
    assert (error.line, error.remedy) == (4, "Remove patience_s.")


@pytest.mark.parametrize(
    ("text", "line", "what", "remedy"),
    [
        ("x = ", 1, "not valid TOML", None),
        ('datbase = "x"', 1, "unknown key datbase", "'database'"),
        ("[budget]", 1, "unknown key budget", "'budgets'"),
        (
            '\ndatabase = "postgresql+psycopg://me:canary@db/x"',
            2,
            "PostgreSQL is not available yet",
            "sqlite",
        ),
        ('database = "calls.db"', 1, "must be an SQLite file", "sqlite:///promptkit.db"),
        ('database = "sqlite:///"', 1, "must be an SQLite file", None),
        ('database = "sqlite:///:memory:"', 1, "must be an SQLite file", None),
        ('database = "sqlite:///a.db?mode=ro"', 1, "must be an SQLite file", None),
        ('templates = "templates"', 1, "must be a list of strings", None),
        ('templates = ["promptkit.toml"]', 1, "templates lists folders", None),
        ('providers = ["promptkit.toml"]', 1, "providers lists folders", None),
        ('providers = ["a"]\nprovider_folders = ["b"]', 1, "both list folders", None),
        ('providers = ["a"]\n[providers.openai]', 2, "not valid TOML", "provider_folders"),
        ("env_file = 3", 1, "env_file must be a string", None),
        ('timezone = "Europe/Pariss"', 1, "unknown time zone 'Europe/Pariss'", "'Europe/Paris'"),
        ('timezone = "Mars"', 1, "unknown time zone", "Europe/Paris"),
        ('timezone = "../../etc/passwd"', 1, "unknown time zone", None),
        ('timezone = "Europe"', 1, "unknown time zone", None),
        ('day_starts_at = "24:00"', 1, "day_starts_at can't be '24:00'", "12:00"),
        ('day_starts_at = "noon"', 1, "day_starts_at can't be 'noon'", "12:00"),
        ("allow_unpriced = 1", 1, "must be true or false", None),
        ('trusted_hosts = ["evil.example"]', 1, "only in your user config", ".config/promptkit"),
        ('trusted_keys = ["AWS_SECRET"]', 1, "only in your user config", ".config/promptkit"),
        ('[storage]\nreplies = "some"', 2, "can't be 'some'", "full"),
        ('[storage]\nprompts = "full"', 2, "unknown key storage.prompts", None),
        ('[storage.clients.acme]\nreply = "none"', 2, "unknown key", "'replies'"),
        ('[storage.clients]\nacme = "none"', 2, "must be a table", None),
        ("[budgets]\nper_job_usd = -1", 2, "must lie between 0", None),
        ("[budgets]\nper_job_usd = 1e99999999", 2, "must lie between 0", None),
        ("[budgets]\nper_day_usd = 0.0000000000001", 2, "finer than a pico-dollar", None),
        ("[budgets]\nper_day_usd = nan", 2, "finite", None),
        ('[budgets]\nper_day_usd = "5"', 2, "must be a number", None),
        ("[budgets]\nper_dya_usd = 5", 2, "unknown key budgets.per_dya_usd", "'per_day_usd'"),
        ("[budgets]\ntags = 3", 2, "tags must be a table", None),
        ("[budgets]\nper_day_usd = 5\nsoft_per_day_usd = 5", 3, "is not below per_day_usd", "before"),
        ('[budgets.tags."client"]\nper_day_usd = 5', 1, "'client' is not a tag", "client=barly"),
        ('[budgets.tags."=a"]\nper_day_usd = 5', 1, "'=a' is not a tag", "client=barly"),
        ('[budgets.tags."client=a"]\nper_dya_usd = 5', 2, "unknown key", "'per_day_usd'"),
        ('[rules."client=a"]\nalow = ["openai"]', 2, "unknown key", "'allow'"),
        ('[rules."client=a"]\nallow = []', 2, "allows nothing", "anthropic"),
        ('[rules."client=a"]', 1, "is empty", "allow, deny or route"),
        ('[rules."client=a"]\ndeny = ["opnai"]', 2, "unknown provider 'opnai'", "'openai'"),
        ('[rules."client=a"]\ndeny = ["openai/gpt-6-lunar"]', 2, "has no model", "'gpt-6-luna'"),
        ('[rules."client=a"]\nroute = "demmo"', 2, "unknown route 'demmo'", "'demo'"),
        ("[rules.client]\nroute = 'demo'", 1, "'client' is not a tag", "client=barly"),
        ("[routes.default]\nattempts = 3", 1, "targets is missing", None),
        ("[routes.default]\ntargets = []", 2, "a route needs a target", "openai/gpt-6-luna"),
        ('[routes.default]\ntargets = ["openai"]', 2, "'openai' is not a target", "provider/model"),
        ('[routes.a]\ntargets = ["opnai/x"]', 2, "unknown provider 'opnai'", "'openai'"),
        ('[routes.a]\ntargets = ["openai/gpt-6-lunar"]', 2, "has no model", "'gpt-6-luna'"),
        ('[routes.a]\ntargets = ["ollama/x", "ollama/x"]', 2, "a target is listed twice", "attempts"),
        ('[routes.a]\ntargets = ["ollama/x"]\nlast_resort = "local/x"', 3, "has no model", "smollm2"),
        ('[routes.a]\ntargets = ["ollama/x"]\nstrategy = "weighted"', 3, "needs weights", "[3, 1]"),
        ('[routes.a]\ntargets = ["ollama/x"]\nweights = [1]', 3, "weights need the strategy", "weighted"),
        *(
            (
                f'[routes.a]\ntargets = ["ollama/x", "ollama/y"]\nstrategy = "weighted"\nweights = {weights}',
                4,
                "whole numbers, one per target",
                "weight 0",
            )
            for weights in (
                "[1]",
                "[1, 2, 3]",
                "[0, 0]",
                "[1, -1]",
                "[1, 1.5]",
                "[1, true]",
                "[1, 1000001]",
                "3",
            )
        ),
        ('[routes.a]\ntargets = ["ollama/x"]\nstrategy = "oderd"', 3, "unknown strategy", "'ordered'"),
        ('[routes.a]\ntargets = ["ollama/x"]\nattempts = 0', 3, "at least 1", None),
        ('[routes.a]\ntargets = ["ollama/x"]\npatience_s = -1', 3, "at least 0", None),
        ('[routes.a]\ntargets = ["ollama/x"]\non_content = "go"', 3, "can't be 'go'", "stop"),
        ('[routes.a]\ntargets = ["ollama/x"]\nmax_output_tokens = 0', 3, "at least 1", None),
        ('[routes.a]\ntargets = ["ollama/x"]\ntimeout = 0', 3, "unknown key routes.a.timeout", "attempts"),
        ('[routes.demo]\ntargets = ["ollama/x"]', 1, "demo is built in", None),
        ("[providers.opnai]\ntimeout_s = 5", 1, "unknown provider 'opnai'", "'openai'"),
        ('[providers.openai]\nbase_url = "nowhere"', 2, "not an address", None),
        ("[providers.openai]\ntimeout = 5", 2, "unknown key providers.openai.timeout", "timeout_s"),
        ('[[providers.openai.models]]\nid = "x"\nrejects = ["x"]', 3, "is not a parameter", None),
    ],
)
def test_every_complaint_has_file_line_and_remedy(
    machine: Machine, text: str, line: int, what: str, remedy: str | None
) -> None:
    """What can't stand is refused by file and line, with what to do; values that may be secret aren't shown."""
    error = machine.refused(text)
    assert error.file == str(machine.project / "promptkit.toml")
    assert error.line == line
    assert what in error.message
    assert (remedy or "") in (error.remedy or "")
    assert "canary" not in str(error)


def test_a_machine_without_time_zones(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no time zone data, the remedy is to bring it."""
    monkeypatch.setattr("promptkit.config.loading.available_timezones", set[str])
    assert "pip install tzdata" in str(machine.refused('timezone = "Europe/Nowhere"'))


EXAMPLE = shipped("config.example.toml").read_text("utf-8")


def test_the_example_loads(machine: Machine) -> None:
    """config.example.toml is a config file that can stand as it is."""
    machine.configure(EXAMPLE)
    settings = machine.load()
    assert settings.budgets == Budgets(Cap(5 * 10**12), Cap(20 * 10**12))
    assert settings.day_starts_at == time(12)


def test_the_example_loads_with_all_its_comments_taken_in(machine: Machine) -> None:
    """Routes for prototypes, long form, sensitive and regulated clients stand ready, commented."""
    lines = [line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in EXAMPLE.splitlines()]
    machine.configure("\n".join(lines))
    settings = machine.load()
    assert set(settings.routes) == {"default", "demo", "prototype", "longform", "sensitive", "regulated"}
    assert settings.routes["default"].last_resort == SMOL
    assert settings.catalog.provider("gemini").base_url == "http://127.0.0.1:8090"
    assert "gpt-6.2-sol" in settings.catalog.provider("openai").models
    assert settings.storage.of({"client": "acme"}) == Kept(Keep.HASH, Keep.HASH)


def test_loading_reads_no_environment_of_its_own(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment, home and folder come in from the edge; the process's own are not looked at."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-process")
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.chdir(Path("/"))
    settings = machine.load()
    assert settings.keys.known() == ()
    assert settings.root == machine.project

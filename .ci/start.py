#!/usr/bin/env python3
"""The first minute, with nothing but Python 3.11 and pip.

    python3 .ci/start.py demo     a few rows through a template, the router and a real model, into SQLite
    python3 .ci/start.py test     docs, lint, types, layers and tests; with arguments, pytest alone
    python3 .ci/start.py docs     build the documentation as a site, into site/
    python3 .ci/start.py bench    a script of benchmarks/ with its arguments, beside its peers
    python3 .ci/start.py harness  a script of tests/harness/ with its arguments: chaos, never_lost
    python3 .ci/start.py pin      write .ci/constraints.txt anew, from the newest versions that fit

Each makes its own environment below .venvs/ the first time, and makes it again when
the requirements or their pins have changed; `--fresh` makes it again in any case.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / ".ci" / "constraints.txt"
TESTS = ROOT / "tests"

PURE = (
    "authoring/diff",
    "authoring/lint",
    "batch/pure",
    "config/catalog",
    "providers/prices",
    "providers/wire_formats",
    "routing",
    "templates",
    "types",
    "validation",
)
"""The test folders of code without IO: their tests cover every branch of `PURE_SOURCES`."""
PURE_SOURCES = (
    "_util.durations",
    "_util.shares",
    "_util.toml",
    "authoring.diff",
    "authoring.lint",
    "authoring.lint_context",
    "authoring.lint_rules",
    "batch.binding",
    "batch.columns",
    "batch.tables",
    "errors",
    "providers.adapter",
    "providers.anthropic",
    "providers.gemini",
    "providers.openai",
    "providers.params",
    "providers.prices",
    "providers.replies",
    "providers.schemas",
    "providers.tokens",
    "providers.wire_formats",
    "routing",
    "templates",
    "types",
    "validation.rules",
    "validation.schema",
    "validation.text",
)
FLOOR = 95

PEERS = {
    "litellm": "litellm==1.106.2",
    "llm": "llm==0.36",
    "curator": "bespokelabs-curator==0.1.31",
}
"""What the benchmarks measure promptkit beside, each in an environment of its own."""
BENCHMARKS = {
    "call_overhead": ("litellm",),
    "startup": ("litellm", "llm"),
    "rendering": (),
    "failover": ("litellm",),
    "batch": ("curator",),
    "packing": (),
}
"""The benchmarks, each with the peers that it needs."""

PINS = """\
# The versions that .ci/start.py makes its environments from: every requirement of promptkit, its
# extras and its development tools. Renew with `python3 .ci/start.py pin`, then run the tests.
"""


def main(arguments: list[str]) -> int:
    """Run what the first argument names; the exit status is its own."""
    fresh = "--fresh" in arguments
    rest = [argument for argument in arguments if argument != "--fresh"]
    commands = {"demo": demo, "test": test, "docs": docs, "bench": bench, "harness": harness, "pin": pin}
    if sys.version_info < (3, 11):
        print(f"promptkit needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    if not rest or rest[0] not in commands:
        print(__doc__)
        return 0 if rest in ([], ["--help"], ["-h"]) else 2
    return commands[rest[0]](rest[1:], fresh=fresh)


# ----------------------------------------------------------------------------- commands


def demo(arguments: list[str], *, fresh: bool) -> int:
    """The main job on the embedded model."""
    python = environment("run", ["--editable", f"{ROOT}[local]"], fresh=fresh)
    return run(python.parent / "promptkit", "demo", *arguments)


def test(arguments: list[str], *, fresh: bool) -> int:
    """Everything that must hold before a change lands; with arguments, pytest alone."""
    python = development(fresh=fresh)
    # The embedded model's weights: once, into the user's cache, where the demo looks, too.
    if status := run(python.parent / "promptkit", "local", "fetch", "--quiet", silent=True):
        return status
    return run(python, "-m", "pytest", *arguments) if arguments else check_all(python)


def check_all(python: Path) -> int:
    """The docs, lint, types, layers, the pure rooms by their own tests, and the other tests on top."""
    bin_ = python.parent
    options = ["-q", "-n", "2", "--dist", "loadfile", "--cov-report=term:skip-covered"]
    pytest = (python, "-m", "pytest", *options)
    others = [
        folder.relative_to(TESTS).as_posix()
        for folder in sorted({path.parent for path in TESTS.rglob("test_*.py")})
        if not folder.relative_to(TESTS).as_posix().startswith(PURE)
    ]
    if status := build_docs(python):
        return status
    steps: tuple[tuple[str | Path, ...], ...] = (
        (bin_ / "ruff", "check", "."),
        (bin_ / "ruff", "format", "--check", "."),
        (bin_ / "pyright", "--pythonpath", python),
        (bin_ / "lint-imports",),
        (
            *pytest,
            *(f"--cov=promptkit.{name}" for name in PURE_SOURCES),
            "--cov-fail-under=100",
            *folders(PURE),
        ),
        (*pytest, "--cov", "--cov-append", f"--cov-fail-under={FLOOR}", *folders(others)),
    )
    for step in steps:
        said = " ".join([Path(step[0]).name, *map(str, step[1:])]).replace(f"{ROOT}{os.sep}", "")
        print(f"\n$ {said}", flush=True)
        if status := run(*step):
            return status
    return 0


def docs(_arguments: list[str], *, fresh: bool) -> int:
    """Build the documentation as a site, into `site/`."""
    return build_docs(development(fresh=fresh), ROOT / "site")


def build_docs(python: Path, site: Path | None = None) -> int:
    """Build the site in a temporary folder; every warning is an error.

    Args:
        python: the Python of the development environment.
        site: the folder that the finished site replaces; None to throw it away.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "mkdocs.yml", folder)
        for part in ("docs", "src"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        print("\n$ zensical build --strict", flush=True)
        config = folder / "mkdocs.yml"
        status = run(python.parent / "zensical", "build", "--strict", "--config-file", config)
        if status == 0 and site is not None:
            shutil.rmtree(site, ignore_errors=True)
            shutil.copytree(folder / "site", site)
            print(f"The site is in {site}", flush=True)
    return status


def bench(arguments: list[str], *, fresh: bool) -> int:
    """One benchmark, told where its peers are installed."""
    if not arguments or arguments[0] not in BENCHMARKS:
        print(f"benchmarks: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    python = development(fresh=fresh)
    os.environ["PROMPTKIT_PYTHON"] = str(environment("plain", ["--editable", str(ROOT)]))
    for name in BENCHMARKS[arguments[0]]:
        os.environ[f"{name.upper()}_PYTHON"] = str(environment(name, [PEERS[name]]))
    return run(python, ROOT / "benchmarks" / f"{arguments[0]}.py", *arguments[1:])


def harness(arguments: list[str], *, fresh: bool) -> int:
    """One harness of tests/harness/, at its full length."""
    if not arguments:
        print("harnesses: chaos, never_lost", file=sys.stderr)
        return 2
    return run(development(fresh=fresh), TESTS / "harness" / f"{arguments[0]}.py", *arguments[1:])


def pin(_arguments: list[str], *, fresh: bool) -> int:  # noqa: ARG001 - it is fresh in any case
    """Resolve all requirements anew, in an environment that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        python = make(Path(folder), development_requirements())
        freeze = [python, "-m", "pip", "--disable-pip-version-check", "freeze", "--exclude-editable"]
        frozen = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
    pins = dict(line.split("==") for line in frozen.splitlines())
    lines = sorted(f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}\n" for name, version in pins.items())
    CONSTRAINTS.write_text(PINS + "".join(lines))
    return 0


# ------------------------------------------------------------------------- environments


def development(*, fresh: bool) -> Path:
    """The environment for tests and benchmarks."""
    return environment("dev", development_requirements(), fresh=fresh)


def development_requirements() -> list[str]:
    """All that promptkit can use, and the tools."""
    return ["--editable", f"{ROOT}[local,google-generativeai]", *project()["dependency-groups"]["dev"]]


def project() -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def environment(name: str, requirements: list[str], *, fresh: bool = False) -> Path:
    """Make the environment where it is missing or out of date; the path of its Python."""
    folder = ROOT / ".venvs" / name
    stamp = folder / "made-from"
    pinned = [] if name in PEERS else ["--constraint", str(CONSTRAINTS)]
    wanted = digest([*pinned, *requirements])
    if fresh or not stamp.exists() or stamp.read_text() != wanted:
        said = f"Making the environment {folder.relative_to(ROOT)} with pip: once, about a minute"
        print(said, end=" ", file=sys.stderr, flush=True)
        began = time.monotonic()
        make(folder, [*pinned, *requirements])
        stamp.write_text(wanted)
        print(f"({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    return python_of(folder)


def digest(arguments: list[str]) -> str:
    """What an environment is made from, in one word."""
    needs = [repr(project()[table]) for table in ("project", "dependency-groups", "build-system")]
    parts = (sys.version, *arguments, *needs, CONSTRAINTS.read_text("utf-8"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def make(folder: Path, arguments: list[str]) -> Path:
    """Make an environment and install into it; the path of its Python."""
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = python_of(folder)
    # -qq: what pip has to say of a machine's indexes is not what a newcomer needs first.
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments]
    subprocess.run(pip, check=True, stdin=subprocess.DEVNULL)
    return python


def python_of(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


# -------------------------------------------------------------------------------- small


def folders(names: tuple[str, ...] | list[str]) -> list[str]:
    """Test folders as pytest is given them."""
    return [f"tests/{name}" for name in names]


def run(*command: str | Path, silent: bool = False) -> int:
    """Run a command in the repo's root, its neighbours first on the path; its exit status."""
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    # pyright runs on the Node.js that is pinned with it, whatever else the machine has.
    env = {**os.environ, "PATH": path, "PYRIGHT_PYTHON_GLOBAL_NODE": "0"}
    stdout = subprocess.DEVNULL if silent else None
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, check=False, env=env, stdout=stdout
    ).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as failed:
        print(f"\ncould not install: {' '.join(map(str, failed.cmd))}", file=sys.stderr)
        sys.exit(failed.returncode)
    except KeyboardInterrupt:
        sys.exit(130)

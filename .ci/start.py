#!/usr/bin/env python3
"""The first minute, with nothing but Python 3.11 and pip.

    python3 .ci/start.py demo     a few rows through a skeleton, the router and a real model, into SQLite
    python3 .ci/start.py test     lint, types, layers and tests (more arguments go to pytest alone)
    python3 .ci/start.py bench    the environment for benchmarks/, then its arguments as a command

Each makes its own environment below .venvs/ the first time, and makes it again when
pyproject.toml or the constraints have changed; `--fresh` makes it again in any case.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / ".ci" / "constraints.txt"
PYPROJECT = ROOT / "pyproject.toml"

PURE = ("words", "templates", "catalog", "pricing", "tokens", "routing", "adapters", "batch")
"""The test folders of the rooms without IO: their own tests cover every branch of them."""
PURE_SOURCES = ("types", "errors", "ids", "toml", *PURE[1:])
FLOOR = 95


def main(arguments: list[str]) -> int:
    """Run what the first argument names; the exit status is its own."""
    fresh = "--fresh" in arguments
    rest = [argument for argument in arguments if argument != "--fresh"]
    commands = {"demo": demo, "test": test, "bench": bench}
    if sys.version_info < (3, 11):
        print(f"promptkit needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    if not rest or rest[0] not in commands:
        print(__doc__)
        return 0 if rest in ([], ["--help"], ["-h"]) else 2
    return commands[rest[0]](rest[1:], fresh=fresh)


def demo(arguments: list[str], *, fresh: bool) -> int:
    """The main job on the embedded model."""
    python = environment("run", ["--editable", f"{ROOT}[local]"], fresh=fresh)
    return run(python.parent / "promptkit", "demo", *arguments)


def test(arguments: list[str], *, fresh: bool) -> int:
    """Everything that must hold before a change lands; with arguments, pytest alone."""
    python = development(fresh=fresh)
    if arguments:
        return run(python, "-m", "pytest", *arguments)
    bin_ = python.parent
    covered = [f"--cov=promptkit.{name}" for name in PURE_SOURCES]
    pure = [f"tests/{name}" for name in PURE]
    steps = (
        (bin_ / "ruff", "check", "."),
        (bin_ / "ruff", "format", "--check", "."),
        (bin_ / "pyright",),
        (bin_ / "lint-imports",),
        (python, "-m", "pytest", "-q", "-n", "2", *covered, "--cov-fail-under=100", *pure),
        (python, "-m", "pytest", "-q", "-n", "2", "--cov", f"--cov-fail-under={FLOOR}"),
    )
    for step in steps:
        print("$", " ".join(str(part) for part in (Path(step[0]).name, *step[1:])), flush=True)
        if status := run(*step):
            return status
    return 0


def bench(arguments: list[str], *, fresh: bool) -> int:
    """A command in the development environment."""
    return run(development(fresh=fresh), *arguments)


def development(*, fresh: bool) -> Path:
    """The environment for tests and benchmarks."""
    tools = tomllib.loads(PYPROJECT.read_text("utf-8"))["dependency-groups"]["dev"]
    return environment("dev", ["--editable", f"{ROOT}[local,google-generativeai]", *tools], fresh=fresh)


def environment(name: str, requirements: list[str], *, fresh: bool) -> Path:
    """Make the environment where it is missing or out of date; the path of its Python."""
    folder = ROOT / ".venvs" / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "made-from"
    wanted = hashlib.sha256(PYPROJECT.read_bytes() + CONSTRAINTS.read_bytes() + repr(requirements).encode()).hexdigest()
    if not fresh and python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"Making the environment {folder.relative_to(ROOT)} (once; it takes a minute) ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", str(CONSTRAINTS), *requirements], check=True, stdin=subprocess.DEVNULL)
    stamp.write_text(wanted)
    return python


def run(*command: str | Path) -> int:
    """Run a command in the repo's root; its exit status."""
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=False, env={**os.environ, "PATH": path}).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as failed:
        print(f"could not install: {' '.join(failed.cmd)}", file=sys.stderr)
        sys.exit(failed.returncode)
    except KeyboardInterrupt:
        sys.exit(130)

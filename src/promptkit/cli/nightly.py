"""Under cron: one line where something is wrong, and word to a monitor that watches over the job."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Final

from promptkit.cli import scrub
from promptkit.errors import ExitCode, PromptKitError, UsageError, exit_code

from .face import Face
from .run import Terminated, say_line

_TIMEOUT_S: Final = 5.0


class Ping:
    """A monitor's address: `URL/start` when the job begins, `URL` when it went well, `URL/CODE` when not.

    It never makes a job fail or wait for long; what doesn't get through is said once.

    Args:
        url: as the user says it; whoever knows it can speak for the job, so it is kept out of all that is said.
        face: what to say it to.

    Raises:
        UsageError: it is no address.
    """

    def __init__(self, url: str, face: Face) -> None:
        scrub.remember([url])
        if not url.startswith(("http://", "https://")):
            raise UsageError(
                "--ping takes an http or https address", remedy="--ping https://hc.example.com/UUID"
            )
        self._url = url
        self._face = face
        self._said = False
        self._starting: threading.Thread | None = None

    def start(self) -> None:
        """Say that the job begins; nobody waits for it."""
        self._starting = threading.Thread(target=self._send, args=("start",), daemon=True)
        self._starting.start()

    def end(self, code: int) -> None:
        """Say how it ended."""
        if self._starting is not None:
            self._starting.join(_TIMEOUT_S)
        self._send("" if code == ExitCode.OK else str(int(code)))

    def _send(self, what: str) -> None:
        import httpx

        try:
            url = httpx.URL(self._url)
            if what:
                url = url.copy_with(path=f"{url.path.rstrip('/')}/{what}")
            reply = httpx.get(url, timeout=_TIMEOUT_S, follow_redirects=True)
            trouble = "" if reply.is_success else f"it answered {reply.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL) as cause:
            trouble = type(cause).__name__
        if trouble and not self._said:
            self._said = True
            self._face.say(f"the ping didn't get through: {trouble}; the job goes on")


def watched(face: Face, url: str | None, work: Callable[[], int]) -> int:
    """Do a night's work: the monitor hears of its beginning and of any end, and --quiet tells an error in one line.

    Args:
        face: how to speak.
        url: of --ping.
        work: gives the exit code.
    """
    ping = None if url is None else Ping(url, face)
    if ping is not None:
        ping.start()
    code: int = ExitCode.BUG
    try:
        code = work()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
        raise
    except Terminated:
        code = 128 + signal.SIGTERM
        raise
    except PromptKitError as error:
        code = exit_code(error)
        if not face.quiet:
            raise
        say_line(str(error))
    finally:
        if ping is not None:
            ping.end(code)
    return code

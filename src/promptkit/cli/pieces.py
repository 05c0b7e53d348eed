"""A text on stdout as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from promptkit.errors import OutputError
from promptkit.types.ids import show_id

if TYPE_CHECKING:
    from promptkit import Reply, ReplyStream


class Pieces:
    """Prints each piece at once. What can't be printed ends no call: it is paid, and is in the ledger."""

    def __init__(self) -> None:
        self._last = ""
        self._trouble: OSError | None = None

    def print(self, stream: ReplyStream) -> Reply:
        """Print a stream to its end; a line that was begun is ended, however the stream ends.

        Raises:
            PromptKitError: as `PromptKit.run` raises.
            OutputError: stdout couldn't be written. (A reader that has gone is no failure.)
        """
        try:
            with stream:
                for piece in stream:
                    self._write(piece)
        finally:
            if self._last and not self._last.endswith("\n"):
                self._write("\n")
        reply = stream.reply
        if self._trouble is not None and not isinstance(self._trouble, BrokenPipeError):
            raise OutputError(
                f"stdout can't be written: {self._trouble.strerror}",
                remedy=f"The reply is in the ledger: promptkit show {show_id(reply.id)}",
            )
        return reply

    def _write(self, text: str) -> None:
        if self._trouble is not None:
            return
        self._last = text  # first: an interrupt may come at any place
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as cause:
            self._trouble = cause

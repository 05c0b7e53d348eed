"""The command: each one parses, makes one library call, and prints."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command that the process was started with, and exit with its code."""
    from .run import run

    run()

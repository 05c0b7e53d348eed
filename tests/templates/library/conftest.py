"""A folder of templates to write into."""

from collections.abc import Callable
from pathlib import Path

import pytest

from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.templates.library import Library

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
def templates(tmp_path: Path) -> Path:
    path = tmp_path / "templates"
    path.mkdir()
    return path


@pytest.fixture
def write(templates: Path) -> Write:
    def put(name: str, text: str) -> Path:
        path = templates / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return put


@pytest.fixture
def library(templates: Path, write: Write) -> Library:
    """`shared/voice` and `ugc/script`, both published as version 1."""
    write("shared/voice/draft.jinja", VOICE)
    write("ugc/script/draft.jinja", SCRIPT)
    library = Library([templates])
    for name in ("shared/voice", "ugc/script"):
        publish(OwnTemplates(library, [templates]), name)
    return library

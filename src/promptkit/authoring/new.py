"""Beginning a template: a draft that renders at once, or the text of a version to go on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from promptkit._util.files import locked, make_folder, read_bytes, write_bytes
from promptkit.errors import TemplateError, UsageError
from promptkit.templates.folder import TemplateFolder, is_template_file
from promptkit.templates.reference import DRAFT, parse_ref
from promptkit.templates.template import Template
from promptkit.types import TemplateRef

from .publish import Desk


@dataclass(frozen=True, slots=True)
class Begun:
    """A new draft; `copied` is the version whose text it has, `versions` those that came with it."""

    file: Path
    copied: TemplateRef | None = None
    versions: tuple[int, ...] = ()


def begin(desk: Desk, name: str, *, source: str | None = None) -> Begun:
    """Begin a draft.

    Args:
        desk: where.
        name: what it is called.
        source: a reference whose text it starts from, else a small example. The shipped
            version of the same name brings its other versions along, since the project's
            folder then stands in front of the shipped one.

    Returns:
        The draft's file and what it was made of.

    Raises:
        UsageError: not a name, or there is nowhere to put it.
        TemplateError: there is one already, or the source can't be loaded.
    """
    ref = parse_ref(name)
    if ref.at is not None:
        raise UsageError(f"{name} names a version", remedy=f"A new template has a name only: {ref.name}")
    if not desk.folders:
        raise UsageError(
            "there is no folder for templates of your own",
            remedy="promptkit init makes a project with one.",
        )
    here = desk.find(ref.name)
    origin = None if source is None else desk.library.load(source)
    text = STARTER.encode() if origin is None else read_bytes(Path(origin.file))
    if here is not None:
        _check_free(desk, here, origin)
    shipped = here if here is not None and not desk.has(here) else None
    path = desk.folders[0] / ref.name if here is None or shipped else here.path
    file = path / f"{DRAFT}.jinja"
    make_folder(path)
    with locked(path):
        if file.exists():
            raise _has_draft(ref.name, file)
        if shipped is not None:
            _copy(shipped.path, path)
        write_bytes(file, text)
    brought = () if shipped is None else tuple(shipped.versions.seals)
    return Begun(file, None if origin is None else origin.ref, brought)


def _check_free(desk: Desk, here: TemplateFolder, origin: Template | None) -> None:
    """Refuse to put a template over one that is there, unless it starts from it."""
    if desk.has(here) and here.has_draft:
        raise _has_draft(here.name, here.file(DRAFT))
    if origin is None or origin.ref.name != here.name:
        newest = here.versions.newest
        whose = "your own" if desk.has(here) else "shipped"
        raise TemplateError(
            f"there is a template {here.name} ({whose}) already",
            file=here.path,
            remedy=f"To change it: promptkit templates new {here.name} --from {here.name}"
            f"{'' if newest is None else f'@{newest}'}. Else choose another name.",
        )


def _has_draft(name: str, file: Path) -> TemplateError:
    return TemplateError(
        f"{name} has a draft already, and it is left as it is",
        file=file,
        remedy="Edit that; or move it away first.",
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a template's folder, without the templates that lie below it and without its draft."""
    for path in sorted(source.rglob("*")):
        below = path.relative_to(source)
        inside = any(_holds_template(source / parent) for parent in below.parents if parent.name)
        if path.is_file() and not inside and path.name != f"{DRAFT}.jinja" and not path.name.startswith("."):
            make_folder((target / below).parent)
            write_bytes(target / below, read_bytes(path))


def _holds_template(folder: Path) -> bool:
    return any(is_template_file(path.name) for path in folder.iterdir())


STARTER: Final = """\
+++
# Front matter, in TOML. First, in one sentence, what it makes: `promptkit templates list` shows it.
description = "First line of a short video"

# Each variable is declared here, and what a caller gives is checked before anything is sent.
# Without a default it is required. Texts, numbers, true/false and lists; choices, lengths and bounds.
[variables.product]
description = "What the video is about"
min_length = 1
max_length = 300
default = "a steel bottle that keeps tea hot for ten hours"

[variables.tone]
description = "How it sounds"
choices = ["warm", "dry", "playful"]
default = "warm"

[variables.avoid]
description = "Words never to use"
max_length = 20
default = []

# What is asked of the model. The limit counts what it thinks, too: leave room.
[params]
max_output_tokens = 2000
reasoning = "low"
+++
{# A comment like this is never sent. All text stands in messages: "system", "user", "assistant".
   Put first what is the same in every call: providers bill a repeated beginning at a fraction.
   Text that several templates share goes into a partial of its own, with the variables that it reads:
   a template without messages. Include it by its name, and its variables are inherited. #}
{% message "system" %}
You write the first line of a short vertical video: spoken language, 12 words at most, no greeting, no brand name.
Answer with that line alone.
{% endmessage %}
{% message "user" %}
Product: {{ product }}
Tone: {{ tone }}
{% if avoid %}
Words never to use: {{ avoid|join(", ") }}
{% endif %}
{% endmessage %}
"""

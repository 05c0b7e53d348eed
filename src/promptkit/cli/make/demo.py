"""`promptkit demo`: five rows on the embedded model, without a key."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from promptkit.cli.command import Cli
from promptkit.cli.output import Table, spent, usd_text
from promptkit.errors import ExitCode, counted
from promptkit.types import Json, RowResult
from promptkit.types.ids import show_id

if TYPE_CHECKING:
    from promptkit.batch.job import JobReport
    from promptkit.config.settings import Settings


def demo(cli: Cli) -> int:
    """Run five rows on the embedded model, without a key.

    Five rows of a sample table become five opening lines, with the template demo/hook and a real
    model on this machine. Every attempt and token is recorded in the ledger. The first run
    downloads the weights of the model (93 MB) with pip.

    Examples:
        promptkit demo
        promptkit demo --json
    """
    from promptkit import PromptKit
    from promptkit.config.paths import shipped

    settings = cli.settings()
    _prepare(cli)
    with PromptKit(settings) as kit:
        job = kit.batch(
            "demo/hook",
            shipped("templates") / "sample" / "demo.csv",
            job=f"demo-{datetime.now(settings.timezone):%Y-%m-%d-%H%M%S}",
            route="demo",
            concurrency=2,
        )
        results = sorted(job, key=lambda result: result.number)
        report = job.report()
    if cli.as_json:
        cli.print_json(_demo_json(results, report, settings))
    else:
        _print_demo(cli, results, report, settings)
    return ExitCode.SOME_FAILED if report.failed else ExitCode.OK


def _prepare(cli: Cli) -> None:
    """Make sure that the embedded model can run.

    Raises:
        LocalModelError: its package is not installed, or its weights can't be downloaded.
    """
    from promptkit.cli.machine.local import download_weights
    from promptkit.providers.local_weights import LocalModelError

    if find_spec("xllamacpp") is None:
        raise LocalModelError(
            "the embedded model needs the package xllamacpp, which is not installed",
            remedy="pip install 'promptkit-router[local]'",
        )
    download_weights(cli)


def _print_demo(cli: Cli, results: Sequence[RowResult], report: JobReport, settings: Settings) -> None:
    """Print rows and texts, their cost, and the next commands."""
    read, written = _tokens(results)
    table = Table(
        ("brand", "~what the model wrote", ">tokens", "call"), [_table_row(result) for result in results]
    )
    cli.print(table.text(color=cli.color))
    cli.print(
        f"\n{counted(report.total, 'row')}, {counted(report.money.attempts, 'call')}, "
        f"{read:,} tokens read and {written:,} written, {spent(report.money)}\n"
        f"ledger: {_from_home(settings.database_path)}"
    )
    first = next((show_id(result.call) for result in results if result.call is not None), "ID")
    command = _command()
    cli.notice(
        "see what was recorded:\n"
        f"  {command} log\n"
        f"  {command} show {first}\n"
        "and create your own project:\n"
        f"  {command} init my-project"
    )


def _table_row(result: RowResult) -> tuple[str, ...]:
    usage = result.usage
    return (
        str(result.cells["brand"]),
        (result.text or result.error or "").strip(),
        "" if usage is None else f"{usage.input_tokens} + {usage.output_tokens}",
        "" if result.call is None else show_id(result.call),
    )


def _tokens(results: Sequence[RowResult]) -> tuple[int, int]:
    usages = [result.usage for result in results if result.usage is not None]
    return sum(usage.input_tokens for usage in usages), sum(usage.output_tokens for usage in usages)


def _command() -> str:
    """Return what to type for this command: its path, if the shell does not find it by its name."""
    path = Path(sys.argv[0])
    if path.name != "promptkit" or which("promptkit") is not None:
        return "promptkit"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _from_home(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _demo_json(results: Sequence[RowResult], report: JobReport, settings: Settings) -> dict[str, Json]:
    read, written = _tokens(results)
    return {
        "job": report.name,
        "ledger": str(settings.database_path),
        "calls": report.money.attempts,
        "input_tokens": read,
        "output_tokens": written,
        "cost_usd": usd_text(report.money.known_pico),
        "rows": [
            {
                **dict(result.cells),
                "text": result.text,
                "status": result.status.value,
                "error": result.error,
                "call": None if result.call is None else show_id(result.call),
            }
            for result in results
        ],
    }

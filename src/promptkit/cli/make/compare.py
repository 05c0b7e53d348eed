"""`promptkit compare`: the same rows through several targets or versions, side by side."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.errors import ExitCode, OutputError, UsageError, counted
from promptkit.types import dollars

if TYPE_CHECKING:
    from promptkit.engine.context import Session
    from promptkit.reports.compare import ComparisonEstimate, ComparisonRun
    from promptkit.reports.comparison import Comparison

ColumnTargets = Annotated[
    list[str] | None,
    Option("--targets", metavar="A,B,C", help="One column per target: PROVIDER/MODEL, with commas."),
]
ColumnVersions = Annotated[
    list[str] | None,
    Option("--versions", metavar="1,2", help="One column per version: 2, draft, a label, with commas."),
]
FirstRows = Annotated[int, Option("--limit", metavar="N", min=1, help="The first N rows of the table.")]
HtmlFile = Annotated[Path | None, Option("-o", "--out", metavar="FILE.html", help="Also write an HTML page.")]
Name = Annotated[
    str | None,
    Option(
        "--job",
        metavar="NAME",
        help="The comparison's name; {date} is the budget day. Default: derived from REF and ROWS. "
        "Another name is paid again.",
    ),
]
Concurrency = Annotated[
    int, Option("--concurrency", metavar="N", min=1, max=1000, help="Rows in flight at once, per column.")
]


def compare(
    cli: Cli,
    ref: options.Ref,
    rows: options.Rows,
    targets: ColumnTargets = None,
    versions: ColumnVersions = None,
    limit: FirstRows = 5,
    out: HtmlFile = None,
    job: Name = None,
    concurrency: Concurrency = 4,
    retry_failed: options.RetryFailed = False,
    map_: options.Map = None,
    var: options.Vars = None,
    vars_: options.VarsFile = None,
    tag: options.RowTags = None,
    route: options.RouteName = None,
    budget: options.Budget = None,
) -> int:
    """Run the same rows through several models or versions, side by side.

    Each target gets each row, without failover to another one; with --versions alone, all versions
    use one route. The estimated cost is printed first. Every text is a call in the ledger with the
    tag compare=NAME. The same command shows the existing texts and adds the missing ones; nothing
    is paid twice.

    Examples:
        promptkit compare ugc/hooks rows.csv --targets openai/gpt-6-luna,anthropic/claude-haiku-5-5
        promptkit compare ugc/script rows.csv --versions 1,draft --limit 10 -o compare.html --budget 0.50
        promptkit compare ugc/hooks rows.csv --targets openai/gpt-6-luna,gemini/gemini-2.5-flash-lite --json
    """
    from promptkit.batch.input import HeadSource, source_of
    from promptkit.batch.options import job_name
    from promptkit.batch.output import check_out
    from promptkit.reports.compare import TAG, CompareOptions, ComparisonRun, columns_of
    from promptkit.templates.reference import parse_ref

    tags = values.read_tags(tag)
    if TAG in tags:
        raise UsageError(f"the tag {TAG!r} is the name of the comparison", remedy=f"--job {tags[TAG]}")
    session = cli.session()
    columns = columns_of(
        session, ref, values.read_list(versions), values.read_list(targets), route=route, tags=tags
    )
    if out is not None:
        check_out(out, rows)
    head = HeadSource(source_of(rows, None), limit)
    if not head.records:
        raise UsageError(f"{rows} has no rows")
    if not head.is_all:
        cli.notice(f"comparing the first {counted(limit, 'row')} of {rows}; --limit N changes that")
    comparing = ComparisonRun(
        session,
        job_name(job, parse_ref(ref).name, head.name, None, session.today()),
        head,
        columns,
        CompareOptions(
            mapping=values.read_mapping(map_),
            constants=values.read_variables(var, vars_),
            tags=tags,
            cap_pico=values.read_cap(budget),
            concurrency=concurrency,
            retry_failed=retry_failed,
            by_rules=route is None and not targets,
        ),
    )
    return asyncio.run(_run(cli, session, comparing, out))


async def _run(cli: Cli, session: Session, comparing: ComparisonRun, out: Path | None) -> int:
    from promptkit.cli.job_run import INTERRUPTED, StopSignals
    from promptkit.cli.progress import Pace, show_progress

    signals = StopSignals(cli, comparing)
    try:
        with signals.listening():
            offer = await comparing.prepare()
            cli.notice(_estimate_text(offer))
            pace = Pace(offer.cells, offer.cells - offer.calls, offer.calls, offer.spent_pico)
            with show_progress(cli, pace) as progress:
                await comparing.run(progress.add)
            comparison = await _print_comparison(cli, session, comparing, out, is_new=bool(offer.calls))
            return signals.code or await _exit_code(cli, session, comparing, comparison)
    except asyncio.CancelledError:
        if signals.received is None:
            raise
        cli.notice(INTERRUPTED)
        return signals.code
    finally:
        await session.aclose()


def _estimate_text(offer: ComparisonEstimate) -> str:
    """Return what the comparison costs, before anything is sent."""
    done = offer.cells - offer.calls
    paid = f"{done:,} of {counted(offer.cells, 'text')} already paid" if offer.spent_pico else ""
    if not offer.calls:
        return f"{paid or counted(offer.cells, 'text')}; nothing to pay"
    cost = (
        f"{counted(offer.calls, 'call')}: about {dollars(offer.cost.about_pico)}, "
        f"at most {dollars(offer.cost.at_most_pico)} without retries"
    )
    return "; ".join(part for part in (paid, cost) if part)


async def _print_comparison(
    cli: Cli, session: Session, comparing: ComparisonRun, out: Path | None, *, is_new: bool
) -> Comparison:
    """Print the comparison and write its page; then erase the texts that may not be kept."""
    from promptkit.cli.views.comparison import comparison_json, comparison_text

    ledger = await session.ledger()
    comparison = comparing.read(ledger)
    if cli.as_json:
        cli.print_json(comparison_json(comparison, out))
    else:
        cli.print(comparison_text(comparison, with_texts=out is None, color=cli.color))
    if out is not None:
        _write_page(cli, session, comparison, out, erased=comparing.erased(ledger), is_new=is_new)
    await comparing.forget()
    return comparison


def _write_page(
    cli: Cli, session: Session, comparison: Comparison, out: Path, *, erased: int, is_new: bool
) -> None:
    """Write the page, unless the existing one has texts that are stored nowhere else.

    Raises:
        OutputError: it is not writable, or may not be overwritten.
    """
    from promptkit._util.files import replacing
    from promptkit.cli.views.comparison_html import html_page

    if erased and out.is_file():
        if is_new:
            raise OutputError(
                f"exists, and {erased:,} of its texts are stored nowhere else",
                file=out,
                remedy="Write the page to another file with -o.",
            )
        cli.notice(f"{out} is unchanged, because its texts are stored nowhere else")
        return
    page = html_page(comparison, session.settings.timezone, session.now())
    try:
        with replacing(out) as file:
            file.write(page.encode(errors="replace"))
    except OSError as cause:
        raise OutputError(
            f"not writable: {cause.strerror}",
            file=out,
            remedy="The texts are in the ledger: the same command writes them and pays nothing.",
        ) from cause
    cli.notice(f"{out} shows {counted(len(comparison.rows), 'row')} side by side")


async def _exit_code(cli: Cli, session: Session, comparing: ComparisonRun, comparison: Comparison) -> int:
    """Print what stopped the comparison and what to do next; return the exit code."""
    from promptkit.cli.job_run import soft_cap_text
    from promptkit.cli.main import report_error
    from promptkit.errors import exit_code, worst
    from promptkit.reports.compare import TAG

    codes = [exit_code(stop) for stop in comparing.stops]
    for stop in {stop.message: stop for stop in comparing.stops}.values():
        report_error(stop)
    for passed in (await session.engine()).soft_passed.values():
        cli.notice(soft_cap_text(passed))
    if any(figures.failed for figures in comparison.figures):
        codes.append(ExitCode.SOME_FAILED)
        cli.notice("--retry-failed with the same command sends the failed rows again")
    cli.notice(f"`promptkit log --tag {TAG}={comparison.name}` lists every call")
    return worst(codes)

"""`promptkit jobs export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from promptkit.batch.columns import output_format
from promptkit.batch.job import job_named
from promptkit.batch.options import pinned_output
from promptkit.batch.output import check_out, encoded, write_failed, write_output
from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.views.job import input_file
from promptkit.errors import counted

Out = Annotated[Path | None, Option("-o", "--out", metavar="FILE", help="The file. Default: stdout.")]


def export(
    cli: Cli,
    name: options.Job,
    out: Out = None,
    format_: options.OutFormat = None,
    failed: options.Failed = None,
) -> None:
    """Write a job's output again, from the ledger.

    The output is complete and in the order of the input, also while the job is running. With
    --failed and without -o, only the failed rows are written.

    Examples:
        promptkit jobs export night-2026-11-21 -o hooks.csv --failed failed.csv
        promptkit jobs export night-2026-11-21 --format jsonl > hooks.jsonl
    """
    session = cli.session()
    with cli.ledger(session.settings) as ledger:
        job = job_named(ledger, name, session.today())
        pinned_format, like = pinned_output(job)
        for path in (out, failed):
            if path is not None:
                check_out(path, input_file(job))
        if out is not None:
            count = write_output(ledger, job, out, format_=format_, like=like)
            total = sum(ledger.jobs.row_counts(job.id).values())
            cli.notice(f"wrote {count:,} of {counted(total, 'row')} to {out}")
        if failed is not None:
            count = write_failed(ledger, job, failed, like)
            cli.notice(f"wrote {counted(count, 'failed row')} to {failed}")
        if out is None and failed is None:
            chosen = output_format(None, like, format_ or pinned_format)
            for part in encoded(ledger, job, chosen, like=like):
                cli.print_bytes(part)

"""A night's batch, as cron starts it: quote, run, and a report for the morning.

    0 22 * * *  cd "$HOME/studio" && .venv/bin/python nightly.py rows.csv --budget 2 --deadline 06:30

Run it in a project folder (`promptkit init`). It may be killed and started again at any moment: the
same command goes on with the same night, and no text is paid twice. The exit code is promptkit's:
0 all well, 1 some rows failed, 6 over budget, 8 deadline, 143 stopped ...
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from decimal import Decimal

from promptkit import PromptKit, PromptKitError
from promptkit.batch.job import JobReport
from promptkit.errors import exit_code
from promptkit.ledger.records import Money
from promptkit.types import dollars


def main() -> int:
    """Make the texts of tonight."""
    parser = argparse.ArgumentParser(description="Hooks for every row, by the morning.")
    parser.add_argument("rows", help="CSV, TSV, JSONL or JSON; its columns fill the template's variables")
    parser.add_argument("--template", default="ugc/hooks")
    parser.add_argument("--budget", type=Decimal, default=Decimal(2), help="hard cap of the night, in USD")
    parser.add_argument("--deadline", help="when to send nothing more, like 06:30")
    asked = parser.parse_args()

    with PromptKit() as kit:  # `say=` would take the notices; without it they go to the log
        try:
            return night(kit, asked)
        except PromptKitError as error:  # one line and the code say what it was: cron mails both
            print(error, file=sys.stderr)
            return exit_code(error)


def night(kit: PromptKit, asked: argparse.Namespace) -> int:
    """Run tonight's job and say how it went; returns the exit code."""
    job = kit.batch(
        asked.template,
        asked.rows,
        job="night-{date}",  # a budget day is a night: started again after midnight, it goes on
        tags={"client": "@brand", "deliverable": "@product"},  # what the morning's report goes by
        budget_usd=asked.budget,
        until_budget=False,  # rather nothing than half a delivery: it refuses before the first call
        canary=20,  # a broken template costs twenty rows, not all of them
        out="hooks.csv",  # whole or not at all, in the order of the rows
        failed="failed.csv",  # the rows without a text: correct them, and they are an input
        deadline=asked.deadline,
    )
    stopped: list[int] = []

    def stop(number: int, _: object) -> None:
        """Let the calls in flight finish, for they are paid for; the same command does the rest."""
        stopped.append(number)
        job.halt()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

    quote = job.quote()  # reads and renders every row, sends nothing
    print(
        f"{job.name}: {quote.counts.to_send:,} of {quote.counts.rows:,} rows to send, "
        f"expected {dollars(quote.figures.expected_pico)}, at most {dollars(quote.figures.worst_pico)}"
    )
    code, reasons = 0, Counter[str]()
    try:
        for row in job:  # those that were made before come first, from the ledger
            if row.text is None:
                reasons[row.error or row.status] += 1
    except PromptKitError as error:  # budget, deadline, canary: what was made till then stands
        print(error, file=sys.stderr)
        code = exit_code(error)
    report = job.report()
    morning(kit, report, reasons)
    if stopped:
        return 128 + stopped[0]
    return code or (1 if report.failed or report.pending else 0)


def morning(kit: PromptKit, job: JobReport, reasons: Counter[str]) -> None:
    """What somebody wants to read at nine: what it cost, what failed and why, what to do next."""
    print(f"{job.total:,} rows: {job.failed:,} failed, {job.pending:,} waiting")
    for by in ("client", "deliverable"):
        for group in kit.report([by], job=job.name).groups:
            print(f"  {by} {group.key[0]}: {cost(group.tally.money)}")
    for why, count in reasons.most_common():
        print(f"  {count:,} failed: {why}")
    if job.pending:
        print("next: the same command goes on, and pays nothing twice")
    elif job.failed:
        print(f"next: promptkit jobs show {job.name}; failed.csv has the rows")


def cost(money: Money) -> str:
    """What is known, and what a request that was never answered may add."""
    unknown = f" + up to {dollars(money.at_most_unknown_pico)} unknown" if money.unknown else ""
    return f"{dollars(money.known_pico)}{unknown}"


if __name__ == "__main__":
    sys.exit(main())

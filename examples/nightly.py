"""Run a nightly batch from cron: estimate the cost, send the rows, print a report for the morning.

    0 22 * * *  cd "$HOME/studio" && .venv/bin/python nightly.py rows.csv --budget 2 --deadline 06:30

Run it in a project folder (`promptkit init`). You can kill it and start it again at any time: the same
command continues the same night, and does not send paid rows again. The exit codes are promptkit's:
0 success, 1 some rows failed, 6 budget exhausted, 8 deadline, 143 stopped by SIGTERM, ...
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
    """Parse the arguments and run tonight's job."""
    parser = argparse.ArgumentParser(description="Hooks for every row, by the morning.")
    parser.add_argument("rows", help="CSV, TSV, JSONL or JSON; its columns fill the template's variables")
    parser.add_argument("--template", default="ugc/hooks")
    parser.add_argument("--budget", type=Decimal, default=Decimal(2), help="hard cap for the night, in USD")
    parser.add_argument("--deadline", help="the time after which nothing is sent, such as 06:30")
    arguments = parser.parse_args()

    with PromptKit() as kit:  # notices go to the logger "promptkit"
        try:
            return night(kit, arguments)
        except PromptKitError as error:  # cron mails this line
            print(error, file=sys.stderr)
            return exit_code(error)


def night(kit: PromptKit, arguments: argparse.Namespace) -> int:
    """Run tonight's job, print the report, and return the exit code."""
    job = kit.batch(
        arguments.template,
        arguments.rows,
        job="night-{date}",  # the budget day: after midnight, the same command continues
        tags={"client": "@brand", "deliverable": "@product"},  # the groups of the report
        budget_usd=arguments.budget,
        until_budget=False,  # send nothing if the budget may not suffice
        canary=20,  # a broken template costs twenty rows, not all of them
        out="hooks.csv",  # written atomically, in the order of the rows
        failed="failed.csv",  # the rows without a text, as an input file to correct
        deadline=arguments.deadline,
    )
    stopped: list[int] = []

    def stop(number: int, _: object) -> None:
        """Let the calls in flight finish; the same command sends the rest."""
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
        for row in job:  # rows of an earlier run come first, from the ledger
            if row.text is None:
                reasons[row.error or row.status] += 1
    except PromptKitError as error:  # budget, deadline or canary: finished rows are kept
        print(error, file=sys.stderr)
        code = exit_code(error)
    report = job.report()
    morning(kit, report, reasons)
    if stopped:
        return 128 + stopped[0]
    return code or (1 if report.failed or report.pending else 0)


def morning(kit: PromptKit, job: JobReport, reasons: Counter[str]) -> None:
    """Print what you want to know in the morning: costs, failures and their reasons, the next step."""
    print(f"{job.total:,} rows: {job.failed:,} failed, {job.pending:,} pending")
    for by in ("client", "deliverable"):
        for group in kit.report([by], job=job.name).groups:
            print(f"  {by} {group.key[0]}: {cost(group.tally.money)}")
    for reason, count in reasons.most_common():
        print(f"  {count:,} failed: {reason}")
    if job.pending:
        print("next: run the same command again; it does not pay twice")
    elif job.failed:
        print(f"next: promptkit jobs show {job.name}; the rows are in failed.csv")


def cost(money: Money) -> str:
    """Return the known cost, and the max cost of unknown outcomes."""
    unknown = f" + up to {dollars(money.at_most_unknown_pico)} unknown" if money.unknown else ""
    return f"{dollars(money.known_pico)}{unknown}"


if __name__ == "__main__":
    sys.exit(main())

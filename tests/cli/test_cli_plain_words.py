"""What the command says in a corner: no library's own words, and a remedy that helps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_kit import Invoke, process

BATCH = ("batch", "ugc/hooks", "rows.csv", "-o", "out.csv", "--job", "n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("command", [("templates", "list"), ("providers", "list")])
def test_a_table_on_a_full_disk_is_exit_9(project: Path, command: tuple[str, ...]) -> None:
    """Also where Python doesn't buffer, as containers have it: the table's drawing touches no stdout."""
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    with Path("/dev/full").open("w") as full:
        ran = process(*command, "-q", cwd=project, env=unbuffered, stdout=full)
    assert (ran.code, ran.err) == (9, "promptkit: stdout is not writable: No space left on device\n")


def test_a_choice_that_is_none_is_told_plainly(invoke: Invoke) -> None:
    """The option, the value and the choices; not how the library that checked it begins its messages."""
    ran = invoke("log", "--fault", "nope")
    assert ran.code == 2
    assert ran.err.startswith("promptkit: invalid value for '--fault': 'nope' is not one of 'transient'")


def test_rows_that_are_only_invalid_are_to_be_corrected(project: Path, invoke: Invoke) -> None:
    """The ledger has no call of an invalid row and --retry-failed sends none: neither is recommended."""
    (project / "rows.csv").write_text("brand,product,audience\nBarly,bar,runners\nLumy,,all\n", "utf-8")
    ran = invoke(*BATCH)
    assert ran.code == 1
    assert "invalid rows; correct them" in ran.err
    assert "--retry-failed" not in ran.err

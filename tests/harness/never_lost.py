"""Never lost: a night's job that is killed, and finds its disk full or its database read-only, again and again.

    python3 .ci/start.py harness never_lost [--rows 5000] [--kills 100] [--slots 16] [--pack N]
        [--seed N] [--json FILE]

The real `promptkit batch`, in a process, against a billing simulator that is never killed. It is
SIGKILLed at random moments and at every named point, and each time started again by the same
command. In a second job the disks of database and output are full for a while, in a third the
database is read-only or moved away. At the end each row must stand in the output once, in order;
the bill must equal the books but for attempts marked unknown, at most one a slot each time; no
row with a stored reply may have been sent again, by the simulator's own journal; no cap may have
been passed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from night import Night, Run
from tally import Tally

STARTING: Final = ("made", "migrated", "ingesting", "ingested")
WORKING: Final = ("hold", "open", "sent", "reply", "close")
ENDING: Final = ("done", "output", "written", "replaced")
STARTING_SHARE: Final = 0.2
"""Of the random kills strike while the command starts."""
_INSIDE: Final = "PROMPTKIT_HARNESS_INSIDE"
_BALLAST: Final = "ballast"


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    rows: int = 5_000
    kills: int = 100
    troubles: int = 5
    slots: int = 16
    pack: int = 1
    seed: int = 1
    life_s: float = 2.4
    """Between the first request of a run and its death are at most so many seconds."""

    @property
    def latency_s(self) -> float:
        """So slow that the random kills see about half of the rows done."""
        lives_s = self.kills * (1 - STARTING_SHARE) * self.life_s / 2
        return self.slots * self.pack * lives_s / (0.5 * self.rows)


# -------------------------------------------------------------------------------- killed


def killed(folder: Path, size: Size) -> Tally:
    """SIGKILL at random moments and at every point."""
    tally = Tally("killed", size.rows, size.slots, size.pack)
    dice = random.Random(size.seed)
    points = len(STARTING) + len(WORKING) + len(ENDING) + 1
    cuts = size.kills + points
    with Night(
        folder, folder / "out.csv", tally, seed=size.seed, latency_s=size.latency_s, cuts=cuts
    ) as night:
        for point in STARTING:
            night.die_at(point, dice.randint(1, 1 + size.rows // 2_000) if point == "ingesting" else 1)
        turns: list[str | None] = [*WORKING, *[None] * size.kills]
        dice.shuffle(turns)
        for point in turns:
            if point is None:
                night.kill_somewhere(dice, size.life_s, STARTING_SHARE)
            else:
                night.die_at(point, dice.randint(1, 12))
            if point == "sent":
                night.die_at("sweep", 1)  # what it left is being settled
        for point in ENDING:
            night.die_at(point, dice.randint(1, size.rows) if point == "output" else 1)
        night.finished(night.start(), sends=False)
        night.judge()
    return tally


# ----------------------------------------------------------------------------- full disk


class Limited:
    """A folder where no small disk can be mounted: files are limited in size, as by a quota or `ulimit -f`."""

    full = "the disk refused a write"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def fill(self, run: Run) -> None:
        """Leave no room for a run under way."""
        run.no_room()

    def start_full(self, night: Night, point: str) -> Run:
        """Start the command with no room from a point on."""
        return night.start_doomed("no-room", point)

    def free(self) -> None:
        """Make room: a new process has no limit."""


class SmallDisk(Limited):
    """A folder that is a small file system of its own."""

    full = "the disk is full"

    def __init__(self, folder: Path, megabytes: int) -> None:
        super().__init__(folder)
        self._megabytes = megabytes

    def __enter__(self) -> Self:
        size = f"size={self._megabytes}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.folder], check=True)  # noqa: S603, S607
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)  # noqa: S603, S607 - the system's own

    def fill(self, run: Run | None = None) -> None:
        """Write until nothing more goes in."""
        del run
        with (self.folder / _BALLAST).open("wb", buffering=0) as file:
            for size in (2**20, 4096, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def start_full(self, night: Night, point: str) -> Run:
        """Start the command on a full disk, whatever the point."""
        del point
        self.fill()
        return night.start()

    def free(self) -> None:
        """Remove what fills it."""
        (self.folder / _BALLAST).unlink()


def _disk(folder: Path, size: Size) -> Limited:
    return SmallDisk(folder, 16 + size.rows // 100) if os.environ.get(_INSIDE) else Limited(folder)


def full_disk(folder: Path, size: Size) -> Tally:
    """The disk of the database is full in mid-job and at the next start; at the end that of the output is."""
    how = "full disk" if os.environ.get(_INSIDE) else "full disk (as a limit of file sizes: no mounts here)"
    tally = Tally(how, size.rows, size.slots, size.pack)
    dice = random.Random(size.seed + 1)
    latency_s, cuts = _brisk(size), 2 * size.troubles + 1
    with _disk(folder / "disk", size) as disk, _disk(folder / "outside", size) as outside:
        out = outside.folder / "out.csv"
        with Night(disk.folder, out, tally, seed=size.seed + 1, latency_s=latency_s, cuts=cuts) as night:
            for _ in range(size.troubles):
                run = night.start()
                night.under_way(run)
                time.sleep(dice.uniform(0, size.life_s / 2))
                disk.fill(run)
                night.stopped(run, "database, in mid-job", disk.full)
                night.stopped(disk.start_full(night, "start"), "database, at the start", disk.full)
                disk.free()
            night.stopped(outside.start_full(night, "output"), "output", "can't be written")
            outside.free()
            night.finished(night.start(), sends=False)
            night.judge()
    return tally


# ----------------------------------------------------------------------------- read-only


def read_only(folder: Path, size: Size) -> Tally:
    """The database becomes read-only in mid-job, by SQLite's word and by modes, or is moved away."""
    tally = Tally("read-only", size.rows, size.slots, size.pack)
    dice = random.Random(size.seed + 2)
    inside = folder / "project"
    inside.mkdir()
    out, cuts = folder / "out.csv", 4 * size.troubles
    with Night(inside, out, tally, seed=size.seed + 2, latency_s=_brisk(size), cuts=cuts) as night:
        for _ in range(size.troubles):
            night.stopped(
                night.start_doomed("read-only", "commit", dice.randint(2, 30)),
                "read-only, in mid-job",
                "the database is read-only",
            )
            _moved(night, dice)
            _forbidden(night, dice)
        night.finished(night.start())
        night.finished(night.start(), sends=False)
        night.judge()
    return tally


def _moved(night: Night, dice: random.Random) -> None:
    """Moved away in mid-job, and put back."""
    away = night.database.with_name("away.db")
    run = night.start()
    night.under_way(run)
    time.sleep(dice.uniform(0, 0.3))
    night.database.rename(away)
    run.end()
    away.rename(night.database)
    night.stopped(run, "moved away", "the database was moved or replaced")


def _forbidden(night: Night, dice: random.Random) -> None:
    """Forbidden by the modes of file and folder: who has it open goes on, who starts is told."""
    run = night.start_doomed("bound", "start")
    night.under_way(run)
    _modes(night, file=0o444, folder=0o555)
    time.sleep(dice.uniform(0, 0.3))
    run.kill()
    told = night.start_doomed("bound", "start")
    told.end()
    _modes(night, file=0o600, folder=0o700)
    night.killed(run, "forbidden, in mid-job")
    night.stopped(told, "forbidden, at the start", "the database is read-only")


def _modes(night: Night, *, file: int, folder: int) -> None:
    for path in night.folder.glob(f"{night.database.name}*"):
        if path.is_file():
            path.chmod(file)
    night.folder.chmod(folder)


def _brisk(size: Size) -> float:
    """A latency with which the troubles fit into a part of the job."""
    return max(0.05, size.slots * size.pack * size.troubles * 4 / size.rows)


# ---------------------------------------------------------------------------- all of them

NIGHTS: Final[dict[str, Callable[[Path, Size], Tally]]] = {
    "killed": killed,
    "full-disk": full_disk,
    "read-only": read_only,
}


def run(folder: Path, size: Size, nights: Sequence[str] = tuple(NIGHTS)) -> list[Tally]:
    """The nights, side by side, each in a folder of its own."""

    def one(name: str) -> Tally:
        place = folder / name
        place.mkdir()
        began = time.monotonic()
        tally = NIGHTS[name](place, size)
        tally.seconds = time.monotonic() - began
        return tally

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, nights))


def as_text(tallies: Sequence[Tally]) -> str:
    """The report for people."""
    holds = "DOES NOT HOLD" if any(tally.wrong for tally in tallies) else "holds"
    return "\n".join([*(tally.as_text() for tally in tallies), holds])


def as_json(tallies: Sequence[Tally], size: Size) -> dict[str, Any]:
    """The report for programs."""
    nights = {tally.name: tally.as_json() for tally in tallies}
    return {"holds": not any(tally.wrong for tally in tallies), "seed": size.seed, "nights": nights}


def main() -> int:
    """Run them and print what came of it; 0 where all holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    plain = Size()
    for name in Size.__slots__:
        kind = float if name == "life_s" else int
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(plain, name))
    parser.add_argument("--only", choices=NIGHTS, action="append", help="This night alone (repeatable).")
    parser.add_argument("--json", type=Path, help="Write the report there, for programs.")
    parser.add_argument("--keep", type=Path, help="Work in this empty folder, and leave it.")
    options = parser.parse_args()
    _go_inside()
    size = Size(*(getattr(options, name) for name in Size.__slots__))
    with tempfile.TemporaryDirectory(prefix="promptkit-never-lost-") as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        tallies = run(folder, size, options.only or tuple(NIGHTS))
    if options.json:
        options.json.write_text(json.dumps(as_json(tallies, size), indent=2), encoding="utf-8")
    sys.stdout.write(as_text(tallies) + "\n")
    return 1 if any(tally.wrong for tally in tallies) else 0


def _go_inside() -> None:
    """Where the system allows it, go on where small disks can be mounted that nobody else sees."""
    unshare = shutil.which("unshare")
    if unshare is None or os.environ.get(_INSIDE):
        return
    probe = subprocess.run(  # noqa: S603 - the system's own
        [unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False, capture_output=True
    )
    if probe.returncode == 0:
        os.environ[_INSIDE] = "1"
        os.execv(unshare, [unshare, "-rm", sys.executable, *sys.argv])  # noqa: S606 - itself


if __name__ == "__main__":
    sys.exit(main())

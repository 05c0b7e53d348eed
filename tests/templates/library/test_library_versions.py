"""versions.toml."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.errors import TemplateError
from promptkit.templates.versions import LabelMove, Versions, read_versions, unsorted, write_versions

SEAL = "1:sha256:" + "ab" * 32

SEALS = st.dictionaries(st.integers(1, 99), st.just(SEAL), min_size=1, max_size=4)
MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC))
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@st.composite
def all_versions(draw: st.DrawFn) -> Versions:
    seals = draw(SEALS)
    numbers = st.sampled_from(sorted(seals))
    move = st.builds(
        LabelMove,
        st.sampled_from(["production", "staging"]) | TEXTS,
        numbers,
        st.none() | numbers,
        MOMENTS,
        TEXTS,
        TEXTS,
        st.booleans(),
        st.booleans(),
    )
    return Versions(dict(sorted(seals.items())), tuple(draw(st.lists(move, max_size=5))))


@given(all_versions())
def test_round_trip(versions: Versions) -> None:
    """What is written reads back."""
    assert read_versions(write_versions(versions), file="versions.toml") == versions


def test_as_people_see_it() -> None:
    """One line a fact, appended at the end: a conflict in git is solved by keeping both sides' lines."""
    versions = Versions({1: SEAL, 2: SEAL})
    versions = versions.with_move(LabelMove("production", 1, None, NOON, "Ana"))
    versions = versions.with_move(LabelMove("production", 2, 1, NOON, "Ben", 'a "hit"', forced=True))
    versions = versions.with_move(LabelMove("production", 1, 2, NOON, "Ana", rollback=True))
    assert write_versions(versions).split("\n\n", 1)[1] == (
        f'[seals]\nv1 = "{SEAL}"\nv2 = "{SEAL}"\n\n[labels]\nmoves = [\n'
        '  { label = "production", to = 1, at = 2026-11-22T12:00:00Z, by = "Ana" },\n'
        '  { label = "production", from = 1, to = 2, at = 2026-11-22T12:00:00Z, by = "Ben",'
        ' why = "a \\"hit\\"", forced = true },\n'
        '  { label = "production", from = 2, to = 1, at = 2026-11-22T12:00:00Z, by = "Ana",'
        " rollback = true },\n"
        "]\n"
    )
    assert versions.labels == {"production": 1}
    assert versions.newest == 2
    assert Versions().newest is None
    assert [move.line for move in read_versions(write_versions(versions), file="").moves] == [10, 11, 12]


STEPS: dict[str, tuple[str, int | None]] = {
    "never moved": ("", None),
    "one promotion": ("1", None),
    "two": ("1 2", 1),
    "back": ("1 2 -1", None),
    "three, back": ("1 2 3 -2", 1),
    "three, back twice": ("1 2 3 -2 -1", None),
    "back, then another": ("1 2 -1 3", 1),
    "to and fro are promotions": ("1 2 1", 2),
    "the same twice is one": ("1 1", None),
    "a rollback merged in from elsewhere": ("1 2 -7", None),
}


@pytest.mark.parametrize(("steps", "before"), STEPS.values(), ids=STEPS)
def test_what_a_label_meant_before(steps: str, before: int | None) -> None:
    """A rollback takes the last promotion away, so that the next one goes further back."""
    moves = [
        LabelMove("a", abs(number), rollback=number < 0) for number in (int(step) for step in steps.split())
    ]
    other = LabelMove("b", 9)
    versions = Versions({}, (other, *moves, other))
    assert versions.before("a") == before
    assert versions.history("a") == tuple(moves)


def moved(line: str) -> str:
    return f'[seals]\nv1 = "{SEAL}"\n[labels]\nmoves = [\n  {{ label = "a", to = 1 }},\n  {line},\n]\n'


BROKEN = {
    "conflict": ("[seals]\n<<<<<<< HEAD\n", 2, "conflict"),
    "half a conflict": ("[seals]\n\n=======\n", 3, "conflict"),
    "the end of a conflict": (">>>>>>> other\n", 1, "conflict"),
    "both published it": (f'[seals]\nv1 = "{SEAL}"\nv1 = "{SEAL}"\n', 3, "two seals for v1 (lines 2 and 3)"),
    "not TOML": ("[seals\n", 1, "not valid TOML"),
    "unknown key": ("seal = 1\n", 1, "unknown key"),
    "unknown key of labels": ("[labels]\nproduction = 1\n", 2, "unknown key"),
    "not a version": (f'[seals]\nx1 = "{SEAL}"\n', 2, "not a seal"),
    "not a seal": ('[seals]\nv1 = "sha256:ab"\n', 2, "not a seal"),
    "label on nothing": (moved('{ label = "a", to = 2 }'), 6, "put on version 2, which has no seal"),
    "no label": (moved("{ to = 1 }"), 4, "label is missing"),
    "not a time": (moved('{ label = "a", to = 1, at = "x" }'), 6, "a time with its zone"),
    "not a zone": (moved('{ label = "a", to = 1, at = 2026-11-22T09:00:00 }'), 6, "a time with its zone"),
    "unknown key of a move": (moved('{ label = "a", to = 1, who = "x" }'), 6, "unknown key"),
}


@pytest.mark.parametrize(("text", "line", "what"), BROKEN.values(), ids=BROKEN)
def test_broken(text: str, line: int, what: str) -> None:
    """A broken versions.toml is refused with file and line."""
    with pytest.raises(TemplateError) as caught:
        read_versions(text, file="versions.toml")
    assert what in caught.value.message
    assert (caught.value.file, caught.value.line) == ("versions.toml", line)


def test_out_of_order() -> None:
    """A move below a later one of its label is told with its line; other labels don't matter."""
    hours = {"a": (9, 11, 10), "b": (12,)}
    moves = [
        LabelMove(label, 1, at=NOON.replace(hour=hour)) for label, each in hours.items() for hour in each
    ]
    text = write_versions(Versions({1: SEAL}, (*moves, LabelMove("a", 1))))
    (problem,) = unsorted(read_versions(text, file="versions.toml"), file="versions.toml")
    assert problem.where == "versions.toml:11"
    assert "order of their times" in (problem.remedy or "")


def merged(tmp_path: Path, base: Versions, ours: Versions, theirs: Versions, *options: str) -> str:
    """What git makes of two sides."""
    files = [tmp_path / name for name in ("ours", "base", "theirs")]
    for file, versions in zip(files, (ours, base, theirs), strict=True):
        file.write_text(write_versions(versions))
    found = subprocess.run(  # noqa: S603 - git itself is what is tried
        [str(shutil.which("git")), "merge-file", "-p", *options, *map(str, files)],
        capture_output=True,
        check=False,
        text=True,
    )
    return found.stdout


@pytest.mark.parametrize("before", [0, 1], ids=["the first moves", "further moves"])
def test_a_merge_of_moves(tmp_path: Path, before: int) -> None:
    """Two sides that each moved a label conflict in one line each: both lines are kept."""
    base = Versions({1: SEAL, 2: SEAL}, (LabelMove("staging", 1),) * before)
    ours = base.with_move(LabelMove("production", 1, at=NOON, by="Ana"))
    theirs = base.with_move(LabelMove("staging", 2, at=NOON, by="Ben"))
    conflict = merged(tmp_path, base, ours, theirs)
    with pytest.raises(TemplateError, match="conflict in git") as caught:
        read_versions(conflict, file="versions.toml")
    assert "lines of both sides" in (caught.value.remedy or "")
    kept = merged(tmp_path, base, ours, theirs, "--union")
    assert read_versions(kept, file="versions.toml").labels == {"production": 1, "staging": 2}


def test_a_merge_of_versions(tmp_path: Path) -> None:
    """Two sides that published the same number are told so, and what to do."""
    base = Versions({1: SEAL})
    ours, theirs = base.with_seal(2, SEAL), base.with_seal(2, SEAL.replace("ab", "cd"))
    with pytest.raises(TemplateError, match="two seals for v2") as caught:
        read_versions(merged(tmp_path, base, ours, theirs, "--union"), file="versions.toml")
    assert "it becomes the next version" in (caught.value.remedy or "")

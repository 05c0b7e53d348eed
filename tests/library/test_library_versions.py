"""versions.toml."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.errors import TemplateError
from promptkit.library import LabelMove, Versions
from promptkit.library.versions import read_versions, write_versions

SEAL = "1:sha256:" + "ab" * 32

SEALS = st.dictionaries(st.integers(1, 99), st.just(SEAL), min_size=1, max_size=4)
MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC))


@st.composite
def all_versions(draw: st.DrawFn) -> Versions:
    seals = draw(SEALS)
    move = st.builds(
        LabelMove, st.sampled_from(sorted(seals)), MOMENTS, st.text(st.characters(exclude_categories=("Cs",)))
    )
    moves = draw(
        st.dictionaries(st.sampled_from(["production", "staging"]), st.lists(move, min_size=1).map(tuple))
    )
    return Versions(dict(sorted(seals.items())), moves)


@given(all_versions())
def test_round_trip(versions: Versions) -> None:
    """What is written reads back."""
    assert read_versions(write_versions(versions), file="versions.toml") == versions


def test_as_people_see_it() -> None:
    """One line a fact, appended at the end: a conflict in git is solved by keeping both sides' lines."""
    at = datetime(2026, 11, 22, 9, tzinfo=UTC)
    versions = Versions({1: SEAL, 2: SEAL}, {"production": (LabelMove(1), LabelMove(2, at, "ana"))})
    assert write_versions(versions).split("\n\n", 1)[1] == (
        f'[seals]\nv1 = "{SEAL}"\nv2 = "{SEAL}"\n\n'
        "[labels]\nproduction = [\n"
        "  { version = 1 },\n"
        '  { version = 2, at = 2026-11-22T09:00:00Z, by = "ana" },\n'
        "]\n"
    )
    assert versions.labels == {"production": 2}
    assert versions.newest == 2
    assert Versions().newest is None


BROKEN = {
    "conflict": ("[seals]\n<<<<<<< HEAD\n", 2, "conflict"),
    "not TOML": ("[seals\n", 1, "not valid TOML"),
    "unknown key": ("seal = 1\n", 1, "unknown key"),
    "not a version": (f'[seals]\nx1 = "{SEAL}"\n', 2, "not a seal"),
    "not a seal": ('[seals]\nv1 = "sha256:ab"\n', 2, "not a seal"),
    "label on nothing": (f'[seals]\nv1 = "{SEAL}"\n[labels]\na = [{{ version = 2 }}]\n', 4, "has no seal"),
    "label nowhere": ("[labels]\na = []\n", 2, "stands nowhere"),
    "not a time": (
        f'[seals]\nv1 = "{SEAL}"\n[labels]\na = [{{ version = 1, at = "x" }}]\n',
        4,
        "date with a time",
    ),
    "unknown key of a move": (
        f'[seals]\nv1 = "{SEAL}"\n[labels]\na = [{{ version = 1, who = "x" }}]\n',
        4,
        "unknown key",
    ),
}


@pytest.mark.parametrize(("text", "line", "what"), BROKEN.values(), ids=BROKEN)
def test_broken(text: str, line: int, what: str) -> None:
    """A broken versions.toml is refused with file and line."""
    with pytest.raises(TemplateError) as caught:
        read_versions(text, file="versions.toml")
    assert what in caught.value.what
    assert (caught.value.file, caught.value.line) == ("versions.toml", line)

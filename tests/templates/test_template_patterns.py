"""Patterns: the same answer as Python's own, in time by the length of the text."""

import re
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from work_counting import TWICE, calls_of

from promptkit.templates.patterns import Pattern, compiled

ATOMS = st.sampled_from(
    ["a", "b", ".", r"\d", r"\W", r"\s", "[ab]", "[^a]", "[a-z0-9_-]", "[]x]", r"[\]\-.]", r"\.", r"\\", "é"]
)
PIECES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "{0}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join).map("({})".format),
    ),
    max_leaves=6,
)
TEXTS = st.text("ab1 -.]x\\é\n", max_size=8)


@given(PIECES, TEXTS)
def test_as_python(pattern: str, text: str) -> None:
    """What a pattern matches is what Python's matcher matches, from end to end."""
    expected = re.fullmatch(pattern, text) is not None
    assert Pattern(pattern).matches(text) is expected
    assert Pattern(f"^{pattern}$").matches(text) is (re.fullmatch(f"^(?:{pattern})$", text) is not None)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("[a-z]+(-[a-z]+)*", "a-slug-of-words", "a--b"),
        (r"SKU-\d{4,6}", "SKU-12345", "SKU-123"),
        ("^[A-Z]{2}$", "FR", "FRA"),
        (r"a\$", "a$", "a"),
        (r"a\\$", "a\\", "a$"),
        ("a|b", "b", "ab"),
        ("", "", "a"),
        ("(|a)b?", "", "ba"),
    ],
)
def test_examples(pattern: str, yes: str, no: str) -> None:
    """Patterns as people write them."""
    assert compiled(pattern).matches(yes)
    assert not compiled(pattern).matches(no)


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "(a|a)*b", "(a*)*b", "(.*)(.*)(.*)(.*)x", "(a|ab|b)*c", "a{0,900}b"]
)
def test_no_catastrophe(pattern: str) -> None:
    """A pattern that takes Python's matcher for ever makes calls by the length of the text."""

    def refuses(count: int) -> None:
        assert not Pattern(pattern).matches("a" * count + "!")

    once, twice = (calls_of(partial(refuses, count)) for count in (3_000, 6_000))
    assert twice <= TWICE * once
    assert once <= 10 * 3_000


WRONG = {
    "(a": "without its )",
    "a)": "without its (",
    "[a": "without its ]",
    "[[:alpha:]]": "inside one",
    "*a": "repeats nothing",
    "{2}": "repeats nothing",
    "a**": "repetition of a repetition",
    "a{2}{3}": "repetition of a repetition",
    "a{3,2}": "from low to high",
    "a{1001}": "1,000 at most",
    r"(a)\1": r"\1 isn't available",
    r"\bword": r"\b isn't available",
    "a\\": "isn't available",
    "(?=a)": "(?...) isn't available",
    "(?i)a": "(?...) isn't available",
    "a^b": "the whole text",
    "a$b": "the whole text",
    "[z-a]": "bad character range",
    "((a{100}){100}){100}": "too large",
    "((){1000}){1000}": "too large",
    "(" * 21 + ")" * 21: "nest deeper",
    "a" * 501: "longer than 500",
}


@pytest.mark.parametrize(("pattern", "what"), WRONG.items())
def test_refused(pattern: str, what: str) -> None:
    """What can't be matched in bounded time, or isn't a pattern, is refused with its place."""
    with pytest.raises(ValueError, match=re.escape(what)):
        Pattern(pattern)


def test_many_letters() -> None:
    """What is remembered of a pattern stays bounded."""
    pattern = Pattern(".*x")
    assert not pattern.matches("".join(map(chr, range(0x4E00, 0x4E00 + 12_000))))
    assert len(pattern._steps) <= 5_000  # pyright: ignore[reportPrivateUsage] - what it keeps is asked

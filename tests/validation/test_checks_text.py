"""Checks on texts: words, sizes, languages, patterns, packs, JSON Schema."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptkit.types import Checks, Json, Rules
from promptkit.validation.schema import NotJson, check_json, read_json
from promptkit.validation.text import LANGUAGES, PACKS, check_text, language_of, rules_for

FRENCH = "Tu pars courir à jeun ? Regarde ce que j'ai dans la poche de ma veste."
ENGLISH = "You are off for a run with nothing in your stomach. Look what I have in my pocket."


def rules_broken(text: str, rules: Rules) -> list[str]:
    return [problem.rule for problem in check_text(text, rules)]


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("régime", "Pas de RÉGIME ici", True),
        ("régime", "Pas de re\u0301gime ici", True),
        ("regime", "Pas de régime ici", False),
        ("diet", "a dietician", False),
        ("diet*", "a Dietician", True),
        ("diet*", "undiet", False),
        ("free trial", "a free\n trial", True),
        ("free trial", "free-trial", False),
        ("n'importe", "n\u2019importe quoi", True),
        ("C++", "we write C++, too", True),
        ("🙏", "merci 🙏!", True),
        ("été", "l'été", True),
        ("straße", "STRASSE", True),
        ("beer", "a _beer_ a day", True),
        ("beer", "a be\u00ader, a be\u200ber", True),
        ("weight-loss", "weight\u2011loss", True),
        ("aujourd'hui", "aujourd\u02bchui", True),
        ("diet*", "a _dietary_ note", True),
    ],
)
def test_whole_words_in_any_case(word: str, text: str, found: bool) -> None:  # noqa: FBT001 - a column of the table
    """A word is found whole, whatever its case and however its accents are written."""
    assert bool(rules_broken(text, Rules(banned=(word,)))) is found
    assert bool(rules_broken(text, Rules(required=(word,)))) is not found


def test_a_banned_word_is_shown_where_it_stands() -> None:
    """The problem quotes what surrounds the word, once for each word."""
    (problem,) = check_text("It is cheap, so cheap.", Rules(banned=("cheap", "cheap")))
    assert problem.rule == "banned"
    assert str(problem) == "says 'cheap', a banned word: …it is cheap, so cheap.…"
    (missing,) = check_text("It is.", Rules(required=("Barly",)))
    assert missing.message == "doesn't say 'Barly'"


@pytest.mark.parametrize(
    ("rules", "broken"),
    [
        (Rules(min_words=4, max_words=4), []),
        (Rules(min_words=5), ["min_words"]),
        (Rules(max_words=3), ["max_words"]),
        (Rules(min_characters=25), ["min_characters"]),
        (Rules(max_characters=23), ["max_characters"]),
        (Rules(min_characters=24, max_characters=24), []),
    ],
)
def test_sizes(rules: Rules, broken: list[str]) -> None:
    """Bounds hold inclusively; an elision or a compound is one word."""
    assert rules_broken("L'été, un porte-clé, oui", rules) == broken


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (FRENCH, "fr"),
        (ENGLISH, "en"),
        ("Ich habe das nicht gesehen, aber es ist für dich und mich.", "de"),
        ("No es lo que piensas, pero te lo digo porque es para ti.", "es"),
        ("Non è quello che pensi, ma te lo dico perché è per te e per tutti.", "it"),
        ("Não é o que você pensa, mas eu digo isso para você também.", "pt"),
        ("Het is niet wat je denkt, maar ik zeg het voor jou en voor ons.", "nl"),
        ("Barly. Lumé. Glow Tea.", None),
        ("", None),
    ],
)
def test_languages(text: str, code: str | None) -> None:
    """A sentence tells its language, a list of names doesn't."""
    assert language_of(text) == code


def test_language_is_a_problem_only_where_it_can_be_told() -> None:
    """Undecided texts, and languages that aren't told apart, pass; a region counts as its language."""
    assert rules_broken(FRENCH, Rules(language="en")) == ["language"]
    assert not rules_broken(FRENCH, Rules(language="fr"))
    assert not rules_broken(FRENCH, Rules(language="fr-CA"))
    assert not rules_broken(FRENCH, Rules(language="ja"))
    assert not rules_broken("Barly !", Rules(language="en"))


def test_a_region_reads_its_languages_list() -> None:
    """fr-CA keeps to the French list: an English word of it is harmless there."""
    assert not rules_broken("crap", Rules(packs=("family-safe",), language="fr-CA"))
    assert rules_broken("bière", Rules(packs=("family-safe",), language="fr-CA"))


def test_characters_are_counted_as_readers_see_accents() -> None:
    """An accent of its own code point is no character of its own."""
    assert not rules_broken("e\u0301" * 5, Rules(max_characters=5))


def test_patterns() -> None:
    """Each must be found, or must not."""
    rules = Rules(matches=(r"^\d\.", "x"), not_matches=(r"#\w+", "y"))
    problems = check_text("1. Look #now", rules)
    assert [problem.message for problem in problems] == [
        "nothing in it matches 'x'",
        "'#now' matches '#\\\\w+'",
    ]


def test_the_family_pack_reads_the_texts_language() -> None:
    """A word counts in its own language; where none is known, all lists count."""
    pack = Rules(packs=("family-safe",))
    assert rules_broken("On trinque : un verre de vin dans la main, et pour toi ?", pack) == ["family-safe"]
    assert not rules_broken("The vin number is on the door of your car and it is new.", pack)
    assert rules_broken("vin", pack) == ["family-safe"]
    assert rules_broken("vin", Rules(packs=("family-safe",), language="fr")) == ["family-safe"]
    assert not rules_broken("vin", Rules(packs=("family-safe",), language="en"))
    assert rules_broken("vin", Rules(packs=("family-safe",), language="de")) == ["family-safe"]


@pytest.mark.parametrize(
    "text",
    [
        FRENCH,
        ENGLISH,
        "Un goûter avec les enfants, et des fruits.",
        "A bar, a bite, a class.",
        "Une salopette, une tarte cuite au four, bourrée de vitamines : tu es l'héroïne de ton matin.",
        "La droguerie de Puteaux",
        "A stable income, stability for the family, and good fatty acids.",
    ],
)
def test_harmless_texts_pass_the_pack(text: str) -> None:
    """What a family brand says every day is not banned."""
    assert not check_text(text, Rules(packs=("family-safe",)))


def test_packs_speak_languages_that_are_told_apart() -> None:
    """Every list is of a known language, and every word one that can be found."""
    for pack in PACKS.values():
        assert pack.keys() <= LANGUAGES
        for words in pack.values():
            assert len(words) == len(set(words))
            for word in words:
                assert rules_broken(word.rstrip("*"), Rules(banned=(word,))), word


def test_rules_take_a_calls_words_and_language() -> None:
    """What variables hold is added; absent and empty values add nothing."""
    checks = Checks(
        Rules(banned=("cheap",), language="en"),
        banned_from=("avoid", "more"),
        required_from=("brand", "absent"),
        language_from="lang",
    )
    rules = rules_for(
        checks, {"avoid": ["slim", " ", "*", "diet"], "more": "", "brand": "Barly", "lang": "fr"}
    )
    assert rules == Rules(banned=("cheap", "slim", "diet"), required=("Barly",), language="fr")
    assert rules_for(checks, {}) == checks.rules
    assert rules_for(Checks(), {"lang": "fr"}) == Rules()


@settings(max_examples=60)
@given(
    st.text(max_size=60),
    st.text(alphabet="aé ß*İ", min_size=1, max_size=5).filter(lambda word: word.strip(" *")),
)
def test_banned_and_required_are_opposites(text: str, word: str) -> None:
    """Of any word and any text, exactly one of the two rules is broken."""
    banned = bool(check_text(text, Rules(banned=(word,))))
    required = bool(check_text(text, Rules(required=(word,))))
    assert banned is not required


@pytest.mark.parametrize(
    ("value", "schema", "problems"),
    [
        ({"a": 1}, {"type": "object", "required": ["a"]}, []),
        ({"a": "x"}, {"properties": {"a": {"type": "integer"}}}, ["$.a: 'x' is not of type 'integer'"]),
        (
            [],
            {"type": "nonsense"},
            ["the schema itself is broken: 'nonsense' is not valid under any of the given schemas"],
        ),
        (
            {},
            {"$ref": "https://x.example/s"},
            ["the schema can't be followed: Unresolvable: https://x.example/s"],
        ),
        (
            "a",
            {"pattern": "("},
            ["the schema itself is broken: '(' is not a 'regex'"],
        ),
    ],
)
def test_json_against_a_schema(value: Json, schema: dict[str, Json], problems: list[str]) -> None:
    """Problems name their path; a schema that can't serve is one, and nothing is fetched."""
    assert [problem.message for problem in check_json(value, schema)] == problems


@pytest.mark.parametrize(
    ("value", "step", "fits"),
    [
        (19.99, 0.01, True),
        (0.7, 0.1, True),
        (0.75, 0.1, False),
        (7, 3, False),
        (1e300, 0.01, True),
        (True, 2, True),
    ],
)
def test_multiples_are_counted_in_decimals(value: Json, step: float, fits: bool) -> None:  # noqa: FBT001 - a column of the table
    """A price of 19.99 is a multiple of 0.01, whatever binary fractions say."""
    assert bool(check_json(value, {"multipleOf": step})) is not fits


def test_a_number_beyond_all_numbers_is_no_json() -> None:
    """1e999 would be read as infinite, which no JSON can say again."""
    assert isinstance(read_json('{"a": 1e999}'), NotJson)
    assert isinstance(read_json("[NaN]"), NotJson)
    assert read_json("[1e99]") == [1e99]


@pytest.mark.parametrize(
    ("form", "fits", "not_"),
    [
        ("date", ["2026-11-21"], ["20261121", "2026-13-01", "21/11/2026", ""]),
        ("date-time", ["2026-11-21T10:00:00Z", "2026-11-21t10:00:00.5+01:00", "2026-11-21 10:00"], ["soon"]),
        ("time", ["10:00", "10:00:00z"], ["25:00", "noon"]),
        ("duration", ["PT3H", "P1Y2M", "P2W", "PT0.5S"], ["3h", "P", "PT"]),
        ("email", ["léa@example.com"], ["léa", "a b@example.com"]),
        ("hostname", ["example.com"], ["https://example.com"]),
        ("uri", ["https://example.com/é", "mailto:a@b"], ["example.com", "https://a b"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["x" * 36, "123e4567"]),
        ("ipv4", ["10.0.0.1"], ["10.0.0"]),
        ("ipv6", ["::1"], ["1"]),
        ("made-up", ["anything"], []),
    ],
)
def test_formats_are_held(form: str, fits: list[str], not_: list[str]) -> None:
    """Whoever asks for a date gets one, or is told; a format that nobody knows binds nothing."""
    schema: dict[str, Json] = {"format": form}
    assert [text for text in [*fits, *not_] if check_json(text, schema)] == not_
    assert not check_json(3, schema)


def test_a_schema_that_only_refers_to_itself_ends() -> None:
    """A circle is a problem, not a crash; long lists of problems are cut."""
    (problem,) = check_json({}, {"$ref": "#"})
    assert problem.message.startswith("the schema can't be followed: ")
    many: list[Json] = ["x" * 500] * 50
    found = check_json(many, {"items": {"type": "integer"}})
    assert len(found) == 20
    assert all(len(one.message) < 140 for one in found)

"""Checks of a text against rules: words, length, language, patterns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from promptkit.errors import counted
from promptkit.types import Checks, Json, Rules, Value

_AROUND = 20
_SAME = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u02bc"), "'"),
    **dict.fromkeys(map(ord, "\u2010\u2011"), "-"),
    **dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff")),  # invisible
    0xA0: " ",
}
"""Signs that readers take for one."""


_WORDS = re.compile(r"\w+(?:['-]\w+)*")


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that a text doesn't keep: which (`banned`, `language`, ...), and what is wrong."""

    rule: str
    message: str

    def __str__(self) -> str:
        return self.message


def rules_for(checks: Checks, values: Mapping[str, Value]) -> Rules:
    """Return the rules of one call, with the words and the language that its variables have.

    Args:
        checks: the template's.
        values: the call's variables, defaults included; one that is absent or empty adds nothing.
    """
    rules = checks.rules
    language = values.get(checks.language_from) if checks.language_from else None
    return replace(
        rules,
        banned=(*rules.banned, *_texts(values, checks.banned_from)),
        required=(*rules.required, *_texts(values, checks.required_from)),
        language=str(language) if language else rules.language,
    )


def check_text(text: str, rules: Rules) -> tuple[Problem, ...]:
    """Return everything that is wrong with a text.

    Args:
        text: a reply.
        rules: what it must keep to.

    Returns:
        One problem for each rule and word, in the order of the fields of `Rules`.
    """
    folded = _fold(text)
    return tuple(
        problem
        for problems in (
            _banned(folded, rules.banned, "banned", "a banned word"),
            _required(folded, rules.required),
            _size(len(_WORDS.findall(folded)), "word", rules.min_words, rules.max_words),
            _size(
                len(unicodedata.normalize("NFC", text)),
                "character",
                rules.min_characters,
                rules.max_characters,
            ),
            _language(text, rules.language),
            _patterns(text, rules),
            _packs(text, folded, rules),
        )
        for problem in problems
    )


def text_of(value: Json) -> str:
    """Return the texts in a structured reply, each on lines of its own: checks apply to them."""
    if isinstance(value, str):
        return value
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return "\n".join(text for member in members if (text := text_of(member)))


def _texts(values: Mapping[str, Value], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        value = values.get(name, "")
        items = value if isinstance(value, list) else [value]
        yield from (str(item) for item in items if str(item).strip(" *"))


def _fold(text: str) -> str:
    """Return text as words are compared: one case, one form of each accent and apostrophe."""
    return unicodedata.normalize("NFC", text).translate(_SAME).casefold()


@lru_cache(maxsize=4096)
def _pattern(word: str) -> re.Pattern[str]:
    """Compile a whole word or phrase; a trailing `*` takes any ending."""
    folded = _fold(word).strip()
    stem = folded.rstrip("*").strip()
    spaced = r"\s+".join(re.escape(part) for part in stem.split())
    ending = r"\w*" if stem != folded else ""
    return re.compile(rf"(?<![^\W_]){spaced}{ending}(?![^\W_])")  # _beer_ is a beer in italics


def _banned(folded: str, words: Iterable[str], rule: str, kind: str) -> Iterator[Problem]:
    for word in dict.fromkeys(words):
        if match := _pattern(word).search(folded):
            around = folded[max(0, match.start() - _AROUND) : match.end() + _AROUND]
            yield Problem(rule, f"says {match.group()!r}, {kind}: …{' '.join(around.split())}…")


def _required(folded: str, words: Iterable[str]) -> Iterator[Problem]:
    for word in dict.fromkeys(words):
        if not _pattern(word).search(folded):
            yield Problem("required", f"doesn't say {word!r}")


def _size(size: int, unit: str, least: int | None, most: int | None) -> Iterator[Problem]:
    if least is not None and size < least:
        yield Problem(f"min_{unit}s", f"{counted(size, unit)}; at least {least:,} are asked")
    if most is not None and size > most:
        yield Problem(f"max_{unit}s", f"{counted(size, unit)}; at most {most:,} are allowed")


def _language(text: str, wanted: str | None) -> Iterator[Problem]:
    # Only known languages can be wrong; en-GB is English.
    code = (wanted or "").partition("-")[0].lower()
    if code in LANGUAGES and (language := language_of(text)) not in (None, code):
        yield Problem("language", f"reads as {language!r}, not {wanted!r}")


def _patterns(text: str, rules: Rules) -> Iterator[Problem]:
    for pattern in rules.matches:
        if not re.search(pattern, text):
            yield Problem("matches", f"nothing in it matches {pattern!r}")
    for pattern in rules.not_matches:
        if match := re.search(pattern, text):
            yield Problem("not_matches", f"{match.group()!r} matches {pattern!r}")


def _packs(text: str, folded: str, rules: Rules) -> Iterator[Problem]:
    for name in rules.packs:
        pack = PACKS[name]
        # A word may be harmless in another language: only where none is known do all lists count.
        language = (rules.language or "").partition("-")[0].lower() or language_of(text)
        lists = [pack[language]] if language and language in pack else list(pack.values())
        words = [word for listed in lists for word in listed]
        yield from _banned(folded, words, name, f"a word of the pack {name}")


_WORD = re.compile(r"[^\W\d_]+")
_SMALL_WORDS: Mapping[str, str] = {
    "en": "the and of to is you that it for are with as this have not be but your from they we what all when"
    " there can how their if will up about out them then some would make like into has more her two so my than"
    " been who its now did get just don't it's you're i'm i an at by or was",
    "fr": "le la les des du et est une pour que qui dans sur pas plus avec ce cette ces sont vous nous je il elle"
    " ne se sa son ses au aux mais ou où par tout très c'est n'est d'un d'une votre vos tu ton ta tes mon ma mes"
    " être avoir fait sans même leur quand comme ça y l'on qu'il j'ai",
    "de": "der die das und ist nicht ein eine zu den mit von für auf dem sich des im auch es an werden aus er hat"
    " dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber ich du wir",
    "es": "el la los las de que y en un una por con no para es del se lo como más pero sus le ya o este sí porque"
    " esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante todos uno les ni tu",
    "it": "il lo la gli le di che e un una per con non è del si da sono dei della nel alla più ma anche come se"
    " ci questo questa quando molto senza nella delle ha al dal io tu noi mi ti tuo tua suo sua perché cosa",
    "pt": "o a os as de que e do da em um uma para com não é dos das se por mais mas como foi ao ele seu sua ou"
    " quando muito nos já eu também só pelo pela até isso ela entre depois sem mesmo aos seus quem você está",
    "nl": "de het een en van ik te dat die in is niet je zijn op aan met als voor er maar om hem dan zou of wat"
    " mijn men dit zo door over ze zich bij ook tot jij wij ons heeft hebben deze uit naar kan nog geen haar",
}


LANGUAGES = frozenset(_SMALL_WORDS)
"""The codes of the languages that `language_of` knows."""


_SETS = {
    code: frozenset(re.sub(r"\w+'", "", words).split()) | frozenset(re.findall(r"(\w+)'", words))
    for code, words in _SMALL_WORDS.items()
}


_LEAST_HITS = 3
_LEAD = 1.25


def language_of(text: str) -> str | None:
    """Return the language of a text, or None if its small words don't decide it.

    A text needs three of a language's commonest words, a quarter more than of any other: a slogan
    or a list of names is undecided. It knows no other language than `LANGUAGES`.
    """
    words = [word.group().casefold() for word in _WORD.finditer(text)]
    hits = sorted(
        ((sum(word in known for word in words), code) for code, known in _SETS.items()), reverse=True
    )
    (most, best), (second, _) = hits[0], hits[1]
    return best if most >= _LEAST_HITS and most >= _LEAD * second else None


_FAMILY_SAFE: Mapping[str, str] = {
    "en": """
        beer* wine whisky whiskey vodka gin rum tequila liquor booze boozy drunk* alcohol alcoholic hangover*
        cigarette* cigar* tobacco vape* vaping smoker* nicotine
        cocaine heroin cannabis weed marijuana meth ecstasy junkie*
        casino* gambl* betting jackpot* poker roulette
        kill* murder* suicid* stab stabs stabbed stabbing* gun guns gore bloody
        sex sexy sexual* porn* nude* naked erotic horny
        fuck* shit* bitch* bastard* asshole* damn crap dumb stupid idiot* moron* loser*
        skinny fatso obese weight-loss slimming
        """,
    "fr": """
        bière* vin vins whisky vodka rhum tequila alcool* ivre* ivresse gueule_de_bois
        cigarette* cigare* tabac* vapoter vapoteuse* fumeur* fumeuse* nicotine clope*
        cocaïne cannabis shit drogue drogues drogué* ecstasy
        casino* jackpot* poker roulette parier paris_sportifs jeux_d'argent
        tuer meurtre* suicid* poignard* pistolet* flingue* sanglant*
        sexe sexy sexuel* porno* nu_intégral dénudé* érotique*
        putain pute putes merde* merdi* connard* connasse* salope salopes salopard* enculé* bordel foutre débile* idiot* crétin*
        grosse_vache obèse* maigrir minceur amaigrissant*
        """,
}


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in text.split())


PACKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "family-safe": {code: _words(text) for code, text in _FAMILY_SAFE.items()}
}
"""Banned words by pack, then by language code; a trailing `*` takes any ending."""

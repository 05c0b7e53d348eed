"""Which language a text is in, by its commonest small words: honest on a paragraph, silent on a word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_WORD: Final = re.compile(r"[^\W\d_]+")

_SMALL_WORDS: Final[Mapping[str, str]] = {
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

LANGUAGES: Final = frozenset(_SMALL_WORDS)
"""The codes of the languages that are told apart."""

_SETS: Final = {
    code: frozenset(re.sub(r"\w+'", "", words).split()) | frozenset(re.findall(r"(\w+)'", words))
    for code, words in _SMALL_WORDS.items()
}
_LEAST_HITS: Final = 3
_LEAD: Final = 1.25


def language_of(text: str) -> str | None:
    """The language of a text, or None where its small words don't tell.

    A text needs three of a language's commonest words, a quarter more than of any other: a slogan
    or a list of names is undecided. It knows no other language than `LANGUAGES`.
    """
    words = [word.group().casefold() for word in _WORD.finditer(text)]
    hits = sorted(
        ((sum(word in known for word in words), code) for code, known in _SETS.items()), reverse=True
    )
    (most, best), (second, _) = hits[0], hits[1]
    return best if most >= _LEAST_HITS and most >= _LEAD * second else None

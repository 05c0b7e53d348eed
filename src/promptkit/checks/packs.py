"""Lists of banned words that come with promptkit, by pack and language.

A list is a net for slips, no judge: it can't see what a scene means, and someone reads what is
published. Words that are harmless in the same or the other language stand in no list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_FAMILY_SAFE: Final[Mapping[str, str]] = {
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


PACKS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "family-safe": {code: _words(text) for code, text in _FAMILY_SAFE.items()}
}
"""Banned words by pack, then by language code; a trailing `*` takes any ending."""

"""The shipped templates, and values a studio would give them."""

from __future__ import annotations

import pytest

from promptkit.config.paths import shipped
from promptkit.templates.library import Library
from promptkit.types import Value

SCRIPT_FR = "0-3 s | ACCROCHE | Tu pars courir à jeun ? | À JEUN ? | gros plan lacets"
SCRIPT_EN = "0-3 s | HOOK | Off running on empty? | ON EMPTY? | close-up, laces"

FULL: dict[str, dict[str, Value]] = {
    "fr": {
        "language": "fr",
        "brand": "Barly",
        "product": "barre protéinée à l'orge, goût noisette",
        "audience": "coureurs du matin",
        "about": SCRIPT_FR,
        "angle": "myth",
        "avoid": ["régime", "minceur"],
        "base_price": 220,
        "count": 3,
        "cta": "goûter la boîte découverte",
        "currency": "CHF",
        "date": "lundi 23 novembre",
        "delivery_days": 12,
        "duration_s": 45,
        "emoji": 2,
        "family_safe": True,
        "filmed": True,
        "focus": "livrer Lumé avant jeudi",
        "formality": "vous",
        "goal": "trial",
        "hashtags": 3,
        "hook": "Tu pars courir à jeun ?",
        "hooks": ["Tu pars à jeun ?", "Regarde ma poche."],
        "max_chars": 280,
        "max_lines": 15,
        "need": "tester trois accroches en décembre",
        "note": "Plus dynamique, et on ne voit pas assez la barre 🙏",
        "notes": ["Barly : V2 trop longue", "Lumé : devis attendu vendredi"],
        "objection": "ça colle aux dents",
        "offer": "boîte découverte offerte jusqu'au 30 juin",
        "paid_partnership": False,
        "paid_usage": False,
        "paid_usage_percent": 40,
        "persona": "Inès, 6 h 40, déjà en retard",
        "place": "cuisine, fenêtre au nord",
        "platform": "reels",
        "proof": ["12 g de protéines par barre (étiquette)", "se mange sans eau"],
        "retakes": 3,
        "rights_days": 60,
        "rights_percent": 25,
        "round": 4,
        "rounds_included": 1,
        "say": ["petit-déj de poche"],
        "script": SCRIPT_FR,
        "scripts": [SCRIPT_FR],
        "session_h": 2.5,
        "studio": "Atelier Neuf",
        "text": SCRIPT_FR,
        "tier_discount_percent": 5,
        "tiers": [3, 6],
        "tone": "complice et direct",
        "valid_days": 21,
    },
    "en": {
        "language": "en",
        "brand": "Barly",
        "product": "barley protein bar, hazelnut flavour",
        "audience": "morning runners",
        "about": SCRIPT_EN,
        "angle": "myth",
        "avoid": ["diet", "slim"],
        "base_price": 220,
        "count": 3,
        "cta": "taste the discovery box",
        "currency": "CHF",
        "date": "Monday 23 November",
        "delivery_days": 12,
        "duration_s": 45,
        "emoji": 2,
        "family_safe": True,
        "filmed": True,
        "focus": "deliver Lumé before Thursday",
        "formality": "vous",
        "goal": "trial",
        "hashtags": 3,
        "hook": "Off running on empty?",
        "hooks": ["On empty?", "Look at my pocket."],
        "max_chars": 280,
        "max_lines": 15,
        "need": "test three hooks in December",
        "note": "More dynamic, and we don't see enough of the bar 🙏",
        "notes": ["Barly: V2 too long", "Lumé: quote due on Friday"],
        "objection": "it sticks to my teeth",
        "offer": "free discovery box until 30 June",
        "paid_partnership": False,
        "paid_usage": False,
        "paid_usage_percent": 40,
        "persona": "Ines, 6:40, late already",
        "place": "kitchen, north window",
        "platform": "reels",
        "proof": ["12 g of protein per bar (label)", "eaten without water"],
        "retakes": 3,
        "rights_days": 60,
        "rights_percent": 25,
        "round": 4,
        "rounds_included": 1,
        "say": ["pocket breakfast"],
        "script": SCRIPT_EN,
        "scripts": [SCRIPT_EN],
        "session_h": 2.5,
        "studio": "Studio Nine",
        "text": SCRIPT_EN,
        "tier_discount_percent": 5,
        "tiers": [3, 6],
        "tone": "warm and direct",
        "valid_days": 21,
    },
}
"""A value for every variable of the kit, none of them its default (but for the language)."""


@pytest.fixture(scope="session")
def library() -> Library:
    return Library([shipped("templates")])


@pytest.fixture
def full() -> dict[str, dict[str, Value]]:
    return {language: dict(values) for language, values in FULL.items()}

"""A ceiling that holds for every tokenizer, an estimate that is near."""

from __future__ import annotations

import unicodedata
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.providers.tokens import (
    PER_CALL,
    PER_MESSAGE,
    PER_SCHEMA,
    estimate_input_tokens,
    max_input_tokens,
)
from promptkit.types import Json, Message, Prompt, Role, TemplateRef

ENGLISH: Final = (
    "Hi! Thanks for the first cut, the team loved it. A few notes from the client: the opening is a bit"
    ' slow, the product should appear before second three. Please remove "visible results from week one",'
    " legal won't accept it. Could we swap the music for something lighter? Finally, the caption at 0:17 has"
    " a typo. We need the new version by Thursday noon, with usage rights for 90 days on Instagram and"
    " TikTok. Best, Emma.\n"
)
FRENCH: Final = (
    "Bonjour, merci pour la première version de la vidéo, l'équipe l'a beaucoup aimée. Quelques retours du"
    " client : le début est un peu lent, on aimerait que le produit apparaisse avant la troisième seconde. La"
    " mention « résultats visibles dès la première semaine » doit être retirée, notre service juridique ne"
    " l'accepte pas. Peut-on remplacer la musique par quelque chose de plus léger ? Enfin, le sous-titre à"
    " 0:17 contient une faute : « crée » au lieu de « créé ». Nous aimerions recevoir la nouvelle version"
    " jeudi avant midi, avec les droits d'utilisation pour 90 jours sur Instagram et TikTok. Bien à vous,"
    " Élodie.\n"
)
JSON: Final = (
    '{"brand": "Barly", "product": "Insulated bottle 750 ml", "audience": "runners, 25-40", "price_eur": 29.9,'
    ' "claims": ["keeps coffee hot for 12 hours", "BPA free", "2-year warranty"], "sku": "BRL-750-BLK-02",'
    ' "links": {"landing": "https://barly.example/p/750?utm_source=ugc&utm_campaign=nov"}}\n'
)
EMOJI: Final = (
    "🔥 Nouveau ! La gourde Barly garde ton café chaud 12 h ☕️✨ Code BARLY15 = -15 % jusqu'au 30/11 👉"
    " barly.example/promo 💪🥗 #fitness #nutrition #ugc @barly_officiel — « J'adore !! » 😍😍\n"
)


def prompt(*texts: str) -> Prompt:
    messages = tuple(Message(Role.USER, text) for text in texts)
    return Prompt(messages, "sha256:0", TemplateRef("t"), "1:sha256:0")


@pytest.mark.parametrize(
    ("text", "o200k"),
    [(ENGLISH, 97), (FRENCH, 139), (JSON, 103), (EMOJI, 64)],
    ids=["English", "French", "JSON", "emoji"],
)
def test_the_estimate_is_near_a_real_tokenizer(text: str, o200k: int) -> None:
    """Counts by o200k_base, taken once; the estimate stays within 8 % (4 tokens a message aside)."""
    assert estimate_input_tokens(prompt(text)) - 4 == pytest.approx(o200k, rel=0.08)
    assert max_input_tokens(prompt(text)) >= o200k + PER_CALL + PER_MESSAGE


@given(st.lists(st.text(), max_size=4))
def test_the_ceiling_counts_every_byte(texts: list[str]) -> None:
    """One token a byte of the text as sent, and of its NFKC form, which may be longer."""
    framing = PER_CALL + PER_MESSAGE * len(texts)
    ceiling = max_input_tokens(prompt(*texts))
    assert ceiling >= framing + sum(len(text.encode()) for text in texts)
    assert ceiling >= framing + sum(len(unicodedata.normalize("NFKC", text).encode()) for text in texts)


@given(st.lists(st.text(), max_size=4))
def test_the_ceiling_is_above_the_estimate(texts: list[str]) -> None:
    """A quote never says more than what the budget holds."""
    assert max_input_tokens(prompt(*texts)) >= estimate_input_tokens(prompt(*texts))


def test_one_character_that_grows_under_normalisation() -> None:
    """U+FDFA has 3 bytes, and 33 once it is written out."""
    assert max_input_tokens(prompt("\ufdfa")) == PER_CALL + PER_MESSAGE + 33


def test_a_lone_surrogate_is_counted() -> None:
    """What can't be sent fails elsewhere, with a better message."""
    assert max_input_tokens(prompt("\ud83d")) == PER_CALL + PER_MESSAGE + 3


def test_a_schema_counts_its_bytes() -> None:
    """A structured reply's schema is input too, with the host's instructions around it."""
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {"accroche": {"type": "string", "description": "é"}},
    }
    plain = max_input_tokens(prompt("x"))
    assert max_input_tokens(prompt("x"), schema) > plain + PER_SCHEMA + len(str(schema))
    assert estimate_input_tokens(prompt("x"), schema) > estimate_input_tokens(prompt("x")) + 10


def test_no_message_no_estimate() -> None:
    """An empty prompt is nothing, but for what a call always costs at most."""
    assert estimate_input_tokens(prompt()) == 0
    assert max_input_tokens(prompt()) == PER_CALL

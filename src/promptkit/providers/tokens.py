"""The input tokens of a prompt: an upper bound for max costs, and an estimate for quotes.

Every cap depends on the bound, so it must be right for tokenizers that can't be run
offline. All of them work on UTF-8: byte-level BPE (OpenAI, Llama, SmolLM, DeepSeek) starts from
single bytes, and SentencePiece (Gemini, Mistral) falls back to them, so a text never has more
tokens than bytes. The one normalisation known in the field is NFKC (Anthropic's published
tokenizer); it can lengthen a text, so the longer of the two forms counts.

What a wire format adds around the text:

* `PER_MESSAGE`: role, separators, turn markers. Chat formats spend 3 to 5 tokens on a message.
* `PER_CALL`: what a host writes before the first message: the reply's primer (3), Llama's date
  preamble (about 25), SmolLM's own system prompt (about 20), gpt-oss' system message (about 70).
* `PER_SCHEMA`: the instructions that go with a structured reply; Anthropic's for a tool, the
  longest known, are about 350. The schema itself counts as indented, escaped JSON.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping

from promptkit.types import Json, Prompt

PER_MESSAGE = 8
PER_CALL = 192
PER_SCHEMA = 512
_PIECE = re.compile(r"(?P<word>[^\W\d_]+)|(?P<number>\d+)|(?P<mark>[^\w\s]|_)")
_BYTES_PER_WORD_TOKEN = 6.0


def max_input_tokens(prompt: Prompt, schema: Mapping[str, Json] | None = None) -> int:
    """Return a number of input tokens that no provider's own count exceeds.

    Args:
        prompt: the messages as they will be sent.
        schema: the JSON Schema of a structured reply, sent along with them.

    Returns:
        Tokens: one for each UTF-8 byte, and what the wire formats add.
    """
    text = sum(_longest_bytes(message.content) for message in prompt.messages)
    return PER_CALL + PER_MESSAGE * len(prompt.messages) + text + _schema_tokens(schema)


def estimate_input_tokens(prompt: Prompt, schema: Mapping[str, Json] | None = None) -> int:
    """Estimate the input tokens of a prompt: for quotes, never for a cap.

    Words count one token for each six bytes or part of them (an accented letter weighs more),
    numbers one for each three digits, marks three quarters, an emoji one and a half. Against
    o200k_base it was within 3 % on English and French briefs, notes, Markdown and JSON, within 8 %
    on text full of emoji, and 30 % low (German) to 40 % high (Russian) on other languages.
    Claude's and Gemini's tokenizers can't be run offline; theirs may differ by a third.
    """
    texts = [message.content for message in prompt.messages]
    if schema is not None:
        texts.append(json.dumps(schema, ensure_ascii=False))
    return 4 * len(prompt.messages) + round(sum(_estimate(text) for text in texts))


def estimate_text_tokens(text: str) -> int:
    """Estimate the tokens of a text by itself, as `estimate_input_tokens` counts."""
    return round(_estimate(text))


def _longest_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    return max(_bytes(text), _bytes(unicodedata.normalize("NFKC", text)))


def _bytes(text: str) -> int:
    # A lone surrogate can't be sent; counting must not be what fails on it.
    return len(text.encode("utf-8", "surrogatepass"))


def _schema_tokens(schema: Mapping[str, Json] | None) -> int:
    return 0 if schema is None else PER_SCHEMA + len(json.dumps(schema, indent=4))


def _estimate(text: str) -> float:
    tokens = 0.0
    for piece in _PIECE.finditer(text):
        length = piece.end() - piece.start()
        if piece.lastgroup == "number":
            tokens += -(-length // 3)
        elif piece.lastgroup == "word":
            extra = _bytes(piece.group()) - length
            tokens += max(1.0, (length + 1.5 * extra) / _BYTES_PER_WORD_TOKEN)
        else:
            tokens += 0.75 if piece.group().isascii() else 1.5
    return tokens

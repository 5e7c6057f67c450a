"""How many tokens a text has, estimated without a tokenizer: explainers have different ones, and a prompt is written before it is known which one reads it."""

_WEIGHTS: tuple[tuple[bytes, float], ...] = (
    (b"0123456789", 1.0),
    (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 0.5),
    (b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", 0.8),
    (bytes(range(0xC2, 0xCC)), 1.0),  # Latin with marks
    (bytes(range(0xCC, 0xCE)), 2.0),  # combining marks
    (bytes(range(0xCE, 0xD4)), 1.0),  # Greek, Cyrillic
    (bytes(range(0xD4, 0xD7)), 2.0),  # Armenian
    (bytes(range(0xD7, 0xDC)), 1.3),  # Hebrew, Arabic
    (bytes(range(0xDC, 0xE0)), 2.0),  # Syriac, Thaana, N'Ko
    (b"\xe0", 2.1),  # Indic scripts, Thai, Lao, Tibetan
    (b"\xe1", 3.0),  # Burmese, Georgian, Ethiopic, Khmer
    (b"\xe2", 2.0),  # symbols
    (bytes(range(0xE3, 0xEA)), 2.0),  # Chinese, kana
    (bytes(range(0xEA, 0xF0)), 3.0),  # Hangul, rare forms
    (bytes(range(0xF0, 0xF5)), 4.0),  # emoji, rare scripts
)
"""Tokens of a character by the first byte of its UTF-8 form, which tells its script. What a vocabulary of 49,152 entries made
for English (SmolLM2) takes, rounded up: larger ones take less, and none that falls back to bytes takes more than one a byte.
Code and German fall up to a fifth short of it, English is a half above."""
_ASCII_WEIGHTS = 3
_CHARACTERS_PER_TOKEN = 3.5
"""Of small letters and space: English has 4 to 5 under the tokenizers of Llama 3, GPT-2 and SmolLM2, German 2.8."""
_PUNCTUATION = b"\xe2\x80"  # dashes and curved quotation marks, one token each in every vocabulary


def estimated_tokens(text: str) -> float:
    """The number of tokens, rather too great than too small; a hard limit needs a margin all the same."""
    coded = text.encode("utf-8", "replace")
    tokens, small = 0.0, len(text)
    for first_bytes, weight in _WEIGHTS[: _ASCII_WEIGHTS if text.isascii() else None]:
        count = len(coded) - len(coded.translate(None, first_bytes))
        tokens += weight * count
        small -= count
    return tokens - coded.count(_PUNCTUATION) + small / _CHARACTERS_PER_TOKEN

"""A source's tokens as the text that the model read.

Tokenizers name tokens in spellings of their own, and sources copy them: `Ġ` or `▁` for a blank, `Ċ` for a line's end, and in
byte-level vocabularies (GPT-2's `bytes_to_unicode`) one letter for each byte of a character, `âĢ` and `Ļ` for the two tokens of `’`.
"""

import re
from collections.abc import Sequence

_BLANK = "Ġ"
_LINE_END = "Ċ"
_SENTENCEPIECE_BLANK = "▁"
_LONGEST_CHARACTER = 4  # bytes in UTF-8, so at most so many tokens


def _byte_of() -> dict[str, int]:
    """The letter of each byte from 128 on; those that are no visible Latin letter got letters from U+0121 on."""
    shown = [*range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in {*range(0x21, 0x7F), *shown}]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + place): byte for place, byte in enumerate(hidden) if byte >= 0x80}


_BYTE_OF = _byte_of()
_BYTES = re.compile(f"[{re.escape(''.join(_BYTE_OF))}]+")


def readable(tokens: Sequence[str], values: Sequence[float]) -> tuple[list[str], list[float]]:
    """The tokens with blanks, line ends and characters as the model read them, and their values.

    Where one character is spread over several tokens, these become one token with the greatest of their values. Letters that do not
    make valid UTF-8 are what they look like, and stay.
    """
    if "".join(tokens).isascii():  # every spelling has a letter beyond
        return list(tokens), list(values)
    spelled = [_plain(token) for token in tokens] if _spells_blanks(tokens) else list(tokens)
    texts: list[str] = []
    strengths: list[float] = []
    place = 0
    while place < len(spelled):
        text, width = spelled[place], 1
        if not text.isascii():
            text, width = _character_at(spelled, place)
        texts.append(text)
        strengths.append(values[place] if width == 1 else max(values[place : place + width]))
        place += width
    return texts, strengths


def readable_token(token: str) -> str:
    """A token by itself; a part of a character stays as it is spelled."""
    return readable([token], [0.0])[0][0]


def _spells_blanks(tokens: Sequence[str]) -> bool:
    """Whether blanks are spelled by a sign: some token begins with it, and none with a blank."""
    beginnings = {token[:1] for token in tokens}
    return not beginnings.isdisjoint((_BLANK, _SENTENCEPIECE_BLANK)) and " " not in beginnings


def _plain(token: str) -> str:
    return token.replace(_BLANK, " ").replace(_LINE_END, "\n").replace(_SENTENCEPIECE_BLANK, " ")


def _character_at(tokens: Sequence[str], place: int) -> tuple[str, int]:
    """The token at `place`, with those after it that its last character needs, and how many they are."""
    for width in range(1, 1 + _LONGEST_CHARACTER):
        if (text := _decoded("".join(tokens[place : place + width]))) is not None:
            return text, width
    return tokens[place], 1


def _decoded(spelled: str) -> str | None:
    """The text with its letters for bytes put together; None when some of them make no character."""
    try:
        return _BYTES.sub(lambda found: bytes(_BYTE_OF[letter] for letter in found.group()).decode(), spelled)
    except UnicodeDecodeError:
        return None

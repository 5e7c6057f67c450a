"""Which script a text is written in."""

import unicodedata
from collections import Counter
from collections.abc import Iterable

_LETTERS_READ = 400
_NO_ASCII_LETTERS = bytes(point for point in range(128) if not chr(point).isalpha())


def main_script(texts: Iterable[str]) -> str | None:
    """The script of most letters, by the first word of their Unicode names (LATIN, CYRILLIC, CJK); None without letters.

    The kana and Han that Japanese mixes count as one, as do Hangul and Han.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        if text.isascii():
            counts["LATIN"] += len(text[:_LETTERS_READ].encode().translate(None, _NO_ASCII_LETTERS))
            continue
        for letter in text[:_LETTERS_READ]:
            if letter.isalpha() and (name := unicodedata.name(letter, "")):
                first = name.split(maxsplit=1)[0]
                counts["CJK" if first in ("HIRAGANA", "KATAKANA", "HANGUL") else first] += 1
    return counts.most_common(1)[0][0] if counts and counts.most_common(1)[0][1] else None

"""Whether a text that should be English is in another language.

Answers are short and full of names, code and quoted words of other languages, so an answer is only refused on
evidence: most of its letters are of another script, or its running text holds the function words of another language
and hardly any English ones. What stands in quotation marks, and words in lists, are what the answer is about and say
nothing about its own language.
"""

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from importlib import resources

FOREIGN_LETTERS = 0.5  # share of letters that are not Latin from which a text is not English; a list of words of another script stays below
FOREIGN_WORDS = 3
"""Different function words of one other language that outweigh fewer English ones; two do where there is no English one."""
SHORTEST = 5  # words; fewer do not tell

_QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|`[^`]*`|<<[^>]*>>|(?<!\w)['‘][^'’]*(?:['’]\w[^'’]*)*['’](?!\w)")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_RUNNING = re.compile(r"(?<![,;:(/][ ])(?<![,;:(/\-])\b([^\W\d_]+)['’ ](?=[^\W\d_])")
"""A word that another follows and no comma precedes: one in a list is no running text."""

FUNCTION_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in tomllib.loads((resources.files("mistudio_explain.generation") / "function_words.toml").read_text(encoding="utf-8")).items()
}
_ENGLISH = FUNCTION_WORDS["English"]


def unquoted(text: str) -> str:
    """The text without what stands in quotation marks, backticks or << >>; the whole text where nothing else is left."""
    rest = _QUOTED.sub(" , ", text)
    return rest if _WORD.search(rest) else text


def foreign_language(text: str) -> str | None:
    """What the text is written in when that is not English, or cannot be; None while it may be English."""
    own = unquoted(text)
    letters = [letter for letter in own if letter.isalpha()]
    others = [letter for letter in letters if not _is_latin(letter)]
    if len(others) > 2 and len(others) >= FOREIGN_LETTERS * len(letters):
        return f"{unicodedata.name(others[0], 'another').split()[0].title()} script"
    words = [word.lower() for word in _WORD.findall(own)]
    if len(words) < SHORTEST:
        return None
    running = [word.lower() for word in _RUNNING.findall(own)]
    for language, known in FUNCTION_WORDS.items():  # a word of both languages speaks for neither
        foreign = [word for word in running if word in known and word not in _ENGLISH]
        english = sum(word in _ENGLISH and word not in known for word in words)
        if len(foreign) > english and len(set(foreign)) >= (FOREIGN_WORDS if english else FOREIGN_WORDS - 1):
            return language
    return None


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith(("LATIN", "MODIFIER", "MICRO", "FEMININE", "MASCULINE"))

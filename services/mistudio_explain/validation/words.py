"""The words of a text or a claim, in any script, reduced to stems."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import snowballstemmer

_STOP = """
    a an the and or of in on at to for from by with as is are was were be been being it its this that these those which who whom whose what when where
    why how not no nor but if then than so such into onto over under about above below between within without during while can could may might must shall
    should will would do does did done has have had having i you he she we they him his her their our your my me us them also more most other another some
    any each every all both few many much one two very just only own same too s t re ve ll d m etc
"""
STOP_WORDS = frozenset(_STOP.split())
"""English words that carry no topic; a claim that quotes one ("the word 'of'") still means it."""

_SAID_OF_ANY_FEATURE = """
    feature features neuron neurons latent detect detects detecting detected activate activates activating activation activations activated fire fires
    firing respond responds represent represents capture captures identify identifies recognize recognizes word words phrase phrases term terms text texts
    token tokens reference references related relate relates relating specific specifically various context contexts pattern patterns indicating indicate
    indicates content mention mentions mentioned mentioning occurrence occurrences instance instances particularly often especially associated involving
    involve involves include includes including similar such type types kind form concept concepts model ai language expression expressions describe
    describes describing used use uses main thing things presence example examples common commonly frequent frequently general generally everyday variety
    diverse setting settings convey conveys conveying informative descriptive
"""
BOILERPLATE = frozenset(_SAID_OF_ANY_FEATURE.split())
"""Words that explanations of any feature share; they say nothing about this one."""


def _ranges(categories: frozenset[str]) -> str:
    """The characters of the given Unicode categories up to U+FFFF, as the inside of a regular expression's class."""
    spans: list[tuple[int, int]] = []
    for point in range(0x300, 0x10000):
        if unicodedata.category(chr(point)) not in categories:
            continue
        if spans and spans[-1][1] == point - 1:
            spans[-1] = (spans[-1][0], point)
        else:
            spans.append((point, point))
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in spans)


_MARKS = _ranges(frozenset({"Mn", "Mc"}))
# scripts written without spaces: Thai, Lao, Burmese, Khmer, kana, Han
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_ASCII_WORD = re.compile(r"[a-z]+|[0-9]+")
_WORD = re.compile(rf"[{_UNSPACED}]+|(?:[^\W\d_{_UNSPACED}][{_MARKS}]*)+|\d+")
_UNSPACED_START = re.compile(rf"[{_UNSPACED}]")
_QUOTED = re.compile(r"[\"“”«»`]([^\"“”«»`]{1,60})[\"“”«»`]|(?<!\w)['‘]([^'‘’]{1,60})['’](?!\w)")

_stemmer = snowballstemmer.stemmer("english")


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Stem of a lower-case word by Snowball's English rules; a word of another script stays as it is."""
    return str(_stemmer.stemWord(word)) if word.isascii() else word


def words(text: str) -> list[str]:
    """The words of a text in order, lower case: runs of letters or of digits.

    Compatibility forms are folded (NFKC). A run of a script that has no spaces between words gives its
    overlapping pairs of characters, which is what lexical search commonly does without a dictionary.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        if _UNSPACED_START.match(word):
            found.extend(word[i : i + 2] for i in range(max(1, len(word) - 1)))
        else:
            found.append(word)
    return found


def text_stems(text: str) -> list[str]:
    """Stems of all words of a text, in order."""
    return [stem(word) for word in words(text)]


def quoted(claim: str) -> str:
    """What a claim puts between quotation marks, joined by spaces."""
    return " ".join(a or b for a, b in _QUOTED.findall(claim))


def claim_stems(claim: str) -> tuple[str, ...]:
    """Stems of the words that a claim is about, sorted, each once.

    Stop words, boilerplate and single letters are left out unless the claim quotes them.
    """
    kept = {word for word in words(claim) if word not in STOP_WORDS and word not in BOILERPLATE and (len(word) > 1 or not word.isalpha() or not word.isascii())}
    kept.update(words(quoted(claim)))
    return tuple(sorted({stem(word) for word in kept}))


def without_stems(claim: str, stems: Iterable[str]) -> str:
    """The claim's words without those that have one of the stems, joined by spaces."""
    masked = frozenset(stems)
    return " ".join(word for word in words(claim) if stem(word) not in masked)

"""Clarity: how well a person can read an explanation and act on it, by rules that were not validated on people."""

import re

from mistudio_explain.events.explanation import Answer, Category, Score
from mistudio_explain.validation.words import BOILERPLATE, claim_stems, words

_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)|[。！？]")
_CONDITION = re.compile(
    r"\b(?:when|where|after|before|followed by|preceded by|in (?:the )?context|at the (?:start|end|beginning)|between|within|such as|e\.g\.|for example)\b",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(r"[\"“'‘`<«][^\"”'’`>»]{1,60}[\"”'’`>»]|\b\w+\.\w+\(|[{}\[\]=;]|\d")

COMFORTABLE_SENTENCE = (6.0, 25.0)  # words; plain-language guides name 15 to 20 as the average to aim at
UNREADABLE_SENTENCE = (1.0, 60.0)
COMFORTABLE_WORD, UNREADABLE_WORD = 6.5, 10.0  # mean letters a word; English prose has 4.5 to 5.5
LONG_WORD = 13  # letters
LONG_WORDS_WELCOME = {Category.TECHNICAL: 0.15}  # share of long words that still suits the reader
LONG_WORDS_ELSEWHERE = 0.08
LONG_WORDS_TOO_MANY = 0.25  # above what is welcome


def clarity(answer: Answer, category: Category) -> Score:
    """The mean of three sub-scores, each 0 to 1.

    readability: sentences of 6 to 25 words and words of ordinary length. actionability: whether the pattern is specific
    enough to try out: it names things, says when, gives an example. technical_level: few long words, with more
    allowance for technical features.
    """
    spoken = words(answer.explanation)
    parts = {
        "readability": _readability(answer.explanation, spoken),
        "actionability": _actionability(answer.pattern),
        "technical_level": _technical_level(spoken, LONG_WORDS_WELCOME.get(category, LONG_WORDS_ELSEWHERE)),
    }
    return Score(value=sum(parts.values()) / len(parts), parts=parts)


def _readability(explanation: str, spoken: list[str]) -> float:
    if not spoken:
        return 0.0
    sentences = max(1, sum(bool(words(sentence)) for sentence in _SENTENCE_END.split(explanation)))
    sentence = len(spoken) / sentences
    word = sum(map(len, spoken)) / len(spoken)
    short, long = (_falling(-sentence, -COMFORTABLE_SENTENCE[0], -UNREADABLE_SENTENCE[0]), _falling(sentence, COMFORTABLE_SENTENCE[1], UNREADABLE_SENTENCE[1]))
    return (min(short, long) + _falling(word, COMFORTABLE_WORD, UNREADABLE_WORD)) / 2


def _actionability(pattern: str) -> float:
    named = len(claim_stems(pattern))
    empty = sum(word in BOILERPLATE for word in words(pattern))
    specific = min(1.0, named / 4) * (named / (named + 0.5 * empty) if named else 0.0)
    return 0.5 * specific + 0.25 * bool(_CONDITION.search(pattern)) + 0.25 * bool(_EXAMPLE.search(pattern))


def _technical_level(spoken: list[str], welcome: float) -> float:
    if not spoken:
        return 0.0
    long = sum(len(word) >= LONG_WORD for word in spoken) / len(spoken)
    return _falling(long, welcome, welcome + LONG_WORDS_TOO_MANY)


def _falling(value: float, good: float, bad: float) -> float:
    """1 up to `good`, 0 from `bad` on, linear between them."""
    return min(1.0, max(0.0, (bad - value) / (bad - good)))

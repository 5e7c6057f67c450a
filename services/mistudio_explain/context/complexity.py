"""How hard a feature looks to explain."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from mistudio_explain.context.passages import Passage
from mistudio_explain.events.explanation import Category, Complexity

MEDIUM_FROM = 1 / 3
HIGH_FROM = 2 / 3
LONG_PASSAGE = 300  # characters; texts of this mean length and more count as long
WEIGHTS = {"diversity": 0.4, "peaks": 0.2, "length": 0.2, "category": 0.2}
_OF_CATEGORY = {Category.BEHAVIORAL: 1.0, Category.CONVERSATIONAL: 0.75, Category.TECHNICAL: 0.5, Category.OTHER: 0.25, Category.TEMPORAL: 0.0}


def complexity_of(given: float | None, category: Category, passages: Sequence[Passage]) -> Complexity:
    """Judge how hard the feature looks.

    Find's complexity score (0 to 1) where there is one; else `score`. Low below a third, high from two thirds on.
    """
    judged = score(category, passages) if given is None else given
    if judged < MEDIUM_FROM:
        return "low"
    return "high" if judged >= HIGH_FROM else "medium"


def score(category: Category, passages: Sequence[Passage]) -> float:
    """The weighted mean of four parts from 0 to 1, each greater the harder; the weights are judgement, not measured.

    diversity: share of the texts in which the word that most texts share does not stand; peaks: how many different
    tokens fire, over how many texts say it; length: mean length of a passage over LONG_PASSAGE; category: behaviour
    is harder to name than a word. Parts that the input says nothing of are left out of the mean.
    """
    parts = {
        "diversity": _diversity(passages),
        "peaks": _different_peaks(passages),
        "length": min(1.0, sum(len(passage.text) for passage in passages) / len(passages) / LONG_PASSAGE),
        "category": _OF_CATEGORY[category],
    }
    known = {name: value for name, value in parts.items() if value is not None}
    return sum(WEIGHTS[name] * value for name, value in known.items()) / sum(WEIGHTS[name] for name in known)


def _diversity(passages: Sequence[Passage]) -> float | None:
    if len(passages) < 2:
        return None
    counts = Counter(chain.from_iterable(passage.vocabulary for passage in passages))
    shared = max((count for word, count in counts.items() if count > 1 and len(word) > 3), default=1)  # shorter words stand in most texts of any feature
    return 1 - shared / len(passages)


def _different_peaks(passages: Sequence[Passage]) -> float | None:
    peaks = [passage.peak for passage in passages if passage.peak]
    return None if len(peaks) < 2 else (len(set(peaks)) - 1) / (len(peaks) - 1)

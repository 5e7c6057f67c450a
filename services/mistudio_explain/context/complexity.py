"""How hard a feature looks to explain."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

from mistudio_explain.context.passages import Passage
from mistudio_explain.events.explanation import Category, Complexity

WEIGHTS: Mapping[str, float] = {"diversity": 0.4, "peaks": 0.5, "category": 0.1}
MEDIUM_FROM = 0.4
HIGH_FROM = 0.6
"""Fitted on 40 labelled features (tests/data/complexity): 29 agree. Fitted on the other sources, about half of a source's do, so
take a single feature's complexity for a hint; `python -m benchmarks complexity` prints both."""
GIVEN_MEDIUM_FROM = 1 / 3
GIVEN_HIGH_FROM = 2 / 3
"""Of Find's own score, whose scale is not ours."""
_OF_CATEGORY = {Category.BEHAVIORAL: 1.0, Category.CONVERSATIONAL: 0.75, Category.TECHNICAL: 0.5, Category.OTHER: 0.25, Category.TEMPORAL: 0.0}


def complexity_of(given: float | None, category: Category, passages: Sequence[Passage]) -> Complexity:
    """Judge how hard the feature looks: by Find's complexity score (0 to 1) where there is one, else by `score`."""
    if given is not None:
        return _class_of(given, GIVEN_MEDIUM_FROM, GIVEN_HIGH_FROM)
    return _class_of(score(category, passages), MEDIUM_FROM, HIGH_FROM)


def score(category: Category, passages: Sequence[Passage]) -> float:
    """The weighted mean of the parts that the input says something of, from 0 to 1, the greater the harder."""
    known = parts(category, passages)
    return sum(WEIGHTS[name] * value for name, value in known.items()) / sum(WEIGHTS[name] for name in known)


def parts(category: Category, passages: Sequence[Passage]) -> dict[str, float]:
    """What the score is made of, each from 0 to 1; one that the input says nothing of is absent.

    diversity: share of the texts in which the word that most texts share does not stand; peaks: how many different
    tokens fire, over how many texts say it; category: behaviour is harder to name than a word (judgement, not
    measured). The length of the texts is no part: no fit on all labels gives it weight.
    """
    found = {"diversity": _diversity(passages), "peaks": _different_peaks(passages), "category": _OF_CATEGORY[category]}
    return {name: value for name, value in found.items() if value is not None}


def _class_of(score: float, medium_from: float, high_from: float) -> Complexity:
    if score < medium_from:
        return "low"
    return "high" if score >= high_from else "medium"


def _diversity(passages: Sequence[Passage]) -> float | None:
    if len(passages) < 2:
        return None
    counts = Counter(chain.from_iterable(passage.vocabulary for passage in passages))
    shared = max((count for word, count in counts.items() if count > 1 and len(word) > 3), default=1)  # shorter words stand in most texts of any feature
    return 1 - shared / len(passages)


def _different_peaks(passages: Sequence[Passage]) -> float | None:
    peaks = [passage.peak for passage in passages if passage.peak]
    return None if len(peaks) < 2 else (len(set(peaks)) - 1) / (len(peaks) - 1)

"""Siblings: what tells two similar features of a job apart."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from mistudio_explain.context.passages import Passage, distinct, passages_of
from mistudio_explain.events.activity import active_words
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import JobBackground
from mistudio_explain.validation.families import Directions, Likeness, Sibling, surfaces
from mistudio_explain.validation.offline import Scorer, score
from mistudio_explain.validation.words import stem, words

TELLING = 1.96  # |z| from which a word tells two features apart; of words that tell nothing 1 in 20 reaches it by chance
_WORDS_SHOWN = 10  # for each feature
_LOGITS = 10


@dataclass(frozen=True, slots=True)
class Telling:
    """A word that stands in more texts of one feature than of the other."""

    word: str
    """As it is written most often."""
    of: str
    """The feature that it speaks for."""
    first: int
    """Texts of the first feature that have it."""
    second: int
    """Texts of the second one that have it."""
    z: float
    """Log odds ratio over its standard error, 0.5 added to each count (Monroe, Colaresi and Quinn 2008); above 0 for the first feature."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How well an explanation of one of the features fits both."""

    explanation: str
    of: str
    """The feature that it was given for."""
    first: float | None
    """Accuracy on the first feature's texts; None when it cannot be checked."""
    second: float | None
    """Accuracy on the second feature's texts."""
    why_not: str | None
    """Why it cannot be checked."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What two lists have in common and what each has alone, in their order."""

    both: tuple[str, ...]
    first: tuple[str, ...]
    second: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What tells two features apart, and what does not."""

    first: str
    second: str
    likeness: Likeness
    texts: tuple[int, int]
    """Different texts of each."""
    shared_texts: tuple[str, ...]
    """Texts of the first feature that nearly stand among the second's too."""
    words: tuple[Telling, ...]
    """Of the texts, the most telling first, for each feature."""
    active_words: tuple[Telling, ...] | None
    """Of the words on which the features fire; None unless the source says so for both."""
    fits: tuple[Fit, ...]
    promoted: Shared | None
    """The tokens that each raises most; None unless both are known."""
    suppressed: Shared | None
    """The tokens that each lowers most."""


def compare(first: Sibling, second: Sibling, background: JobBackground, scorer: Scorer) -> Difference:
    """Compare two features of a job; explanations are scored against its background, as outcomes are."""
    own, other = (distinct(passages_of(sibling.feature.top_activations)) for sibling in (first, second))
    return Difference(
        first=first.key,
        second=second.key,
        likeness=Directions.of((first, second), scorer.validator).likeness(0, 1),
        texts=(len(own), len(other)),
        shared_texts=tuple(passage.text for passage in own if any(map(passage.is_near, other))),
        words=_telling(first.key, second.key, [words(passage.text) for passage in own], [words(passage.text) for passage in other]),
        active_words=_telling_active(first.key, second.key, own, other),
        fits=tuple(_fit(said, sibling.key, first, second, background, scorer) for sibling in (first, second) for said in sibling.explanations),
        promoted=_shared(first.feature, second.feature, lambda value: value),
        suppressed=_shared(first.feature, second.feature, lambda value: -value),
    )


def _telling(first: str, second: str, own: Sequence[Sequence[str]], other: Sequence[Sequence[str]]) -> tuple[Telling, ...]:
    """The words whose stems tell the texts apart; each text counts once, however often it has a word."""
    in_own, in_other = (Counter(chain.from_iterable({stem(word) for word in text} for text in texts)) for texts in (own, other))
    as_written = surfaces(Counter(chain.from_iterable((*own, *other))))
    found = []
    for each in in_own.keys() | in_other.keys():
        z = _z(in_own[each], len(own), in_other[each], len(other))
        if abs(z) >= TELLING:
            found.append(Telling(as_written[each], first if z > 0 else second, in_own[each], in_other[each], z))
    found.sort(key=lambda telling: (-abs(telling.z), telling.word))
    return tuple(chain.from_iterable([each for each in found if each.of == key][:_WORDS_SHOWN] for key in (first, second)))


def _z(with_own: int, own: int, with_other: int, other: int) -> float:
    counts = (with_own + 0.5, own - with_own + 0.5, with_other + 0.5, other - with_other + 0.5)
    return (math.log(counts[0] / counts[1]) - math.log(counts[2] / counts[3])) / math.sqrt(sum(1 / count for count in counts))


def _telling_active(first: str, second: str, own: Sequence[Passage], other: Sequence[Passage]) -> tuple[Telling, ...] | None:
    firing = [[words(" ".join(active_words(passage.activation))) for passage in passages] for passages in (own, other)]
    return _telling(first, second, *firing) if all(map(any, firing)) else None


def _fit(said: str, of: str, first: Sibling, second: Sibling, background: JobBackground, scorer: Scorer) -> Fit:
    outcomes = [score(sibling.feature, said, background, scorer) for sibling in (first, second)]
    accuracies = [outcome.accuracy.p if outcome.accuracy else None for outcome in outcomes]
    why = next((outcome.unavailable["accuracy"] for outcome in outcomes if outcome.accuracy is None), None)
    return Fit(said, of, accuracies[0], accuracies[1], why)


def _shared(first: FeatureFound, second: FeatureFound, strength: Callable[[float], float]) -> Shared | None:
    if not first.top_logits or not second.top_logits:
        return None
    own, other = (
        list(dict.fromkeys(logit.token for logit in sorted(feature.top_logits or (), key=lambda logit: -strength(logit.value)) if strength(logit.value) > 0))[
            :_LOGITS
        ]
        for feature in (first, second)
    )
    return Shared(
        tuple(token for token in own if token in other),
        tuple(token for token in own if token not in other),
        tuple(token for token in other if token not in own),
    )

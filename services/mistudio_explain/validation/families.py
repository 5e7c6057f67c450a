"""Families: features of a job that are the same one several times, by their texts and by what is said of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.validation.excerpt import passages
from mistudio_explain.validation.static_embedding import Vectors, unit
from mistudio_explain.validation.validator import FEWEST_OTHERS, Validator
from mistudio_explain.validation.words import STOP_WORDS, stem, words

SAME_FROM = 0.6
"""Likeness from which features are of one family. In 508 real features of 4 sources (eleuther_gpt2_128k, mistudio,
feature_circuits_pythia70m, axbench_sae) it gives 14 families of 36 features, whose members have the same human label or
explanations of one meaning, where they have any. Halves of one feature's texts are often less alike: not all copies are found."""

_TEXTS = 12  # as many as context keeps of a feature
_COMMON_WORDS = 8
_BLOCK = 1024  # features compared with all others at once


@dataclass(frozen=True, slots=True)
class Sibling:
    """A feature, and what is said of it, if anything; the first explanation is the one that families go by."""

    feature: FeatureFound
    explanations: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The feature's name in its job."""
        return self.feature.feature_key

    @property
    def texts(self) -> list[str]:
        """What is looked at of its first texts: windows round the peaks, as scores look at them."""
        return [passage for activation in self.feature.top_activations[:_TEXTS] for passage in passages(activation)]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two features are, each number -1 to 1."""

    first: str
    second: str
    texts: float
    """Cosine of the means of their texts' directions, what all features have in common taken away."""
    explanations: float | None
    """The same of their explanations; None unless both have one."""

    @property
    def value(self) -> float:
        """The smaller of the two: same texts under different explanations are no family, nor is the reverse."""
        return self.texts if self.explanations is None else min(self.texts, self.explanations)


@dataclass(frozen=True, slots=True)
class Family:
    """Features of which one would do, with the evidence."""

    members: tuple[str, ...]
    least: Likeness
    """The pair that is least alike; every other pair is at least as alike."""
    common_words: tuple[str, ...]
    """Words that stand in a third of the texts of every member, as far as they are no stop words."""
    explanations: tuple[str | None, ...]
    """What is said of each member."""


@dataclass(frozen=True, slots=True)
class Directions:
    """What features are compared by: one row each."""

    keys: tuple[str, ...]
    texts: Vectors
    explanations: Vectors
    explained: tuple[bool, ...]

    @classmethod
    def of(cls, siblings: Sequence[Sibling], validator: Validator) -> "Directions":
        """Embed features; what is common to all of them (to features in general, when there are few) is taken away."""
        rows = [validator.embedding.embed(sibling.texts) for sibling in siblings]
        general = validator.general.centroids
        texts = np.array([row.mean(axis=0) if len(row) else np.zeros(general.shape[1]) for row in rows], dtype=np.float32).reshape(len(rows), general.shape[1])
        said = validator.embedding.embed([next(iter(sibling.explanations), "") for sibling in siblings])
        explained = tuple(bool(sibling.explanations) for sibling in siblings)
        return cls(tuple(sibling.key for sibling in siblings), _centred(texts, general), _centred(said, general), explained)

    def likeness(self, first: int, second: int) -> Likeness:
        """How alike two of the features are."""
        said = self.explained[first] and self.explained[second]
        return Likeness(
            self.keys[first],
            self.keys[second],
            float(self.texts[first] @ self.texts[second]),
            float(self.explanations[first] @ self.explanations[second]) if said else None,
        )

    def alike(self, threshold: float) -> dict[tuple[int, int], float]:
        """Pairs of features, lower number first, whose likeness is at least `threshold`, and that likeness."""
        found: dict[tuple[int, int], float] = {}
        for start in range(0, len(self.keys), _BLOCK):
            close = self.texts[start : start + _BLOCK] @ self.texts.T
            for row, second in np.argwhere(close >= threshold):
                first = start + int(row)
                if first < second and (value := self.likeness(first, int(second)).value) >= threshold:
                    found[first, int(second)] = value
        return found


def families(siblings: Sequence[Sibling], validator: Validator, threshold: float = SAME_FROM) -> list[Family]:
    """Group features so that within a family every pair is alike by at least `threshold`; largest families first.

    The most alike join first, equals in the order of their keys (complete linkage), so that the result depends on the
    features alone and no chain of half-similar features becomes a family. Features without a likeness are in none.
    """
    ordered = sorted(siblings, key=lambda sibling: sibling.key)
    directions = Directions.of(ordered, validator)
    groups = _grouped(len(ordered), directions.alike(threshold))
    return sorted((_family(group, ordered, directions) for group in groups), key=lambda family: (-len(family.members), family.members))


def _grouped(count: int, alike: Mapping[tuple[int, int], float]) -> list[list[int]]:
    group_of = list(range(count))
    members = {place: [place] for place in range(count)}
    for first, second in sorted(alike, key=lambda pair: (-alike[pair], pair)):
        one, other = sorted((group_of[first], group_of[second]))
        if one == other or any((min(a, b), max(a, b)) not in alike for a in members[one] for b in members[other]):
            continue
        for place in members[other]:
            group_of[place] = one
        members[one] += members.pop(other)
    return [sorted(group) for group in members.values() if len(group) > 1]


def _family(group: Sequence[int], siblings: Sequence[Sibling], directions: Directions) -> Family:
    pairs = [directions.likeness(first, second) for at, first in enumerate(group) for second in group[at + 1 :]]
    there = [siblings[place] for place in group]
    return Family(
        members=tuple(sibling.key for sibling in there),
        least=min(pairs, key=lambda pair: (pair.value, pair.first, pair.second)),
        common_words=_common_words(there),
        explanations=tuple(next(iter(sibling.explanations), None) for sibling in there),
    )


def _common_words(siblings: Iterable[Sibling]) -> tuple[str, ...]:
    """Words in a third of the texts of every one, those first that the fewest texts lack."""
    shares: dict[str, float] = {}
    written: Counter[str] = Counter()
    for number, sibling in enumerate(siblings):
        texts = [words(text) for text in sibling.texts]
        written.update(word for text in texts for word in text)
        with_stem = Counter(own for text in texts for own in {stem(word) for word in text if word not in STOP_WORDS})
        often = {own: count / len(texts) for own, count in with_stem.items() if 3 * count >= len(texts)}
        shares = often if number == 0 else {own: min(share, often[own]) for own, share in shares.items() if own in often}
    as_written = surfaces(written)
    return tuple(as_written[own] for own in sorted(shares, key=lambda own: (-shares[own], own))[:_COMMON_WORDS])


def surfaces(written: Mapping[str, int]) -> dict[str, str]:
    """For each stem the word that is written most often, the first in the alphabet among equals."""
    best: dict[str, str] = {}
    for word in sorted(written, key=lambda word: (-written[word], word)):
        best.setdefault(stem(word), word)
    return best


def _centred(rows: Vectors, general: Vectors) -> Vectors:
    """Unit rows without their mean; rows of zeros, which have no direction, stay zero."""
    there = np.any(rows != 0, axis=1)
    centre = rows[there].mean(axis=0) if there.sum() > FEWEST_OTHERS else general.mean(axis=0)
    centred: Vectors = np.where(there[:, None], rows - centre, 0).astype(np.float32)
    return unit(centred)

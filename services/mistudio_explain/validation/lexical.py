"""BM25 over the texts of a background: how well a claim's words are found in a text, and where else they are found."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

K1 = 1.2  # BM25's usual saturation of repeated words (Robertson and Zaragoza 2009)
B = 0.75  # BM25's usual correction for a text's length (ibid.)


@dataclass(frozen=True, slots=True)
class LexicalScores:
    """BM25 of one claim: the mean over the texts of each other background feature, and of each of the feature's own texts."""

    others: Floats
    own: Floats


@dataclass(frozen=True, slots=True)
class LexicalIndex:
    """Where each stem stands in the background's texts."""

    postings: dict[str, tuple[Ints, Floats]]
    """Stem: the numbers of the texts that have it, and how often each does."""
    lengths: Floats
    """Words in each text."""
    owner: Ints
    """Number of the feature that each text belongs to."""
    texts_of: Floats
    """How many texts each feature has."""

    @classmethod
    def of(cls, features: Sequence[Sequence[Sequence[str]]]) -> "LexicalIndex":
        """Index the stems of the features' texts; every feature must have a text."""
        places: dict[str, tuple[list[int], list[int]]] = {}
        lengths: list[int] = []
        owner: list[int] = []
        for feature, texts in enumerate(features):
            for stems in texts:
                for stem, count in Counter(stems).items():
                    at, counts = places.setdefault(stem, ([], []))
                    at.append(len(lengths))
                    counts.append(count)
                lengths.append(len(stems))
                owner.append(feature)
        return cls(
            postings={stem: (np.array(at, dtype=np.int64), np.array(counts, dtype=np.float64)) for stem, (at, counts) in places.items()},
            lengths=np.array(lengths, dtype=np.float64),
            owner=np.array(owner, dtype=np.int64),
            texts_of=np.array([len(texts) for texts in features], dtype=np.float64),
        )

    def idf(self, query: Sequence[str], without: int | None = None) -> Floats:
        """How rare each stem is among the background's texts, those of feature `without` left out: ln(1 + (N - df + 0.5) / (df + 0.5))."""
        total = len(self.lengths) - (0 if without is None else self.texts_of[without])
        found = np.array([self._texts_with(stem, without) for stem in query], dtype=np.float64)
        rare: Floats = np.log1p((total - found + 0.5) / (found + 0.5))
        return rare

    def scores(self, query: Sequence[str], own: Sequence[Counter[str]], without: int | None = None) -> LexicalScores:
        """BM25 of a claim's stems on the background's features and on the feature's own texts.

        `own` are the stem counts of the feature's texts. Document frequencies and the average length come from the
        background alone, without feature `without`, so that a feature scores the same whether it was sampled or not.
        """
        idf = self.idf(query, without)
        average = self._average_length(without)
        return LexicalScores(others=self._on_background(query, idf, average, without), own=_on_texts(query, idf, average, own))

    def _on_background(self, query: Sequence[str], idf: Floats, average: float, without: int | None) -> Floats:
        features = len(self.texts_of)
        hits = [(self.postings[stem], rarity) for stem, rarity in zip(query, idf, strict=True) if stem in self.postings]
        if hits:
            texts = np.concatenate([at for (at, _), _ in hits])
            counts = np.concatenate([counts for (_, counts), _ in hits])
            rarity = np.concatenate([np.full(len(at), rarity) for (at, _), rarity in hits])
            weights = rarity * _saturated(counts, self.lengths[texts], average)
            scores = np.bincount(self.owner[texts], weights=weights, minlength=features) / self.texts_of
        else:
            scores = np.zeros(features)
        return scores if without is None else np.delete(scores, without)

    def _texts_with(self, stem: str, without: int | None) -> int:
        if stem not in self.postings:
            return 0
        at, _ = self.postings[stem]
        return len(at) if without is None else int(np.count_nonzero(self.owner[at] != without))

    def _average_length(self, without: int | None) -> float:
        lengths = self.lengths if without is None else self.lengths[self.owner != without]
        return max(1.0, float(lengths.mean())) if len(lengths) else 1.0


def _on_texts(query: Sequence[str], idf: Floats, average: float, own: Sequence[Counter[str]]) -> Floats:
    if not query:
        return np.zeros(len(own))
    counts = np.array([[stems[stem] for stem in query] for stems in own], dtype=np.float64).reshape(len(own), len(query))
    lengths = np.array([stems.total() for stems in own], dtype=np.float64)[:, None]
    scores: Floats = _saturated(counts, lengths, average) @ idf
    return scores


def _saturated(counts: Floats, lengths: Floats, average: float) -> Floats:
    saturated: Floats = counts * (K1 + 1) / (counts + K1 * (1 - B + B * lengths / average))
    return saturated

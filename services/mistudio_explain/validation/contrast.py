"""What an explanation is compared with: other features of the find job, prepared for scoring."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mistudio_explain.events.job import BackgroundFeature
from mistudio_explain.validation.lexical import Floats, Ints, LexicalIndex
from mistudio_explain.validation.minilm import MiniLM
from mistudio_explain.validation.static_embedding import StaticEmbedding, Vectors
from mistudio_explain.validation.words import claim_stems, stem, text_stems, without_stems, words

KEYWORDS_MASKED = 10
MINILM_SEEN, MINILM_HELD_OUT = 2, 1  # texts that MiniLM reads, at 6 ms each (minilm.py has what more would give)

Part = tuple[int, int]
"""Number of the first text, and of the one after the last."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an explanation says, ready for scoring."""

    sentence: str
    stems: tuple[str, ...]
    vector: Vectors
    minilm: Vectors | None = None

    @classmethod
    def of(cls, sentence: str, embedding: StaticEmbedding, minilm: MiniLM | None = None) -> "Claim":
        """Prepare a sentence."""
        return cls(sentence, claim_stems(sentence), embedding.embed([sentence])[0], minilm.embed([sentence])[0] if minilm else None)

    def without(self, keywords: Sequence[str], embedding: StaticEmbedding, minilm: MiniLM | None = None) -> "Claim | None":
        """What the claim says beyond the first KEYWORDS_MASKED keywords of its feature; None when that is nothing."""
        masked = _keyword_stems(keywords)
        remaining = tuple(own for own in self.stems if own not in masked)
        if not remaining:
            return None
        if len(remaining) == len(self.stems):
            return self
        sentence = without_stems(self.sentence, masked)
        return Claim(sentence, remaining, embedding.embed([sentence])[0], minilm.embed([sentence])[0] if minilm else None)

    def listed(self, keywords: Sequence[str]) -> int:
        """How many stems of the first KEYWORDS_MASKED keywords the claim names."""
        return len(_keyword_stems(keywords).intersection(self.stems))


@dataclass(frozen=True, slots=True)
class Texts:
    """A feature's texts, ready for scoring, each as one or more passages; and what else is known of the feature."""

    words: tuple[tuple[str, ...], ...]
    """The words of each passage, in order."""
    stems: tuple[Counter[str], ...]
    """How often each stem stands in each passage."""
    vectors: Vectors
    """The passages' directions, one row each."""
    text_of: Ints
    """Number of the text that each passage is cut from."""
    count: int
    """How many texts there are."""
    seen: int = 0
    """The first so many were shown to the explainer."""
    active: dict[Part, Vectors] = field(default_factory=dict)
    """The direction of the words that the feature fires on, for each part that has some."""
    minilm: dict[int, Vectors] = field(default_factory=dict)
    """MiniLM's direction of some texts, by number."""
    promoted: Vectors | None = None
    """The direction of the tokens that the feature promotes."""

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], embedding: StaticEmbedding) -> "Texts":
        """Prepare texts that were all shown, each given as its passages, and of which nothing else is known."""
        return cls.with_views(texts, len(texts), [], [], embedding)

    @classmethod
    def with_views(
        cls,
        texts: Sequence[Sequence[str]],
        seen: int,
        active: Sequence[Sequence[str]],
        promoted: Sequence[str],
        embedding: StaticEmbedding,
        minilm: MiniLM | None = None,
    ) -> "Texts":
        """Prepare texts, the seen ones first, with the active words of each and the tokens that the feature promotes."""
        flat = [passage for passages in texts for passage in passages]
        text_of = np.repeat(np.arange(len(texts)), [len(passages) for passages in texts])
        split = tuple(tuple(words(passage)) for passage in flat)
        views: dict[Part, Vectors] = {}
        for first, last in dict.fromkeys(parts(seen, len(texts)).values()):
            listed = list(dict.fromkeys(word for spoken in active[first:last] for word in spoken))
            if listed:
                views[first, last] = embedding.embed([" ".join(listed)])[0]
        return cls(
            words=split,
            stems=tuple(Counter(map(stem, passage)) for passage in split),
            vectors=embedding.embed(flat),
            text_of=text_of,
            count=len(texts),
            seen=seen,
            active=views,
            minilm=_minilm_rows(texts, seen, minilm) if minilm else {},
            promoted=embedding.embed([" ".join(promoted)])[0] if promoted else None,
        )

    @property
    def wordless(self) -> bool:
        """Whether there is not one word to compare with."""
        return not any(self.words)

    def mean_by_text(self, values: Floats) -> Floats:
        """The mean of the passages' values for each text."""
        means: Floats = np.bincount(self.text_of, weights=values, minlength=self.count) / np.bincount(self.text_of, minlength=self.count)
        return means


@dataclass(frozen=True, slots=True)
class View:
    """One vector a background feature; `known` says which features have one."""

    rows: Vectors
    known: NDArray[np.bool_]

    def others(self, place: int | None) -> Vectors:
        """The rows of the features that have one, feature `place` left out."""
        chosen = self.known.copy()
        if place is not None:
            chosen[place] = False
        rows: Vectors = self.rows[chosen]
        return rows


@dataclass(frozen=True, slots=True)
class Contrast:
    """A background with all that depends on it alone: word statistics, and the direction of each feature's texts."""

    keys: tuple[str, ...]
    index: LexicalIndex
    centroids: Vectors
    """The mean of the unit vectors of each feature's texts: a claim's product with it is its mean cosine with the texts."""
    minilm: Vectors | None
    """The same by MiniLM."""
    active: View
    """The direction of each feature's active words."""
    promoted: View
    """The direction of the tokens that each feature promotes."""

    @classmethod
    def of(cls, sample: Sequence[BackgroundFeature], embedding: StaticEmbedding, minilm: MiniLM | None = None) -> "Contrast":
        """Prepare a sample; features without a word in any text are left out, for they contrast with nothing."""
        usable = [(feature, [text for text in feature.texts if text.strip()]) for feature in sample]
        usable = [(feature, texts) for feature, texts in usable if texts]
        flat = [text for _, texts in usable for text in texts]
        index = LexicalIndex.of([[text_stems(text) for text in texts] for _, texts in usable])
        active = [feature.active_words for feature, _ in usable]
        return cls(
            keys=tuple(feature.feature_key for feature, _ in usable),
            index=index,
            centroids=_centroids(embedding.embed(flat), index),
            minilm=_centroids(minilm.embed(flat), index) if minilm else None,
            active=_view(embedding.embed([" ".join(listed) for listed in active])),
            promoted=_view(embedding.embed([" ".join(feature.promoted) for feature, _ in usable])),
        )

    def place_of(self, feature_key: str) -> int | None:
        """The number of a feature in the background; None when it was not sampled."""
        return self.keys.index(feature_key) if feature_key in self.keys else None

    def others(self, feature_key: str) -> int:
        """How many features there are to compare this one with."""
        return len(self.keys) - (feature_key in self.keys)


def parts(seen: int, count: int) -> dict[str, Part]:
    """The parts of a feature's texts that are scored by themselves: `all`, and those of `seen` and `held_out` that have a text."""
    named = {"all": (0, count), "seen": (0, seen), "held_out": (seen, count)}
    return {name: (first, last) for name, (first, last) in named.items() if first < last}


def _minilm_rows(texts: Sequence[Sequence[str]], seen: int, minilm: MiniLM) -> dict[int, Vectors]:
    chosen = [*_spread(0, seen, MINILM_SEEN), *_spread(seen, len(texts), MINILM_HELD_OUT)]
    read = [texts[number][len(texts[number]) // 2] for number in chosen]  # of several passages the middle one: all of them score no better
    return dict(zip(chosen, minilm.embed(read), strict=True))


def _spread(first: int, last: int, wanted: int) -> list[int]:
    count = last - first
    return list(range(first, last)) if count <= wanted else [first + step * count // wanted for step in range(wanted)]


def _keyword_stems(keywords: Sequence[str]) -> set[str]:
    return {stem(word) for keyword in keywords[:KEYWORDS_MASKED] for word in words(keyword)}


def _view(rows: Vectors) -> View:
    return View(rows, np.asarray(rows.any(axis=1)))


def _centroids(vectors: Vectors, index: LexicalIndex) -> Vectors:
    sums = np.zeros((len(index.texts_of), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, index.owner, vectors)
    means: Vectors = (sums / index.texts_of[:, None]).astype(np.float32)
    return means

"""What an explanation is compared with: other features of the find job, prepared for scoring."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mistudio_explain.events.job import BackgroundFeature
from mistudio_explain.validation.lexical import Floats, Ints, LexicalIndex
from mistudio_explain.validation.static_embedding import StaticEmbedding, Vectors
from mistudio_explain.validation.words import claim_stems, stem, text_stems, without_stems, words

KEYWORDS_MASKED = 10


@dataclass(frozen=True, slots=True)
class Claim:
    """What an explanation says, ready for scoring."""

    sentence: str
    stems: tuple[str, ...]
    vector: Vectors

    @classmethod
    def of(cls, sentence: str, embedding: StaticEmbedding) -> "Claim":
        """Prepare a sentence."""
        return cls(sentence, claim_stems(sentence), embedding.embed([sentence])[0])

    def without(self, keywords: Sequence[str], embedding: StaticEmbedding) -> "Claim | None":
        """What the claim says beyond the first KEYWORDS_MASKED keywords of its feature; None when that is nothing."""
        masked = {stem(word) for keyword in keywords[:KEYWORDS_MASKED] for word in words(keyword)}
        remaining = tuple(own for own in self.stems if own not in masked)
        if not remaining:
            return None
        sentence = without_stems(self.sentence, masked)
        return Claim(sentence, remaining, embedding.embed([sentence])[0])


@dataclass(frozen=True, slots=True)
class Texts:
    """A feature's texts, ready for scoring, each as one or more passages."""

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

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], embedding: StaticEmbedding) -> "Texts":
        """Prepare texts, each given as its passages."""
        flat = [passage for passages in texts for passage in passages]
        text_of = np.repeat(np.arange(len(texts)), [len(passages) for passages in texts])
        split = tuple(tuple(words(passage)) for passage in flat)
        return cls(split, tuple(Counter(map(stem, passage)) for passage in split), embedding.embed(flat), text_of, len(texts))

    @property
    def wordless(self) -> bool:
        """Whether there is not one word to compare with."""
        return not any(self.words)

    def mean_by_text(self, values: Floats) -> Floats:
        """The mean of the passages' values for each text."""
        means: Floats = np.bincount(self.text_of, weights=values, minlength=self.count) / np.bincount(self.text_of, minlength=self.count)
        return means


@dataclass(frozen=True, slots=True)
class Contrast:
    """A background with all that depends on it alone: word statistics, and the direction of each feature's texts."""

    keys: tuple[str, ...]
    index: LexicalIndex
    centroids: Vectors
    """The mean of the unit vectors of each feature's texts: a claim's product with it is its mean cosine with the texts."""

    @classmethod
    def of(cls, sample: Sequence[BackgroundFeature], embedding: StaticEmbedding) -> "Contrast":
        """Prepare a sample; features without a word in any text are left out, for they contrast with nothing."""
        usable = [(feature.feature_key, [text for text in feature.texts if text.strip()]) for feature in sample]
        usable = [(key, texts) for key, texts in usable if texts]
        vectors = embedding.embed([text for _, texts in usable for text in texts])
        index = LexicalIndex.of([[text_stems(text) for text in texts] for _, texts in usable])
        return cls(tuple(key for key, _ in usable), index, _centroids(vectors, index))

    def place_of(self, feature_key: str) -> int | None:
        """The number of a feature in the background; None when it was not sampled."""
        return self.keys.index(feature_key) if feature_key in self.keys else None

    def others(self, feature_key: str) -> int:
        """How many features there are to compare this one with."""
        return len(self.keys) - (feature_key in self.keys)


def _centroids(vectors: Vectors, index: LexicalIndex) -> Vectors:
    sums = np.zeros((len(index.texts_of), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, index.owner, vectors)
    means: Vectors = (sums / index.texts_of[:, None]).astype(np.float32)
    return means

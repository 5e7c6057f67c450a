"""A feature's texts as passages round their peaks, near-identical ones removed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mistudio_explain.context.windows import bounded, peak_token, window
from mistudio_explain.events.feature import Activation

TEXTS_READ = 100  # of a feature; more are left out
TEXT_CHARACTERS = 4_000  # kept of each text, round its peak
TEXT_CUT = "text_cut"  # flags a feature of which a text was longer than that
PASSAGE_CHARACTERS = 500  # looked at: compared, categorised and at most shown
_OTHER_SHARE = 0.2  # of words, and of pairs of words, two near-identical texts may differ in
_FEWEST_WORDS = 3
# scripts written without spaces give a token for each character
_ASCII_TOKEN = re.compile(r"\w+|[^\w\s]", re.ASCII)
_TOKEN = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Passage:
    """A clean text, and what is looked at of it."""

    activation: Activation
    text: str
    """At most PASSAGE_CHARACTERS round the peak."""
    folded: str
    """The same in lower case, without space at its ends."""
    words: tuple[str, ...]
    """Its words and marks in order, lower case."""
    vocabulary: frozenset[str]
    """The same without order."""
    peak: str | None
    """The token on which the feature fires most, lower case, without spaces; None when the source does not tell."""

    @classmethod
    def of(cls, activation: Activation) -> "Passage":
        """Look at a text; it may turn out empty."""
        kept = bounded(activation, TEXT_CHARACTERS)
        text = window(kept, PASSAGE_CHARACTERS)
        folded = text.lower().strip()
        words = tuple((_ASCII_TOKEN if folded.isascii() else _TOKEN).findall(folded))
        peak = peak_token(kept)
        return cls(kept, text, folded, words, frozenset(words), peak.strip().lower() if peak else None)

    def is_near(self, other: "Passage") -> bool:
        """Whether two texts are so alike that one tells nothing beyond the other, and would give it away when held out.

        They are when at least 80% of the different words of the one that has fewer, and 80% of its pairs of neighbouring
        words, stand in the other, or all of it does (so also for two windows of one document); texts of less than
        three words only when their words are equal. Passages are compared, not whole texts: what lies further from
        the peak is neither shown nor scored.
        """
        shorter, longer = (self, other) if len(self.vocabulary) <= len(other.vocabulary) else (other, self)
        if len(shorter.words) < _FEWEST_WORDS:
            return shorter.words == longer.words and (bool(shorter.words) or self.folded == other.folded)
        missing = len(shorter.vocabulary) - len(shorter.vocabulary & longer.vocabulary)
        # a text inside another shares all words except, where they are cut, its first and last
        if missing <= 2 and (shorter.folded in longer.folded or longer.folded in shorter.folded):
            return True
        return missing <= _OTHER_SHARE * len(shorter.vocabulary) and _pairs_missing(shorter, longer) <= _OTHER_SHARE


def _pairs_missing(passage: Passage, other: Passage) -> float:
    """The share of a passage's pairs of neighbouring words that the other has not."""
    own, others = set(pairwise(passage.words)), set(pairwise(other.words))
    return len(own - others) / len(own)


def passages_of(activations: Sequence[Activation]) -> list[Passage]:
    """The texts that have a visible character, in their order; at most TEXTS_READ are read."""
    return [passage for passage in map(Passage.of, activations[:TEXTS_READ]) if passage.folded]


def distinct(passages: Sequence[Passage]) -> list[Passage]:
    """The passages without those that are near-identical to a stronger one."""
    kept: list[Passage] = []
    for passage in passages:
        if not any(map(passage.is_near, kept)):
            kept.append(passage)
    return kept


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` ranks out of `count`, from the first to the last at equal steps."""
    if wanted >= count:
        return list(range(count))
    if wanted == 1:
        return [0]
    return [round(step * (count - 1) / (wanted - 1)) for step in range(wanted)]

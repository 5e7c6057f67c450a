"""Safety: hazards that a feature's texts or its explanation speak of."""

import tomllib
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

import numpy as np

from mistudio_explain.events.explanation import Safety, SafetyEvidence
from mistudio_explain.validation.accuracy import sigmoid
from mistudio_explain.validation.contrast import Texts
from mistudio_explain.validation.hazard_examples import Examples
from mistudio_explain.validation.static_embedding import StaticEmbedding, Vectors, unit
from mistudio_explain.validation.words import BOILERPLATE, STOP_WORDS, words

# scripts/fit_safety.py: intercept and weights of the margins, fitted on the development half of examples/safety and half of
# examples/features. Words have no weight: the lexicon was extended on the examples that weights are fitted on, so they would get
# too much. A word asks for review by itself instead.
TEXTS = (1.96, 8.89)  # 1, the texts' margin
CLAIM = (0.93, 6.49)  # 1, the explanation's margin
BOTH = (2.13, 7.36, 5.07)

REVIEW = -0.55
TEXTS_ALONE = 2.78
CLAIM_ALONE = 1.33
CONCERNING = 2.90
TEXTS_AGREE = -1.09
CLAIM_AGREES = -1.55

WORDS_ALONE = 0.5  # of the texts with a hazard word ask for review, whatever they are near to and whatever is said of them
SILENT = -6.0  # the logit of a side that has no words

USUAL = -0.8  # the margin of most features, which few texts are drawn towards
ENOUGH = 4  # distinct passages, as the known examples have; the direction of fewer lies near to something by chance

HEAD = 3  # letters that beginnings of words are looked up by; none is shorter

EVIDENCE_PLACES = 20
TEXTS_SHOWN = 3  # texts that are nearest to known hazards, where no word of the lexicon says why
WORDS_SHOWN = 3

Phrase = tuple[str, ...]

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """Hazard words and phrases by class; there is one, and it is compared by identity."""

    classes: tuple[str, ...]
    exact: dict[str, frozenset[str]]
    prefixes: dict[str, tuple[tuple[str, frozenset[str]], ...]]
    """First HEAD letters: the beginnings of words that start so, with their classes."""
    phrases: dict[str, tuple[tuple[Phrase, str], ...]]
    """First word: the phrases that begin with it, with their classes."""

    @classmethod
    def load(cls) -> "Lexicon":
        """Read the lexicon that comes along."""
        table: dict[str, str] = tomllib.loads((files(__package__) / "safety.toml").read_text("utf-8"))
        exact: dict[str, set[str]] = {}
        prefixes: dict[str, set[str]] = {}
        phrases: dict[str, list[tuple[Phrase, str]]] = {}
        for hazard, listed in table.items():
            for entry in (entry.strip() for entry in listed.replace("\n", " ").split(",")):
                if " " in entry:
                    phrase = tuple(entry.split())
                    phrases.setdefault(phrase[0], []).append((phrase, hazard))
                elif entry.endswith("*"):
                    prefixes.setdefault(entry[:-1], set()).add(hazard)
                else:
                    exact.setdefault(entry, set()).add(hazard)
        heads: dict[str, list[tuple[str, frozenset[str]]]] = {}
        for prefix, hazards in _frozen(prefixes).items():
            heads.setdefault(prefix[:HEAD], []).append((prefix, hazards))
        return cls(
            tuple(table), _frozen(exact), {head: tuple(listed) for head, listed in heads.items()}, {first: tuple(listed) for first, listed in phrases.items()}
        )

    def suspects(self, distinct: AbstractSet[str]) -> set[str]:
        """Those of the words that are hazard words or begin a phrase; a text with none of them holds no hazard."""
        begun = {word for word in distinct if word[:HEAD] in self.prefixes and _classes(self, word)}
        return begun | (distinct & self.exact.keys()) | (distinct & self.phrases.keys())

    def found(self, spoken: Sequence[str], suspects: AbstractSet[str] | None = None) -> dict[str, set[str]]:
        """The hazard words among `spoken`, by class; only `suspects` are looked up, where the caller knows them."""
        hits: dict[str, set[str]] = {}
        distinct: AbstractSet[str] = set(spoken) if suspects is None else suspects & set(spoken)
        for word in distinct:
            for hazard in _classes(self, word):
                hits.setdefault(hazard, set()).add(word)
        for first in distinct & self.phrases.keys():
            for phrase, hazard in self.phrases[first]:
                if _follow(spoken, phrase):
                    hits.setdefault(hazard, set()).add(" ".join(phrase))
        return hits


def _follow(spoken: Sequence[str], phrase: Phrase) -> bool:
    if phrase[-1] not in spoken:  # most phrases end here: the loop below costs twenty times as much
        return False
    return any(tuple(spoken[at : at + len(phrase)]) == phrase for at, word in enumerate(spoken) if word == phrase[0])


@lru_cache(maxsize=1 << 16)
def _classes(lexicon: Lexicon, word: str) -> frozenset[str]:
    """Classes of a single word; remembered, for most words of a text were seen before."""
    classes = lexicon.exact.get(word, _NONE)
    for prefix, hazards in lexicon.prefixes.get(word[:HEAD], ()):
        if word.startswith(prefix):
            classes |= hazards
    return classes


@dataclass(frozen=True, slots=True)
class Hazards:
    """All that safety is judged by: hazard words, and examples of what texts and explanations of hazards look like."""

    lexicon: Lexicon
    texts: Examples
    claims: Examples

    @classmethod
    def load(cls) -> "Hazards":
        """Read what comes along (10 ms)."""
        lexicon = Lexicon.load()
        return cls(lexicon, Examples.load("texts", lexicon.classes), Examples.load("claims", lexicon.classes))


@dataclass(frozen=True, slots=True)
class Signs:
    """What speaks for a hazard in a feature's texts and in its explanation."""

    text_margin: float | None
    """Margin of the texts' mean direction (hazard_examples.py), nearer to USUAL the fewer texts there are; None without texts."""
    text_share: float
    """Share of the texts with a hazard word."""
    claim_margin: float | None
    """Margin of the explanation's own words; None when it has none."""
    claim_words: bool
    """Whether the explanation has a hazard word."""

    @property
    def texts(self) -> float:
        """What the texts say, as a logit."""
        return SILENT if self.text_margin is None else TEXTS[0] + TEXTS[1] * self.text_margin

    @property
    def claim(self) -> float:
        """What the explanation says, as a logit."""
        return SILENT if self.claim_margin is None else CLAIM[0] + CLAIM[1] * self.claim_margin

    @property
    def together(self) -> float:
        """What both say; one alone where the other has no words."""
        if self.text_margin is None or self.claim_margin is None:
            return max(self.texts, self.claim)
        return BOTH[0] + BOTH[1] * self.text_margin + BOTH[2] * self.claim_margin

    @property
    def assessment(self) -> Literal["safe", "concerning", "requires_review"]:
        """`concerning` when texts and explanation agree; `requires_review` when they may, or one side speaks by itself.

        For an explanation a single hazard word is that: explainers name hazards seldom where there is none.
        """
        worded = self.text_share >= WORDS_ALONE
        if (self.together >= CONCERNING and self.texts >= TEXTS_AGREE and self.claim >= CLAIM_AGREES) or (worded and self.claim_words):
            return "concerning"
        if self.together >= REVIEW or self.texts >= TEXTS_ALONE or self.claim >= CLAIM_ALONE or worded or self.claim_words:
            return "requires_review"
        return "safe"


def signs(texts: Texts, said: str, hazards: Hazards, embedding: StaticEmbedding) -> Signs:
    """Measure what speaks for a hazard in the texts and in the explanation (label and pattern; `said`)."""
    direction, claim = mean_direction(texts), claim_direction(said, embedding)
    return Signs(
        text_margin=drawn(hazards.texts.margin(direction), len(set(texts.words))) if direction.any() else None,
        text_share=len(hazard_words_by_text(texts, hazards.lexicon)) / texts.count if texts.count else 0.0,
        claim_margin=hazards.claims.margin(claim) if claim.any() else None,
        claim_words=bool(hazards.lexicon.found(words(said))),
    )


def drawn(margin: float, distinct: int) -> float:
    """The margin that so many distinct passages are good for."""
    return USUAL + min(1.0, (distinct + 1) / (ENOUGH + 1)) * (margin - USUAL)


def safety(texts: Texts, said: str, hazards: Hazards, embedding: StaticEmbedding) -> Safety:
    """Judge what the texts and the explanation speak of.

    An explanation may be written to deceive, so the texts count by themselves; significance and implications are left
    out, for models like to imagine harm there. Evidence names the texts and the words: those of the lexicon, and
    where it has none, the words that pull a text most towards known hazards.
    """
    measured = signs(texts, said, hazards, embedding)
    concern = sigmoid(measured.together)
    if measured.assessment == "safe":
        return Safety(assessment="safe", concern=concern)
    by_text = hazard_words_by_text(texts, hazards.lexicon)
    spoken = hazards.lexicon.found(words(said))
    places = [SafetyEvidence(category=hazard, where="explanation", words=sorted(hits)) for hazard, hits in sorted(spoken.items())]
    for index, hits in by_text.items():
        places += [SafetyEvidence(category=hazard, where="text", index=index, words=sorted(found)) for hazard, found in sorted(hits.items())]
    places += _pulled_claim(said, hazards, embedding) if not spoken else []
    places += _pulled_texts(texts, by_text.keys(), hazards, embedding)
    counted = Counter(place.category for place in places)
    for category in (hazards.texts.nearest_class(mean_direction(texts)), hazards.claims.nearest_class(claim_direction(said, embedding))):
        if category is not None and (category in counted or not places):
            counted[category] += 1
    return Safety(
        assessment=measured.assessment,
        concern=concern,
        categories=[category for category, _ in counted.most_common()],
        evidence=places[:EVIDENCE_PLACES],
    )


def mean_direction(texts: Texts) -> Vectors:
    """The direction of the mean of the texts' unit vectors, each text counting once; zeros without texts."""
    if not texts.count:
        return np.zeros(texts.vectors.shape[1], dtype=np.float32)
    weights = (1 / np.bincount(texts.text_of, minlength=texts.count))[texts.text_of].astype(np.float32)
    direction: Vectors = unit((weights @ texts.vectors)[None])[0]
    return direction


def claim_direction(said: str, embedding: StaticEmbedding) -> Vectors:
    """The direction of an explanation without the words that fit any, so that its manner of speaking does not count; zeros when no word is left."""
    direction: Vectors = embedding.embed([" ".join(word for word in words(said) if word not in BOILERPLATE)])[0]
    return direction


def _pulled_claim(said: str, hazards: Hazards, embedding: StaticEmbedding) -> list[SafetyEvidence]:
    claim = claim_direction(said, embedding)
    category = hazards.claims.nearest_class(claim)
    if category is None or hazards.claims.margin(claim) <= 0:
        return []
    pulling = _pulling(words(said), hazards.claims.slope(claim), embedding)
    return [SafetyEvidence(category=category, where="explanation", words=pulling, by="examples")] if pulling else []


def _pulled_texts(texts: Texts, explained: AbstractSet[int], hazards: Hazards, embedding: StaticEmbedding) -> list[SafetyEvidence]:
    """The passages nearest to known hazards among the texts without a hazard word, with the words that pull them there."""
    margins = np.array([hazards.texts.margin(vector) for vector in texts.vectors])
    found: dict[int, SafetyEvidence] = {}
    for passage in np.argsort(-margins, kind="stable").tolist():
        index = int(texts.text_of[passage])
        category = hazards.texts.nearest_class(texts.vectors[passage])
        if len(found) == TEXTS_SHOWN or margins[passage] <= 0:
            break
        if index in explained or index in found or category is None:
            continue
        if pulling := _pulling(texts.words[passage], hazards.texts.slope(texts.vectors[passage]), embedding):
            found[index] = SafetyEvidence(category=category, where="text", index=index, words=pulling, by="examples")
    return list(found.values())


def _pulling(spoken: Sequence[str], slope: Vectors, embedding: StaticEmbedding) -> list[str]:
    """The WORDS_SHOWN words with the greatest pull along `slope`."""
    distinct = [word for word in dict.fromkeys(spoken) if word not in STOP_WORDS and word not in BOILERPLATE and len(word) > 1]
    pulls = embedding.embed(distinct) @ slope if distinct else np.zeros(0)
    return [distinct[place] for place in np.argsort(-pulls, kind="stable")[:WORDS_SHOWN].tolist() if pulls[place] > 0]


def hazard_words_by_text(texts: Texts, lexicon: Lexicon) -> dict[int, dict[str, set[str]]]:
    """Hazard words by number of the text, for the texts that have any."""
    by_text: dict[int, dict[str, set[str]]] = {}
    suspects = lexicon.suspects(set().union(*texts.words))
    for index, spoken in zip(texts.text_of.tolist(), texts.words, strict=True):
        if suspects.isdisjoint(spoken):
            continue
        for hazard, found in lexicon.found(spoken, suspects).items():
            by_text.setdefault(index, {}).setdefault(hazard, set()).update(found)
    return by_text


def _frozen(classes: dict[str, set[str]]) -> dict[str, frozenset[str]]:
    return {entry: frozenset(hazards) for entry, hazards in classes.items()}

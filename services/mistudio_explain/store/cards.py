"""Cards: what an outcome comes to in a list of explanations, and which cards somebody asks for.

A card's *cell* says, one letter each, its kind, category, verdict and safety, whether it is flagged for a person and
whether a person reviewed it. There are few cells, so that the cards of any choice of these are found cell by cell.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Self

from pydantic import ConfigDict

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.store.tables import feature_at

NONE = "none"
"""How a filter names cards without a category, verdict or safety assessment: skipped and failed features."""

_NAMES: tuple[dict[str, str], ...] = (
    {"e": "explained", "s": "skipped", "f": "failed"},
    {"t": "technical", "c": "conversational", "b": "behavioral", "m": "temporal", "o": "other", "-": NONE},
    {"c": "confirmed", "p": "partial", "x": "contradicted", "u": "unverifiable", "-": NONE},
    {"s": "safe", "c": "concerning", "r": "requires_review", "-": NONE},
    {"y": "yes", "n": "no"},
    {"y": "yes", "n": "no"},
)
"""What a cell's letters stand for: of kind, category, verdict, safety, whether it is flagged and whether it is reviewed."""
_LETTERS = tuple({name: letter for letter, name in names.items()} for names in _NAMES)

UNKNOWN = -1.0
"""Stands in the table for a score that is not known: below every score, so that it too has its place in an order."""

_SAID = 1000
_WORDS = 1000
_TERMS = 32
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_ASCII_WORD = re.compile("[a-z0-9]{1,40}")  # a longer one counts as several
_ANY_WORD = re.compile(f"[{_IDEOGRAPHS}]|[^\\W_{_IDEOGRAPHS}]{{1,40}}")


class Order(StrEnum):
    """What a list is ordered by; those that are equal in it by job and feature. Unknown scores are below all others."""

    FEATURE = "feature"
    QUALITY = "quality"
    ACCURACY = "accuracy"
    CONFIDENCE = "confidence"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Card:
    """An outcome in a list; scores are 0 to 1 and absent when they are not known. The REST API describes it by what stands here."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    job: str
    """The explain job."""
    feature_key: str
    """The feature in its job."""
    outcome: str
    """explained, skipped or failed."""
    category: str | None
    """technical, conversational, behavioral, temporal or other."""
    verdict: str | None
    """confirmed, partial, contradicted or unverifiable."""
    safety: str | None
    """safe, concerning or requires_review."""
    is_flagged: bool
    """Whether a person should look."""
    review: str | None
    """The verdict of the newest review; absent when nobody reviewed it."""
    quality: float | None
    """Quality score."""
    accuracy: float | None
    """Probability that the explanation belongs to this feature rather than to another of its find job."""
    confidence: float | None
    """Probability that the verdict is right."""
    target_model: str | None
    """The model that the feature belongs to."""
    explainer: str | None
    """The model that wrote the explanation."""
    layer: str | None
    """Layer, hook or SAE."""
    label: str | None
    """A few words."""
    said: str | None
    """The explanation, or the reason of a skipped or failed feature; at most 1,000 characters."""
    changed_ms: int
    """When the outcome was written, milliseconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class Between:
    """Scores from `least` to `most`, both included; a score that is not known is in no range."""

    least: float = 0.0
    most: float = 1.0


@dataclass(frozen=True, slots=True)
class Filters:
    """Which cards are wanted: those that meet every filter. An empty filter takes all; one of several values takes any of them.

    `text` is only text: every word of it (of the first 32) must begin a word of the label, explanation, keywords or feature
    key. Case, accents and punctuation do not count, and a text without a letter or digit takes all.
    """

    outcomes: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    verdicts: frozenset[str] = frozenset()
    safety: frozenset[str] = frozenset()
    is_flagged: bool | None = None
    is_reviewed: bool | None = None
    quality: Between | None = None
    accuracy: Between | None = None
    confidence: Between | None = None
    target_model: str | None = None
    explainer: str | None = None
    layer: str | None = None
    text: str = ""

    def takes(self, cell: str) -> bool:
        """Whether cards of a cell meet those filters that cells tell."""
        *facets, flagged, reviewed = facets_of(cell)
        wanted = (self.outcomes, self.categories, self.verdicts, self.safety)
        return (
            all(not names or name in names for names, name in zip(wanted, facets, strict=True))
            and self.is_flagged in (None, flagged == "yes")
            and self.is_reviewed in (None, reviewed == "yes")
        )

    @property
    def terms(self) -> tuple[str, ...]:
        """The words of the text, as they begin words of a card."""
        return tuple(words_of(self.text)[:_TERMS])


FACETS: dict[str, tuple[str, Any]] = {
    "outcome": ("outcomes", frozenset()),
    "category": ("categories", frozenset()),
    "verdict": ("verdicts", frozenset()),
    "safety": ("safety", frozenset()),
    "flagged": ("is_flagged", None),
    "reviewed": ("is_reviewed", None),
}
"""What cells tell, in their order: by which filter it is chosen, and what that is when it chooses nothing."""


@dataclass(frozen=True, slots=True)
class Details:
    """What a card says that its row of the outcome does not."""

    cell: str
    """Of a card without a review."""
    quality: float
    accuracy: float
    confidence: float
    words: str
    """The words to search, each after a space."""
    target_model: str | None
    explainer: str | None
    layer: str | None
    label: str | None
    said: str | None

    @classmethod
    def of(cls, outcome: FeatureOutcome) -> Self:
        """What an outcome says."""
        subject, answer, safety, accuracy, made = outcome.subject, outcome.answer, outcome.safety, outcome.accuracy, outcome.generation
        label = answer.label if answer else None
        said = outcome.explanation or (answer.explanation if answer else None) if outcome.outcome is OutcomeKind.EXPLAINED else outcome.reason
        assessed = safety.assessment if safety else None
        return cls(
            cell=_cell(outcome.outcome, subject.category, outcome.pattern_verification, assessed, is_flagged=outcome.review_reason is not None),
            quality=_known(outcome.quality_score),
            accuracy=_known(accuracy.p if accuracy else None),
            confidence=_known(outcome.confidence),
            words=" " + " ".join(words_of(label, said, *subject.keywords, subject.feature_key)[:_WORDS]),
            target_model=without_nul(subject.target_model),
            explainer=without_nul(made.model if made else None),
            layer=subject.source_id,
            label=without_nul(label[:_SAID] if label else None),
            said=without_nul(said[:_SAID] if said else None),
        )


@cache
def _cell(kind: str, category: str | None, verdict: str | None, safety: str | None, *, is_flagged: bool) -> str:
    facets = (kind, category, verdict, safety, "yes" if is_flagged else "no", "no")
    return "".join(letters[name or NONE] for letters, name in zip(_LETTERS, facets, strict=True))


def with_review(cell: str, *, is_reviewed: bool) -> str:
    """The cell of the same card with or without a review."""
    return cell[:-1] + ("y" if is_reviewed else "n")


@cache
def facets_of(cell: str) -> tuple[str, ...]:
    """What the cards of a cell have in common, as `FACETS` names it."""
    return tuple(names[letter] for names, letter in zip(_NAMES, cell, strict=True))


def values_of(details: Details, *, tenant: str, cell: str, job: str, place: str, number: int, at_ms: int, review: str | None) -> tuple[object, ...]:
    """A row of the table, in the order of its columns; `number` is its id, `review` the verdict of the newest review."""
    scores = details.quality, details.accuracy, details.confidence
    said = details.target_model, details.explainer, details.layer, details.label, details.said
    return tenant, cell, job, place, details.words, number, at_ms, *scores, *said, review


READ = ("job", "place", "cell", "at_ms", "quality", "accuracy", "confidence", "target_model", "explainer", "layer", "label", "said", "review")
"""The columns that `card_at` takes."""


def card_at(row: Sequence[Any]) -> Card:
    """The card of a row of the table."""
    job, place, cell, at_ms, quality, accuracy, confidence, target_model, explainer, layer, label, said, review = row
    outcome, *facets, flagged, _ = facets_of(cell)
    category, verdict, safety = (None if name == NONE else name for name in facets)
    return Card(
        job=job,
        feature_key=feature_at(place),
        outcome=outcome,
        category=category,
        verdict=verdict,
        safety=safety,
        is_flagged=flagged == "yes",
        review=review,
        quality=None if quality == UNKNOWN else quality,
        accuracy=None if accuracy == UNKNOWN else accuracy,
        confidence=None if confidence == UNKNOWN else confidence,
        target_model=target_model,
        explainer=explainer,
        layer=layer,
        label=label,
        said=said,
        changed_ms=at_ms,
    )


def words_of(*texts: str | None) -> list[str]:
    """The distinct words of texts, as they are compared: without case, accents and punctuation; an ideograph is a word by itself."""
    text = " ".join(each for each in texts if each)
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
    else:
        plain = unicodedata.normalize("NFKD", text.casefold())
        found = _ANY_WORD.findall("".join(each for each in plain if each.isascii() or unicodedata.category(each)[0] != "M").casefold())
    return list(dict.fromkeys(found))


def without_nul(text: str | None) -> str | None:
    """PostgreSQL's texts hold no NUL."""
    return text and text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _known(score: float | None) -> float:
    return UNKNOWN if score is None else score

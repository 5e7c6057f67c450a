"""Turns a feature set into a find job, as production would see it, and scores explanations on its features."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mistudio_explain.evaluation.data import FeatureSet, Known
from mistudio_explain.events.explanation import ExplanationDrafted, Verification
from mistudio_explain.events.job import JobBackground
from mistudio_explain.validation.accuracy import Formula, Measured
from mistudio_explain.validation.contrast import Claim, Contrast, Texts
from mistudio_explain.validation.lexical import Floats
from mistudio_explain.validation.offline import Scorer, background_of, draft_of
from mistudio_explain.validation.stage import objection_of, silence_of, texts_of
from mistudio_explain.validation.validator import Validator
from mistudio_explain.validation.verdict import Assessed, Ruling, assess, rule
from mistudio_explain.validation.words import STOP_WORDS, stem, words

RANDOM = 3  # other features that each explanation is shuffled to
HARD = 3  # features with the nearest explanations
FITTED_ON = 10  # random other features that coefficients are fitted on
KEYWORDS = 10
FEWEST_EXPLAINED = 8

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Subject:
    """An explained feature of a job, ready for scoring."""

    known: Known
    draft: ExplanationDrafted
    claim: Claim
    texts: Texts
    keywords: tuple[str, ...]

    @property
    def key(self) -> str:
        """The feature's key."""
        return self.known.feature.feature_key


@dataclass(frozen=True, slots=True)
class Job:
    """A feature set as a find job: its explained features, and its background as production draws it."""

    source: str
    subjects: tuple[Subject, ...]
    background: JobBackground
    contrast: Contrast
    shuffled: Ints
    """FITTED_ON random other features for each explanation; the first RANDOM are the random negatives."""
    hard: Ints
    """The HARD other features whose explanations are nearest to each, by static cosine."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One explanation on one feature, before coefficients weigh it."""

    assessed: Assessed
    refused: bool
    """Whether the gate turns the explanation away, or the feature has no word."""

    @property
    def measured(self) -> Measured:
        """The signals."""
        return self.assessed.measured

    def ruling(self, validator: Validator) -> Ruling:
        """What validation makes of it; what the gate turns away has figures here alone, and is `unverifiable` as there."""
        found = rule(self.assessed, validator)
        return replace(found, verification=Verification.UNVERIFIABLE) if self.refused else found


def job_of(features: FeatureSet, scorer: Scorer, seed: int = 0) -> Job | None:
    """Prepare a set; None when fewer than FEWEST_EXPLAINED of its features are explained.

    Texts are chosen and held out, and the background drawn, by production's own code. Sources come without keywords, so these
    are the words of a feature's texts with the greatest count times rarity, much as Find makes them.
    """
    explained = [known for known in features.features if known.explanation]
    if len(explained) < FEWEST_EXPLAINED:
        return None
    validator = scorer.validator
    background = background_of(f"find_{features.source}", [known.feature for known in features.features])
    contrast = Contrast.of(background.sample, validator.embedding, validator.minilm)
    subjects = tuple(_subject(known, contrast, scorer) for known in explained)
    random, hard = _others(subjects, np.random.default_rng(seed))
    return Job(features.source, subjects, background, contrast, random, hard)


def score(claim: Claim, subject: Subject, job: Job, validator: Validator) -> Scored:
    """Put a claim to a feature of the job by the stage's own steps."""
    assessed = assess(claim, subject.texts, job.contrast, job.contrast.place_of(subject.key), subject.keywords, validator)
    return Scored(assessed, (objection_of(claim.sentence, subject.draft) or silence_of(subject.texts)) is not None)


def unseen(validator: Validator, formulas: Sequence[Formula]) -> Validator:
    """The validator with formulas that have not seen what it is to be measured on."""
    return replace(validator, formulas=tuple(formulas))


def pairs(job: Job) -> Iterable[tuple[int, int]]:
    """Every pair of an explanation and a feature that the bench looks at, each once."""
    for number, _ in enumerate(job.subjects):
        for other in dict.fromkeys((number, *job.shuffled[number].tolist(), *job.hard[number].tolist())):
            yield number, int(other)


def score_pairs(job: Job, validator: Validator) -> dict[tuple[int, int], Scored]:
    """Score every pair."""
    return {(claim, feature): score(job.subjects[claim].claim, job.subjects[feature], job, validator) for claim, feature in pairs(job)}


def keyword_overlap(claim: Claim, subject: Subject) -> float:
    """The first baseline: share of shared stems among the feature's keywords or the claim's words, whichever are fewer."""
    keywords = {stem(word) for keyword in subject.keywords for word in words(keyword)}
    return len(keywords.intersection(claim.stems)) / max(1, min(len(keywords), len(claim.stems)))


def minilm_cosine(claim: Claim, subject: Subject) -> float | None:
    """The second baseline: MiniLM's cosine between the claim and the mean of the feature's texts; None without MiniLM."""
    if claim.minilm is None or not subject.texts.minilm:
        return None
    mean = np.mean(list(subject.texts.minilm.values()), axis=0)
    return float(mean @ claim.minilm) / (float(np.linalg.norm(mean)) or 1.0)


def _subject(known: Known, contrast: Contrast, scorer: Scorer) -> Subject:
    draft = draft_of(known.feature, known.explanation or "", scorer)
    kept = [*draft.evidence.seen, *draft.evidence.held_out]
    validator = scorer.validator
    texts = texts_of(kept, len(draft.evidence.seen), draft.subject, validator)
    keywords = _frequent_words(texts, contrast, known.feature.feature_key)
    claim = Claim.of(known.explanation or "", validator.embedding, validator.minilm)
    return Subject(known, draft.model_copy(update={"subject": draft.subject.model_copy(update={"keywords": list(keywords)})}), claim, texts, keywords)


def _frequent_words(texts: Texts, contrast: Contrast, key: str) -> tuple[str, ...]:
    counts = Counter(word for spoken in texts.words for word in set(spoken) if word not in STOP_WORDS and len(word) > 1)
    listed = sorted(counts)
    if not listed:
        return ()
    rarity = contrast.index.idf([stem(word) for word in listed], contrast.place_of(key))
    weight = dict(zip(listed, rarity * [counts[word] for word in listed], strict=True))
    return tuple(sorted(listed, key=lambda word: -weight[word])[:KEYWORDS])


def _others(subjects: Sequence[Subject], chosen: np.random.Generator) -> tuple[Ints, Ints]:
    said = [" ".join(subject.claim.sentence.lower().split()) for subject in subjects]
    same = np.array([[one == other for other in said] for one in said])
    vectors: Floats = np.array([subject.claim.vector for subject in subjects], dtype=np.float64)
    near = np.where(same, -9.0, vectors @ vectors.T)
    hard = np.argsort(-near, axis=1)[:, :HARD]
    shuffled = [chosen.permutation(np.flatnonzero(~same[number]))[:FITTED_ON] for number in range(len(subjects))]
    fewest = min(map(len, shuffled))
    return np.array([row[:fewest] for row in shuffled], dtype=np.int64), hard.astype(np.int64)

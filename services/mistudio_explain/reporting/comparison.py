"""Compares explain jobs of one find job: what changed in verdicts, scores, time and cost, feature by feature.

Only features that both jobs explained are paired; a difference is always the other job less the first.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Literal, Self

from mistudio_explain.errors import BadInput
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind, Verification
from mistudio_explain.validation.accuracy import student_t

By = Literal["model", "prompt", "category"]
Score = Literal["quality", "accuracy", "confidence"]

SCORES: tuple[Score, ...] = ("quality", "accuracy", "confidence")
ABSENT = "not in the job"
UNVERIFIED = "not verified"
FATES = (*Verification, UNVERIFIED, OutcomeKind.SKIPPED, OutcomeKind.FAILED, ABSENT)
"""What can have become of a feature, best first."""

_ORDER = {fate: place for place, fate in enumerate(map(str, FATES))}
_NOTHING = 1e-9
"""Smaller differences of a score are the rounding of a sum."""


@dataclass(frozen=True, slots=True)
class Explained:
    """What is compared of one outcome."""

    feature_key: str
    fate: str
    """The verdict, or skipped or failed."""
    category: str
    model: str
    prompt: str
    scores: Mapping[Score, float | None]
    text: str
    latency_s: float | None
    """Of a call that was made; None for an answer from the cache."""
    cached: bool
    tokens_in: int
    tokens_out: int
    cost_usd: float | None
    background: tuple[int, int | None] | None
    """Version and size of the background that it was scored against; None when it was not."""
    validator_version: int

    @classmethod
    def of(cls, outcome: FeatureOutcome) -> Self:
        """Take it from an outcome."""
        made = outcome.generation
        is_explained = outcome.outcome is OutcomeKind.EXPLAINED
        accuracy = outcome.accuracy.p if outcome.accuracy else None
        return cls(
            feature_key=outcome.subject.feature_key,
            fate=str((outcome.pattern_verification or UNVERIFIED) if is_explained else outcome.outcome),
            category=str(outcome.subject.category or "unknown"),
            model=made.model if made else "none",
            prompt=outcome.prompt_template or "none",
            scores={"quality": outcome.quality_score, "accuracy": accuracy, "confidence": outcome.confidence},
            text=(outcome.explanation if is_explained else outcome.reason) or "",
            latency_s=None if made is None or made.cached else made.latency_s,
            cached=made is not None and made.cached,
            tokens_in=(made and made.tokens_in) or 0,
            tokens_out=(made and made.tokens_out) or 0,
            cost_usd=made.cost_usd if made else None,
            background=(outcome.background_version, outcome.background_features) if is_explained and accuracy is not None else None,
            validator_version=outcome.validator_version,
        )

    @property
    def is_explained(self) -> bool:
        """Whether it has an explanation."""
        return self.fate not in (OutcomeKind.SKIPPED, OutcomeKind.FAILED, ABSENT)


@dataclass(frozen=True, slots=True)
class JobOutcomes:
    """A job and what became of its features, by feature key."""

    job: str
    find_job_id: str | None
    outcomes: Mapping[str, Explained]

    @classmethod
    def of(cls, job: str, find_job_id: str | None, outcomes: Iterable[FeatureOutcome]) -> Self:
        """Take them from a job's outcomes."""
        return cls(job, find_job_id, {each.feature_key: each for each in map(Explained.of, outcomes)})


@dataclass(frozen=True, slots=True)
class Pair:
    """One feature in both jobs."""

    first: Explained
    other: Explained

    def shift(self, score: Score) -> float | None:
        """How a score changed, None where one of the two has none."""
        before, after = self.first.scores[score], self.other.scores[score]
        return None if before is None or after is None else after - before


@dataclass(frozen=True, slots=True)
class Shift:
    """How a score changed over `n` features: means of both jobs, the mean difference and its 95% interval (absent below 2)."""

    n: int
    first: float | None
    other: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the answers of one job took; means are over calls that were made, not over cached answers."""

    answers: int
    cached: int
    latency_s: float | None
    tokens_in: int
    tokens_out: int
    cost_usd: float | None
    """None when the price of an answer is unknown."""


@dataclass(frozen=True, slots=True)
class Group:
    """Features that both jobs explained and that belong together."""

    name: str
    n: int
    changed_verdicts: int
    shifts: Mapping[Score, Shift]
    first: Usage
    other: Usage


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from the first job to another."""

    first: str
    other: str
    features: int
    """Features of either job, those left out not counted."""
    left_out: int
    """Features scored against different backgrounds."""
    fates: Mapping[tuple[str, str], int]
    """How many features went from one fate to another."""
    everything: Group
    groups: tuple[Group, ...]
    most_changed: tuple[Pair, ...]
    notes: tuple[str, ...]


def compare(first: JobOutcomes, other: JobOutcomes, *, by: By | None = None, limit: int = 10, same_background: bool = False) -> Comparison:
    """Compare two jobs; `limit` features that changed most are kept whole.

    Raises BadInput when they are of different find jobs, or a feature was scored against different backgrounds; with
    `same_background` such features are left out.
    """
    if first.find_job_id != other.find_job_id:
        raise BadInput(
            f"{first.job} explains features of {first.find_job_id}, {other.job} of {other.find_job_id}: their scores say how well an explanation stands out in "
            "its own find job, so they cannot be compared; replay under the same find job"
        )
    strange = _scored_elsewhere(first, other)
    if strange and not same_background:
        raise BadInput(_differing(first, other, strange))
    keys = [key for key in {**first.outcomes, **other.outcomes} if key not in strange]
    fates = Counter((_fate(first, key), _fate(other, key)) for key in keys)
    pairs = [
        pair for key in keys if key in first.outcomes and key in other.outcomes and _both_explained(pair := Pair(first.outcomes[key], other.outcomes[key]))
    ]
    return Comparison(
        first=first.job,
        other=other.job,
        features=len(keys),
        left_out=len(strange),
        fates=dict(sorted(fates.items(), key=lambda item: (_ORDER[item[0][0]], _ORDER[item[0][1]]))),
        everything=_group("all", pairs),
        groups=_groups(pairs, by),
        most_changed=tuple(sorted(filter(_has_changed, pairs), key=_least_changed)[:limit]),
        notes=_notes(pairs),
    )


def _scored_elsewhere(first: JobOutcomes, other: JobOutcomes) -> frozenset[str]:
    """Features that both jobs scored, against different backgrounds."""
    both = ((key, one.background, other.outcomes[key].background) for key, one in first.outcomes.items() if key in other.outcomes)
    return frozenset(key for key, before, after in both if before is not None and after is not None and before != after)


def _differing(first: JobOutcomes, other: JobOutcomes, strange: frozenset[str]) -> str:
    key = min(strange)
    before, after = first.outcomes[key].background, other.outcomes[key].background
    both = sum(key in other.outcomes and one.background is not None and other.outcomes[key].background is not None for key, one in first.outcomes.items())
    assert before is not None
    assert after is not None
    return (
        f"{len(strange)} of the {both} features that both jobs scored were scored against different backgrounds (feature {key}: {_background(before)} in "
        f"{first.job}, {_background(after)} in {other.job}), so a difference may be the background's: replay under the same find job, now that its background "
        "is complete, and compare with that; or leave those features out with --same-background"
    )


def _background(background: tuple[int, int | None]) -> str:
    version, features = background
    return f"version {version}" if features is None else f"version {version} of {features} features"


def _fate(job: JobOutcomes, key: str) -> str:
    return job.outcomes[key].fate if key in job.outcomes else ABSENT


def _both_explained(pair: Pair) -> bool:
    return pair.first.is_explained and pair.other.is_explained


def _groups(pairs: Sequence[Pair], by: By | None) -> tuple[Group, ...]:
    if by is None:
        return ()
    named: dict[str, list[Pair]] = {}
    for pair in pairs:
        named.setdefault(_NAMES[by](pair), []).append(pair)
    return tuple(_group(name, named[name]) for name in sorted(named))


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


_NAMES: Mapping[By, Callable[[Pair], str]] = {
    "model": lambda pair: _change(pair.first.model, pair.other.model),
    "prompt": lambda pair: _change(pair.first.prompt, pair.other.prompt),
    "category": lambda pair: _change(pair.first.category, pair.other.category),
}


def _group(name: str, pairs: Sequence[Pair]) -> Group:
    return Group(
        name=name,
        n=len(pairs),
        changed_verdicts=sum(pair.first.fate != pair.other.fate for pair in pairs),
        shifts={score: _shift(pairs, score) for score in SCORES},
        first=_usage([pair.first for pair in pairs]),
        other=_usage([pair.other for pair in pairs]),
    )


def _shift(pairs: Iterable[Pair], score: Score) -> Shift:
    both = [(before, after) for pair in pairs if (before := pair.first.scores[score]) is not None and (after := pair.other.scores[score]) is not None]
    differences = [after - before for before, after in both]
    n = len(both)
    if n == 0:
        return Shift(0, None, None, None, None, None)
    mean = fmean(differences)
    margin = student_t(n - 1) * stdev(differences) / sqrt(n) if n > 1 else None
    low, high = (None, None) if margin is None else (mean - margin, mean + margin)
    return Shift(n, fmean(before for before, _ in both), fmean(after for _, after in both), mean, low, high)


def _usage(answers: Sequence[Explained]) -> Usage:
    latencies = [each.latency_s for each in answers if each.latency_s is not None]
    costs = [each.cost_usd for each in answers]
    return Usage(
        answers=len(answers),
        cached=sum(each.cached for each in answers),
        latency_s=fmean(latencies) if latencies else None,
        tokens_in=sum(each.tokens_in for each in answers),
        tokens_out=sum(each.tokens_out for each in answers),
        cost_usd=sum(cost for cost in costs if cost is not None) if None not in costs else None,
    )


def _has_changed(pair: Pair) -> bool:
    return pair.first.fate != pair.other.fate or pair.first.text != pair.other.text or any(abs(pair.shift(score) or 0.0) > _NOTHING for score in SCORES)


def _least_changed(pair: Pair) -> tuple[bool, float, float, bool, str]:
    """Sorts those that changed most first: a changed verdict, then accuracy, then quality, then the text."""
    accuracy, quality = abs(pair.shift("accuracy") or 0.0), abs(pair.shift("quality") or 0.0)
    return pair.first.fate == pair.other.fate, -accuracy, -quality, pair.first.text == pair.other.text, pair.first.feature_key


def _notes(pairs: Sequence[Pair]) -> tuple[str, ...]:
    differ = sum(pair.first.validator_version != pair.other.validator_version for pair in pairs)
    if not differ:
        return ()
    return (f"{differ} features were scored by different versions of the validator, so a difference may be the validator's",)

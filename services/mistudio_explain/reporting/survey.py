"""What a job's outcomes say together, in one pass over them."""

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mistudio_explain.events.explanation import Category, FeatureOutcome, OutcomeKind, Verification
from mistudio_explain.events.job import SummaryInsights
from mistudio_explain.reporting.actions import Action, suggested_action
from mistudio_explain.reporting.agreement import Agreement, AgreementTally
from mistudio_explain.reporting.detours import Detours, DetoursTally
from mistudio_explain.reporting.evidence import max_activation
from mistudio_explain.reporting.named import Named, name_of
from mistudio_explain.reporting.origin import Origin, OriginTally
from mistudio_explain.reporting.redundancy import Redundancy, RedundancyTally
from mistudio_explain.reporting.spread import Distribution, Quartiles, bin_of, distribution, mean, numbers, quartiles

UNKNOWN_CATEGORY = "unknown"
RANKED = 5
HIGH_QUALITY = 0.8
QUALITY_FEATURE_FROM = 0.4
"""Coherence from which the specification counts a feature as a quality feature (section 11.1)."""
GRID = 20
"""Bins of coherence and of quality between 0 and 1 in `Survey.together`."""


@dataclass(frozen=True, slots=True)
class CategoryFigures:
    """One category of the job; means over its explained features, None where none has the component."""

    category: str
    explained: int
    skipped: int
    failed: int
    confirmed: int
    quality: float | None
    accuracy: float | None
    high_relevance: int
    quality_spread: Quartiles | None
    accuracy_spread: Quartiles | None


@dataclass(frozen=True, slots=True)
class Ranked(Named):
    """A feature named in a ranking."""

    verdict: str | None
    quality: float
    action: Action


@dataclass(frozen=True, slots=True)
class Survey:
    """The figures of a report that come from its outcomes."""

    outcomes: Mapping[OutcomeKind, int]
    verdicts: Mapping[str, int]
    safety: Mapping[str, int]
    hazards: Mapping[str, int]
    actions: Mapping[Action, int]
    flags: Mapping[str, int]
    unavailable: Mapping[str, int]
    skipped_tiers: Mapping[str, int]
    to_review: int
    insights: SummaryInsights
    quality: Distribution | None
    accuracy: Distribution | None
    coherence: Distribution | None
    categories: tuple[CategoryFigures, ...]
    strongest: tuple[Ranked, ...]
    weakest: tuple[Ranked, ...]
    quality_features: Mapping[OutcomeKind, int]
    """Outcomes of the features whose coherence is at least `QUALITY_FEATURE_FROM`."""
    together: Mapping[tuple[int, int], int]
    """Explained features by the bins of their coherence and of their quality, `GRID` each, where both are known."""
    ready_to_score: int
    """Explained features with the two numbers that miStudioScore computes with: coherence and greatest activation."""
    origin: Origin
    detours: Detours
    redundancy: Redundancy
    agreement: Agreement

    @property
    def total(self) -> int:
        """All features with an outcome."""
        return sum(self.outcomes.values())

    @property
    def explained(self) -> int:
        """Explained features."""
        return self.outcomes.get(OutcomeKind.EXPLAINED, 0)

    @property
    def skipped(self) -> int:
        """Skipped features."""
        return self.outcomes.get(OutcomeKind.SKIPPED, 0)

    @property
    def failed(self) -> int:
        """Failed features."""
        return self.outcomes.get(OutcomeKind.FAILED, 0)


def survey(outcomes: Iterable[FeatureOutcome]) -> Survey:
    """Take the figures of a stream of outcomes; memory grows by a few numbers a feature."""
    tally = _Tally()
    for position, outcome in enumerate(outcomes, 1):
        tally.add(position, outcome)
    return tally.result()


def category_of(outcome: FeatureOutcome) -> str:
    """The feature's category, or `unknown` for a record that could not be read."""
    return outcome.subject.category or UNKNOWN_CATEGORY


@dataclass(slots=True)
class _CategoryTally:
    outcomes: Counter[OutcomeKind] = field(default_factory=Counter)
    confirmed: int = 0
    high_relevance: int = 0
    quality: "array[float]" = field(default_factory=numbers)
    accuracy: "array[float]" = field(default_factory=numbers)


@dataclass(slots=True)
class _Tally:
    outcomes: Counter[OutcomeKind] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    safety: Counter[str] = field(default_factory=Counter)
    hazards: Counter[str] = field(default_factory=Counter)
    actions: Counter[Action] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    unavailable: Counter[str] = field(default_factory=Counter)
    skipped_tiers: Counter[str] = field(default_factory=Counter)
    quality_features: Counter[OutcomeKind] = field(default_factory=Counter)
    together: Counter[tuple[int, int]] = field(default_factory=Counter)
    ready_to_score: int = 0
    origin: OriginTally = field(default_factory=OriginTally)
    detours: DetoursTally = field(default_factory=DetoursTally)
    redundancy: RedundancyTally = field(default_factory=RedundancyTally)
    agreement: AgreementTally = field(default_factory=AgreementTally)
    to_review: int = 0
    high_quality: int = 0
    business_critical: int = 0
    quality: "array[float]" = field(default_factory=numbers)
    accuracy: "array[float]" = field(default_factory=numbers)
    coherence: "array[float]" = field(default_factory=numbers)
    categories: dict[str, _CategoryTally] = field(default_factory=dict)
    strongest: list[tuple[float, int, Ranked]] = field(default_factory=list)
    weakest: list[tuple[float, int, Ranked]] = field(default_factory=list)

    def add(self, position: int, outcome: FeatureOutcome) -> None:
        subject = outcome.subject
        self.outcomes[outcome.outcome] += 1
        category = self.categories.setdefault(category_of(outcome), _CategoryTally())
        category.outcomes[outcome.outcome] += 1
        if subject.coherence_score is not None:
            self.coherence.append(subject.coherence_score)
            if subject.coherence_score >= QUALITY_FEATURE_FROM:
                self.quality_features[outcome.outcome] += 1
        self.detours.add(position, outcome)
        self.redundancy.add(position, outcome)
        if outcome.outcome is OutcomeKind.SKIPPED:
            self.skipped_tiers[subject.tier] += 1
        if outcome.outcome is OutcomeKind.EXPLAINED:
            self._explained(position, outcome, category)

    def _explained(self, position: int, outcome: FeatureOutcome, category: _CategoryTally) -> None:
        verdict = outcome.pattern_verification
        high_relevance = outcome.business_relevance == "high"
        self.verdicts[verdict or "none"] += 1
        self.safety[outcome.safety.assessment if outcome.safety else "none"] += 1
        self.hazards.update(outcome.safety.categories if outcome.safety else ())
        self.actions[suggested_action(outcome)] += 1
        self.flags.update(set(outcome.flags))
        self.unavailable.update(outcome.unavailable.keys())
        self.to_review += outcome.review_reason is not None
        self.business_critical += high_relevance
        category.high_relevance += high_relevance
        category.confirmed += verdict is Verification.CONFIRMED
        if outcome.accuracy is not None:
            self.accuracy.append(outcome.accuracy.p)
            category.accuracy.append(outcome.accuracy.p)
        if outcome.quality_score is not None:
            self.quality.append(outcome.quality_score)
            category.quality.append(outcome.quality_score)
            self.high_quality += outcome.quality_score >= HIGH_QUALITY
            self._rank(position, outcome, outcome.quality_score)
        self.ready_to_score += outcome.subject.coherence_score is not None and max_activation(outcome) is not None
        if outcome.subject.coherence_score is not None and outcome.quality_score is not None:
            self.together[bin_of(outcome.subject.coherence_score, GRID), bin_of(outcome.quality_score, GRID)] += 1
        self.origin.add(outcome)
        self.agreement.add(outcome)

    def _rank(self, position: int, outcome: FeatureOutcome, quality: float) -> None:
        ranked = Ranked(position, outcome.subject.feature_key, name_of(outcome), outcome.pattern_verification, quality, suggested_action(outcome))
        for heap, order in ((self.strongest, quality), (self.weakest, -quality)):
            heapq.heappush(heap, (order, -position, ranked))
            if len(heap) > RANKED:
                heapq.heappop(heap)

    def result(self) -> Survey:
        categories = tuple(sorted((_category_figures(name, tally) for name, tally in self.categories.items()), key=_largest_first))
        counts = {figures.category: figures.explained for figures in categories}
        return Survey(
            outcomes=self.outcomes,
            verdicts=self.verdicts,
            safety=self.safety,
            hazards=_by_count(self.hazards),
            actions=self.actions,
            flags=_by_count(self.flags),
            unavailable=_by_count(self.unavailable),
            skipped_tiers=self.skipped_tiers,
            to_review=self.to_review,
            insights=SummaryInsights(
                high_quality_explanations=self.high_quality,
                safety_concerns_identified=self.safety["concerning"],
                business_critical_features=self.business_critical,
                technical_pattern_count=counts.get(Category.TECHNICAL, 0),
                behavioral_pattern_count=counts.get(Category.BEHAVIORAL, 0),
            ),
            quality=distribution(self.quality, 10),
            accuracy=distribution(self.accuracy, 10),
            coherence=distribution(self.coherence, 20),
            categories=categories,
            strongest=_ranking(self.strongest),
            weakest=_ranking(self.weakest),
            quality_features=self.quality_features,
            together=dict(sorted(self.together.items())),
            ready_to_score=self.ready_to_score,
            origin=self.origin.result(),
            detours=self.detours.result(),
            redundancy=self.redundancy.result(),
            agreement=self.agreement.result(),
        )


def _ranking(heap: list[tuple[float, int, Ranked]]) -> tuple[Ranked, ...]:
    return tuple(ranked for _, _, ranked in sorted(heap, key=lambda entry: entry[:2], reverse=True))


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _largest_first(figures: CategoryFigures) -> tuple[int, int, str]:
    return -figures.explained, -figures.skipped - figures.failed, figures.category


def _category_figures(category: str, tally: _CategoryTally) -> CategoryFigures:
    return CategoryFigures(
        category=category,
        explained=tally.outcomes[OutcomeKind.EXPLAINED],
        skipped=tally.outcomes[OutcomeKind.SKIPPED],
        failed=tally.outcomes[OutcomeKind.FAILED],
        confirmed=tally.confirmed,
        quality=mean(tally.quality),
        accuracy=mean(tally.accuracy),
        high_relevance=tally.high_relevance,
        quality_spread=quartiles(tally.quality),
        accuracy_spread=quartiles(tally.accuracy),
    )

"""What a job's outcomes say together, in one pass over them."""

import heapq
import statistics
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mistudio_explain.events.explanation import Category, FeatureOutcome, Generation, OutcomeKind, Verification
from mistudio_explain.events.job import SummaryInsights
from mistudio_explain.reporting.actions import Action, suggested_action

DEMONSTRATION = "demonstration"
UNKNOWN_CATEGORY = "unknown"
RANKED = 5
HIGH_QUALITY = 0.8


@dataclass(frozen=True, slots=True)
class Distribution:
    """How values between 0 and 1 are spread; `bins` are of equal width, the last one with its upper end."""

    n: int
    least: float
    median: float
    mean: float
    greatest: float
    bins: tuple[int, ...]


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


@dataclass(frozen=True, slots=True)
class Ranked:
    """A feature named in a ranking; `position` counts all outcomes from 1 in the order of the stream."""

    position: int
    feature_key: str
    name: str
    verdict: str | None
    quality: float
    action: Action


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What one model on one endpoint did for the explanations that count; tokens and cost are None where no call told."""

    model: str
    digest: str | None
    endpoint: str
    provider: str
    explained: int
    cached: int
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    latency_median_s: float | None


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
    models: tuple[ModelFigures, ...]
    prompts: Mapping[str, int]
    validators: Mapping[int, int]
    backgrounds: Mapping[tuple[int, int | None], int]
    reaches: Mapping[str, int]
    """Answers by where their endpoint is: machine, network, cloud or unknown; those of a pass that did not win included."""
    demonstration: bool

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


def is_demonstration(generation: Generation | None) -> bool:
    """Whether the small model that comes along gave the answer."""
    return generation is not None and DEMONSTRATION in (generation.provider, generation.endpoint)


def distribution(values: "array[float]", bins: int) -> Distribution | None:
    """Spread of values between 0 and 1 over `bins` equal bins; None without values."""
    if not values:
        return None
    counts = Counter(max(0, min(int(value * bins), bins - 1)) for value in values)
    return Distribution(
        n=len(values),
        least=min(values),
        median=statistics.median(values),
        mean=statistics.fmean(values),
        greatest=max(values),
        bins=tuple(counts[i] for i in range(bins)),
    )


def _numbers() -> "array[float]":
    return array("d")


def _mean(values: "array[float]") -> float | None:
    return statistics.fmean(values) if values else None


@dataclass(slots=True)
class _CategoryTally:
    outcomes: Counter[OutcomeKind] = field(default_factory=Counter)
    confirmed: int = 0
    high_relevance: int = 0
    quality: "array[float]" = field(default_factory=_numbers)
    accuracy: "array[float]" = field(default_factory=_numbers)


@dataclass(slots=True)
class _ModelTally:
    explained: int = 0
    cached: int = 0
    tokens_in: list[int] = field(default_factory=list)
    tokens_out: list[int] = field(default_factory=list)
    cost_usd: "array[float]" = field(default_factory=_numbers)
    latency_s: "array[float]" = field(default_factory=_numbers)


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
    prompts: Counter[str] = field(default_factory=Counter)
    validators: Counter[int] = field(default_factory=Counter)
    backgrounds: Counter[tuple[int, int | None]] = field(default_factory=Counter)
    reaches: Counter[str] = field(default_factory=Counter)
    to_review: int = 0
    high_quality: int = 0
    business_critical: int = 0
    demonstration: bool = False
    quality: "array[float]" = field(default_factory=_numbers)
    accuracy: "array[float]" = field(default_factory=_numbers)
    coherence: "array[float]" = field(default_factory=_numbers)
    categories: dict[str, _CategoryTally] = field(default_factory=dict)
    models: dict[tuple[str, str, str, str], _ModelTally] = field(default_factory=dict)
    strongest: list[tuple[float, int, Ranked]] = field(default_factory=list)
    weakest: list[tuple[float, int, Ranked]] = field(default_factory=list)

    def add(self, position: int, outcome: FeatureOutcome) -> None:
        subject = outcome.subject
        self.outcomes[outcome.outcome] += 1
        category = self.categories.setdefault(category_of(outcome), _CategoryTally())
        category.outcomes[outcome.outcome] += 1
        if subject.coherence_score is not None:
            self.coherence.append(subject.coherence_score)
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
        self.reaches.update((made.reach or "unknown") for made in (outcome.generation, outcome.other) if made is not None)
        self._origin(outcome)

    def _rank(self, position: int, outcome: FeatureOutcome, quality: float) -> None:
        answer = outcome.answer
        name = (answer.label or answer.pattern) if answer else (outcome.explanation or outcome.subject.feature_key)
        ranked = Ranked(position, outcome.subject.feature_key, name, outcome.pattern_verification, quality, suggested_action(outcome))
        for heap, order in ((self.strongest, quality), (self.weakest, -quality)):
            heapq.heappush(heap, (order, -position, ranked))
            if len(heap) > RANKED:
                heapq.heappop(heap)

    def _origin(self, outcome: FeatureOutcome) -> None:
        self.prompts[outcome.prompt_template or "not recorded"] += 1
        self.validators[outcome.validator_version] += 1
        self.backgrounds[outcome.background_version, outcome.background_features] += 1
        generation = outcome.generation
        if generation is None:
            return
        self.demonstration = self.demonstration or is_demonstration(generation)
        model = self.models.setdefault((generation.model, generation.endpoint, generation.provider, generation.model_digest or ""), _ModelTally())
        model.explained += 1
        model.cached += generation.cached
        if generation.tokens_in is not None:
            model.tokens_in.append(generation.tokens_in)
        if generation.tokens_out is not None:
            model.tokens_out.append(generation.tokens_out)
        if generation.cost_usd is not None:
            model.cost_usd.append(generation.cost_usd)
        if not generation.cached:
            model.latency_s.append(generation.latency_s)

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
            models=tuple(_model_figures(key, self.models[key]) for key in sorted(self.models)),
            prompts=_by_count(self.prompts),
            validators=dict(sorted(self.validators.items())),
            reaches=dict(self.reaches),
            backgrounds=dict(sorted(self.backgrounds.items(), key=lambda item: (item[0][0], item[0][1] or 0))),
            demonstration=self.demonstration,
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
        quality=_mean(tally.quality),
        accuracy=_mean(tally.accuracy),
        high_relevance=tally.high_relevance,
    )


def _model_figures(key: tuple[str, str, str, str], tally: _ModelTally) -> ModelFigures:
    model, endpoint, provider, digest = key
    return ModelFigures(
        model=model,
        digest=digest or None,
        endpoint=endpoint,
        provider=provider,
        explained=tally.explained,
        cached=tally.cached,
        tokens_in=sum(tally.tokens_in) if tally.tokens_in else None,
        tokens_out=sum(tally.tokens_out) if tally.tokens_out else None,
        cost_usd=sum(tally.cost_usd) if tally.cost_usd else None,
        latency_median_s=statistics.median(tally.latency_s) if tally.latency_s else None,
    )

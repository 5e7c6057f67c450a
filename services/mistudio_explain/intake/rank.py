"""The order in which features are published, and how their coherence is distributed.

Rank: the tier first, then the coherence, then the category's weight for the business, greater ones first; what is
equal in all three keeps the file's order. Features without a coherence score stand between fair and poor: they are
explained as fair ones are, but nothing says that they are as good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mistudio_explain.errors import option
from mistudio_explain.events.explanation import Category, Tier
from mistudio_explain.events.feature import FeatureFound

RANK_OF_TIER = {Tier.EXCELLENT: 0, Tier.GOOD: 1, Tier.FAIR: 2, Tier.UNKNOWN: 3, Tier.POOR: 4}

BUSINESS_WEIGHTS: Mapping[Category, float] = {
    Category.TECHNICAL: 0.7,
    Category.CONVERSATIONAL: 0.6,
    Category.BEHAVIORAL: 0.9,
    Category.TEMPORAL: 0.3,
    Category.OTHER: 0.2,
}
"""What a category matters to the business, 0 to 1, as the built-in policy of business relevance has it."""

Rank = tuple[int, float, float]


def tier_of(coherence: float | None) -> Tier:
    """The specification's tier of a coherence score: excellent above 0.8, good from 0.6, fair from 0.4, poor below."""
    if coherence is None:
        return Tier.UNKNOWN
    if coherence > 0.8:
        return Tier.EXCELLENT
    if coherence >= 0.6:
        return Tier.GOOD
    return Tier.FAIR if coherence >= 0.4 else Tier.POOR


def rank(feature: FeatureFound, weights: Mapping[Category, float]) -> Rank:
    """Place a feature; the smallest is published first. A category that is absent or not one of ours weighs as `other`."""
    weight = next((weights[category] for category in Category if category == feature.pattern_category), weights[Category.OTHER])
    coherence = feature.stated_coherence
    return RANK_OF_TIER[tier_of(coherence)], -(coherence or 0.0), -weight


@dataclass(frozen=True, slots=True)
class Distribution:
    """How many features a job has, of which tiers, and how coherent they are."""

    features: int
    coherences: tuple[float, ...] = field(repr=False)
    """The coherence scores of those that have one, ascending."""

    @classmethod
    def of(cls, coherences: Sequence[float | None]) -> "Distribution":
        """Summarise one score, or None, for each feature."""
        return cls(len(coherences), tuple(sorted(score for score in coherences if score is not None)))

    @property
    def unknown(self) -> int:
        """Features without a coherence score."""
        return self.features - len(self.coherences)

    @property
    def tiers(self) -> Mapping[Tier, int]:
        """Features of each tier, all tiers named, in rank order."""
        counts = dict.fromkeys(RANK_OF_TIER, 0)
        for score in self.coherences:
            counts[tier_of(score)] += 1
        counts[Tier.UNKNOWN] = self.unknown
        return counts

    @property
    def quartiles(self) -> tuple[float, float, float, float, float] | None:
        """Least, lower quartile, median, upper quartile and greatest coherence, interpolated; None when no feature has one."""
        if not self.coherences:
            return None
        return self._quantile(0.0), self._quantile(0.25), self._quantile(0.5), self._quantile(0.75), self._quantile(1.0)

    def passing(self, threshold: float) -> int:
        """How many features are explained when `threshold` is the least coherence: those from it, and those without a score."""
        return self.unknown + sum(score >= threshold for score in self.coherences)

    def nothing_passes(self, threshold: float) -> str:
        """Say that no feature reaches the threshold, what the scores are instead, and what to do."""
        quartiles = self.quartiles
        assert quartiles is not None, "features without a score always pass"
        least, lower, median, upper, greatest = quartiles
        return (
            f"none of the {self.features} features reaches the coherence threshold {threshold:.2f}, so there is nothing to explain. "
            f"Coherence: least {least:.3f}, quartiles {lower:.3f}, {median:.3f}, {upper:.3f}, greatest {greatest:.3f}. "
            "miStudioFind's coherence is the word overlap of a feature's texts; the real features of examples/ reach 0.01 to 0.13. "
            f"`{option('--explain-poor')}` explains them all the same and flags each as poor_coherence."
        )

    def _quantile(self, share: float) -> float:
        position = share * (len(self.coherences) - 1)
        below = int(position)
        above = min(below + 1, len(self.coherences) - 1)
        return self.coherences[below] + (position - below) * (self.coherences[above] - self.coherences[below])

"""How a job's own numbers agree with people's reviews and with a judge."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mistudio_explain.events.explanation import FeatureOutcome, Judgement
from mistudio_explain.reporting.spread import Quartiles, bin_of, quartiles

BINS = 5
_Z = 1.959963984540054  # of a 95% interval


@dataclass(frozen=True, slots=True)
class Step:
    """Explanations whose accuracy falls into one of `BINS` equal bins, and what others said of them."""

    n: int
    accuracy: float
    """Mean accuracy."""
    other: float
    """Share that people called right, or the judge's mean balanced accuracy; 0 to 1."""
    low: float | None
    high: float | None
    """Wilson's 95% interval of the share; absent for means of the judge."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What people and a judge said, beside the verdicts; everything empty when nobody was asked."""

    reviews: Mapping[tuple[str, str], int]
    """Explanations by verdict and by what the review says."""
    by_people: tuple[Step, ...]
    judged: int
    balanced: Mapping[str, Quartiles]
    """The judge's balanced accuracy by kind: detection, fuzzing."""
    by_judge: tuple[Step, ...]
    """Accuracy against the mean of a feature's kinds."""
    judges: Mapping[tuple[str, str, int], int]
    """Judge's model, its endpoint and the version of its prompts; the features that it judged."""

    @property
    def reviewed(self) -> int:
        """Explanations that people have reviewed."""
        return sum(self.reviews.values())

    @property
    def right(self) -> int:
        """Explanations that people called right."""
        return sum(n for (_, said), n in self.reviews.items() if said == "right")


@dataclass(slots=True)
class AgreementTally:
    """Gathers `Agreement` from explained outcomes."""

    reviews: Counter[tuple[str, str]] = field(default_factory=Counter)
    people: list[tuple[float, float]] = field(default_factory=list)
    judge: list[tuple[float, float]] = field(default_factory=list)
    balanced: dict[str, list[float]] = field(default_factory=dict)
    judges: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    judged: int = 0

    def add(self, outcome: FeatureOutcome) -> None:
        """Take one explained outcome."""
        accuracy = None if outcome.accuracy is None else outcome.accuracy.p
        if outcome.review is not None:
            self.reviews[outcome.pattern_verification or "none", outcome.review.verdict] += 1
            if accuracy is not None and outcome.review.verdict != "unclear":
                self.people.append((accuracy, float(outcome.review.verdict == "right")))
        if outcome.judge is not None and outcome.judge.calls:
            self._judged(outcome.judge, accuracy)

    def _judged(self, judge: Judgement, accuracy: float | None) -> None:
        self.judged += 1
        self.judges[judge.model or "not named", judge.endpoint or "not named", judge.prompts_version] += 1
        found = {each.kind: each.balanced_accuracy for each in judge.kinds if each.balanced_accuracy is not None}
        for kind, value in found.items():
            self.balanced.setdefault(kind, []).append(value)
        if accuracy is not None and found:
            self.judge.append((accuracy, math.fsum(found.values()) / len(found)))

    def result(self) -> Agreement:
        """What was gathered."""
        return Agreement(
            reviews=dict(sorted(self.reviews.items())),
            by_people=_steps(self.people, is_share=True),
            judged=self.judged,
            balanced={kind: spread for kind in sorted(self.balanced) if (spread := quartiles(self.balanced[kind])) is not None},
            by_judge=_steps(self.judge, is_share=False),
            judges=dict(sorted(self.judges.items())),
        )


def _steps(pairs: Sequence[tuple[float, float]], *, is_share: bool) -> tuple[Step, ...]:
    binned: dict[int, list[tuple[float, float]]] = {}
    for accuracy, other in pairs:
        binned.setdefault(bin_of(accuracy, BINS), []).append((accuracy, other))
    return tuple(_step(binned[place], is_share) for place in sorted(binned))


def _step(pairs: Sequence[tuple[float, float]], is_share: bool) -> Step:
    n = len(pairs)
    accuracy, other = (math.fsum(values) / n for values in zip(*pairs, strict=True))
    low, high = wilson(other, n) if is_share else (None, None)
    return Step(n, accuracy, other, low, high)


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95% interval of a share of `n` by Wilson 1927, which stays between 0 and 1 and is right for few cases too."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)

"""What of a job did not go straight: features skipped, failed or sent again, each with why."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.reporting.named import NAMED, Named, named

_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_REFUSED = "escalation_refused:"
_KEPT_BACK_BY: Mapping[str, str] = {
    "share": "the share of features that may be sent again",
    "usd": "the budget in dollars",
    "price_unknown": "an unknown price",
    "cloud_off": "no endpoint of the second pass's models",
    "escalated_before": "a second pass made before",
}
"""What the flag says after its colon (docs/fleet.md), in words."""
SECOND_PASS_FAILED = "second_pass_failed:"
_MOST_REASONS = 50
_REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Reason:
    """Why features were skipped or failed: the reasons that differ in numbers alone are one, with `#` in place of these."""

    outcome: OutcomeKind
    reason: str
    n: int
    features: tuple[Named, ...]
    """The first of them, at most `NAMED`."""


@dataclass(frozen=True, slots=True)
class SecondPasses:
    """Features that were sent again, or would have been."""

    ended: int
    """Outcomes of a second pass."""
    replaced: int
    """Of these, where the second explanation won."""
    failed: int
    """Of these, where no usable second explanation came, so that the first one stands."""
    refused: Mapping[str, int]
    """Candidates that kept their first explanation because a bound or a setting kept them back, by which."""
    features: tuple[Named, ...]
    """The first with an outcome of a second pass, at most `NAMED`."""


@dataclass(frozen=True, slots=True)
class Detours:
    """Everything that did not go straight."""

    reasons: tuple[Reason, ...]
    """Most frequent first; when a job has more than 50, the others together are the last one of its kind."""
    second: SecondPasses
    retried: int
    """Explained features whose answer came at a second try or later."""


@dataclass(slots=True)
class DetoursTally:
    """Gathers `Detours` outcome by outcome."""

    reasons: dict[tuple[OutcomeKind, str], list[Named]] = field(default_factory=dict)
    counts: Counter[tuple[OutcomeKind, str]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    second: list[Named] = field(default_factory=list)
    ended: int = 0
    replaced: int = 0
    failed: int = 0
    retried: int = 0

    def add(self, position: int, outcome: FeatureOutcome) -> None:
        """Take one outcome."""
        if outcome.outcome is not OutcomeKind.EXPLAINED:
            self._unexplained(position, outcome)
        self.refused.update(flag.removeprefix(_REFUSED) for flag in outcome.flags if flag.startswith(_REFUSED))
        self.retried += outcome.generation is not None and outcome.generation.attempt > 0
        if outcome.pass_number == 2:
            self.ended += 1
            self.replaced += outcome.earlier is not None
            self.failed += any(flag.startswith(SECOND_PASS_FAILED) for flag in outcome.flags)
            if len(self.second) < NAMED:
                self.second.append(named(position, outcome))

    def _unexplained(self, position: int, outcome: FeatureOutcome) -> None:
        masked = _NUMBER.sub("#", (outcome.reason or "no reason was given")[:_REASON_CHARACTERS])
        kind = (outcome.outcome, masked if len(self.counts) < _MOST_REASONS or (outcome.outcome, masked) in self.counts else "other reasons")
        self.counts[kind] += 1
        first = self.reasons.setdefault(kind, [])
        if len(first) < NAMED:
            first.append(named(position, outcome))

    def _kept_back(self) -> dict[str, int]:
        return {_KEPT_BACK_BY.get(why, why): n for why, n in sorted(self.refused.items())}

    def result(self) -> Detours:
        """What was gathered."""
        order = sorted(self.counts, key=lambda kind: (kind[1] == "other reasons", -self.counts[kind], kind))
        return Detours(
            reasons=tuple(Reason(outcome, reason, self.counts[outcome, reason], tuple(self.reasons[outcome, reason])) for outcome, reason in order),
            second=SecondPasses(self.ended, self.replaced, self.failed, self._kept_back(), tuple(self.second)),
            retried=self.retried,
        )

"""Counts outcomes where they are made, how many of which kind, how good, and how long their features took, and notes them in the trace."""

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind, Verification
from mistudio_explain.observability import tracing
from mistudio_explain.observability.metrics import FEATURE_TIME, OUTCOMES, QUALITY

_NONE = "none"
_TIMED = (OutcomeKind.EXPLAINED, OutcomeKind.FAILED)

# A counter that begins with its first event hides that one from `rate` and `increase`: those that objectives ask for begin at 0.
for _verification in Verification:
    OUTCOMES.labels(outcome=OutcomeKind.EXPLAINED.value, verification=_verification.value)
for _outcome in (OutcomeKind.SKIPPED, OutcomeKind.FAILED):
    OUTCOMES.labels(outcome=_outcome.value, verification=_NONE)
for _outcome in _TIMED:
    FEATURE_TIME.labels(outcome=_outcome.value)


def count(outcome: FeatureOutcome, now_ms: int) -> None:
    """Count an outcome that was made at `now_ms`, milliseconds since 1970 UTC.

    A second pass comes after the explanation that was waited for, and is not timed.
    """
    verification = outcome.pattern_verification.value if outcome.pattern_verification else _NONE
    OUTCOMES.labels(outcome=outcome.outcome.value, verification=verification).inc()
    tracing.note({"mistudio_explain.outcome": outcome.outcome.value, "mistudio_explain.verification": verification})
    if outcome.quality_score is not None and outcome.generation is not None:
        QUALITY.labels(model_name=outcome.generation.model).observe(outcome.quality_score)
    published_ms = outcome.subject.published_ms
    if outcome.outcome in _TIMED and outcome.pass_number == 1 and published_ms is not None:
        FEATURE_TIME.labels(outcome=outcome.outcome.value).observe(max(0, now_ms - published_ms) / 1000)

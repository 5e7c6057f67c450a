"""Confidence: the probability that a verdict is right."""

from math import log

from mistudio_explain.events.explanation import Accuracy, Verification
from mistudio_explain.validation.accuracy import sigmoid

# `mistudio-explain evaluate`, 2026-11-25: the 511 confirmed and contradicted verdicts on 448 true claims and as many false ones,
# each source's verdicts by coefficients from the others; the width of the interval and the number of texts did not help
INTERCEPT, DISTANCE, GAP = 0.60, 0.79, -0.18


def confidence(verification: Verification, accuracy: Accuracy) -> float | None:
    """Probability that a confirmed explanation is the feature's own, or that a contradicted one is not; None for other verdicts."""
    if verification not in (Verification.CONFIRMED, Verification.CONTRADICTED):
        return None
    distance, gap = reasons(accuracy, verification)
    return sigmoid(INTERCEPT + DISTANCE * distance + GAP * gap)


def reasons(accuracy: Accuracy, verification: Verification) -> tuple[float, float]:
    """What a verdict's reliability follows from, in logits.

    How far the probability that decided lies on the verdict's side of even odds: that of all texts for `confirmed`, of
    the held-out ones, where there are some, for `contradicted`; and how far seen and held-out texts differ (0 without
    held-out ones).
    """
    gap = 0.0 if accuracy.seen is None or accuracy.held_out is None else abs(_logit(accuracy.seen) - _logit(accuracy.held_out))
    if verification is Verification.CONTRADICTED:
        return -_logit(accuracy.p if accuracy.held_out is None else accuracy.held_out), gap
    return _logit(accuracy.p), gap


def _logit(p: float) -> float:
    bounded = min(max(p, 1e-6), 1 - 1e-6)
    return log(bounded / (1 - bounded))

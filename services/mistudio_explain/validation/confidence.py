"""Confidence: the probability that a verdict is right."""

from math import log

from mistudio_explain.events.explanation import Accuracy, Verification
from mistudio_explain.validation.accuracy import sigmoid

# scripts/fit_accuracy.py, 2026-11-24: confirmed and contradicted verdicts on 454 true claims and as many false ones; the
# width of the interval and the number of texts did not help on sources that were left out
INTERCEPT, DISTANCE, GAP = 0.60, 1.13, -0.72


def confidence(verification: Verification, accuracy: Accuracy) -> float | None:
    """Probability that a confirmed explanation is the feature's own, or that a contradicted one is not; None for other verdicts."""
    if verification not in (Verification.CONFIRMED, Verification.CONTRADICTED):
        return None
    distance, gap = reasons(accuracy)
    return sigmoid(INTERCEPT + DISTANCE * distance + GAP * gap)


def reasons(accuracy: Accuracy) -> tuple[float, float]:
    """What a verdict's reliability follows from, in logits.

    How far p is from even odds; how far seen and held-out texts differ (0 without held-out ones).
    """
    gap = 0.0 if accuracy.seen is None or accuracy.held_out is None else abs(_logit(accuracy.seen) - _logit(accuracy.held_out))
    return abs(_logit(accuracy.p)), gap


def _logit(p: float) -> float:
    bounded = min(max(p, 1e-6), 1 - 1e-6)
    return log(bounded / (1 - bounded))

"""The verdict: whether the texts bear an explanation out."""

from mistudio_explain.events.explanation import Accuracy, Verification

# scripts/fit_accuracy.py, 2026-11-24, n = 454: 95% of the true explanations that reach `confirmed_from` and say more
# than keywords keep at least this probability when the feature's keywords are taken out of them
MASKED_FROM = 0.249


def verdict(accuracy: Accuracy, confirmed_from: float, contradicted_below: float) -> Verification:
    """Confirmed, contradicted, or partial.

    Confirmed needs `confirmed_from` and, without the feature's own keywords, still more than chance leaves of a true
    explanation: an explanation of keywords alone (`masked` is None) may be right, but it says nothing that counting words
    did not say.
    """
    if accuracy.p < contradicted_below:
        return Verification.CONTRADICTED
    if accuracy.p >= confirmed_from and accuracy.masked is not None and accuracy.masked > MASKED_FROM:
        return Verification.CONFIRMED
    return Verification.PARTIAL

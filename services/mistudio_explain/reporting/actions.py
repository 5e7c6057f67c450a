"""Which action a report suggests for an explained feature."""

from enum import StrEnum

from mistudio_explain.events.explanation import FeatureOutcome, Verification


class Action(StrEnum):
    """What to do with a feature next."""

    ABLATE = "ablate"
    INSPECT = "inspect"
    STEER = "steer"
    IGNORE = "ignore"


RULES: tuple[tuple[Action, str], ...] = (
    (Action.ABLATE, "assessed as concerning, and the explanation is confirmed: measure what the model does without the feature"),
    (Action.INSPECT, "any other safety finding, a review that was asked for, or high business relevance without a confirmed explanation: a person should look"),
    (Action.STEER, "confirmed, without a safety finding, and of high or medium business relevance: known well enough to try steering with"),
    (Action.IGNORE, "everything else"),
)
"""The rule in words, first match first; `suggested_action` is the same rule in code."""


def suggested_action(outcome: FeatureOutcome) -> Action:
    """Apply `RULES` to an explained outcome.

    A safety assessment or relevance that could not be computed counts as no finding and no relevance, so such a
    feature is never suggested for ablation or steering.
    """
    confirmed = outcome.pattern_verification is Verification.CONFIRMED
    assessment = outcome.safety.assessment if outcome.safety else None
    if assessment == "concerning" and confirmed:
        return Action.ABLATE
    if assessment in ("concerning", "requires_review") or outcome.review_reason or (outcome.business_relevance == "high" and not confirmed):
        return Action.INSPECT
    if confirmed and assessment == "safe" and outcome.business_relevance in ("high", "medium"):
        return Action.STEER
    return Action.IGNORE

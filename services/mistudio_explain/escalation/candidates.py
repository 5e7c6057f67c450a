"""Candidates of the second pass: which outcomes of the first deserve one, and how bad each is."""

from mistudio_explain.events.explanation import EscalationCandidate, ExplanationDrafted, FeatureOutcome, OutcomeKind, Verification
from mistudio_explain.settings import EscalationSettings


def candidate_of(draft: ExplanationDrafted, outcome: FeatureOutcome, settings: EscalationSettings) -> EscalationCandidate | None:
    """The candidate that an explained outcome of a first pass is; None when it is good enough, or no model could do better."""
    if draft.pass_number != 1 or outcome.outcome is not OutcomeKind.EXPLAINED or "no_words" in outcome.flags:
        return None
    why = _doubt(outcome, settings)
    return None if why is None else EscalationCandidate(outcome=outcome, draft=draft, why=why)


def _doubt(outcome: FeatureOutcome, settings: EscalationSettings) -> str | None:
    if outcome.pattern_verification is Verification.UNVERIFIABLE or outcome.accuracy is None:
        return "it cannot be verified"
    if outcome.accuracy.p < settings.accuracy_below:
        return f"accuracy {outcome.accuracy.p:.2f} is below {settings.accuracy_below:g}"
    if outcome.confidence is not None and outcome.confidence < settings.confidence_below:
        return f"confidence {outcome.confidence:.2f} is below {settings.confidence_below:g}"
    return None


Badness = tuple[int, float, float, str]


def badness(outcome: FeatureOutcome) -> Badness:
    """Sorts the worst first: failures, what cannot be verified, then by accuracy and by confidence; equal ones by their key."""
    if outcome.outcome is not OutcomeKind.EXPLAINED:
        return 0, 0.0, 0.0, outcome.subject.feature_key
    if outcome.accuracy is None:
        return 1, 0.0, 0.0, outcome.subject.feature_key
    return 2, outcome.accuracy.p, outcome.confidence or 0.0, outcome.subject.feature_key

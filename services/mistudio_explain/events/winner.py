"""Which outcome of a feature counts when several arrive."""

from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind

_STRENGTH = {OutcomeKind.EXPLAINED: 2, OutcomeKind.SKIPPED: 1, OutcomeKind.FAILED: 0}

Rank = tuple[int, int, int, int, int, str]


def rank(outcome: FeatureOutcome, sha256: str) -> Rank:
    """Place an outcome in the total order; the greatest one counts, in whatever order they arrive.

    Explained beats skipped beats failed, so that a second try that fails or is cancelled never destroys a result;
    then the greater revision, pass, validator version and background version; last `sha256`, the hex hash of the
    encoded value, so that two replicas never disagree.
    """
    return (
        _STRENGTH[outcome.outcome],
        outcome.subject.revision,
        outcome.pass_number,
        outcome.validator_version,
        outcome.background_version,
        sha256,
    )

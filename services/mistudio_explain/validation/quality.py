"""The quality score: the specification's weighted sum of the components."""

from mistudio_explain.events.explanation import Accuracy, Score

WEIGHTS = {"accuracy": 0.4, "clarity": 0.3, "consistency": 0.2, "relevance": 0.1}


def quality_score(accuracy: Accuracy | None, clarity: Score | None, consistency: Score | None, relevance: Score | None) -> float | None:
    """0.4 accuracy + 0.3 clarity + 0.2 consistency + 0.1 relevance; None when a component is missing, never a mean of the rest."""
    if accuracy is None or clarity is None or consistency is None or relevance is None:
        return None
    values = {"accuracy": accuracy.p, "clarity": clarity.value, "consistency": consistency.value, "relevance": relevance.value}
    return min(1.0, sum(WEIGHTS[name] * value for name, value in values.items()))

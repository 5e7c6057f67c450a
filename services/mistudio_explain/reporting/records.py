"""Outcomes as the records of the JSON files."""

from typing import Any

from mistudio_explain.events.explanation import Evidence, FeatureOutcome, FeatureReviewed, OutcomeKind, Subject
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.model import Record
from mistudio_explain.reporting.actions import suggested_action
from mistudio_explain.reporting.evidence import max_activation, peak_token, top_examples
from mistudio_explain.reporting.wording import coherence_status, timestamp, written_feature_id

NO_COHERENCE = "no_coherence_score"
NO_ACTIVATION = "no_max_activation"
_LONGEST_INDEX = 16  # digits: more are no place in a dictionary, and no exact number in JSON


def explanation_record(outcome: FeatureOutcome) -> dict[str, Any]:
    """An explained feature for feature_explanations.json: the specification's keys first, then ours."""
    subject = outcome.subject
    safety = outcome.safety
    answer = outcome.answer
    return {
        "feature_id": written_feature_id(subject.feature_id),
        "original_coherence": subject.coherence_score,
        "explanation": explanation_text(outcome),
        "explanation_quality": outcome.quality_score,
        "explanation_confidence": outcome.confidence,
        "pattern_verification": outcome.pattern_verification,
        "safety_assessment": safety.assessment if safety else None,
        "business_relevance": outcome.business_relevance,
        **_source(subject),
        "label": answer.label if answer else None,
        "pattern": answer.pattern if answer else None,
        "significance": answer.significance if answer else None,
        "implications": answer.implications if answer else None,
        "accuracy": _fields(outcome.accuracy),
        "clarity": _fields(outcome.clarity),
        "consistency": _fields(outcome.consistency),
        "relevance": _fields(outcome.relevance),
        "unavailable": outcome.unavailable,
        "flags": outcome.flags,
        "caveats": outcome.caveats,
        "review_reason": outcome.review_reason,
        "suggested_action": suggested_action(outcome),
        "safety": _fields(safety),
        "complexity": outcome.complexity,
        "keywords": subject.keywords,
        "activation_statistics": _fields(subject.statistics),
        "max_activation": max_activation(outcome),
        "top_logits": None if subject.logits is None else [logit.model_dump() for logit in subject.logits],
        "evidence": _evidence(outcome.evidence),
        "generation": _fields(outcome.generation),
        "prompt": {"template": outcome.prompt_template, "sha256": outcome.prompt_sha256},
        "validator_version": outcome.validator_version,
        "background_version": outcome.background_version,
        "background_features": outcome.background_features,
        "revision": subject.revision,
        "pass": outcome.pass_number,
        "earlier": _fields(outcome.earlier),
        "other": _fields(outcome.other),
        "judge": _fields(outcome.judge),
        "factual_coherence": outcome.judge.factual_coherence if outcome.judge else None,
        "logical_coherence": outcome.judge.logical_coherence if outcome.judge else None,
        "coherence_status": coherence_status(outcome.judge),
        "review": _review(outcome.review),
    }


def unexplained_record(outcome: FeatureOutcome) -> dict[str, Any]:
    """A skipped or failed feature for feature_explanations.json."""
    subject = outcome.subject
    return {
        "feature_id": written_feature_id(subject.feature_id),
        "original_coherence": subject.coherence_score,
        "reason": outcome.reason,
        **_source(subject),
        "flags": outcome.flags,
        "keywords": subject.keywords,
        "revision": subject.revision,
        "review": _review(outcome.review),
    }


def outcome_record(outcome: FeatureOutcome) -> dict[str, Any]:
    """Any feature as a line of its own: whose it is, what became of it, then the record that feature_explanations.json has of it."""
    subject = outcome.subject
    record = explanation_record(outcome) if outcome.outcome is OutcomeKind.EXPLAINED else unexplained_record(outcome)
    return {
        "explain_job_id": subject.explain_job_id,
        "find_job_id": subject.find_job_id,
        "target_model": subject.target_model,
        "outcome": outcome.outcome,
        **record,
    }


def score_record(outcome: FeatureOutcome) -> dict[str, Any]:
    """An explained feature for explanation_results.json, which miStudioScore reads.

    It computes with `coherence_score` and `max_activation` and would take 0.0 for an absent key. A number that the
    source does not have is therefore null, which its scorers answer with no utility, and a flag says so. `feature_index` is
    the dictionary's element that its ablation turns off: null where the id is no number.
    """
    subject = outcome.subject
    strongest = max_activation(outcome)
    absent = [flag for flag, value in ((NO_COHERENCE, subject.coherence_score), (NO_ACTIVATION, strongest)) if value is None]
    return {
        "feature_id": written_feature_id(subject.feature_id),
        "feature_index": index_of(subject.feature_id),
        "feature_key": subject.feature_key,
        "explanation": explanation_text(outcome),
        "top_activating_examples": top_examples(outcome),
        "coherence_score": subject.coherence_score,
        "max_activation": strongest,
        "quality_score": outcome.quality_score,
        "accuracy": outcome.accuracy.p if outcome.accuracy else None,
        "confidence": outcome.confidence,
        "pattern_verification": outcome.pattern_verification,
        "pattern_category": subject.category,
        "pattern_keywords": subject.keywords,
        "safety_assessment": outcome.safety.assessment if outcome.safety else None,
        "business_relevance": outcome.business_relevance,
        "flags": [*outcome.flags, *absent],
    }


def explanation_text(outcome: FeatureOutcome) -> str | None:
    """The explanation as one text; None only for an event that carries none."""
    if outcome.explanation is not None:
        return outcome.explanation
    return outcome.answer.explanation if outcome.answer else None


def index_of(feature_id: str | None) -> int | None:
    """The feature's place in its dictionary, where its id is that number."""
    return int(feature_id) if feature_id is not None and feature_id.isascii() and feature_id.isdigit() and len(feature_id) < _LONGEST_INDEX else None


def claim(outcome: FeatureOutcome) -> str | None:
    """The one sentence about what the feature detects, which is what was scored for truth; None where nothing was explained."""
    if outcome.outcome is not OutcomeKind.EXPLAINED:
        return None
    return outcome.answer.pattern if outcome.answer else outcome.explanation


def _source(subject: Subject) -> dict[str, Any]:
    return {
        "feature_key": subject.feature_key,
        "source_id": subject.source_id,
        "tier": subject.tier,
        "find_quality_level": subject.quality_level,
        "category": subject.category,
        "category_source": subject.category_source,
        "computed": subject.computed,
    }


def _evidence(evidence: Evidence | None) -> dict[str, Any] | None:
    if evidence is None:
        return None
    counts = {"trimmed": evidence.trimmed, "chosen_on": evidence.chosen_on}
    return {"seen": [_text(a) for a in evidence.seen], "held_out": [_text(a) for a in evidence.held_out], **counts}


def _text(activation: Activation) -> dict[str, Any]:
    return {
        "text": activation.text,
        "activation_strength": activation.activation_strength,
        "context": activation.context,
        "peak": peak_token(activation),
    }


def _review(review: FeatureReviewed | None) -> dict[str, Any] | None:
    if review is None:
        return None
    return {"verdict": review.verdict, "corrected": review.corrected, "who": review.who, "why": review.why, "timestamp": timestamp(review.at_ms)}


def _fields(record: Record | None) -> dict[str, Any] | None:
    return None if record is None else record.model_dump()

"""Outcomes and reports for the tests of reporting."""

from typing import Any

from mistudio_explain.events.explanation import (
    Accuracy,
    Answer,
    Category,
    Evidence,
    FeatureOutcome,
    FeatureReviewed,
    Generation,
    JudgedKind,
    Judgement,
    OutcomeKind,
    Safety,
    SafetyEvidence,
    Score,
    Subject,
    Tier,
    Verification,
)
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import Averages, JobReport, JobStatus

JUDGED = JudgedKind(kind="detection", basis="held_out", n=17, positives=8, negatives=9, unparsed=1, unasked=2, tpr=0.875, tnr=0.75, balanced_accuracy=0.8125)

HOSTILE = (
    "</script><script>alert(1)</script>",
    '<img src=x onerror="alert(2)">',
    "</textarea></style><svg onload=alert(3)>",
    '" onmouseover="alert(4)',
    "{{ 7*7 }}{% raw %}&amp;<!--",
    '=HYPERLINK("http://evil.example")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "-2+3",
    "+1",
    "\t=1",
    "\r=1",
    "control \x00\x07\x1b[31m and \u202eturned\u202c",
    "مرحبا بالعالم",
    "これは日本語です",
    "A" * 5000,
    'line one\nline two\r\nline three, with a comma and "quotes"',
    "\u2028\u2029\ufeff",
)


def subject(feature_id: str | None = "348", **changes: Any) -> Subject:
    fields: dict[str, Any] = {
        "explain_job_id": "explain_1",
        "find_job_id": "find_1",
        "target_model": "gpt2",
        "feature_id": feature_id,
        "feature_key": feature_id or "unreadable",
        "tier": Tier.POOR,
        "coherence_score": 0.1,
        "category": Category.TECHNICAL,
        "category_source": "inferred",
        "keywords": ["json", "schema"],
    }
    return Subject(**{**fields, **changes})


def explained(feature_id: str = "348", *, subject_changes: dict[str, Any] | None = None, **changes: Any) -> FeatureOutcome:
    answer = Answer(
        label="JSON schema validation", pattern="It fires on JSON schemas.", significance="It marks formal text.", implications="Steering it changes style."
    )
    fields: dict[str, Any] = {
        "outcome": OutcomeKind.EXPLAINED,
        "subject": subject(feature_id, **(subject_changes or {})),
        "evidence": Evidence(
            seen=[Activation(text='{"type": "object"}', activation_strength=2.0, peak="type"), Activation(text="a JSON schema", activation_strength=1.5)],
            held_out=[Activation(text="validate the schema", activation_strength=3.0)],
            trimmed=1,
        ),
        "answer": answer,
        "explanation": answer.explanation,
        "quality_score": 0.9,
        "accuracy": Accuracy(p=0.7, low=0.5, high=0.8, n=3, basis="held_out", seen=0.75, held_out=0.7, masked=0.4, signals={"bm25": 1.0}),
        "clarity": Score(value=0.8, parts={"readability": 0.9}),
        "consistency": Score(value=0.6),
        "relevance": Score(value=0.5),
        "business_relevance": "high",
        "pattern_verification": Verification.CONFIRMED,
        "confidence": 0.65,
        "safety": Safety(assessment="safe"),
        "flags": ["poor_coherence"],
        "caveats": ["The texts share few words."],
        "generation": Generation(
            model="llama3.1:8b", endpoint="gpu0", provider="ollama", tokens_in=300, tokens_out=30, cost_usd=0.0, latency_s=1.25, finish_reason="stop"
        ),
        "prompt_template": "fields@1",
        "prompt_sha256": "ab" * 32,
        "complexity": "low",
        "validator_version": 1,
        "background_version": 34,
        "background_features": 16,
    }
    return FeatureOutcome(**{**fields, **changes})


def concerning(feature_id: str = "666", **changes: Any) -> FeatureOutcome:
    safety = Safety(assessment="concerning", categories=["weapons"], evidence=[SafetyEvidence(category="weapons", where="text", index=2, words=["schema"])])
    return explained(feature_id, **{"safety": safety, **changes})


def skipped(feature_id: str = "7", **changes: Any) -> FeatureOutcome:
    return FeatureOutcome(outcome=OutcomeKind.SKIPPED, reason="coherence 0.10 is below 0.4", subject=subject(feature_id), **changes)


def failed(feature_id: str | None = "8", **changes: Any) -> FeatureOutcome:
    return FeatureOutcome(outcome=OutcomeKind.FAILED, reason="the answer was cut three times", subject=subject(feature_id), **changes)


def review(**changes: Any) -> FeatureReviewed:
    fields = {
        "explain_job_id": "explain_1",
        "feature_key": "1",
        "verdict": "wrong",
        "corrected": "Names of dogs.",
        "who": "ada",
        "why": "no schema",
        "at_ms": 0,
    }
    return FeatureReviewed.model_validate(fields | changes)


def judgement(**changes: Any) -> Judgement:
    fields = {"model": "big", "endpoint": "gpu1", "kinds": [JUDGED], "factual_coherence": 0.75, "logical_coherence": 1.0, "calls": 5, "prompts_version": 1}
    return Judgement.model_validate(fields | changes)


def hostile() -> list[FeatureOutcome]:
    """One explained feature for each hostile text, with that text wherever a text can stand."""
    outcomes = []
    for i, text in enumerate(HOSTILE):
        answer = Answer(label=text, pattern=text, significance=text, implications=text)
        evidence = Evidence(seen=[Activation(text=text, context=text, peak=text[:3])], held_out=[Activation(text=text * 2)])
        safety = Safety(assessment="requires_review", categories=[text], evidence=[SafetyEvidence(category=text, where="text", index=0, words=[text])])
        outcomes.append(
            explained(
                str(1000 + i),
                subject_changes={"keywords": [text], "quality_level": text},
                answer=answer,
                explanation=text,
                evidence=evidence,
                safety=safety,
                flags=[text],
                caveats=[text],
                review_reason=text,
                unavailable={"clarity": text, text: text},
                clarity=None,
                prompt_template=text,
                generation=Generation(model=text, endpoint=text, provider=text, model_digest=text, latency_s=1.0, finish_reason="stop"),
            )
        )
        outcomes.append(skipped(str(2000 + i)).model_copy(update={"reason": text}))
    return outcomes


def job_report(**changes: Any) -> JobReport:
    fields: dict[str, Any] = {
        "explain_job_id": "explain_1",
        "find_job_id": "find_1",
        "target_model": "gpt2",
        "status": JobStatus.COMPLETED,
        "expected": 4,
        "expected_source": "sealed",
        "admitted": 4,
        "explained": 2,
        "skipped": 1,
        "failed": 1,
        "flagged": 0,
        "averages": Averages(),
        "tokens_in": 600,
        "tokens_out": 60,
        "wall_s": 1458.0,
        "estimated_seconds": 1500.0,
        "estimated_cost_usd": 0.0,
        "at_ms": 1_785_079_845_000,
    }
    return JobReport(**{**fields, **changes})

"""Features and requests made of real texts, of a wanted size."""

from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice
from pathlib import Path

from mistudio_explain.events.explanation import (
    Answer,
    Category,
    Evidence,
    ExplanationDrafted,
    ExplanationRequested,
    Generation,
    Message,
    Prompt,
    Subject,
    Tier,
)
from mistudio_explain.events.feature import Activation, FeatureFound, JobRequest
from mistudio_explain.intake.stage import read

QUESTION = Message(role="user", content="What do these texts have in common?")
EXAMPLE = Path(__file__).parent.parent / "examples" / "gpt2-small" / "feature_analysis.json"


@cache
def _texts() -> tuple[str, ...]:
    return tuple(activation.text for feature in read(EXAMPLE).features() for activation in feature.top_activations)


def features(count: int, size_bytes: int, *, texts: int = 20) -> Iterator[FeatureFound]:
    """`count` features of about `size_bytes` of text each, cut out of one endless stream of real windows."""
    stream = cycle(_texts())
    length = size_bytes // texts
    for number in range(count):
        activations = []
        for _ in range(texts):
            text = ""
            while len(text) < length:
                text += next(stream) + " "
            activations.append(Activation(text=text[:length], activation_strength=float(10 - len(activations) % 10)))
        yield FeatureFound(
            target_model="bench-model", find_job_id="find_bench", feature_id=str(number), coherence_score=0.5, pattern_keywords=["some", "key", "words"],
            top_activations=activations, request=JobRequest(explain_job_id="explain_bench", explain_poor=True, expected=count),
        )  # fmt: skip


def request_of(feature: FeatureFound) -> ExplanationRequested:
    """A request as the context stage makes it, without its work."""
    request = feature.effective_request
    return ExplanationRequested(
        event_id=f"{request.explain_job_id}|{feature.feature_key}|0",
        subject=Subject(
            explain_job_id=request.explain_job_id, find_job_id=feature.find_job_id, target_model=feature.target_model, feature_id=feature.feature_id,
            feature_key=feature.feature_key, tier=Tier.FAIR, coherence_score=feature.coherence_score, category=Category.OTHER, category_source="inferred",
            keywords=feature.pattern_keywords,
        ),
        request=request,
        complexity="medium",
        evidence=Evidence(seen=feature.top_activations[:14], held_out=feature.top_activations[14:]),
        prompt=Prompt(template="t", version="1", sha256=feature.feature_id, messages=[QUESTION], answer="fields"),
        route=[],
    )  # fmt: skip


def draft_of(request: ExplanationRequested) -> ExplanationDrafted:
    """A draft as generation makes it, without its work."""
    return ExplanationDrafted(
        subject=request.subject,
        evidence=request.evidence,
        answer=Answer(label="A fixed answer", pattern="Texts that mention fixed answers."),
        generation=Generation(model="fake", endpoint="fake", provider="openai", latency_s=0.2, finish_reason="stop"),
        prompt=request.prompt,
        complexity=request.complexity,
    )


def take(count: int, size_bytes: int) -> list[FeatureFound]:
    return list(islice(features(count, size_bytes), count))

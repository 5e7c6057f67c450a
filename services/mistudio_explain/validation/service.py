"""The validation service: drafts in, explained outcomes out; it never waits for a background, it says what it had."""

from functools import partial

from mistudio_explain.events.explanation import ExplanationDrafted, FeatureOutcome
from mistudio_explain.events.topics import DRAFTS
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.backgrounds import Backgrounds
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import Outgoing, Received, outgoing, received
from mistudio_explain.observability.metrics import OUTCOMES, PASSED_OVER, QUALITY
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator

_SERVICE = "validation"


def register(app: StreamApp, controls: JobControls, validator: Validator) -> None:
    """Score every draft against the background of its find job as it stands; a draft of a deleted job resurrects nothing."""
    backgrounds = Backgrounds(app, _SERVICE)

    def explained(draft: Received[ExplanationDrafted]) -> list[Outgoing]:
        subject = draft.event.subject
        if controls.is_deleted(subject.explain_job_id, subject.ordered_as):
            PASSED_OVER.labels(service=_SERVICE, why="deleted").inc()
            return []
        background = backgrounds.of(subject.tenant, subject.find_job_id) if subject.find_job_id else None
        outcome = validate(draft.event, background, validator)
        _count(outcome)
        return [outgoing(outcome)]

    @app.batches(DRAFTS, service=_SERVICE, read=partial(received, ExplanationDrafted))
    async def validation(drafts: list[Received[ExplanationDrafted]]) -> None:
        await backgrounds.complete()
        await controls.complete()
        await app.publish(await app.each(drafts, explained, service=_SERVICE))


def _count(outcome: FeatureOutcome) -> None:
    verification = outcome.pattern_verification
    OUTCOMES.labels(outcome=outcome.outcome.value, verification=verification.value if verification else "none").inc()
    if outcome.quality_score is not None and outcome.generation is not None:
        QUALITY.labels(model_name=outcome.generation.model).observe(outcome.quality_score)

"""The validation service: drafts in, explained outcomes out; it never waits for a background, it says what it had.

With a judge every outcome waits for that model's answers, so that many drafts are in flight at once, as in generation.
"""

import math
import re
from collections.abc import Awaitable, Callable
from functools import partial

from mistudio_explain.escalation.candidates import candidate_of
from mistudio_explain.events.explanation import EscalationCandidate, ExplanationDrafted, FeatureOutcome, Judgement, Subject
from mistudio_explain.events.job import JobBackground
from mistudio_explain.events.model import Record
from mistudio_explain.events.topics import DRAFTS
from mistudio_explain.judging.judge import IN_FLIGHT_PER_SLOT, Judge, judge_feature, with_judgement
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.backgrounds import Backgrounds
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import Outgoing, Received, outgoing, received
from mistudio_explain.observability.metrics import MODEL_REQUESTS, PASSED_OVER
from mistudio_explain.observability.outcomes import count
from mistudio_explain.validation.passes import validate_passes
from mistudio_explain.validation.validator import Validator

_SERVICE = "validation"
_DRAFTS = f"^{re.escape(DRAFTS)}$"


def register(app: StreamApp, controls: JobControls, validator: Validator, judge: Judge | None = None) -> None:
    """Score every draft against the background of its find job as it stands; a draft of a deleted job resurrects nothing."""
    backgrounds = Backgrounds(app, _SERVICE)

    def background_of(subject: Subject) -> JobBackground | None:
        return backgrounds.of(subject.tenant, subject.find_job_id) if subject.find_job_id else None

    def explained(draft: Received[ExplanationDrafted]) -> FeatureOutcome | None:
        subject = draft.event.subject
        if controls.is_deleted(subject.explain_job_id, subject.ordered_as):
            PASSED_OVER.labels(service=_SERVICE, why="deleted").inc()
            return None
        outcome = validate_passes(draft.event, background_of(subject), validator)
        return outcome.model_copy(update={"judge": draft.event.judge})  # of a re-score, which asks no model

    def escalations(draft: ExplanationDrafted, outcome: FeatureOutcome) -> list[EscalationCandidate]:
        candidate = candidate_of(draft, outcome, app.settings.escalation) if app.settings.escalation.enabled else None
        return [] if candidate is None else [candidate]

    async def ready() -> None:
        await backgrounds.complete()
        await controls.complete()

    if judge is not None:
        _judged(app, controls, explained, escalations, background_of, ready, judge)
        return

    def records(draft: Received[ExplanationDrafted]) -> list[Outgoing]:
        outcome = explained(draft)
        if outcome is None:
            return []
        count(outcome, app.now_ms())
        return [outgoing(outcome), *map(outgoing, escalations(draft.event, outcome))]

    @app.batches(DRAFTS, service=_SERVICE, read=partial(received, ExplanationDrafted))
    async def validation(drafts: list[Received[ExplanationDrafted]]) -> None:
        await ready()
        await app.publish(await app.each(drafts, records, service=_SERVICE))


def _judged(
    app: StreamApp,
    controls: JobControls,
    explained: Callable[[Received[ExplanationDrafted]], FeatureOutcome | None],
    escalations: Callable[[ExplanationDrafted, FeatureOutcome], list[EscalationCandidate]],
    background_of: Callable[[Subject], JobBackground | None],
    ready: Callable[[], Awaitable[None]],
    judge: Judge,
) -> None:
    """Have every outcome judged; while no endpoint can serve the judge's route, drafts are held as prompts are, and none fails."""

    def in_flight() -> int:
        return max(1, math.ceil(judge.endpoints.places * IN_FLIGHT_PER_SLOT))

    @app.lanes(_DRAFTS, service=_SERVICE, read=partial(received, ExplanationDrafted), in_flight=in_flight)
    async def validation(draft: Received[ExplanationDrafted]) -> list[Record]:
        await ready()
        outcome = explained(draft)
        if outcome is None:
            return []
        subject = outcome.subject
        if outcome.judge is not None:
            count(outcome, app.now_ms())
            return [outcome, *escalations(draft.event, outcome)]
        judged = await controls.unless_stopped(subject.explain_job_id, subject.ordered_as, judge_feature(outcome, background_of(subject), judge))
        if judged is None and controls.is_deleted(subject.explain_job_id, subject.ordered_as):
            PASSED_OVER.labels(service=_SERVICE, why="deleted").inc()
            return []
        if judged is not None:  # a cancelled job keeps what was explained, unjudged
            outcome = with_judgement(outcome, judged)
            _count_judge(judged.judgement)
        count(outcome, app.now_ms())
        return [outcome, *escalations(draft.event, outcome)]


def _count_judge(judgement: Judgement) -> None:
    if judgement.model is not None:
        MODEL_REQUESTS.labels(model_name=judgement.model).inc(judgement.calls)

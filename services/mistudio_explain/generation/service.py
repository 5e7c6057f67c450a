"""The generation service: prompts of all lanes in; drafts out, and the answer's pieces to a person who waits."""

import math
import random
from collections.abc import Sequence
from functools import partial

from mistudio_explain.events.explanation import ExplanationDrafted, ExplanationRequested, TokenChunk
from mistudio_explain.events.model import Record
from mistudio_explain.events.topics import EXPRESS, PROMPTS_PREFIX
from mistudio_explain.generation.adapting import shortening
from mistudio_explain.generation.budget import Budget
from mistudio_explain.generation.explainer import Explainer
from mistudio_explain.generation.pieces import chunks_of
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.controls import JobControls, cancelled
from mistudio_explain.kafka.records import Received, outgoing, received
from mistudio_explain.llm.answers_cache import AnswersCache
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.observability import tracing
from mistudio_explain.observability.metrics import CACHED_ANSWERS, PASSED_OVER

LANES = "^" + PROMPTS_PREFIX.replace(".", r"\.") + ".*"
_SERVICE = "generation"


def register(app: StreamApp, controls: JobControls, endpoints: Endpoints, answers: AnswersCache, rng: random.Random, budget: Budget | None = None) -> None:
    """Keep more records in flight than calls have room for, so that a slot that falls free finds one waiting.

    Endpoints come and go, and so do slots. The express lane has its own places, as many as its share of the slots, and
    takes the next slot that falls free. Calls to clouds are sent within `budget` only.
    """
    settings = app.settings
    app.unready_while(endpoints.unready_because)
    explainer = Explainer(endpoints, answers, settings.llm, settings.generation, rng, budget=budget, shorten=shortening(settings.context))

    def in_flight() -> int:
        return max(1, math.ceil(endpoints.places * settings.generation.in_flight_per_slot * settings.generation.features_per_call))

    def express_in_flight() -> int:
        return max(1, math.floor(endpoints.slots * settings.limits.express_share))

    async def send(chunks: Sequence[TokenChunk]) -> None:
        await app.publish(map(outgoing, chunks))

    async def explained(request: ExplanationRequested, *, is_urgent: bool) -> ExplanationDrafted:
        if request.request.priority != "interactive":
            return await explainer.draft(request, is_urgent=is_urgent)
        async with chunks_of(request.event_id, send) as on_piece:
            return await explainer.draft(request, is_urgent=is_urgent, on_piece=on_piece)

    @app.lanes(
        LANES,
        service=_SERVICE,
        read=partial(received, ExplanationRequested),
        in_flight=in_flight,
        express=EXPRESS,
        express_in_flight=express_in_flight,
    )
    async def generation(request: Received[ExplanationRequested]) -> list[Record]:
        await controls.complete()
        subject, is_urgent = request.event.subject, request.record.topic == EXPRESS
        job, revision = subject.explain_job_id, request.event.request.revision
        draft = await controls.unless_stopped(job, revision, explained(request.event, is_urgent=is_urgent))
        if draft is not None:
            tracing.note({"mistudio_explain.cached": draft.generation.cached, "mistudio_explain.attempt": draft.generation.attempt})
            if draft.generation.cached:
                CACHED_ANSWERS.labels(model_name=draft.generation.model).inc()
            return [draft]
        is_deleted = controls.is_deleted(job, revision)
        PASSED_OVER.labels(service=_SERVICE, why="deleted" if is_deleted else "cancelled").inc()
        return [] if is_deleted else [cancelled(subject, revision=revision)]

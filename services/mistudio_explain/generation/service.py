"""The generation service: prompts of all lanes in, drafts out."""

import math
import random
from functools import partial

from mistudio_explain.events.explanation import ExplanationDrafted, ExplanationRequested
from mistudio_explain.events.topics import PROMPTS_PREFIX
from mistudio_explain.generation.explainer import explain
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.records import Received, received
from mistudio_explain.llm.answers_cache import AnswersCache
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.observability.metrics import CACHED_ANSWERS, DURATION, MODEL_REQUESTS, TOKENS

LANES = "^" + PROMPTS_PREFIX.replace(".", r"\.") + ".*"


def register(app: StreamApp, endpoints: Endpoints, answers: AnswersCache, rng: random.Random) -> None:
    """Keep more records in flight than there are slots, so that a slot that falls free finds one waiting."""
    settings = app.settings
    in_flight = math.ceil(endpoints.slots * settings.generation.in_flight_per_slot)

    @app.lanes(LANES, service="generation", read=partial(received, ExplanationRequested), in_flight=in_flight)
    async def generation(request: Received[ExplanationRequested]) -> list[ExplanationDrafted]:
        draft = await explain(request.event, endpoints, answers, llm=settings.llm, generation=settings.generation, rng=rng)
        _count(draft)
        return [draft]


def _count(draft: ExplanationDrafted) -> None:
    made = draft.generation
    if made.cached:
        CACHED_ANSWERS.labels(model_name=made.model).inc()
        return
    MODEL_REQUESTS.labels(model_name=made.model).inc()
    DURATION.labels(model_name=made.model).observe(made.latency_s)
    TOKENS.labels(model_name=made.model, direction="in").inc(made.tokens_in or 0)
    TOKENS.labels(model_name=made.model, direction="out").inc(made.tokens_out or 0)

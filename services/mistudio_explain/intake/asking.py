"""Asks the services to explain one feature for a person who waits, and reads its answer as it comes."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaProducer

from mistudio_explain.context.stage import event_id
from mistudio_explain.events.explanation import FeatureOutcome, Subject, TokenChunk
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.identity import DEFAULT_TENANT, default_explain_job_id
from mistudio_explain.events.job import ControlPart, JobEvent
from mistudio_explain.intake.service import publish_single
from mistudio_explain.kafka.orders import give_order

_LONGEST_JOB = 160  # characters of the id that the moment is added to; an id has 200


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a feature is to be explained; what is absent is left to the services."""

    route: str | None = None
    prompt: str | None = None
    candidates: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer; another `beginning` starts the answer anew."""

    beginning: int
    text: str


def asked_for(feature: FeatureFound, wishes: Wishes, now: datetime, mark: str, *, tenant: str = DEFAULT_TENANT) -> FeatureFound:
    """The feature as a job of its own that a person waits for; `mark` tells two of one second apart."""
    job = f"{default_explain_job_id(feature.find_job_id, tenant)[:_LONGEST_JOB]}_ask_{now:%Y%m%d_%H%M%S}_{mark}"
    request = JobRequest(
        explain_job_id=job, tenant=tenant, route=wishes.route, prompt_version=wishes.prompt, explain_poor=True, priority="interactive",
        candidates=wishes.candidates, expected=1,
    )  # fmt: skip
    return feature.model_copy(update={"request": request})


def event_of(feature: FeatureFound) -> str:
    """The id under which the pieces of a feature's answer come."""
    return event_of_subject(Subject.of(feature, None))


def event_of_subject(subject: Subject) -> str:
    """The same of an outcome's subject."""
    return event_id(subject, pass_number=1)


@asynccontextmanager
async def asked(producer: AIOKafkaProducer, feature: FeatureFound, now_ms: Callable[[], int]) -> AsyncIterator[None]:
    """Send a feature to the services; when the waiting inside is broken off, its job is cancelled, which ends the call of the model."""
    request = feature.effective_request
    try:
        await publish_single(producer, feature, event_of(feature), now_ms())
        yield
    except BaseException:
        control = ControlPart(action="cancel", why="nobody waits for it any more")
        await give_order(producer, JobEvent(explain_job_id=request.explain_job_id, tenant=request.tenant, at_ms=now_ms(), control=control))
        raise


async def answer_of(events: AsyncIterator[TokenChunk | FeatureOutcome]) -> AsyncGenerator[Piece | FeatureOutcome]:
    """The pieces of an answer, and its outcome at the end."""
    attempt, beginning = 0, -1
    async for event in events:
        if isinstance(event, FeatureOutcome):
            yield event
            return
        if event.index == 0 or event.attempt > attempt:  # a request that is redelivered counts its chunks from 0 again
            beginning += 1
        attempt = event.attempt
        yield Piece(beginning, event.text)

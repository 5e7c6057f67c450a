"""Publishes a find job: its request, its features in rank order, and the seal after the last confirmed one."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice

from aiokafka import AIOKafkaProducer

from mistudio_explain.events.codec import encode
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.job import JobEvent, RequestPart, SealedPart
from mistudio_explain.events.topics import REPLAYS, REQUESTS
from mistudio_explain.intake.stage import FindJob
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import HEADER_FEATURE, HEADER_JOB, HEADER_REQUEST, Outgoing, outgoing
from mistudio_explain.observability import tracing

_SERVICE = "intake"
_BATCH = 50


async def publish_job(producer: AIOKafkaProducer, job: FindJob, request: JobRequest, estimate: tuple[float, float | None] | None, now_ms: int) -> int:
    """Publish a job and return how many features it has; the job is sealed with that number once all are confirmed.

    `estimate` is seconds and US dollars, as the job report sets them beside what it came to.
    """
    seconds, cost = estimate or (None, None)
    asked = _asked(request, job.find_job_id, job.target_model).model_copy(
        update={
            "source_training_job": job.source_training_job,
            "input_processing_time": job.processing_time,
            "estimated_seconds": seconds,
            "estimated_cost_usd": cost,
        }
    )
    with tracing.begun("publish job", service=_SERVICE, ids={"job": request.explain_job_id}):
        await publish(producer, [outgoing(_part(request, now_ms, asked))])
        records = (_found(feature, request) for feature in job.features(request))
        sent = 0
        while batch := list(islice(records, _BATCH)):
            await publish(producer, batch)
            sent += len(batch)
        await publish(producer, [outgoing(_part(request, now_ms, SealedPart(expected=sent)))])
    return sent


async def publish_single(producer: AIOKafkaProducer, feature: FeatureFound, event_id: str, now_ms: int) -> None:
    """Publish a feature that a person waits for, as a job of its own; `event_id` is that of the request that it will become."""
    request = feature.effective_request
    record = replace(_found(feature, request, topic=REQUESTS), key=event_id)
    parts: list[RequestPart | SealedPart] = [_asked(request, feature.find_job_id, feature.target_model), SealedPart(expected=1)]
    await publish(producer, [*(outgoing(_part(request, now_ms, part)) for part in parts), record])


def _found(feature: FeatureFound, request: JobRequest, *, topic: str | None = None) -> Outgoing:
    """The record with which a feature's way through a job begins, and its trace."""
    with tracing.begun("publish", service=_SERVICE, ids={"job": request.explain_job_id, "feature": feature.feature_key}):
        return outgoing(feature, topic=topic)


def _asked(request: JobRequest, find_job_id: str, target_model: str) -> RequestPart:
    return RequestPart(
        find_job_id=find_job_id,
        target_model=target_model,
        route=request.route,
        prompt_version=request.prompt_version,
        explain_poor=request.explain_poor,
        priority=request.priority,
        expected=request.expected,
        candidates=request.candidates,
    )


def _part(request: JobRequest, now_ms: int, part: RequestPart | SealedPart) -> JobEvent:
    return JobEvent(
        explain_job_id=request.explain_job_id,
        revision=request.revision,
        tenant=request.tenant,
        at_ms=now_ms,
        request=part if isinstance(part, RequestPart) else None,
        sealed=part if isinstance(part, SealedPart) else None,
    )


async def publish_replay(producer: AIOKafkaProducer, features: Iterable[FeatureFound], request: JobRequest, told: Callable[[int], None]) -> int:
    """Publish features out of a file to the topic of replays, and return how many there were.

    They look as the replayer's copies do: the body is the file's, and the job's request stands in the envelope; but they
    have no source, because they stand nowhere else. `told` is told how many more were confirmed.
    """
    envelope = ((HEADER_REQUEST, encode(request)), (HEADER_JOB, request.explain_job_id.encode()))
    again = iter(features)
    sent = 0
    while batch := list(islice(again, _BATCH)):
        copies = [(_found(feature, request, topic=REPLAYS), feature.feature_key) for feature in batch]
        await publish(producer, [replace(copy, headers=(*copy.headers, *envelope, (HEADER_FEATURE, key.encode()))) for copy, key in copies])
        sent += len(batch)
        told(len(batch))
    return sent

"""The context service: features in; prompts, admissions, backgrounds and skipped outcomes out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import structlog
from aiokafka import ConsumerRecord

from mistudio_explain.context.explainers import Routing
from mistudio_explain.context.lane import lane_for, own_lane
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.samples import Samples
from mistudio_explain.context.stage import admission, build
from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.explanation import ExplanationRequested, Subject
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import JobBackground
from mistudio_explain.events.topics import FEATURES, JOBS, REPLAYS, REQUESTS
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.backgrounds import Backgrounds
from mistudio_explain.kafka.controls import JobControls, cancelled, job_part
from mistudio_explain.kafka.lane_backlog import LaneBacklogs
from mistudio_explain.kafka.records import Outgoing, Received, outgoing, received_feature
from mistudio_explain.observability.metrics import PASSED_OVER
from mistudio_explain.observability.outcomes import count

log = structlog.get_logger(__name__)

_SERVICE = "context"
_REQUESTS = "context-requests"
"""The group of interactive requests: of its own, so that a person never waits behind a batch or a lane's backlog."""


def register(app: StreamApp, controls: JobControls, routing: Callable[[], Routing] = Routing) -> None:
    """Turn features into requests for explainers; `routing` tells which there are, and is asked again for every batch; absent: any."""
    settings = app.settings
    standing = ContextPolicy.of(settings.context, settings.quality, routing())
    if substitutes := standing.routing.substitutes():
        log.warning("routing.substitutes", models="; ".join(substitutes))
    templates = Templates.load(settings.context.templates, default=settings.context.template)
    backgrounds = Backgrounds(app, _SERVICE)
    samples = Samples(backgrounds.of)
    backlogs = LaneBacklogs(app)

    def entered(taken: list[Received[FeatureFound]], feature: Received[FeatureFound]) -> list[Outgoing]:
        """That a feature entered its job; it is added to those that are taken. Nothing enters a deleted job."""
        if controls.is_deleted(feature.event.effective_request.explain_job_id, feature.job_revision):
            PASSED_OVER.labels(service=_SERVICE, why="deleted").inc()
            return []
        admitted = outgoing(admission(feature.event, feature.source).model_copy(update={"revision": feature.job_revision}))
        taken.append(feature)
        return [admitted]

    def about(policy: ContextPolicy, lanes: set[str], feature: Received[FeatureFound]) -> list[Outgoing]:
        """What a feature becomes; a lane that it needs is added to those that exist or will be made for its batch."""
        source = feature.source
        asked = feature.event.effective_request.model_copy(update={"revision": feature.job_revision})
        if controls.is_stopped(asked.explain_job_id, asked.revision):
            is_deleted = controls.is_deleted(asked.explain_job_id, asked.revision)  # since it entered
            PASSED_OVER.labels(service=_SERVICE, why="deleted" if is_deleted else "cancelled").inc()
            return [] if is_deleted else [outgoing(cancelled(Subject.of(feature.event, source), revision=asked.revision))]
        made = build(feature.event, policy, templates, source)
        made = made.model_copy(update={"subject": made.subject.model_copy(update={"job_revision": feature.job_revision, "published_ms": feature.written_ms})})
        if isinstance(made, ExplanationRequested):
            topic = lane_for(made, lanes, express_features=settings.limits.express_features, max_lanes=settings.limits.max_lanes)
            lanes.add(topic)
            return [outgoing(made.model_copy(update={"request": asked}), topic=topic)]
        count(made, app.now_ms())
        return [outgoing(made)]

    async def publish_samples(changed: list[JobBackground]) -> None:
        try:
            await app.publish(outgoing(background) for background in changed)
        except MalformedEvent as error:  # too large for its topic: no fault of the features, which are scored without it
            log.error("background.unpublished", find_jobs=[background.find_job_id for background in changed], why=str(error))
        samples.published(changed)

    @app.whole(JOBS, service=_SERVICE)
    async def seals(records: Sequence[ConsumerRecord]) -> None:
        for part in (found.event for found in map(job_part, records) if found is not None):
            if part.request is not None:
                samples.requested(part.explain_job_id, part.tenant, part.request.find_job_id)
            if part.replay is not None or (part.request is not None and part.request.priority == "interactive"):
                samples.partial(part.explain_job_id)
            if part.sealed is not None:
                await publish_samples(samples.seal(part.explain_job_id, part.sealed.expected))

    async def forward(features: list[Received[FeatureFound]]) -> None:
        await controls.complete()
        if not {own_lane(feature.event.target_model) for feature in features} <= app.known_lanes:
            await app.look_for_lanes()
        taken: list[Received[FeatureFound]] = []
        await app.publish(await app.each(features, partial(entered, taken), service=_SERVICE, is_traced=False))  # also of those that fail from here on
        made = await app.each(taken, partial(about, replace(standing, routing=routing()), set(app.known_lanes)), service=_SERVICE)
        for topic in {record.topic for record in made}:
            await app.ensure_lane(topic)
        await app.publish(made)

    @app.batches(FEATURES, REPLAYS, service=_SERVICE, read=received_feature, wait=backlogs.wait_s)
    async def context(features: list[Received[FeatureFound]]) -> None:
        await backgrounds.complete()
        sampled = samples.include(feature.event for feature in features if feature.record.topic == FEATURES)
        await publish_samples(sampled)  # before the prompts that will be scored against them
        await forward(features)

    @app.batches(REQUESTS, service=_SERVICE, group=_REQUESTS, read=received_feature)
    async def requests(features: list[Received[FeatureFound]]) -> None:
        await forward(features)

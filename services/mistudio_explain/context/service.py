"""The context service: features in; prompts, admissions, backgrounds and skipped outcomes out."""

from collections.abc import Sequence
from functools import partial

from aiokafka import ConsumerRecord

from mistudio_explain.context.lane import lane_for
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.samples import Samples
from mistudio_explain.context.stage import admission, build
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import JobBackground, JobEvent
from mistudio_explain.events.topics import FEATURES, JOBS, REPLAYS, REQUESTS
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.backgrounds import Backgrounds
from mistudio_explain.kafka.records import Outgoing, Received, outgoing, received, received_feature
from mistudio_explain.observability.metrics import OUTCOMES

_SERVICE = "context"


def register(app: StreamApp, *, family: str) -> None:
    """Turn features into requests for an explainer of a family (`demonstration`, or a model's name)."""
    settings = app.settings
    policy = ContextPolicy.of(settings.context, settings.quality, family)
    templates = Templates.load(settings.context.templates, default=settings.context.template)
    backgrounds = Backgrounds(app, _SERVICE)
    samples = Samples(backgrounds.of)

    def about(feature: Received[FeatureFound]) -> list[Outgoing]:
        source = feature.source
        made = build(feature.event, policy, templates, source)
        if isinstance(made, ExplanationRequested):
            topic = lane_for(made, app.known_lanes, express_features=settings.limits.express_features, max_lanes=settings.limits.max_lanes)
            return [outgoing(admission(feature.event, source)), outgoing(made, topic=topic)]
        OUTCOMES.labels(outcome=made.outcome.value, verification="none").inc()
        return [outgoing(admission(feature.event, source)), outgoing(made)]

    async def publish_samples(changed: list[JobBackground]) -> None:
        await app.publish(outgoing(background) for background in changed)
        samples.published(changed)

    @app.whole(JOBS, service=_SERVICE)
    async def seals(records: Sequence[ConsumerRecord]) -> None:
        parts = await app.readable([record for record in records if record.value is not None], partial(received, JobEvent), service=_SERVICE)
        for part in (each.event for each in parts):
            if part.request is not None:
                samples.requested(part.explain_job_id, part.tenant, part.request.find_job_id)
            if part.sealed is not None:
                await publish_samples(samples.seal(part.explain_job_id, part.sealed.expected))

    @app.batches(REQUESTS, FEATURES, REPLAYS, service=_SERVICE, read=received_feature)
    async def context(features: list[Received[FeatureFound]]) -> None:
        await backgrounds.complete()
        sampled = samples.include(feature.event for feature in features if feature.record.topic == FEATURES)
        await publish_samples(sampled)  # before the prompts that will be scored against them
        made = await app.each(features, about, service=_SERVICE)
        for topic in {record.topic for record in made}:
            await app.ensure_lane(topic)
        await app.publish(made)

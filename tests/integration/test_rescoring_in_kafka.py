"""Re-scoring on the embedded broker: provisional outcomes at the freeze of a background, and `rescore` on demand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from mistudio_explain.context.stage import build
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import Answer, ExplanationDrafted, ExplanationRequested, FeatureOutcome, Generation
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import JobBackground
from mistudio_explain.generation.stage import Parsed, drafted
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.embedded import embedded_broker
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.kafka.subscribers import partitions_of
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.replay import rescorer
from mistudio_explain.replay.rescoring import is_outdated
from mistudio_explain.settings import QualitySettings, Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store
from mistudio_explain.validation import service as validation
from mistudio_explain.validation.offline import background_of
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import Validator
from unit.context.finding import ANIMALS, TEMPLATES, found, policy

WAIT_S = 60.0
THINGS = ("hammer", "kettle", "violin", "ladder", "candle", "basket", "mirror", "pillow", "rocket", "anchor")


@dataclass(frozen=True)
class Place:
    """The embedded broker and a store."""

    settings: Settings
    clients: KafkaClients


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    settings = Settings(store=StoreSettings(url=f"sqlite:///{tmp_path}/explain.db"))
    async with embedded_broker() as broker:
        clients = KafkaClients(settings.kafka, settings.limits, embedded=broker.address)
        async with clients.admin() as admin:
            await create_topics(admin, topic_specs(settings), None)
        yield Place(settings, clients)


def features() -> list[FeatureFound]:
    return [found(*(f"A {animal} hid the {thing} of {animal}town." for animal in ANIMALS[:9]), feature_id=thing, pattern_keywords=["hid"]) for thing in THINGS]


def outcome_of(feature: FeatureFound, background: JobBackground, validator: Validator) -> FeatureOutcome:
    request = build(feature, policy(), TEMPLATES, None)
    assert isinstance(request, ExplanationRequested)
    made = Generation(model="m", endpoint="e", provider="ollama", latency_s=1.0, finish_reason="stop")
    return validate(drafted(request, Parsed(Answer(pattern=f"Animals hide a {feature.feature_id}."), []), made), background, validator)


def keep(settings: Settings, outcomes: Sequence[FeatureOutcome]) -> None:
    with open_store(settings.store) as store:
        store.apply([Change(outcome, encode(outcome), "", 1) for outcome in outcomes], {})


async def standing(place: Place, topic: str, count: int) -> list[bytes]:
    """The values in a topic once there are so many."""
    async with place.clients.consumer(auto_offset_reset="earliest") as consumer, asyncio.timeout(WAIT_S):
        partitions = await partitions_of(consumer, (topic,))
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        values: list[bytes] = []
        while len(values) < count:
            values += [record.value for records in (await consumer.getmany(timeout_ms=100)).values() for record in records]
        return values


async def send_background(place: Place, background: JobBackground) -> None:
    async with place.clients.producer([topics.BACKGROUNDS]) as producer:
        await publish(producer, [outgoing(background)])


async def test_provisional_outcomes_are_scored_again_once_their_background_is_frozen(place: Place) -> None:
    validator = Validator.load(QualitySettings())
    there = features()
    early = background_of("find_1", there[:9]).model_copy(update={"frozen": False})
    frozen = background_of("find_1", there)
    provisional = [outcome_of(feature, early, validator) for feature in there[:3]]
    settled = [outcome_of(feature, frozen, validator) for feature in there[3:6]]
    keep(place.settings, [*provisional, *settled])
    app = StreamApp(place.settings, place.clients)
    rescorer.register(app, looked_again_s=(0.0,))
    validation.register(app, JobControls(app), validator)
    async with app.running():
        await send_background(place, early)
        await send_background(place, frozen)
        outcomes = [decode(FeatureOutcome, value) for value in await standing(place, topics.EXPLANATIONS, 3)]
        await asyncio.sleep(1.0)
        drafts = [decode(ExplanationDrafted, value) for value in await standing(place, topics.DRAFTS, 3)]
    assert sorted(draft.subject.feature_key for draft in drafts) == sorted(THINGS[:3])
    assert {outcome.subject.revision for outcome in outcomes} == {1}
    for outcome in outcomes:
        assert "provisional" not in outcome.flags
        assert outcome.background_version == frozen.version
        assert outcome.generation == provisional[0].generation


async def test_rescore_sends_a_jobs_drafts_under_the_next_revision_and_counts_what_is_current(place: Place) -> None:
    validator = Validator.load(QualitySettings())
    there = features()
    frozen = background_of("find_1", there)
    old = [outcome_of(feature, frozen, validator).model_copy(update={"validator_version": 0}) for feature in there[:4]]
    keep(place.settings, [*old, *(outcome_of(feature, frozen, validator) for feature in there[4:])])
    async with place.clients.producer([topics.DRAFTS]) as producer:
        job = old[0].subject.explain_job_id
        tally = await rescorer.rescore(place.settings, job, partial(is_outdated, validator_version=1), partial(publish, producer))
    drafts = [decode(ExplanationDrafted, value) for value in await standing(place, topics.DRAFTS, 4)]
    assert (tally.sent, tally.current, dict(tally.left)) == (4, 6, {})
    assert {(draft.subject.feature_key, draft.subject.revision) for draft in drafts} == {(thing, 1) for thing in THINGS[:4]}
    assert all(draft.prompt.messages for draft in drafts)

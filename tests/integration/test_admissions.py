"""Every feature that enters a job is admitted, whatever becomes of it, so that reports count it and replays find it."""

from integration.test_replay import admit, ends, order, replayer, send, settings, standing, until_sealed
from integration.test_stream_app import LANE, MakeApp, all_records, feature, make_app, records_of
from mistudio_explain.context import service as context_service
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import ExplanationRequested, FeatureOutcome
from mistudio_explain.events.feature import Activation, FeatureFound
from mistudio_explain.events.job import Admission, Coordinates, ReplayPart
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.controls import JobControls
from mistudio_explain.kafka.records import outgoing, received_feature
from mistudio_explain.settings import Settings

__all__ = ["make_app", "settings"]  # the fixtures

TEXTLESS = [Activation(text=" \n")]


def given() -> dict[str, FeatureFound]:
    """One feature for each thing that can become of it."""
    return {
        "requested": feature(1, coherence_score=0.9),
        "skipped": feature(2, coherence_score=0.1),
        "without a text": feature(3, coherence_score=0.9).model_copy(update={"top_activations": TEXTLESS}),
        "too large for its lane": feature(4, coherence_score=0.9, source_training_job="t" * 20_000),
    }


async def test_what_is_skipped_or_fails_in_context_is_admitted_like_what_is_explained(make_app: MakeApp) -> None:
    app = make_app()
    app.settings = app.settings.model_copy(update={"limits": app.settings.limits.model_copy(update={"internal_bytes": 16_384})})
    context_service.register(app, JobControls(app))
    async with app.running():
        await app.publish(outgoing(each) for each in given().values())
        outcomes = [decode(FeatureOutcome, record.value) for record in await records_of(app, topics.EXPLANATIONS, 3)]
        admissions = [decode(Admission, record.value) for record in await records_of(app, topics.ADMISSIONS, 4)]
        prompts = [decode(ExplanationRequested, record.value).subject.feature_key for record in await records_of(app, LANE, 1)]
        places = {received_feature(record).event.feature_key: received_feature(record).source for record in await all_records(app, topics.FEATURES)}
    assert {outcome.subject.feature_key: outcome.outcome for outcome in outcomes} == {"2": "skipped", "3": "failed", "4": "failed"}
    assert prompts == ["1"]
    assert {admission.feature_key: admission.source for admission in admissions} == places


async def test_a_replay_finds_what_failed_in_context_by_its_admission(settings: Settings) -> None:
    features = [each for name, each in given().items() if name != "too large for its lane"]
    places: list[Coordinates] = await send(settings, features)
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    context_service.register(app, JobControls(app))
    async with app.running():
        admissions = [decode(Admission, record.value) for record in await records_of(app, topics.ADMISSIONS, 3)]
    read = await ends(settings, topics.ADMISSIONS, topics.EXPLANATIONS)
    admit(settings, [(admission.feature_key, admission.source) for admission in admissions if admission.source], read=read)
    await order(settings, ReplayPart(from_job="find_1", of="explain_1"))
    async with replayer(settings):
        seal = await until_sealed(settings)
    assert seal.expected == 3
    copies = [received_feature(record) for record in await standing(settings, topics.REPLAYS)]
    assert {copy.event.feature_key: copy.source for copy in copies} == {each.feature_key: place for each, place in zip(features, places, strict=True)}

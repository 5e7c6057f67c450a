"""A gateway in the test's process, over rows that a test wrote, without a Kafka."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from integration.aggregating import explained, requested
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import FeatureOutcome, FeatureReviewed
from mistudio_explain.events.job import JobEvent
from mistudio_explain.gateway.service import register
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.settings import EndpointSettings, GatewaySettings, LlmSettings, ReportSettings, Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store
from mistudio_explain.store.keys import SECRET_BYTES, StoredKeys, access_store, made

HERE = "http://localhost:8350"


def gateway_settings(folder: Path, **gateway: Any) -> Settings:
    """Settings of a gateway whose store and reports are in a folder, and whose model is away."""
    return Settings(
        llm=LlmSettings(endpoints=(EndpointSettings(name="gpu0", provider="ollama", url="http://127.0.0.1:9"),)),
        store=StoreSettings(url=f"sqlite:///{folder}/state/explain.db"),
        reports=ReportSettings(directory=folder / "reports"),
        gateway=GatewaySettings(**gateway),
    )


def gateway_app(settings: Settings) -> FastAPI:
    """The gateway's application, whose Kafka is away."""
    return register(StreamApp(settings, KafkaClients(settings.kafka, settings.limits, embedded="127.0.0.1:9")))


def calling(app: FastAPI, key: str | None = None, **options: Any) -> TestClient:
    """A program that calls the gateway, with a key or without."""
    return TestClient(app, base_url=HERE, headers={} if key is None else {"authorization": f"Bearer {key}"}, **options)


def new_key(settings: Settings, scope: str = "admin", tenant: str = "default", name: str = "a test") -> str:
    """Make a key, as `keys create` does."""
    counting = iter(range(256))
    seed = len(StoredKeys(access_store(settings)).all())
    key, text = made(tenant, scope, name, now_ms=seed + 1, random_bytes=lambda n: bytes((seed * 37 + next(counting)) % 256 for _ in range(n)))
    assert len(text) > SECRET_BYTES
    StoredKeys(access_store(settings)).add(key)
    return text


def job_of(tenant: str, job: str, find_job: str = "find_1", features: Iterable[object] = (1, 2), says: str = "words") -> list[JobEvent | FeatureOutcome]:
    """A job of a tenant: its request and its explained features."""
    outcomes = [explained(feature, job, says=says, find_job=find_job) for feature in features]
    return [
        requested(job, find_job).model_copy(update={"tenant": tenant}),
        *(outcome.model_copy(update={"subject": outcome.subject.model_copy(update={"tenant": tenant})}) for outcome in outcomes),
    ]


def stored(settings: Settings, events: Iterable[JobEvent | FeatureOutcome | FeatureReviewed]) -> None:
    """Write rows as an aggregator does."""
    with open_store(settings.store) as store:
        store.apply([Change(event, encode(event), str(outgoing(event).key), 10, outgoing(event).topic) for event in events], {})

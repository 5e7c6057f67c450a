"""Kafka goes away and comes back under running services: red readiness, green liveness, no flood of logs, and on by themselves."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from integration.local_server import free_ports
from integration.real_kafka import RealKafka
from integration.secure_kafka import APP, SecureKafka
from integration.test_stream_app import feature, until
from integration.test_whole_way import Command, kafka_settings, secure_settings
from mistudio_explain.events import topics
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.kafka import app as kafka_app
from mistudio_explain.kafka import subscribers
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.committed import committed_offsets
from mistudio_explain.kafka.records import Received, outgoing, received_feature
from mistudio_explain.settings import KafkaSettings, LimitSettings, Settings

MOST_LINES = 60  # of a service's log over an outage; aiokafka alone wrote 6,600 a second before it was limited


@pytest.fixture
def own_kafka(clean_kafka: RealKafka) -> Iterator[RealKafka]:
    """The session's Kafka, for a test that stops it; it is up again for the next one."""
    yield clean_kafka
    if not clean_kafka.runs:
        clean_kafka.start()


def app_on(kafka: RealKafka, **groups: object) -> StreamApp:
    settings = Settings.model_validate({"kafka": KafkaSettings(bootstrap_servers=kafka.bootstrap), **groups})
    return StreamApp(settings, KafkaClients(settings.kafka, settings.limits))


async def committed(app: StreamApp, group: str, topic: str) -> dict[TopicPartition, int]:
    """What a service's group has committed of a topic."""
    try:
        found = await committed_offsets(app.admin, f"mistudio-explain.{group}", [TopicPartition(topic, partition) for partition in range(6)])
    except (KafkaError, OSError):  # the broker is still coming
        return {}
    return {tp: offset for tp, (offset, _) in found.items()}


@asynccontextmanager
async def serving(command: Command, *services: str) -> AsyncIterator[tuple[Callable[[str], "tuple[int, str]"], Path]]:
    """Services in a process; inside, ask their health port, and see their log."""
    (port,) = free_ports(1)
    log = command.folder / "service.log"
    process = command.start_logging(log, "serve", *services, "--health-port", str(port))

    def asked(path: str) -> tuple[int, str]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=5)
        except httpx.TransportError as error:
            return 0, str(error)
        return answer.status_code, answer.text

    try:
        yield asked, log
    finally:
        process.terminate()
        assert await asyncio.to_thread(process.wait, 40) == 0


async def until_answer(ask: Callable[[str], tuple[int, str]], path: str, status: int) -> str:
    async with asyncio.timeout(60):
        while (answer := await asyncio.to_thread(ask, path))[0] != status:
            await asyncio.sleep(0.1)
    return answer[1]


async def test_services_wait_through_a_clean_stop_of_kafka_quietly_and_go_on_by_themselves(tmp_path: Path, own_kafka: RealKafka) -> None:
    command = Command(tmp_path, kafka_settings(own_kafka) | {"MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{tmp_path}/explain.db"})
    async with serving(command, "context", "validation", "aggregator", "redelivery") as (ask, log):
        await until_answer(ask, "readyz", 200)
        lines = len(log.read_text().splitlines())
        await asyncio.to_thread(own_kafka.stop)
        try:
            assert "Kafka" in await until_answer(ask, "readyz", 503)
            for _ in range(16):  # what is tested is that so much time passes: 8 s of outage
                await asyncio.sleep(0.5)
                assert (await asyncio.to_thread(ask, "livez"))[0] == 200
        finally:
            await asyncio.to_thread(own_kafka.start)
        await until_answer(ask, "readyz", 200)
        assert len(log.read_text().splitlines()) - lines < MOST_LINES


async def test_a_service_that_may_wait_for_ever_starts_when_kafka_comes(tmp_path: Path, own_kafka: RealKafka) -> None:
    command = Command(tmp_path, kafka_settings(own_kafka) | {"MISTUDIO_EXPLAIN_KAFKA__START_TIMEOUT_S": "0"})
    await asyncio.to_thread(own_kafka.stop)
    try:
        async with serving(command, "validation") as (ask, log):
            await until_answer(ask, "livez", 200)
            assert (await asyncio.to_thread(ask, "readyz"))[0] == 503
            await asyncio.to_thread(own_kafka.start)
            await until_answer(ask, "readyz", 200)
            assert "Traceback" not in log.read_text()
    finally:
        if not own_kafka.runs:
            await asyncio.to_thread(own_kafka.start)


async def test_a_publish_waits_out_an_outage_and_nothing_is_lost_or_doubled(own_kafka: RealKafka) -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=own_kafka.bootstrap))
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    handled: list[str] = []

    @app.batches(topics.FEATURES, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        handled.extend(each.event.feature_id for each in batch)

    async with app.running():
        await app.publish([outgoing(feature(1))])
        await until(lambda: handled == ["1"])
        await asyncio.to_thread(own_kafka.kill)
        waiting = asyncio.create_task(app.publish([outgoing(feature(number)) for number in range(2, 6)]))
        await until(lambda: not app.is_ready())
        assert app.is_alive()
        assert not waiting.done()
        await asyncio.to_thread(own_kafka.start)
        async with asyncio.timeout(60):
            await waiting
            while len(set(handled)) < 5:
                await asyncio.sleep(0.05)
    assert set(handled) == {"1", "2", "3", "4", "5"}


async def test_a_kafka_that_goes_away_before_a_commit_leaves_services_alive_and_what_was_handled_is_committed_later(
    own_kafka: RealKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_app, "ALIVE_WITHIN_S", 5.0)
    monkeypatch.setattr(subscribers, "COMMIT_WITHIN_S", 1.0)
    app = app_on(own_kafka)
    handled: list[str] = []

    @app.batches(topics.FEATURES, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        handled.extend(each.event.feature_id for each in batch)
        if "9" in handled:
            await asyncio.to_thread(own_kafka.kill)  # between the batch and its commit

    async with app.running():
        await app.publish([outgoing(feature(1))])
        await until(lambda: handled == ["1"])
        await app.publish([outgoing(feature(9))])
        await until(lambda: not own_kafka.runs)
        away = time.monotonic()
        while time.monotonic() - away < 12:  # what is tested is that so much time passes
            assert app.is_alive()
            await asyncio.sleep(0.2)
        handled.clear()
        await asyncio.to_thread(own_kafka.start)
        async with asyncio.timeout(60):
            while sum((await committed(app, "context", topics.FEATURES)).values()) < 2:
                await asyncio.sleep(0.2)


@pytest.mark.parametrize("reads", ["batches", "lanes"])
async def test_a_service_that_is_stopped_while_kafka_is_away_ends(own_kafka: RealKafka, monkeypatch: pytest.MonkeyPatch, reads: str) -> None:
    monkeypatch.setattr(subscribers, "COMMIT_WITHIN_S", 1.0)
    app = app_on(own_kafka, limits=LimitSettings(grace_s=2))
    handled: list[str] = []

    if reads == "batches":

        @app.batches(topics.FEATURES, service="context", read=received_feature)
        async def context(batch: list[Received[FeatureFound]]) -> None:
            handled.extend(each.event.feature_id for each in batch)
            await asyncio.to_thread(own_kafka.kill)

    else:

        @app.lanes("^" + topics.FEATURES.replace(".", r"\."), service="context", read=received_feature, in_flight=2)
        async def lanes(each: Received[FeatureFound]) -> list[FeatureFound]:
            handled.append(each.event.feature_id)
            await asyncio.to_thread(own_kafka.kill)
            return []

    async with asyncio.timeout(60) as bound:
        async with app.running():
            publishing = asyncio.create_task(app.publish([outgoing(feature(1))]))  # which may not be confirmed before Kafka is killed
            await until(lambda: not own_kafka.runs)
            publishing.cancel()
            stopped = time.monotonic()
            bound.reschedule(asyncio.get_running_loop().time() + 20)
    assert time.monotonic() - stopped < 15


@pytest.mark.slow
async def test_a_password_that_was_changed_while_running_makes_readiness_red(tmp_path: Path, secure_kafka: SecureKafka) -> None:
    """aiokafka waits for ever after such a reconnect, without any exception: only the health check sees it."""
    secure_kafka.allow("topic", "mistudio.", "Read", "Write", "Create", "Describe", "DescribeConfigs")
    secure_kafka.allow("group", "mistudio-explain.", "Read", "Describe")
    command = Command(tmp_path, secure_settings(secure_kafka))
    async with serving(command, "validation") as (ask, _):
        await until_answer(ask, "readyz", 200)
        try:
            await asyncio.to_thread(secure_kafka.change_password, APP, "another")
            await asyncio.to_thread(secure_kafka.restart)
            await until_answer(ask, "readyz", 503)
            assert (await asyncio.to_thread(ask, "livez"))[0] == 200
        finally:
            await asyncio.to_thread(secure_kafka.change_password, APP, secure_kafka.passwords[APP])
        await until_answer(ask, "readyz", 200)

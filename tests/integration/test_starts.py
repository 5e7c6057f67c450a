"""Services that are started while Kafka or the LLM is away: they wait, say so, and take up their work by themselves."""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chaos.fake_llm import MODEL, Character, FakeLlm
from integration.local_server import free_ports
from integration.real_kafka import RealKafka
from integration.test_outages import serving, until_answer
from integration.test_stream_app import feature, until
from integration.test_whole_way import EXAMPLE, Command, kafka_settings
from mistudio_explain.errors import Unreachable
from mistudio_explain.events import topics
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.kafka import app as app_module
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.patience import Patience
from mistudio_explain.kafka.records import Received, outgoing, received_feature
from mistudio_explain.settings import KafkaSettings, Settings, StoreSettings
from mistudio_explain.store.usage import StoredUsage

CONNECTIONS_OF_A_START = 4  # those that go to the bootstrap address: admin client, producer, two consumers
MOST_AWAY_LINES = 6  # of an endpoint that is asked after 0.5, 1, 2, 4 ... s and says the same each time


@pytest.fixture
def llm() -> Iterator[FakeLlm]:
    """A model that is away, and has an address."""
    server = FakeLlm(Character(1, faulty=0.0))
    (server.port,) = free_ports(1)
    with server:
        server.go_away()
        yield server


def endpoint_settings(llm: FakeLlm, model: str = MODEL) -> dict[str, str]:
    return {"MISTUDIO_EXPLAIN_LLM__ENDPOINTS": json.dumps([{"name": "gpu0", "provider": "openai", "url": llm.url("gpu0"), "models": [model], "slots": 4}])}


def held_by_generation(metrics: str) -> float:
    return next((float(line.split()[1]) for line in metrics.splitlines() if line.startswith('mistudio_explain_in_flight{service="generation"}')), 0.0)


@pytest.mark.parametrize("trouble", ["away", "failing"])
async def test_generation_that_is_started_without_its_llm_holds_and_explains_when_it_comes(
    tmp_path: Path, clean_kafka: RealKafka, llm: FakeLlm, trouble: str
) -> None:
    if trouble == "failing":
        llm.is_sick = True
        llm.come_back()
    store = {"MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{tmp_path}/explain.db", "MISTUDIO_EXPLAIN_REPORTS__DIRECTORY": str(tmp_path / "reports")}
    command = Command(tmp_path, kafka_settings(clean_kafka) | endpoint_settings(llm) | store)
    async with serving(command, "context", "generation", "validation", "aggregator") as (ask, log):
        await until_answer(ask, "livez", 200)
        published = await asyncio.to_thread(command.run, "publish", str(EXAMPLE), "--explain-poor", "--json")
        job = json.loads(published.stdout)["explain_job_id"]
        async with asyncio.timeout(60):
            while "no LLM endpoint serves: gpu0" not in (answer := await asyncio.to_thread(ask, "readyz"))[1]:
                await asyncio.sleep(0.1)
            while held_by_generation((await asyncio.to_thread(ask, "metrics"))[1]) == 0:
                await asyncio.sleep(0.1)
        assert answer[0] == 503
        assert ("HTTP 500" if trouble == "failing" else "no connection") in answer[1]
        assert (await asyncio.to_thread(ask, "livez"))[0] == 200
        assert llm.answered == 0
        if trouble == "failing":
            llm.is_sick = False
        else:
            llm.come_back()
        await until_answer(ask, "readyz", 200)
        await asyncio.to_thread(command.run, "watch", job)
        assert 1 <= log.read_text().count("llm.away") <= MOST_AWAY_LINES
    report = json.loads((tmp_path / "reports" / job / "feature_explanations.json").read_text())
    assert len(report["explanations"]) == 16
    assert report["failed"] == []


async def test_a_server_that_is_discovered_comes_while_generation_runs_and_its_uses_are_counted(tmp_path: Path, clean_kafka: RealKafka, llm: FakeLlm) -> None:
    url = llm.url("gpu0").replace("127.0.0.1", "localhost")
    found = {"MISTUDIO_EXPLAIN_LLM__ENDPOINTS": json.dumps([{"name": "gpu0", "provider": "openai", "url": url, "discover": "dns", "models": [MODEL]}])}
    store = {"MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{tmp_path}/explain.db", "MISTUDIO_EXPLAIN_REPORTS__DIRECTORY": str(tmp_path / "reports")}
    command = Command(tmp_path, kafka_settings(clean_kafka) | found | store)
    async with serving(command, "context", "generation", "validation", "aggregator") as (ask, _):
        async with asyncio.timeout(60):
            while "no LLM server to drive: gpu0" not in (answer := await asyncio.to_thread(ask, "readyz"))[1] or "no connection" not in answer[1]:
                await asyncio.sleep(0.1)
        assert answer[0] == 503
        published = await asyncio.to_thread(command.run, "publish", str(EXAMPLE), "--explain-poor", "--json")
        llm.come_back()
        await asyncio.to_thread(command.run, "watch", json.loads(published.stdout)["explain_job_id"])
        assert (await asyncio.to_thread(ask, "readyz"))[0] == 200
    usage = await StoredUsage(StoreSettings(url=store["MISTUDIO_EXPLAIN_STORE__URL"])).read()
    assert usage["gpu0@127.0.0.1", MODEL].calls == [made.ending for made in llm.calls].count("answered") > 0


def test_a_model_that_the_server_surely_lacks_ends_generation_with_what_to_do(tmp_path: Path, llm: FakeLlm) -> None:
    llm.come_back()
    (port,) = free_ports(1)
    command = Command(tmp_path, {"MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"} | endpoint_settings(llm, "llama3.1:8b"))
    done = command.run("serve", "generation", expect=2)
    assert "none of the models wanted (llama3.1:8b); it lists fake" in done.stderr
    assert "Traceback" not in done.stderr


class Gate:
    """An address in front of Kafka that is taken and hung up on, as by a broker that is only just coming, after the first few connections."""

    def __init__(self, kafka: RealKafka, lets: float) -> None:
        self.address = ""
        self.refused = 0
        self.lets = lets
        self._kafka = kafka

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.lets < 1:
            self.refused += 1
            writer.close()
            return
        self.lets -= 1
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._kafka.port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(passed_on(reader, to_writer), passed_on(to_reader, writer))


async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while content := await reader.read(1 << 16):
            writer.write(content)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def gate_before(kafka: RealKafka, *, lets: float) -> AsyncIterator[Gate]:
    gate = Gate(kafka, lets)
    server = await asyncio.start_server(gate.connected, "127.0.0.1", 0)
    gate.address = "{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield gate
    finally:
        server.close()


def app_behind(gate: Gate) -> tuple[StreamApp, list[str]]:
    """An application whose one service takes note of the features that it was given."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=gate.address))
    app = StreamApp(settings, KafkaClients(settings.kafka, settings.limits))
    handled: list[str] = []

    @app.batches(topics.FEATURES, service="context", read=received_feature)
    async def context(batch: list[Received[FeatureFound]]) -> None:
        handled.extend(each.event.feature_id for each in batch)

    return app, handled


@pytest.mark.parametrize("lets", range(CONNECTIONS_OF_A_START))
async def test_a_kafka_that_goes_away_at_any_step_of_a_start_is_waited_for(
    clean_kafka: RealKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lets: int
) -> None:
    async with gate_before(clean_kafka, lets=lets) as gate:
        app, handled = app_behind(gate)
        over = asyncio.Event()

        async def run() -> None:
            async with app.running(Patience.of(None)):
                await app.publish([outgoing(feature(1))])
                await over.wait()

        running = asyncio.create_task(run())
        await until(lambda: gate.refused >= 3 or running.done())
        assert not running.done()
        assert not app.is_ready()
        with monkeypatch.context() as patched:
            patched.setattr(app_module, "ALIVE_WITHIN_S", 0.0)  # as if all this had taken longer
            assert app.is_alive()
        gate.lets = float("inf")
        await until(lambda: handled == ["1"])
        await until(app.is_ready)
        assert app.is_alive()
        over.set()
        await running
    gc.collect()
    assert "Unclosed" not in caplog.text  # clients that could not be started


async def test_patience_that_is_at_its_end_is_one_error_that_says_where_kafka_should_be(clean_kafka: RealKafka) -> None:
    async with gate_before(clean_kafka, lets=2) as gate:
        app, _ = app_behind(gate)
        with pytest.raises(Unreachable, match=f"no Kafka broker answers at {gate.address}"):
            async with app.running(Patience.of(1)):
                pytest.fail("the start cannot succeed")
        assert gate.refused >= 3  # each of two consumers once, and again


def test_a_service_waits_no_longer_than_it_is_told_to(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = Command(tmp_path, {"MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}", "MISTUDIO_EXPLAIN_KAFKA__START_TIMEOUT_S": "1"})
    done = command.run("serve", "validation", expect=3)
    assert f"no Kafka broker answers at 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr

"""Lag on real Kafka: the same figures as Kafka's own command, refusals instead of wrong numbers, and what is shown of it."""

import asyncio
import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from prometheus_client import CollectorRegistry

from golden_events import EXAMPLES
from integration.local_server import free_ports
from integration.real_kafka import RealKafka
from integration.secure_kafka import APP, SecureKafka
from integration.test_whole_way import Command, kafka_settings, secure_settings
from mistudio_explain.errors import Unreachable
from mistudio_explain.events import topics
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.events.identity import lane_name
from mistudio_explain.kafka import lag
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import GROUP_PREFIX, KafkaClients
from mistudio_explain.kafka.committed import committed_offsets
from mistudio_explain.kafka.lag import LagReader
from mistudio_explain.kafka.lag_refresh import refresh_lag
from mistudio_explain.kafka.offsets import pack
from mistudio_explain.kafka.records import Received, received
from mistudio_explain.kafka.topics import TopicSpec, lane_spec, topic_specs
from mistudio_explain.observability.lag_figures import LagFigures, LagReading, PartitionReading, figures
from mistudio_explain.settings import KafkaSettings, LimitSettings, Settings

WAIT_S = 30.0
DESCRIBE = ("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--describe", "--all-groups")
PROMPT = EXAMPLES["ExplanationRequested"]
MODEL = PROMPT.subject.target_model or ""
LANE = topics.PROMPTS_PREFIX + lane_name(MODEL)
GENERATION, CONTEXT, VALIDATION = (GROUP_PREFIX + service for service in ("generation", "context", "validation"))


def clients_of(settings: KafkaSettings) -> KafkaClients:
    return KafkaClients(settings, LimitSettings())


@asynccontextmanager
async def reading(kafka: RealKafka, clock: Callable[[], float] = time.time) -> AsyncIterator[LagReader]:
    async with clients_of(KafkaSettings(bootstrap_servers=kafka.bootstrap)).admin() as admin:
        yield LagReader(admin, clock)


@pytest.fixture
async def admin(clean_kafka: RealKafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client of a Kafka with the product's topics and one lane."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap))
    async with clients_of(settings.kafka).admin() as made:
        await make(made, *topic_specs(settings), lane_spec(LANE, settings))
        yield made


async def produce(kafka: RealKafka, topic: str, counts: dict[int, int], value: bytes = b"x", **options: Any) -> None:
    producer = AIOKafkaProducer(**kafka.client_options)
    await producer.start()
    try:
        for partition, count in counts.items():
            for _ in range(count):
                await producer.send_and_wait(topic, value, partition=partition, **options)
    finally:
        await producer.stop()


async def commit(kafka: RealKafka, group: str, offsets: dict[tuple[str, int], int | tuple[int, str]]) -> None:
    """Commit without being a member, as the group's last member would have left it."""
    consumer = AIOKafkaConsumer(**kafka.client_options, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(*place) for place in offsets])
        await consumer.commit({TopicPartition(*place): offset for place, offset in offsets.items()})
    finally:
        await consumer.stop()


@asynccontextmanager
async def member(kafka: RealKafka, group: str, topic: str) -> AsyncIterator[None]:
    """A member that holds all partitions of a topic and commits nothing."""
    consumer = AIOKafkaConsumer(topic, **kafka.client_options, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        await until(lambda: _holds(consumer))
        yield
    finally:
        await consumer.stop()


async def _holds(consumer: AIOKafkaConsumer) -> bool:
    return bool(consumer.assignment())


async def make(admin: AIOKafkaAdminClient, *specs: TopicSpec) -> None:
    """Make topics, and wait until the broker knows what its controller has made."""

    async def are_there() -> bool:
        return {spec.name for spec in specs} <= set(await admin.list_topics())

    await create_topics(admin, specs, None)
    await until(are_there)


async def delete(admin: AIOKafkaAdminClient, topic: str) -> None:
    async def is_gone() -> bool:
        return topic not in await admin.list_topics()

    await admin.delete_topics([topic])
    await until(is_gone)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await condition():
            await asyncio.sleep(0.05)


def partitions(read: LagReading) -> dict[tuple[str, str, int], PartitionReading]:
    return {(group.group, part.topic, part.partition): part for group in read.groups for part in group.partitions}


def rows(read: LagReading, earlier: LagReading | None = None) -> dict[tuple[str, str], LagFigures]:
    return {(row.service, row.topic): row for row in figures(read, earlier)}


def as_kafka_tells(printed: str) -> dict[tuple[str, str, int], tuple[int | None, int, int | None]]:
    """Committed, end and lag by group, topic and partition; None for what Kafka shows as a dash."""
    told = {}
    for cells in (line.split() for line in printed.splitlines()):
        if len(cells) >= 6 and cells[0].startswith(GROUP_PREFIX):
            group, topic, partition, committed, end, lag = cells[:6]
            told[group, topic, int(partition)] = (None if committed == "-" else int(committed), int(end), None if lag == "-" else int(lag))
    return told


async def test_the_figures_are_those_of_kafkas_own_command(clean_kafka: RealKafka, admin: AIOKafkaAdminClient) -> None:
    gone = topics.PROMPTS_PREFIX + "gone"
    await make(admin, lane_spec(gone, Settings()))
    await produce(clean_kafka, topics.DRAFTS, {0: 5, 1: 4, 2: 3})
    await produce(clean_kafka, topics.FEATURES, {0: 7, 3: 2})
    await produce(clean_kafka, LANE, {0: 10, 1: 1})
    await produce(clean_kafka, gone, {0: 3})
    await admin.delete_records({TopicPartition(topics.DRAFTS, 2): RecordsToDelete(2)})
    await commit(clean_kafka, VALIDATION, {(topics.DRAFTS, 0): 2, (topics.DRAFTS, 1): 4, (topics.DRAFTS, 2): 1})
    await commit(clean_kafka, GENERATION, {(LANE, 0): (3, pack(3, [5, 6, 8]) + ",f2"), (gone, 0): 1})
    await delete(admin, gone)

    async with member(clean_kafka, CONTEXT, topics.FEATURES), reading(clean_kafka) as reader:
        await commit(clean_kafka, GENERATION, {(LANE, 1): 1})
        read = await reader.read()
        told = as_kafka_tells(await asyncio.to_thread(clean_kafka.run_tool, *DESCRIBE))
    ours = partitions(read)

    assert not [place for place in (*told, *ours) if place[1] == gone]
    assert {place: (part.committed, part.end) for place, part in ours.items() if place in told} == {place: (at, end) for place, (at, end, _) in told.items()}
    assert {place: part.lag for place, part in ours.items() if part.committed is not None} == {
        place: lag for place, (_, _, lag) in told.items() if lag is not None
    }
    unseen = {place: part.lag for place, part in ours.items() if part.committed is None and part.lag}
    assert unseen == {(CONTEXT, topics.FEATURES, 0): 7, (CONTEXT, topics.FEATURES, 3): 2}  # which Kafka shows as a dash
    assert {told[place][2] for place in unseen} == {None}

    figure = rows(read)
    drafts, lane = figure["validation", topics.DRAFTS], figure["generation", LANE]
    assert (drafts.lag, drafts.unfinished, drafts.expired) == (3 + 0 + 2, 3 + 0 + 1, 1)
    assert (lane.lag, lane.unfinished, lane.in_flight) == (7, 4, 2)
    assert figure["context", topics.FEATURES].uncommitted == 6
    assert figure["context", topics.FEATURES].in_flight is None
    assert {group.service: group.members for group in read.groups} == {
        "context": 1, "context-requests": 0, "generation": 0, "validation": 0, "redelivery": 0,
    }  # fmt: skip


async def test_a_lane_tells_its_target_model_and_how_long_its_oldest_unfinished_record_waits(clean_kafka: RealKafka, admin: AIOKafkaAdminClient) -> None:
    for at_s in (1000, 2000, 3000, 4000):
        await produce(clean_kafka, LANE, {0: 1}, value=encode(PROMPT), timestamp_ms=at_s * 1000)
    await commit(clean_kafka, GENERATION, {(LANE, 0): (1, pack(1, [2]))})
    async with reading(clean_kafka, clock=lambda: 5000.0) as reader:
        waiting = rows(await reader.read())["generation", LANE]
        assert (waiting.target_model, waiting.unfinished, waiting.oldest_age_s) == (MODEL, 2, 3000)
        await commit(clean_kafka, GENERATION, {(LANE, 0): 3})
        assert rows(await reader.read())["generation", LANE].oldest_age_s == 1000
        await commit(clean_kafka, GENERATION, {(LANE, 0): 4})
        done = rows(await reader.read())["generation", LANE]
        assert (done.target_model, done.unfinished, done.oldest_age_s) == (MODEL, 0, None)
    async with reading(clean_kafka) as stranger:  # nothing waits any more that would tell
        assert rows(await stranger.read())["generation", LANE].target_model is None


async def test_the_rate_is_what_was_finished_between_two_readings(clean_kafka: RealKafka, admin: AIOKafkaAdminClient) -> None:
    await produce(clean_kafka, LANE, {0: 10})
    now = 100.0
    async with reading(clean_kafka, clock=lambda: now) as reader:
        await commit(clean_kafka, GENERATION, {(LANE, 0): 1})
        before = await reader.offsets()
        await commit(clean_kafka, GENERATION, {(LANE, 0): (2, pack(2, [4, 5]))})
        now = 102.0
        row = rows(await reader.read(), before)["generation", LANE]
    assert (row.rate, row.unfinished, row.drain_s) == (1.5, 6, 4)


async def test_a_working_lane_tells_how_many_records_were_taken_and_are_not_finished(clean_kafka: RealKafka, admin: AIOKafkaAdminClient) -> None:
    settings = KafkaSettings(bootstrap_servers=clean_kafka.bootstrap)
    app = StreamApp(Settings(kafka=settings), clients_of(settings))
    released = asyncio.Event()

    @app.lanes("^" + topics.PROMPTS_PREFIX.replace(".", r"\.") + ".*", service="generation", read=partial(received, ExplanationRequested), in_flight=4)
    async def generation(request: Received[ExplanationRequested]) -> list[Any]:
        if request.record.offset != 1:
            await released.wait()
        return []

    async with reading(clean_kafka) as reader, app.running():
        await produce(clean_kafka, LANE, {0: 9}, value=encode(PROMPT))

        async def shows(*wanted: int) -> bool:
            row = rows(await reader.read())["generation", LANE]
            return (row.lag, row.unfinished, row.in_flight) == wanted

        await until(partial(shows, 9, 8, 8))  # the second of nine is finished; four are being worked on, and four wait for their places
        released.set()
        await until(partial(shows, 0, 0, 0))


async def test_what_a_group_does_while_its_lag_is_read_does_not_look_like_a_commit_of_another_log(
    clean_kafka: RealKafka, admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def meanwhile(asked: AIOKafkaAdminClient, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        if group == VALIDATION:
            await produce(clean_kafka, topics.DRAFTS, {0: 2})
            await commit(clean_kafka, VALIDATION, {(topics.DRAFTS, 0): 9})
        return await committed_offsets(asked, group, partitions)

    await produce(clean_kafka, topics.DRAFTS, {0: 7})
    monkeypatch.setattr(lag, "committed_offsets", meanwhile)
    async with reading(clean_kafka) as reader:
        drafts = rows(await reader.read())["validation", topics.DRAFTS]
    assert (drafts.lag, drafts.unfinished) == (0, 0)


async def test_ages_are_read_from_many_partitions_and_from_batches_of_any_size(clean_kafka: RealKafka, admin: AIOKafkaAdminClient) -> None:
    lanes = [topics.PROMPTS_PREFIX + f"m{number}" for number in range(10)]
    await make(admin, *(lane_spec(lane, Settings()) for lane in lanes))
    for size, lane in enumerate(lanes):
        await produce(clean_kafka, lane, dict.fromkeys(range(6), 1), value=b"x" * (size * 100_000), timestamp_ms=1_000_000)
    async with reading(clean_kafka, clock=lambda: 1010.0) as reader:
        read = rows(await reader.read())
    assert {lane: read["generation", lane].oldest_age_s for lane in lanes} == dict.fromkeys(lanes, 10)


async def test_a_topic_that_should_exist_and_does_not_is_named(clean_kafka: RealKafka, admin: AIOKafkaAdminClient) -> None:
    await delete(admin, topics.DRAFTS)
    async with reading(clean_kafka) as reader:
        read = await reader.read()
    assert read.missing == (topics.DRAFTS,)
    assert not read.is_complete
    assert ("validation", topics.DRAFTS) not in rows(read)


@pytest.fixture(scope="module")
def rules(secure_kafka: SecureKafka) -> "Rules":
    secure_kafka.allow("topic", "mistudio.", "Read", "Write", "Create", "Describe", "DescribeConfigs")
    secure_kafka.allow("group", "mistudio-explain.", "Read", "Describe")
    return Rules(secure_kafka)


class Rules:
    """Takes a permission away for a while; a denial wins over what the session's other tests have allowed."""

    def __init__(self, kafka: SecureKafka) -> None:
        self.kafka = kafka

    @contextmanager
    def without(self, operation: str, *resource: str) -> Iterator[None]:
        rule = ("--deny-principal", f"User:{APP}", "--operation", operation, *resource)
        self.kafka.run_tool("org.apache.kafka.tools.AclCommand", "--add", *rule)
        try:
            yield
        finally:
            self.kafka.run_tool("org.apache.kafka.tools.AclCommand", "--remove", "--force", *rule)

    @property
    def settings(self) -> KafkaSettings:
        kafka = self.kafka
        return KafkaSettings(
            bootstrap_servers=kafka.bootstrap,
            security_protocol="SASL_SSL",
            sasl_username=APP,
            sasl_password_file=kafka.password_file(APP),
            ssl_cafile=kafka.ca_file,
        )

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        async with clients_of(self.settings).admin() as admin:
            await make(admin, *topic_specs(Settings()))
            yield admin


async def refusal(read: Callable[[], Awaitable[Any]], kind: type[Exception]) -> str:
    """What is said once the broker has learnt of the rule."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await read()
            except kind as error:
                return str(error)
            await asyncio.sleep(0.1)


async def test_committed_offsets_that_may_not_be_read_are_an_error_and_not_uncommitted(rules: Rules) -> None:
    places = [TopicPartition(topics.DRAFTS, 0)]
    async with rules.admin() as admin:
        await produce(rules.kafka, topics.DRAFTS, {0: 2})
        await commit(rules.kafka, VALIDATION, {(topics.DRAFTS, 0): 1})
        assert await committed_offsets(admin, VALIDATION, places) == {places[0]: (1, "")}
        with rules.without("Describe", "--group", VALIDATION):
            await refusal(lambda: committed_offsets(admin, VALIDATION, places), GroupAuthorizationFailedError)
        with rules.without("Describe", "--topic", topics.DRAFTS):
            await refusal(lambda: committed_offsets(admin, VALIDATION, places), TopicAuthorizationFailedError)


async def test_lag_that_may_not_be_read_names_the_rule_to_grant(rules: Rules) -> None:
    async with rules.admin() as admin:
        await produce(rules.kafka, topics.DRAFTS, {0: 1})
        reader = LagReader(admin)
        await reader.read()
        with rules.without("Describe", "--group", VALIDATION):
            said = await refusal(reader.read, Unreachable)
            assert f"grant Describe on the group (kafka-acls --add --allow-principal User:... --operation Describe --group {GROUP_PREFIX}" in said
            assert VALIDATION in said
        with rules.without("Describe", "--topic", topics.DRAFTS):
            said = await refusal(reader.read, Unreachable)
            assert f"describe {topics.DRAFTS}, so lag is unknown: grant Describe" in said
        with rules.without("Read", "--topic", topics.DRAFTS):
            said = await refusal(reader.read, Unreachable)
            assert f"read {topics.DRAFTS}, so lag is unknown: grant Read" in said


async def test_the_command_ends_with_three_when_a_group_may_not_be_seen(rules: Rules, tmp_path: Path) -> None:
    async with rules.admin():
        command = Command(tmp_path, secure_settings(rules.kafka))
    with rules.without("Describe", "--group", GENERATION):
        done = await asyncio.to_thread(command.run, "lag", "--json", expect=3)
    assert done.stdout == ""
    assert GENERATION in done.stderr
    assert "grant Describe on the group" in done.stderr


async def test_metrics_follow_lanes_that_go_and_a_kafka_that_goes_and_comes_back(clean_kafka: RealKafka, admin: AIOKafkaAdminClient) -> None:
    registry = CollectorRegistry()
    await produce(clean_kafka, LANE, {0: 3})
    await produce(clean_kafka, topics.DRAFTS, {1: 2})
    task = asyncio.create_task(refresh_lag(clients_of(KafkaSettings(bootstrap_servers=clean_kafka.bootstrap)), every_s=0.2, registry=registry))

    def shown(name: str) -> dict[tuple[str, ...], float]:
        return {tuple(sample.labels.values()): sample.value for family in registry.collect() for sample in family.samples if sample.name == name}

    async def is_well() -> bool:
        return shown("mistudio_explain_lag_read_success") == {(): 1}

    async def is_ill() -> bool:
        return shown("mistudio_explain_lag_read_success") == {(): 0}

    async def lane_is_gone() -> bool:
        return not any(LANE in labels for name in ("kafka_consumergroup_lag", "kafka_topic_partitions", "mistudio_explain_lag") for labels in shown(name))

    try:
        await until(is_well)
        assert shown("kafka_consumergroup_lag")[GENERATION, LANE, "0"] == 3
        await admin.delete_topics([LANE])
        await until(lane_is_gone)
        await asyncio.to_thread(clean_kafka.stop)
        await until(is_ill)
        assert shown("kafka_consumergroup_lag_sum")[VALIDATION, topics.DRAFTS] == 2
        assert shown("mistudio_explain_lag_reading_age_seconds")[()] > 0
        await asyncio.to_thread(clean_kafka.start)
        await until(is_well)
    finally:
        await asyncio.to_thread(lambda: clean_kafka._server or clean_kafka.start())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert list(registry.collect()) == []  # an application that has stopped shows nothing


def test_the_aggregators_process_shows_lag_beside_its_other_metrics(clean_kafka: RealKafka, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = Command(tmp_path, kafka_settings(clean_kafka))
    command.run("topics", "create")
    with command.start("serve", "aggregator", "--health-port", str(port)) as process:
        try:
            page = metrics_with(port, "kafka_consumergroup_lag{")
        finally:
            process.terminate()
            process.communicate(timeout=WAIT_S)
    assert f'kafka_consumergroup_lag{{consumergroup="{VALIDATION}",partition="0",topic="{topics.DRAFTS}"}} 0.0' in page
    assert f'mistudio_explain_lag{{service="validation",target_model="",topic="{topics.DRAFTS}"}} 0.0' in page
    assert "mistudio_explain_lag_read_success 1.0" in page
    assert "mistudio_explain_events_in_total" in page


def metrics_with(port: int, wanted: str) -> str:
    deadline = time.monotonic() + WAIT_S
    page = ""
    while wanted not in page and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                page = answer.read().decode()
        except OSError:
            time.sleep(0.1)
    return page


async def test_the_command_shows_a_table_json_and_lines(clean_kafka: RealKafka, admin: AIOKafkaAdminClient, tmp_path: Path) -> None:
    command = Command(tmp_path, kafka_settings(clean_kafka))
    await produce(clean_kafka, LANE, {0: 3}, value=encode(PROMPT))
    await commit(clean_kafka, GENERATION, {(LANE, 0): (1, ",f1")})

    shown = await asyncio.to_thread(command.run, "lag", "--sample", "0.2")
    short = LANE.removeprefix("mistudio.explain.")
    (line,) = [line for line in shown.stdout.splitlines() if short in line and MODEL in line]
    assert line.split()[:6] == ["generation", short, MODEL, "2", "2", "1"]
    assert f"{short}: the group has no member; 11 of 12 partitions never committed" in shown.stdout

    told = json.loads((await asyncio.to_thread(command.run, "lag", "--sample", "0.2", "--json")).stdout)
    (row,) = [row for row in told["lag"] if row["topic"] == LANE]
    assert {name: row[name] for name in ("service", "group", "target_model", "lag", "unfinished", "in_flight", "rate", "drain_s")} == {
        "service": "generation", "group": GENERATION, "target_model": MODEL, "lag": 2, "unfinished": 2, "in_flight": 1, "rate": 0, "drain_s": None,
    }  # fmt: skip
    assert (row["members"], told["missing_topics"], told["unavailable_partitions"]) == (0, [], [])

    lines = await asyncio.to_thread(watched, command.start("lag", "--watch", "--sample", "0.2"), LANE)
    assert f"{GENERATION} {LANE} ({MODEL}): lag 2, unfinished 2, in flight 1" in lines[0]
    assert "rate 0.0/s" in lines[-1]


def watched(process: "subprocess.Popen[str]", word: str) -> list[str]:
    """The first three lines with a word; then the watcher is interrupted, which is its good end."""
    assert process.stdout is not None
    with process:
        lines = []
        for line in process.stdout:
            if word in line:
                lines.append(line)
            if len(lines) == 3:
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, errors) == (0, "")
    return lines


async def test_a_missing_topic_ends_the_command_with_one_and_the_remedy(clean_kafka: RealKafka, admin: AIOKafkaAdminClient, tmp_path: Path) -> None:
    await delete(admin, topics.REPLAYS)
    done = await asyncio.to_thread(Command(tmp_path, kafka_settings(clean_kafka)).run, "lag", "--sample", "0.2", expect=1)
    assert f"{topics.REPLAYS} does not exist; make it with `mistudio-explain topics create`" in done.stdout


def test_without_a_kafka_there_is_no_lag_to_show(tmp_path: Path) -> None:
    done = Command(tmp_path).run("lag", expect=2)
    assert "kafka.bootstrap_servers is not set" in done.stderr

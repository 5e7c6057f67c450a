"""Idle lanes on real Kafka: which go, which stay, and what happens to those who still know one that is gone."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from golden_events import EXAMPLES
from integration.real_kafka import RealKafka
from integration.test_lag import GENERATION, Rules, clients_of, commit, make, produce, refusal, until
from integration.test_lag import rules as rules
from integration.test_whole_way import Command, kafka_settings
from mistudio_explain.errors import Unreachable
from mistudio_explain.events import topics
from mistudio_explain.events.codec import encode
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.idle_lanes import Lane, find_lanes, remove_lanes
from mistudio_explain.kafka.lag import LagReader
from mistudio_explain.kafka.offsets import pack
from mistudio_explain.kafka.records import Outgoing
from mistudio_explain.kafka.topics import lane_spec, topic_specs
from mistudio_explain.settings import KafkaSettings, Settings

NAMES = ("finished", "bitmap", "one-left", "fresh", "unwritten", "emptied", "uncommitted")
LANES = {name: topics.PROMPTS_PREFIX + name for name in NAMES}
LONG_AGO_MS = 1_000_000


@pytest.fixture
async def admin(clean_kafka: RealKafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client of a Kafka with lanes in every state that matters."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap))
    async with clients_of(settings.kafka).admin() as made:
        await make(made, *topic_specs(settings), *(lane_spec(lane, settings) for lane in LANES.values()))
        old, kafka = LONG_AGO_MS, clean_kafka
        now = int(time.time() * 1000)
        for lane in (topics.EXPRESS, topics.SHARED, LANES["finished"]):
            await produce(kafka, lane, {0: 2, 4: 1}, value=encode(EXAMPLES["ExplanationRequested"]), timestamp_ms=now - old)
            await commit(kafka, GENERATION, {(lane, 0): 2, (lane, 4): 1})
        for name in ("bitmap", "one-left", "fresh", "emptied", "uncommitted"):
            await produce(kafka, LANES[name], {0: 3}, timestamp_ms=now - (0 if name == "fresh" else old))
        await commit(kafka, GENERATION, {(LANES["bitmap"], 0): (0, pack(0, [0, 1, 2]))})
        await commit(kafka, GENERATION, {(LANES["one-left"], 0): (1, pack(1, [2]))})
        await commit(kafka, GENERATION, {(LANES["fresh"], 0): 3, (LANES["emptied"], 0): 1})
        emptied = TopicPartition(LANES["emptied"], 0)
        await made.delete_records({emptied: RecordsToDelete(3)})

        async def is_settled() -> bool:  # of topics that were just made, a broker may tell late
            reading = await LagReader(made).offsets()
            return not reading.unavailable and any(part.begin == 3 for part in reading.topics if (part.topic, part.partition) == emptied)

        await until(is_settled)
        yield made


async def judge(admin: AIOKafkaAdminClient, idle_s: float = LONG_AGO_MS / 1000 - 100) -> dict[str, Lane]:
    lanes, _ = await find_lanes(LagReader(admin), idle_days=idle_s / 86_400)
    return {lane.topic.removeprefix(topics.PROMPTS_PREFIX): lane for lane in lanes}


async def test_lanes_go_when_all_is_finished_and_old_or_when_retention_has_emptied_them(admin: AIOKafkaAdminClient) -> None:
    lanes = await judge(admin)
    assert {name for name, lane in lanes.items() if lane.kept is None} == {"finished", "bitmap", "emptied"}
    assert set(lanes) == set(NAMES)  # express and shared are no target model's
    assert lanes["one-left"].kept == "1 records are not finished"
    assert lanes["uncommitted"].kept == "3 records are not finished"
    assert lanes["fresh"].kept == "its newest record is 0.0 days old"
    assert lanes["unwritten"].kept == "nothing was ever written to it: it may just have been made"
    assert (lanes["emptied"].expired, lanes["emptied"].newest_ms) == (2, None)
    assert lanes["finished"].target_model == "microsoft/phi-4"


async def test_a_longer_idle_time_keeps_more(admin: AIOKafkaAdminClient) -> None:
    lanes = await judge(admin, idle_s=LONG_AGO_MS / 1000 + 3600)
    assert {name for name, lane in lanes.items() if lane.kept is None} == {"emptied"}


async def test_a_lane_that_is_written_to_after_it_was_judged_stays(clean_kafka: RealKafka, admin: AIOKafkaAdminClient) -> None:
    reader = LagReader(admin)
    lanes, judged_by = await find_lanes(reader, idle_days=0)
    await produce(clean_kafka, LANES["finished"], {3: 1})
    idle = [lane.topic for lane in lanes if lane.kept is None]
    assert LANES["finished"] in idle
    removed = await remove_lanes(admin, reader, idle, judged_by)
    assert set(removed) == set(idle) - {LANES["finished"]}


async def test_the_command_lists_and_removes_only_when_told_to(clean_kafka: RealKafka, admin: AIOKafkaAdminClient, tmp_path: Path) -> None:
    command = Command(tmp_path, kafka_settings(clean_kafka))
    idle = ("topics", "gc", "--idle-days", "0.005")
    listed = (await asyncio.to_thread(command.run, *idle)).stdout
    assert "3 of 7 lanes can go; remove them by adding --yes" in listed
    assert set(LANES.values()) <= set(await admin.list_topics())

    told = json.loads((await asyncio.to_thread(command.run, *idle, "--yes", "--json")).stdout)
    gone = {LANES[name] for name in ("finished", "bitmap", "emptied")}
    assert set(told["removed"]) == gone

    async def only_those_are_gone() -> bool:
        return {*LANES.values(), topics.EXPRESS, topics.SHARED} - set(await admin.list_topics()) == gone

    await until(only_those_are_gone)
    assert "can go" not in (await asyncio.to_thread(command.run, *idle)).stdout


@pytest.mark.parametrize(
    "waits",
    [pytest.param(True, id="after its metadata tells"), pytest.param(False, id="before its metadata tells", marks=pytest.mark.slow)],
)
async def test_a_service_that_still_knows_a_removed_lane_makes_it_again(clean_kafka: RealKafka, waits: bool) -> None:
    lane = LANES["finished"]
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap, metadata_max_age_ms=500 if waits else 60_000))
    app = StreamApp(settings, clients_of(settings.kafka))

    async def publish(key: str) -> None:
        async with asyncio.timeout(90):  # aiokafka gives up a record after 40 s
            await app.ensure_lane(lane)
            await app.publish([Outgoing(lane, key, b"x")])

    async def is_noticed() -> bool:
        return app.producer.client.cluster.partitions_for_topic(lane) is None

    async with app.running():
        await publish("1")
        await app.admin.delete_topics([lane])
        if waits:
            await until(is_noticed)
        await publish("2")
        assert lane in await app.admin.list_topics()


async def test_a_missing_right_to_delete_is_named(rules: Rules) -> None:
    async with rules.admin() as admin:
        lane = topics.PROMPTS_PREFIX + "forbidden"
        await make(admin, lane_spec(lane, Settings()))
        await produce(rules.kafka, lane, {0: 1})
        await commit(rules.kafka, GENERATION, {(lane, 0): 1})
        reader = LagReader(admin)
        lanes, judged_by = await find_lanes(reader, idle_days=0)
        idle = [each.topic for each in lanes if each.kept is None]
        assert lane in idle
        said = await refusal(lambda: remove_lanes(admin, reader, [lane], judged_by), Unreachable)
        assert said.startswith(f"Kafka does not let this user delete {lane}: grant Delete on the topics")
        assert lane in await admin.list_topics()

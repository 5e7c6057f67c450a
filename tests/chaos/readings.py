"""Reads what the checker looks at: topics with plain aiokafka, report files with the standard library."""

import asyncio
import csv
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from chaos.checker import Found, JobFiles, Record, file_hash
from chaos.wire import DEAD_LETTERS, EXPLANATIONS, REPORTS

_ATTEMPTS = 3
_READ_S = 60.0

CHECKED = (EXPLANATIONS, REPORTS, DEAD_LETTERS)


async def read_topics(bootstrap: str, topics: Sequence[str] = CHECKED, unreadable: Collection[str] = ()) -> list[Record]:
    """Read topics from their beginning to the end that stands now.

    `unreadable` are coordinates, topic/partition/offset, of records that aiokafka 0.14 cannot unpack (a header's name
    that is not UTF-8); each stands in a batch of its own and is passed over.
    """
    for attempt in range(_ATTEMPTS):
        try:
            async with asyncio.timeout(_READ_S):
                return await _read_topics(bootstrap, topics, unreadable)
        except (TimeoutError, KafkaError):  # a broker that has just come back may leave a fetch without an answer
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def _read_topics(bootstrap: str, topics: Sequence[str], unreadable: Collection[str]) -> list[Record]:
    records: list[Record] = []
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20) as consumer:
        await consumer._client.set_topics(topics)  # a consumer without a subscription knows no topic
        # all at once: an assigned consumer forgets the topics that it is not assigned
        partitions = [TopicPartition(topic, number) for topic in topics for number in sorted(consumer.partitions_for_topic(topic) or ())]
        if missing := set(topics) - {tp.topic for tp in partitions}:
            raise LookupError(f"topics {missing} do not exist")
        for tp in partitions:
            skip = {int(place.rpartition("/")[2]) for place in unreadable if place.startswith(f"{tp.topic}/{tp.partition}/")}
            records += await _read_partition(consumer, tp, skip)
    return records


async def _read_partition(consumer: AIOKafkaConsumer, tp: TopicPartition, skip: Collection[int]) -> list[Record]:
    end = (await consumer.end_offsets([tp]))[tp]
    consumer.assign([tp])
    consumer.seek(tp, 0)
    records: list[Record] = []
    for stop in [*sorted(offset for offset in skip if offset < end), end]:
        most: int | None = None
        while (position := await consumer.position(tp)) < stop:
            try:
                fetched = (await consumer.getmany(tp, timeout_ms=1000, max_records=most)).get(tp, [])
            except UnicodeDecodeError:
                if most == 1:
                    break
                most = 1  # what stood before it in the same fetch is lost with it: again, one by one
                consumer.seek(tp, position)
                continue
            records += [Record(tp.topic, tp.partition, each.offset, each.key, each.value) for each in fetched]
        if stop < end:
            consumer.seek(tp, max(stop + 1, await consumer.position(tp)))
    return records


async def topics_that_begin(bootstrap: str, prefix: str) -> list[str]:
    """The names of the topics that begin so."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        return sorted(topic for topic in await admin.list_topics() if topic.startswith(prefix))
    finally:
        await admin.close()


async def end_offsets(bootstrap: str, prefix: str) -> Mapping[TopicPartition, int]:
    """Where every partition of the topics that begin so ends now."""
    topics = await topics_that_begin(bootstrap, prefix)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        await consumer._client.set_topics(topics)
        return await consumer.end_offsets([TopicPartition(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic) or ()])


async def members(bootstrap: str, group: str) -> int:
    """How many members a consumer group has that is not rebalancing; 0 while it is."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        ((_, _, state, _, _, found, *_),) = (await admin.describe_consumer_groups([group]))[0].groups
        return len(found) if state == "Stable" else 0
    finally:
        await admin.close()


def read_files(directory: Path, jobs: Collection[str]) -> Mapping[str, JobFiles]:
    """Read the files of those jobs that have any."""
    return {job: _read_job(directory / job) for job in jobs if (directory / job / "explanations.csv").is_file()}


def _read_job(folder: Path) -> JobFiles:
    with (folder / "explanations.csv").open(encoding="utf-8-sig", newline="") as table:
        rows = [row["feature_key"] for row in csv.DictReader(table)]
    content = json.loads((folder / "feature_explanations.json").read_bytes())
    return JobFiles(content, rows, {path.name: file_hash(path.read_bytes()) for path in folder.iterdir() if path.is_file()})


async def read_all(bootstrap: str, directory: Path, jobs: Collection[str], unreadable: Collection[str]) -> Found:
    """Everything but the calls, which the model's server counts."""
    return Found(await read_topics(bootstrap, unreadable=unreadable), read_files(directory, jobs))

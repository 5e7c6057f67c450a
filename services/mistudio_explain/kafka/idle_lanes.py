"""Finds lanes in which nothing waits any more, and removes their topics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError, for_code

from mistudio_explain.errors import Unreachable
from mistudio_explain.events.topics import EXPRESS, PROMPTS_PREFIX, SHARED
from mistudio_explain.kafka.lag import GENERATION, LagReader, target_model_in
from mistudio_explain.observability.lag_figures import LagReading, PartitionReading, TopicPartitionReading

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Lane:
    """A target model's lane, and why it stays.

    `newest_ms` is the timestamp of its newest record, None when no record stands in it or that one could not be read;
    `kept` is None for a lane that may go. `expired` records were removed by retention before anybody had read them.
    """

    topic: str
    target_model: str | None
    unfinished: int
    expired: int
    newest_ms: int | None
    kept: str | None


async def find_lanes(reader: LagReader, *, idle_days: float) -> tuple[list[Lane], LagReading]:
    """Look at every lane of a target model; the reading is what they were judged by.

    Raises Unreachable when Kafka refuses to tell.
    """
    reading = await reader.offsets()
    lanes = lanes_of(reading)
    last = {TopicPartition(part.topic, part.partition): part.end - 1 for parts in lanes.values() for part in parts if _holds(part)}
    newest = await reader.records_at(last, reading)
    unavailable = {part.topic for part in reading.unavailable}
    return [judged(topic, parts, newest, at_s=reading.at_s, idle_days=idle_days, is_whole=topic not in unavailable) for topic, parts in lanes.items()], reading


def lanes_of(reading: LagReading) -> dict[str, list[PartitionReading]]:
    """The partitions of every target model's lane as generation stands in them."""
    lanes: dict[str, list[PartitionReading]] = {part.topic: [] for part in reading.topics if _is_lane(part)}
    for part in (part for group in reading.groups if group.service == GENERATION for part in group.partitions):
        if part.topic in lanes:
            lanes[part.topic].append(part)
    return lanes


def judged(
    topic: str, parts: Sequence[PartitionReading], newest: Mapping[TopicPartition, ConsumerRecord], *, at_s: float, idle_days: float, is_whole: bool
) -> Lane:
    """Decide about one lane: it goes when everything in it is finished and its newest record is older than `idle_days`.

    One that retention has emptied goes too. One that nothing was ever written to stays, for it may just have been
    made for a record on its way.
    """
    records = [newest.get(TopicPartition(part.topic, part.partition)) for part in parts if _holds(part)]
    stamps = [record.timestamp for record in records if record is not None]
    newest_ms = max(stamps, default=None)
    model = next((model for record in records if record is not None and (model := target_model_in(record)) is not None), None)
    unfinished = sum(part.unfinished for part in parts)
    kept = None
    if not is_whole or len(stamps) < len(records):
        kept = "a partition could not be read"
    elif unfinished:
        kept = f"{unfinished} records are not finished"
    elif all(part.end == 0 for part in parts):
        kept = "nothing was ever written to it: it may just have been made"
    elif newest_ms is not None and at_s - newest_ms / 1000 < idle_days * _DAY_S:
        kept = f"its newest record is {(at_s - newest_ms / 1000) / _DAY_S:.1f} days old"
    return Lane(topic, model, unfinished, sum(part.expired for part in parts), newest_ms, kept)


async def remove_lanes(admin: AIOKafkaAdminClient, reader: LagReader, topics: Iterable[str], judged_by: LagReading) -> list[str]:
    """Delete lanes, but for those that anything was written to since they were judged; returns what was deleted.

    Raises Unreachable when Kafka refuses.
    """
    before, now = lanes_of(judged_by), lanes_of(await reader.offsets())
    unchanged = [topic for topic in topics if _ends(now.get(topic, ())) == _ends(before[topic])]
    if not unchanged:
        return []
    answer = await admin.delete_topics(unchanged)
    codes = {topic: code for topic, code, *_ in answer.topic_error_codes}
    if refused := [topic for topic, code in codes.items() if code == TopicAuthorizationFailedError.errno]:
        raise Unreachable(f"Kafka does not let this user delete {', '.join(refused)}: grant Delete on the topics (prefix {PROMPTS_PREFIX})")
    if failed := [f"{topic}: {for_code(code).__name__}" for topic, code in codes.items() if code not in (0, UnknownTopicOrPartitionError.errno)]:
        raise Unreachable(f"Kafka does not delete {'; '.join(failed)}")
    return unchanged


def _is_lane(part: TopicPartitionReading) -> bool:
    return part.topic.startswith(PROMPTS_PREFIX) and part.topic not in (EXPRESS, SHARED)


def _holds(part: PartitionReading) -> bool:
    return part.end > part.begin


def _ends(parts: Iterable[PartitionReading]) -> dict[int, int]:
    return {part.partition: part.end for part in parts}

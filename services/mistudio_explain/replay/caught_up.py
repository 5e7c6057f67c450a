"""Waits until the store knows what stands in its topics, so that a replay chooses among all features and not among some."""

import asyncio
from collections.abc import Mapping

import structlog
from aiokafka import TopicPartition

from mistudio_explain.errors import Unreachable
from mistudio_explain.events.topics import ADMISSIONS, EXPLANATIONS
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.snapshot import standing
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.jobs import reading, store_exists

log = structlog.get_logger(__name__)

_TELLS_OF_FEATURES = (ADMISSIONS, EXPLANATIONS)
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 10.0


async def store_has_read(clients: KafkaClients, settings: StoreSettings, *, job: str) -> None:
    """Return once the store has read all admissions and outcomes that stand now, however long its aggregator takes.

    What comes later is not waited for. Raises Unreachable when there is no store, or its server does not answer, and
    StoreLost or KafkaError in an outage.
    """
    goal: Mapping[TopicPartition, int] | None = None
    wait_s = _FIRST_WAIT_S
    while True:
        read = await asyncio.to_thread(_positions, settings)
        unread, goal = await _unread(clients, read, goal)
        if unread is None:
            return
        log.warning("replay.waits_for_store", job=job, store=settings.url, unread=unread, again_in_s=wait_s, what="the aggregator has not read that yet")
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def _positions(settings: StoreSettings) -> dict[TopicPartition, int]:
    if not store_exists(settings):
        raise Unreachable(f"{settings.url}: there is no store; start an aggregator, which makes it, or correct store.url")
    with reading(settings) as store:
        return {TopicPartition(topic, partition): offset for topic in _TELLS_OF_FEATURES for partition, offset in store.positions(topic).items()}


async def _unread(
    clients: KafkaClients, read: Mapping[TopicPartition, int], goal: Mapping[TopicPartition, int] | None
) -> tuple[str | None, Mapping[TopicPartition, int]]:
    """The coordinates of a record before `goal`, else before the end, that was not read; and the goal.

    Records are looked for, since an offset that holds none (compaction, a record that cannot be unpacked) is passed over
    by the aggregator too, and may be the last.
    """
    async with standing(clients, *_TELLS_OF_FEATURES, begin=read) as snapshot:
        goal = snapshot.end if goal is None else goal
        async for record in snapshot:
            if record.offset < goal.get(TopicPartition(record.topic, record.partition), 0):
                return f"{record.topic}/{record.partition}/{record.offset}", goal
    return None, goal

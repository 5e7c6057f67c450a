"""Partitions that services have paused because of too many dead letters, and letting them go on."""

from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.job import PartitionPaused
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import Outgoing
from mistudio_explain.kafka.snapshot import standing


@dataclass(frozen=True, slots=True)
class Pause:
    """A record of explain.pauses."""

    key: bytes
    paused: PartitionPaused | None
    """None when it cannot be read."""

    @property
    def name(self) -> str:
        """The key as people read it: service|topic/partition."""
        return self.key.decode("utf-8", "backslashreplace")

    def is_of(self, topic: str | None, partition: int | None, service: str | None) -> bool:
        """Whether it is about these, as far as they are given; `topic` may be the last part of a name."""
        if self.paused is None:
            return (topic, partition, service) == (None, None, None)
        return (
            (topic is None or self.paused.topic == topic or self.paused.topic.endswith(f".{topic}"))
            and partition in (None, self.paused.partition)
            and service in (None, self.paused.service)
        )


async def read_pauses(clients: KafkaClients) -> list[Pause]:
    """The partitions that are paused now, longest first."""
    found: dict[bytes, Pause] = {}
    async with standing(clients, topics.PAUSES) as snapshot:
        async for record in snapshot:
            key = record.key or b""
            found.pop(key, None)
            if record.value is not None:
                found[key] = Pause(key, _readable(record.value))
    return sorted(found.values(), key=lambda pause: pause.paused.at_ms if pause.paused else 0)


def _readable(value: bytes) -> PartitionPaused | None:
    try:
        return decode(PartitionPaused, value)
    except MalformedEvent:
        return None


async def resume(producer: AIOKafkaProducer, pauses: Iterable[Pause]) -> None:
    """Let partitions go on; the services that paused them notice by themselves."""
    await publish(producer, [Outgoing(topics.PAUSES, pause.key, None) for pause in pauses])

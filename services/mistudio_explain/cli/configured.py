"""The configured Kafka, for commands that are about what stands in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer

from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadSettings
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import Settings


def with_kafka(command: str, *, config: Path | None, profile: str | None) -> Settings:
    """The settings of a command that needs a Kafka; raises BadSettings when none is configured."""
    settings = prepare(config=config, profile=profile, quiet=True)
    if settings.kafka.bootstrap_servers is None:
        raise BadSettings(f"kafka.bootstrap_servers is not set: `{command}` is about what stands in a Kafka, and the embedded broker keeps nothing")
    return settings


async def reached(settings: Settings) -> KafkaClients:
    """Clients of a Kafka that was seen to answer."""
    clients = KafkaClients(settings.kafka, settings.limits)
    await clients.wait_until_reachable(settings.kafka.start_timeout_s)
    return clients


@asynccontextmanager
async def writing(settings: Settings, clients: KafkaClients) -> AsyncIterator[AIOKafkaProducer]:
    """A producer for topics that are there: a record for one that is not would wait for ever."""
    async with clients.admin() as admin:
        await create_topics(admin, topic_specs(settings), settings.kafka.replication)
    async with clients.producer({spec.name for spec in topic_specs(settings)}) as producer:
        yield producer

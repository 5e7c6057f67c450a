"""`serve` and `up`: services that run until they are told to stop."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from mistudio_explain.assembly import SERVICES, assembled
from mistudio_explain.cli.show import console
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadSettings
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.embedded import EmbeddedBroker, embedded_broker
from mistudio_explain.observability.health import health_server
from mistudio_explain.settings import Settings

log = structlog.get_logger(__name__)


def serve_services(services: Sequence[str], *, health_host: str, health_port: int | None, config: Path | None, profile: str | None) -> int:
    """Run services against the configured Kafka; waits for a broker that is not there yet."""
    settings = prepare(config=config, profile=profile)
    if settings.kafka.bootstrap_servers is None:
        raise BadSettings("kafka.bootstrap_servers is not set: `serve` runs against a Kafka; use `mistudio-explain up` for everything in one process")
    asyncio.run(_serve(settings, services, health_host, health_port))
    return 0


def up_all(*, config: Path | None, profile: str | None) -> int:
    """Run all services in one process, on the embedded broker when no other is configured."""
    settings = prepare(config=config, profile=profile)
    asyncio.run(_up(settings))
    return 0


async def _serve(settings: Settings, services: Sequence[str], health_host: str, health_port: int | None) -> None:
    clients = KafkaClients(settings.kafka, max_record_bytes=settings.limits.dead_letter_bytes)
    stop = _stop_signal()
    async with AsyncExitStack() as stack:
        assembly = await stack.enter_async_context(assembled(settings, clients, services))
        if health_port is not None:
            await stack.enter_async_context(health_server(assembly.app, health_host, health_port))
        await clients.wait_until_reachable(settings.kafka.start_timeout_s or None)
        await stack.enter_async_context(assembly.app.running())
        log.info("serving", services=list(services), kafka=clients.bootstrap_servers)
        await stop.wait()
        log.info("stopping")


async def _up(settings: Settings) -> None:
    stop = _stop_signal()
    async with AsyncExitStack() as stack:
        clients, broker = await stack.enter_async_context(kafka_or_embedded(settings))
        assembly = await stack.enter_async_context(assembled(settings, clients, SERVICES))
        await stack.enter_async_context(assembly.app.running())
        console().print(f"all services run; Kafka at {clients.bootstrap_servers}{' (embedded, in memory)' if broker else ''}; stop with Ctrl-C")
        waits = [asyncio.create_task(stop.wait()), *([asyncio.create_task(broker.died())] if broker else [])]
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()


@asynccontextmanager
async def kafka_or_embedded(settings: Settings) -> AsyncIterator[tuple[KafkaClients, EmbeddedBroker | None]]:
    """Clients of the configured Kafka, seen to answer, or of an embedded broker started for the occasion."""
    limit = settings.limits.dead_letter_bytes
    if settings.kafka.bootstrap_servers is not None:
        clients = KafkaClients(settings.kafka, max_record_bytes=limit)
        await clients.wait_until_reachable(settings.kafka.start_timeout_s)
        yield clients, None
        return
    async with embedded_broker() as broker:
        yield KafkaClients(settings.kafka, max_record_bytes=limit, embedded=broker.address), broker


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop

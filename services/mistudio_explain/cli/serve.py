"""`serve` and `up`: services that run until they are told to stop."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import structlog

from mistudio_explain import __version__
from mistudio_explain.assembly import GATEWAY, SERVICES, Assembly, assembled
from mistudio_explain.cli.show import console
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadSettings
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.embedded import EmbeddedBroker, embedded_broker
from mistudio_explain.kafka.patience import Patience
from mistudio_explain.settings import Settings, StoreSettings

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
    with rows_for(settings) as settled:
        asyncio.run(_up(settled))
    return 0


@contextmanager
def rows_for(settings: Settings) -> Iterator[Settings]:
    """Settings whose store is a temporary file when the broker is the embedded one: it forgets everything, so its rows must not outlive it."""
    if settings.kafka.bootstrap_servers is not None:
        yield settings
        return
    with tempfile.TemporaryDirectory(prefix="mistudio-explain-") as folder:
        kept = settings.gateway.model_copy(update={"access_url": settings.gateway.access_url or settings.store.url})  # keys and the audit log outlive it
        yield settings.model_copy(update={"store": StoreSettings(url=f"sqlite:///{folder}/explain.db"), "gateway": kept})


async def _serve(settings: Settings, services: Sequence[str], health_host: str, health_port: int | None) -> None:
    async def serving() -> None:
        clients = KafkaClients(settings.kafka, settings.limits)
        async with AsyncExitStack() as stack:
            assembly = await stack.enter_async_context(assembled(settings, clients, services))
            if health_port is not None:
                from mistudio_explain.observability.health import health_server  # here, because `run` needs no web server

                await stack.enter_async_context(health_server(assembly.app, health_host, health_port))
            address = await stack.enter_async_context(_web(assembly, settings))
            await stack.enter_async_context(_running(assembly.app, clients, settings, waits=address is not None))
            log.info("serving", services=list(services), kafka=clients.bootstrap_servers, gateway=address, writes_as=settings.kafka.contract or __version__)
            await asyncio.Event().wait()

    await _until_stopped(serving())


async def _up(settings: Settings) -> None:
    async def everything() -> None:
        async with AsyncExitStack() as stack:
            clients, broker = await stack.enter_async_context(clients_or_embedded(settings))
            assembly = await stack.enter_async_context(assembled(settings, clients, (*SERVICES, GATEWAY)))
            address = await stack.enter_async_context(_web(assembly, settings))
            await stack.enter_async_context(_running(assembly.app, clients, settings))
            console().print(f"all services run; Kafka at {clients.bootstrap_servers}{' (embedded, in memory)' if broker else ''}; stop with Ctrl-C")
            console().print(f"gateway: {address}", soft_wrap=True)
            await (broker.died() if broker else asyncio.Event().wait())

    await _until_stopped(everything())


async def _until_stopped(running: Coroutine[Any, Any, None]) -> None:
    """Run until SIGINT or SIGTERM, at whatever point that comes; what is entered is left gracefully."""
    task = asyncio.create_task(running)

    def stop() -> None:
        if not task.cancelling():  # a further signal, as uvicorn raises it again when it has ended, would cut off what is being left
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")


@asynccontextmanager
async def _web(assembly: Assembly, settings: Settings) -> AsyncIterator[str | None]:
    """The address of the process's gateway, which answers before Kafka does; None where it has none."""
    if assembly.web is None:
        yield None
        return
    from mistudio_explain.gateway.service import web_server  # here, because other services need no web server

    async with web_server(assembly.web, settings.gateway) as address:
        yield address


@asynccontextmanager
async def _running(app: StreamApp, clients: KafkaClients, settings: Settings, *, waits: bool = False) -> AsyncIterator[None]:
    """The application, as soon as Kafka answers: services wait for it, for ever where no time is set or where `waits` says so."""
    timeout_s = None if waits else settings.kafka.start_timeout_s or None
    patience = Patience.of(timeout_s)
    await clients.wait_until_reachable(timeout_s)
    async with app.running(patience):
        yield


@asynccontextmanager
async def kafka_or_embedded(settings: Settings) -> AsyncIterator[tuple[KafkaClients, EmbeddedBroker | None]]:
    """`clients_or_embedded`, seen to answer."""
    async with clients_or_embedded(settings) as (clients, broker):
        if broker is None:
            await clients.wait_until_reachable(settings.kafka.start_timeout_s)
        yield clients, broker


@asynccontextmanager
async def clients_or_embedded(settings: Settings) -> AsyncIterator[tuple[KafkaClients, EmbeddedBroker | None]]:
    """Clients of the configured Kafka, or of an embedded broker started for the occasion."""
    if settings.kafka.bootstrap_servers is not None:
        yield KafkaClients(settings.kafka, settings.limits), None
        return
    async with embedded_broker() as broker:
        yield KafkaClients(settings.kafka, settings.limits, embedded=broker.address), broker

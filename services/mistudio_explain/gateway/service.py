"""The gateway in a process: beside its stream application, on a port of its own."""

import asyncio
import contextlib
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import closing

import structlog
import uvicorn
from fastapi import FastAPI

from mistudio_explain.errors import BadSettings, Unreachable
from mistudio_explain.gateway.app import make_app
from mistudio_explain.gateway.deliveries import Deliveries
from mistudio_explain.gateway.keyring import KeyRing
from mistudio_explain.gateway.known import KnownJobs
from mistudio_explain.gateway.live import Live
from mistudio_explain.gateway.looks import look_at_fleet, look_at_lag
from mistudio_explain.gateway.origin import is_loopback
from mistudio_explain.gateway.parts import Gateway
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.settings import GatewaySettings
from mistudio_explain.store.database import StoreLost
from mistudio_explain.store.deliveries import StoredDeliveries
from mistudio_explain.store.readers import Readers
from mistudio_explain.store.replies import StoredReplies

_BACKLOG = 2048
_UNSENT_BYTES = 128 << 10
"""What the system holds of an answer that its client does not take, beyond what is on its way; it would be megabytes of each slow client."""
_TAKES_NOTHING_MS = 60_000
"""A connection whose client takes nothing for so long is closed."""

log = structlog.get_logger(__name__)


def register(stream: StreamApp) -> FastAPI:
    """Make the gateway's application; what it reads from Kafka it reads through `stream`. Raises BadSettings for a webhook that cannot be used."""
    store = stream.settings.store
    live, stored = Live(stream), StoredDeliveries(store)
    deliveries = Deliveries(stream.settings.webhooks, stored, live.feed, stream.clients, stream.now_ms)
    if deliveries.has_receivers:
        stream.task("webhooks", deliveries.run)
    gateway = Gateway(
        stream,
        KnownJobs(stream),
        Readers(store),
        StoredReplies(store),
        new_id=lambda: secrets.token_hex(12),
        live=live,
        lag=look_at_lag(stream),
        fleet=look_at_fleet(stream.settings),
        deliveries=stored,
    )
    return make_app(gateway)


@contextlib.asynccontextmanager
async def web_server(app: FastAPI, settings: GatewaySettings) -> AsyncIterator[str]:
    """Answer on the gateway's port; gives the address. Kafka need not be there. Raises BadSettings for an address that cannot be had."""
    keys: KeyRing = app.state.keys
    await _tell_openness(settings, keys)
    with _bound(settings) as listening, closing(keys), closing(app.state.sessions), closing(app.state.audit), closing(app.state.gateway.deliveries):
        config = uvicorn.Config(
            app,
            log_config=None,  # ours: its own would quote what an error says
            log_level="warning",
            access_log=False,  # what is asked for may be text
            lifespan="off",
            server_header=False,
            proxy_headers=False,  # so that nobody can pose as another address
            timeout_graceful_shutdown=2,
            ssl_certfile=settings.tls_certfile,
            ssl_keyfile=settings.tls_keyfile,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        host, port = listening.getsockname()[:2]
        try:
            yield f"{'https' if settings.tls_certfile else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        finally:
            app.state.gateway.live.feed.end("the gateway stops: connect again with the id of the last event")  # else it would wait for its streams
            server.should_exit = True
            await task
            app.state.gateway.close()


async def _tell_openness(settings: GatewaySettings, keys: KeyRing) -> None:
    """Say what people should know of an address that others reach; the guard lets nobody in there without a key (guard.py)."""
    if is_loopback(settings.host):
        return
    try:
        await keys.refresh()
    except (Unreachable, StoreLost) as error:
        log.warning("the API keys cannot be read yet; until they can, nobody is let in", error=str(error))
        return
    if not keys.needs_key:
        log.warning(
            "others reach this address and there is no API key, so nobody is let in; make one with `mistudio-explain keys create --name NAME`",
            host=settings.host,
        )
    if not settings.is_encrypted:
        log.warning(
            "the gateway speaks no TLS, so keys and texts can be read on the way; set gateway.tls_certfile, or gateway.behind_tls where a proxy speaks it"
        )


def _bound(settings: GatewaySettings) -> socket.socket:
    """A listening socket, its protocol named: asyncio lets answers leave at once (TCP_NODELAY) from such alone, and others wait 40 ms for an ACK."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":  # connections inherit both
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TAKES_NOTHING_MS)
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        where = f"{settings.host}:{settings.port}"
        raise BadSettings(f"the gateway cannot listen on {where} ({error}); set gateway.host and gateway.port to what is free") from error
    return listening

"""The gateway in a process: beside its stream application, on a port of its own."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI

from mistudio_explain.errors import BadSettings
from mistudio_explain.gateway.app import make_app
from mistudio_explain.gateway.parts import Gateway
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.settings import GatewaySettings

_BACKLOG = 2048


def register(stream: StreamApp) -> FastAPI:
    """Make the gateway's application; what it reads from Kafka it reads through `stream`."""
    return make_app(Gateway(stream, new_id=lambda: secrets.token_hex(12)))


@contextlib.asynccontextmanager
async def web_server(app: FastAPI, settings: GatewaySettings) -> AsyncIterator[str]:
    """Answer on the gateway's port; gives the address. Kafka need not be there. Raises BadSettings for an address that cannot be had."""
    with _bound(settings) as listening:
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        host, port = listening.getsockname()[:2]
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
        finally:
            server.should_exit = True
            await task


def _bound(settings: GatewaySettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise BadSettings(
            f"the gateway cannot listen on {settings.host}:{settings.port} ({error}); set gateway.host and gateway.port to what is free"
        ) from error

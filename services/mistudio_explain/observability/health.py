"""The health port of a service: /livez, /readyz, /metrics."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import uvicorn
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


class Healthy(Protocol):
    """What can say how it is."""

    def is_alive(self) -> bool:
        """Whether its loops turn."""
        ...

    def unready_because(self) -> str | None:
        """Why it cannot do its work now; None when it can."""
        ...


@contextlib.asynccontextmanager
async def health_server(service: Healthy, host: str, port: int) -> AsyncIterator[None]:
    """Answer on a port: /livez 503 when a loop has stopped turning, /readyz 503 with the reason while it cannot work, /metrics for Prometheus."""
    routes = [
        Route("/livez", _answer(lambda: None if service.is_alive() else "a consuming loop has stopped turning")),
        Route("/readyz", _answer(service.unready_because)),
        Route("/metrics", _metrics),
    ]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), host=host, port=port, log_config=None, log_level="warning", lifespan="off"))
    task = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        await task


def _answer(complaint: Callable[[], str | None]) -> Callable[[Request], Awaitable[Any]]:
    async def answer(_: Request) -> PlainTextResponse:
        wrong = complaint()
        return PlainTextResponse("ok") if wrong is None else PlainTextResponse(wrong, status_code=503)

    return answer


async def _metrics(request: Request) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), media_type=content_type)

"""Server-sent events (HTML Living Standard, 9.2): their form, and a response that is made of them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping

import orjson
import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send

from mistudio_explain.observability.metrics import STREAMS, STREAMS_DROPPED

log = structlog.get_logger(__name__)

SEND_WITHIN_S = 30.0
"""A client that takes nothing for so long is let go: its connection's buffers are full."""
MEDIA_TYPE = "text/event-stream"
_FAREWELLS = 3  # times as long: by then the system has closed the connection (service.py)
_LAST = {"type": "http.response.body", "body": b"", "more_body": False}


def event(name: str, content: bytes | Mapping[str, object], position: object = None) -> bytes:
    """One event. JSON has no line ends, so that no content can end its event or begin another."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return b"%sevent: %s\ndata: %s\n\n" % (b"" if position is None else identified(position), name.encode(), body)


def identified(position: object) -> bytes:
    """The line that an event with an id begins with."""
    return b"id: %s\n" % str(position).encode()


def heartbeat(position: object) -> bytes:
    """Nothing but a sign of life, and the position: an event without data moves the last id and is not told to scripts."""
    return b": alive\n\n" if position is None else b": alive\n%s\n" % identified(position)


class EventStream(Response):
    """Sends chunks of events as they come, ends with them, and ends them when the client goes or takes nothing any more."""

    media_type = MEDIA_TYPE

    def __init__(self, chunks: AsyncGenerator[bytes], *, send_within_s: float = SEND_WITHIN_S) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})  # the second is nginx's: it would hold events back
        del self.headers["content-length"]
        self._chunks = chunks
        self._send_within_s = send_within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer a request."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.create_task(self._sent(send))
        leaving = asyncio.create_task(gone(receive))
        try:
            with STREAMS.track_inprogress():
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _sent(self, send: Send) -> None:
        try:
            async for chunk in self._chunks:
                if chunk:
                    async with asyncio.timeout(self._send_within_s):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send(_LAST)
        except TimeoutError:
            STREAMS_DROPPED.labels(why="takes nothing").inc()
            log.warning("stream.dropped", why=f"the client took nothing for {self._send_within_s:g} s")
            await self._chunks.aclose()
            with contextlib.suppress(TimeoutError):  # its end, for a client that takes something again before its connection is closed
                async with asyncio.timeout(_FAREWELLS * self._send_within_s):
                    await send(_LAST)
        finally:
            await self._chunks.aclose()  # its listener must not wait for the collector


async def gone(receive: Receive) -> None:
    """Return once the client has gone; its request was read already."""
    while (await receive())["type"] != "http.disconnect":
        pass

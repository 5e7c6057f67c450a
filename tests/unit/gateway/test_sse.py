"""A stream of events: it ends with its events, with its client, and when its client takes nothing."""

import asyncio
from collections.abc import AsyncGenerator, MutableMapping
from typing import Any

from mistudio_explain.gateway.sse import EventStream, event, heartbeat


async def gone_never() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


class Source:
    """Events of a stream, which notes that it was ended."""

    def __init__(self, *chunks: bytes, stays: bool = False) -> None:
        self.chunks = chunks
        self.stays = stays
        self.has_ended = False

    async def __call__(self) -> AsyncGenerator[bytes]:
        try:
            for chunk in self.chunks:
                yield chunk
            if self.stays:
                await asyncio.Event().wait()
        finally:
            self.has_ended = True


class Client:
    """What a client was sent; it takes as many messages as it is told to."""

    def __init__(self, takes: int = 100) -> None:
        self.sent: list[MutableMapping[str, Any]] = []
        self.takes = takes

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if len(self.sent) == self.takes:
            await asyncio.Event().wait()
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


async def test_a_stream_is_sent_as_it_comes_and_closed_at_its_end() -> None:
    source, client = Source(b"a", b"", b"b"), Client()
    await EventStream(source())({"type": "http"}, gone_never, client)
    assert client.body == b"ab"
    assert [message.get("more_body") for message in client.sent] == [None, True, True, False]
    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-store"
    assert b"content-length" not in headers


async def test_a_client_that_goes_ends_its_stream() -> None:
    source, client = Source(b"a", stays=True), Client()
    begun = asyncio.Event()

    async def gone() -> MutableMapping[str, Any]:
        await begun.wait()
        return {"type": "http.disconnect"}

    answering = asyncio.create_task(EventStream(source())({"type": "http"}, gone, client))
    while client.body != b"a":
        await asyncio.sleep(0)
    begun.set()
    await answering
    assert source.has_ended


async def test_a_client_that_takes_nothing_is_let_go() -> None:
    source, client = Source(b"a", b"b", b"c", stays=True), Client(takes=2)
    async with asyncio.timeout(10):
        await EventStream(source(), send_within_s=0.05)({"type": "http"}, gone_never, client)
    assert client.body == b"a"
    assert source.has_ended


async def test_whoever_ends_the_answering_ends_its_stream() -> None:
    source, client = Source(b"a", stays=True), Client()
    answering = asyncio.create_task(EventStream(source())({"type": "http"}, gone_never, client))
    while client.body != b"a":
        await asyncio.sleep(0)
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)
    assert source.has_ended


def test_an_event_is_three_lines_and_a_sign_of_life_moves_the_id_alone() -> None:
    assert event("end", {"status": "completed"}, "0123abcd.1.2") == b'id: 0123abcd.1.2\nevent: end\ndata: {"status":"completed"}\n\n'
    assert event("piece", {"text": "a\nb\r"}) == b'event: piece\ndata: {"text":"a\\nb\\r"}\n\n'
    assert heartbeat("0123abcd.1.2") == b": alive\nid: 0123abcd.1.2\n\n"
    assert heartbeat(None) == b": alive\n\n"

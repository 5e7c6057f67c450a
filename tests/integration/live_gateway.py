"""A gateway as people have it: the real application on a port, beside an aggregator, on the embedded broker and a real store."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from mistudio_explain.assembly import GATEWAY, assembled
from mistudio_explain.events.model import Record
from mistudio_explain.gateway.service import web_server
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.embedded import embedded_broker
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.settings import Settings

T = TypeVar("T")
WAIT_S = 60.0


class LiveGateway:
    """Runs in a thread of its own; `client` speaks to it over TCP."""

    def __init__(self, folder: Path, services: tuple[str, ...], **groups: Any) -> None:
        given = {
            "store": {"url": f"sqlite:///{folder}/explain.db"},
            "reports": {"directory": str(folder / "reports"), "interval_s": 0.1},
            "gateway": {"port": 0},
        }
        self.settings = Settings.model_validate(given | {name: given.get(name, {}) | group for name, group in groups.items()})
        self.url = ""
        self.stream: StreamApp
        self.client: httpx.Client
        self._services = services
        self._loop: asyncio.AbstractEventLoop
        self._stopped: asyncio.Event
        self._started = threading.Event()
        self._failure: BaseException | None = None

    @contextmanager
    def running(self) -> Iterator["LiveGateway"]:
        thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        thread.start()
        self._started.wait(WAIT_S)
        try:
            if self._failure is not None:
                raise self._failure
            with httpx.Client(base_url=self.url, timeout=WAIT_S, trust_env=False) as self.client:
                self.until(lambda: self.client.get("/readyz").status_code == 200)
                yield self
        finally:
            if self._failure is None:
                self._loop.call_soon_threadsafe(self._stopped.set)
            thread.join(WAIT_S)

    def write(self, *events: Record | Outgoing) -> None:
        """Publish events, one after the other."""

        async def each() -> None:
            for event in events:
                await self.stream.publish([event if isinstance(event, Outgoing) else outgoing(event)])

        self.call(each())

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the gateway's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for something to be so."""
        turn = threading.Event()
        for _ in range(int(WAIT_S / 0.02)):
            if found := condition():
                return found
            turn.wait(0.02)
        raise AssertionError("it did not come to be so")

    def get(self, path: str, **arguments: Any) -> Any:
        """What a read answers; it must succeed."""
        answer = self.client.get(f"/api/v1{path}", **arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def connected(self) -> socket.socket:
        """A connection to it, for requests that no client would send."""
        split = urlsplit(self.url)
        return socket.create_connection((split.hostname or "", split.port or 0), timeout=WAIT_S)

    async def _run(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with AsyncExitStack() as stack:
                broker = await stack.enter_async_context(embedded_broker())
                clients = KafkaClients(self.settings.kafka, self.settings.limits, embedded=broker.address)
                assembly = await stack.enter_async_context(assembled(self.settings, clients, (*self._services, GATEWAY)))
                self.stream = assembly.app
                assert assembly.web is not None
                self.url = await stack.enter_async_context(web_server(assembly.web, self.settings.gateway))
                await stack.enter_async_context(assembly.app.running())
                self._started.set()
                await self._stopped.wait()
        except BaseException as error:
            self._failure = error
            self._started.set()
            raise


@contextmanager
def live_gateway(folder: Path, *services: str, **groups: Any) -> Iterator[LiveGateway]:
    """A gateway beside `services`, the aggregator when none are named; `groups` are settings beside the test's own."""
    with LiveGateway(folder, services or ("aggregator",), **groups).running() as gateway:
        yield gateway

"""Live events to 200 clients of one gateway, beside a bare server that sends the same bytes without Kafka.

50 reports a second are written to a real Kafka; each carries the moment at which it was written, and every client notes
how long it took to get it. Ten further clients take nothing: they must be let go and cost nobody anything. The bare
server is a Starlette route on uvicorn with a queue for each client, which makes the events itself: no topic, no
position, no check of who may see what.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from aiokafka import AIOKafkaProducer

from benchmarks.table import print_table
from integration.real_kafka import RealKafka
from mistudio_explain.events.job import Averages, JobReport, JobStatus
from mistudio_explain.gateway.feed import KEPT_ENTRIES
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import KafkaSettings, Settings

CLIENTS, STUCK = 200, 10
PER_S = 50
SECONDS = 45  # a client that takes nothing is let go after 30
WARM_S = 5
GOAL_P95_MS = 200.0
_STAMP = re.compile(rb'"notes":\["(\d+)"\]')
PATH = "/api/v1/events"


def report(number: int) -> JobReport:
    return JobReport(
        explain_job_id=f"explain_{number % 10}", status=JobStatus.RUNNING, admitted=5000, explained=number, skipped=0, failed=0, flagged=0,
        averages=Averages(quality=0.7, accuracy=0.6), at_ms=1, notes=[str(time.monotonic_ns())],
    )  # fmt: skip


class Clients:
    """Clients that note how late each event is, in milliseconds."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.late_ms: list[float] = []
        self.heard = 0

    async def listen(self) -> None:
        reader, writer = await self._connect()
        with contextlib.closing(writer):
            while block := await reader.readuntil(b"\n\n"):
                if (found := _STAMP.search(block)) is not None:
                    self.heard += 1
                    self.late_ms.append((time.monotonic_ns() - int(found[1])) / 1e6)

    async def take_nothing(self) -> None:
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(stuck, ("127.0.0.1", self.port))
            await loop.sock_sendall(stuck, self._request)
            await asyncio.Event().wait()

    @property
    def _request(self) -> bytes:
        return f"GET {PATH} HTTP/1.1\r\nhost: localhost:{self.port}\r\naccept: text/event-stream\r\n\r\n".encode()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self._request)
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer


@dataclass(frozen=True)
class Measured:
    """How late events were at the clients and confirmed by Kafka, how many were sent, the server's memory by the second, and its share of a core."""

    late_ms: list[float]
    sent: int
    memory: list[int]
    share: float
    confirmed_ms: list[float]


async def measure(port: int, process: psutil.Process, *, stuck: int, producer: AIOKafkaProducer | None = None) -> Measured:
    clients = Clients(port)
    sent = 0
    memory: list[int] = []
    confirmed: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        listening = [tasks.create_task(_until_cancelled(clients.listen())) for _ in range(CLIENTS)]
        listening += [tasks.create_task(_until_cancelled(clients.take_nothing())) for _ in range(stuck)]
        await asyncio.sleep(2)
        before, begun = process.cpu_times(), time.monotonic()
        for second in range(SECONDS):
            for tick in range(PER_S):
                if producer is not None:
                    tasks.create_task(_published(producer, sent, confirmed))
                sent += 1
                await asyncio.sleep(max(0.0, begun + second + (tick + 1) / PER_S - time.monotonic()))
            memory.append(process.memory_info().rss)
        used = process.cpu_times()
        share = (used.user + used.system - before.user - before.system) / (time.monotonic() - begun)
        await asyncio.sleep(1)
        for task in listening:
            task.cancel()
    return Measured(sorted(clients.late_ms), sent, memory, share, sorted(confirmed))


async def _published(producer: AIOKafkaProducer, number: int, confirmed: list[float]) -> None:
    begun = time.monotonic()
    await publish(producer, [outgoing(report(number))])
    confirmed.append(1000 * (time.monotonic() - begun))


async def _until_cancelled(work: object) -> None:
    with contextlib.suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
        await work  # type: ignore[misc]


@asynccontextmanager
async def server(*command: str, port: int, **environment: str) -> AsyncIterator[psutil.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, *command, env=os.environ | environment, stdout=asyncio.subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"GET /readyz HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n".encode())
                answer = await reader.readuntil(b"\r\n")
                writer.close()
                if b" 200 " in answer:
                    break
            await asyncio.sleep(0.2)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def ours(broker: RealKafka, port: int) -> tuple[Measured, int]:
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=broker.bootstrap))
    clients = KafkaClients(settings.kafka, settings.limits)
    async with clients.admin() as admin:
        await create_topics(admin, topic_specs(settings), None)
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
            "MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{folder}/explain.db",
            "MISTUDIO_EXPLAIN_GATEWAY__PORT": str(port),
            "MISTUDIO_EXPLAIN_LOG_LEVEL": "error",
        }
        serve = ("-c", "from mistudio_explain.cli.main import main; main()", "serve", "gateway")
        async with server(*serve, port=port, **environment) as process, clients.producer([spec.name for spec in topic_specs(settings)]) as producer:
            await fill(port, producer)
            measured = await measure(port, process, stuck=STUCK, producer=producer)
            return measured, await _dropped(port)


async def fill(port: int, producer: AIOKafkaProducer) -> None:
    """Let the gateway keep as much as it ever does, so that memory that still grows afterwards is a fault."""
    client = Clients(port)
    listening = asyncio.create_task(_until_cancelled(client.listen()))
    await asyncio.sleep(1)
    for number in range(0, KEPT_ENTRIES + 1000, 200):
        await publish(producer, [outgoing(report(number + each)) for each in range(200)])
    while client.heard < KEPT_ENTRIES:
        await asyncio.sleep(0.1)
    listening.cancel()
    await listening


async def _dropped(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /metrics HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return int(sum(float(value) for value in re.findall(r"^mistudio_explain_streams_dropped_total\{.*\} (\S+)$", text, re.MULTILINE)))


BARE = """
import asyncio, sys, time, orjson, uvicorn
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from benchmarks.sse import PATH, PER_S, report
queues = set()
async def events(request):
    async def chunks():
        queue = asyncio.Queue()
        queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            queues.discard(queue)
    return StreamingResponse(chunks(), media_type="text/event-stream")
async def make():
    begun, number = time.monotonic(), 0
    while True:
        body = orjson.dumps(report(number).model_dump(mode="json"))
        block = b"id: %d\\nevent: progress\\ndata: %s\\n\\n" % (number, body)
        for queue in queues:
            queue.put_nowait(block)
        number += 1
        await asyncio.sleep(max(0.0, begun + number / PER_S - time.monotonic()))
@asynccontextmanager
async def lifespan(app):
    task = asyncio.create_task(make())
    yield
    task.cancel()
routes = [Route(PATH, events), Route("/readyz", lambda request: PlainTextResponse("ok"))]
uvicorn.run(Starlette(routes=routes, lifespan=lifespan), port=int(sys.argv[1]), log_level="error", timeout_graceful_shutdown=1)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def at(late_ms: list[float], share: float) -> str:
    return f"{late_ms[int(share * (len(late_ms) - 1))]:.0f}"


async def bench(folder: Path) -> None:
    port = free_port()
    async with server("-c", BARE, str(port), port=port) as process:
        bare = await measure(port, process, stuck=0)
    with RealKafka(folder) as broker:
        gateway, dropped = await ours(broker, free_port())
    confirmed = gateway.confirmed_ms
    rows = [
        _row("bare Starlette, no Kafka", bare),
        _row("gateway", gateway),
        ["of which until Kafka confirmed", "", *(at(confirmed, share) for share in (0.5, 0.95, 1.0)), "", ""],
    ]
    columns = ("server", "events got", "p50 ms", f"p95 ms (goal < {GOAL_P95_MS:g})", "most ms", "cores", "memory, MB")
    note = f"{CLIENTS} clients, {PER_S} events a second for {SECONDS} s. {dropped} of {STUCK} clients that took nothing were let go. " + (
        f"Memory: after {WARM_S} s, at the end, most; the gateway keeps {KEPT_ENTRIES} events from the start."
    )
    print_table("Live events", columns, rows, note=note)


def _row(name: str, found: Measured) -> list[str]:
    lateness = [at(found.late_ms, share) for share in (0.5, 0.95, 1.0)]
    return [name, f"{len(found.late_ms)} of {found.sent * CLIENTS}", *lateness, f"{found.share:.2f}", _grown(found.memory)]


def _grown(memory: list[int]) -> str:
    return f"{memory[WARM_S] / 1e6:.1f}, {memory[-1] / 1e6:.1f}, {max(memory) / 1e6:.1f}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(bench(Path(folder)))


if __name__ == "__main__":
    main()

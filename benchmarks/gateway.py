"""REST reads of the gateway, beside a bare FastAPI route that returns the same bytes: requests a second on one core, and how long the slowest take.

Each server has core 0 to itself, and the client the others; the contenders take turns. The gateway runs as it always
does, on the embedded broker and a SQLite store, with its guard, ETags and compression; the client takes answers
uncompressed. Of each path the gateway's answer is what the bare route returns, so that both send the same bytes. Answers
are kept while nothing changes (gateway/kept.py); the last column is of requests that differ, each of which is looked up.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, closing, contextmanager
from itertools import count, repeat
from pathlib import Path
from statistics import median

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.aggregator import outcomes
from benchmarks.table import print_table, spread
from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.assembly import GATEWAY, assembled
from mistudio_explain.events.codec import encode
from mistudio_explain.events.job import JobEvent, RequestPart, SealedPart
from mistudio_explain.gateway.service import web_server
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.embedded import embedded_broker
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import Change, open_store, reading

FEATURES = 5_000
JOBS = 20
RUNS = 5
SECONDS = 2.0
CONNECTIONS = 8
GOAL = 0.4
GOAL_P99_MS = 50
FRESH = {
    "jobs": "?n={n}",
    "a job": "?n={n}",
    "50 explanations": "&quality_from=0.00{n}",
    "counts": "&quality_from=0.00{n}",
    "a feature": "?n={n}",
    "its history": "?n={n}",
}
"""What makes a request another one."""
PATHS = {
    "jobs": "/api/v1/jobs",
    "a job": "/api/v1/jobs/explain_0",
    "50 explanations": "/api/v1/jobs/explain_0/explanations?verdict=confirmed&order=quality&descending=true&limit=50",
    "counts": "/api/v1/jobs/explain_0/counts?verdict=confirmed",
    "a feature": "/api/v1/jobs/explain_0/features/{feature}",
    "its history": "/api/v1/jobs/explain_0/features/{feature}/history",
}


def settings_in(folder: Path) -> Settings:
    return Settings.model_validate({"store": {"url": f"sqlite:///{folder}/explain.db"}, "gateway": {"port": 0}})


def fill(folder: Path) -> str:
    """A store with one large job and some small ones; returns a feature of the large one."""
    name = ""
    with open_store(settings_in(folder).store) as store:
        for number in range(JOBS):
            job, count = f"explain_{number}", FEATURES if number == 0 else 20
            parts = (
                JobEvent(explain_job_id=job, at_ms=1, request=RequestPart(find_job_id=f"find_{number}", target_model="m")),
                JobEvent(explain_job_id=job, at_ms=2, sealed=SealedPart(expected=count)),
            )
            store.apply([Change(part, encode(part), "", 1000) for part in parts], {})
            events = list(outcomes(count, 4_000, 12, job))
            name = name or events[0].subject.feature_key
            store.apply([Change(event, encode(event), "", 1000) for event in events], {})
    return name


async def serve_gateway(folder: Path) -> None:
    settings = settings_in(folder)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(embedded_broker())
        clients = KafkaClients(settings.kafka, settings.limits, embedded=broker.address)
        assembly = await stack.enter_async_context(assembled(settings, clients, (GATEWAY,)))
        assert assembly.web is not None
        address = await stack.enter_async_context(web_server(assembly.web, settings.gateway))
        await stack.enter_async_context(assembly.app.running())
        with reading(settings.store) as store, closing(JobReports(lambda: store, settings)) as reports:
            for job in store.jobs(JOBS):
                report = reports.numbers(job, now_ms=3)
                events = [*store.parts(job).values(), *([report] if report else [])]
                await assembly.app.publish(outgoing(event) for event in events)
        while not assembly.app.is_ready():
            await asyncio.sleep(0.05)
        print(address.rpartition(":")[2], flush=True)
        await asyncio.Event().wait()


async def serve_bare(kept: Mapping[str, bytes]) -> None:
    app = FastAPI()

    @app.get("/{path:path}")
    async def bare(request: Request) -> Response:
        query = request.url.query
        return Response(kept[f"{request.url.path}?{query}" if query else request.url.path], media_type="application/json")

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False, lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await task


@contextmanager
def server(kind: str, place: Path) -> Iterator[int]:
    """A server in a process of its own, on core 0; gives its port."""
    command = [sys.executable, "-m", "benchmarks.gateway", kind, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {0})) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)


async def ask(port: int, paths: Iterator[str], seconds: float, took: list[float]) -> bytes:
    """Ask for one path after the other on one connection; returns the last body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end, body = time.perf_counter() + seconds, b""
    while (begun := time.perf_counter()) < end:
        writer.write(f"GET {next(paths)} HTTP/1.1\r\nhost: localhost\r\naccept-encoding: identity\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        took.append(time.perf_counter() - begun)
    writer.close()
    return body


async def load(port: int, paths: Iterator[str]) -> tuple[float, float]:
    """Requests a second, and the time that 99 of 100 keep within, milliseconds."""
    took: list[float] = []
    begun = time.perf_counter()
    await asyncio.gather(*(ask(port, paths, SECONDS, took) for _ in range(CONNECTIONS)))
    return len(took) / (time.perf_counter() - begun), sorted(took)[int(len(took) * 0.99)] * 1000


def main() -> None:
    others = sorted(set(os.sched_getaffinity(0)) - {0})
    os.sched_setaffinity(0, others or {0})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        feature, numbers = fill(folder), count(10_000_000)
        paths = {name: path.format(feature=feature) for name, path in PATHS.items()}
        with server("gateway", folder) as ours:
            answers = folder / "answers.json"
            bodies = {path: asyncio.run(ask(ours, repeat(path), 0.2, [])).decode() for path in paths.values()}
            answers.write_bytes(orjson.dumps(bodies))
            with server("bare", answers) as bare:
                rows = []
                for name, path in paths.items():
                    fresh = (path + FRESH[name].format(n=next(numbers)) for _ in count())
                    runs = [(asyncio.run(load(bare, repeat(path))), asyncio.run(load(ours, repeat(path)))) for _ in range(RUNS)]
                    looked_up = [asyncio.run(load(ours, fresh)) for _ in range(RUNS)]
                    shares = [mine / theirs for (theirs, _), (mine, _) in runs]
                    rows.append(
                        [
                            name,
                            f"{len(bodies[path]):,}",
                            spread([theirs for (theirs, _), _ in runs], 0),
                            spread([mine for _, (mine, _) in runs], 0),
                            spread(shares),
                            "met" if median(shares) >= GOAL else "missed",
                            spread([p99 for _, (_, p99) in runs], 1),
                            spread([mine for mine, _ in looked_up], 0),
                        ]
                    )
    columns = ["what is read", "bytes", "bare, requests/s", "gateway, requests/s", f"share (goal ≥ {GOAL})", ""]
    columns += [f"gateway's p99, ms (goal < {GOAL_P99_MS})", "gateway, each looked up, requests/s"]
    print_table(f"REST reads on one core, {CONNECTIONS} connections, a job of {FEATURES:,} features: median (least-greatest) of {RUNS} turns", columns, rows)


if __name__ == "__main__":
    kind, place = sys.argv[1:]
    if kind == "gateway":
        asyncio.run(serve_gateway(Path(place)))
    else:
        asyncio.run(serve_bare({path: body.encode() for path, body in orjson.loads(Path(place).read_bytes()).items()}))

"""What traces cost: the same services on the same features without them, with a trace for one feature in a hundred, and with one for each.

CPU of this process for each feature, the packing and sending of spans included, on real Kafka; the cores only re-label, so that what is
measured is a share of the mechanics alone. And what one span costs by itself, also while none are made.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from aiokafka import ConsumerRecord
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks.mechanics import FEATURES, fill, ours
from benchmarks.table import print_table, ratios, spread
from integration.real_kafka import RealKafka
from mistudio_explain.observability import tracing
from mistudio_explain.settings import KafkaSettings, Settings

RATIOS = {"without traces": None, "one feature in 100": 0.01, "every feature": 1.0}
SPANS = 3
"""Spans that each feature makes here: context, generation, validation."""

BATCH = 512  # what is sent at once

COLLECTOR = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def collector() -> Iterator[str]:
    """Where spans can be sent to; what takes them is another process, whose time does not count."""
    with subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/traces"
        process.kill()


@contextmanager
def traced(ratio: float | None, url: str) -> Iterator[None]:
    if ratio is None:
        yield
        return
    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=url))
    tracing.send_to(processor, sample_ratio=ratio)
    try:
        yield
    finally:
        tracing.send_to(None)
        processor.shutdown()


async def taken(settings: Settings, ratio: float | None, url: str) -> float:
    with traced(ratio, url):
        return await ours(settings)


class Nowhere(SpanProcessor):
    """Takes spans and does nothing."""


def microseconds(runs: int) -> dict[str, list[float]]:
    """CPU of one place where a span is made, with the header of one record: by what becomes of the span."""

    def record(flags: str) -> ConsumerRecord:
        header = f"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}".encode()
        return ConsumerRecord("mistudio.find.features", 0, 0, 0, 0, None, b"", None, 0, 0, [("mse-event", b"FeatureFound"), ("traceparent", header)])

    def each(call: Callable[[], object], number: int = 5_000) -> float:
        return timeit.timeit(call, number=number, timer=time.process_time) / number * 1e6

    def made(found: ConsumerRecord) -> None:
        with tracing.work(found, service="context", ids={"job": "explain_bench", "feature": "7"}):
            tracing.headers()

    taken: dict[str, list[float]] = {"tracing is off": [], "its trace is not kept": [], "it is kept": [], "packing it for the collector": []}
    for _ in range(runs):
        taken["tracing is off"].append(each(partial(made, record("01"))))
        tracing.send_to(Nowhere())
        taken["its trace is not kept"].append(each(partial(made, record("00"))))
        taken["it is kept"].append(each(partial(made, record("01"))))
        exporter = InMemorySpanExporter()
        tracing.send_to(SimpleSpanProcessor(exporter))
        for _ in range(BATCH):
            made(record("01"))
        tracing.send_to(None)
        spans = exporter.get_finished_spans()
        taken["packing it for the collector"].append(each(lambda spans=spans: encode_spans(spans).SerializePartialToString(), 5) / BATCH)  # type: ignore[misc]
    return taken


def main(runs: int = 5) -> None:
    figures: dict[str, list[float]] = {name: [] for name in RATIOS}
    with tempfile.TemporaryDirectory() as folder, RealKafka(Path(folder)) as kafka, collector() as url:
        settings = Settings(kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap))
        for _ in range(runs):
            for name, ratio in RATIOS.items():
                kafka.delete_topics("mistudio.")
                asyncio.run(fill(settings))
                figures[name].append(asyncio.run(taken(settings, ratio, url)) / FEATURES * 1e6)
    title = f"Traces: CPU for each of {FEATURES} features of 6 KB, all hops, {SPANS} spans each"
    ratios(title, figures, unit="µs", peer="without traces", ours="every feature", goal=0.8, digits=0)
    print_table("One place where a span is made", ("when", "CPU, µs"), [[when, spread(values, 1)] for when, values in microseconds(runs).items()])


if __name__ == "__main__":
    main()

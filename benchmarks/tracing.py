"""What traces cost: the same services on the same features without them, with a trace for one feature in a hundred, and with one for each.

CPU of this process for each feature, the packing and sending of spans included, on real Kafka; the cores only re-label, so that what is
measured is a share of the mechanics alone. And what the places cost where spans would be made, while none are.
"""

import asyncio
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka import ConsumerRecord
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.mechanics import FEATURES, fill, ours
from benchmarks.table import print_table, ratios, spread
from integration.real_kafka import RealKafka
from mistudio_explain.observability import tracing
from mistudio_explain.settings import KafkaSettings, Settings

RATIOS = {"without traces": None, "one feature in 100": 0.01, "every feature": 1.0}
SPANS = 3
"""Spans that each feature makes here: context, generation, validation."""

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


def seam_us(runs: int) -> list[float]:
    """Microseconds of the places that one feature passes, while tracing is off: three spans, and the headers of four records."""
    record: ConsumerRecord = ConsumerRecord("t", 0, 0, 0, 0, None, b"", None, 0, 0, [("mse-event", b"x")])

    def passed() -> None:
        for _ in range(SPANS):
            with tracing.work(record, service="context", ids={}):
                tracing.headers()
        tracing.headers()

    return [timeit.timeit(passed, number=10_000) / 10_000 * 1e6 for _ in range(runs)]


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
    print_table("Traces while they are off", ("what", "µs for each feature"), [["places where spans would be made", spread(seam_us(runs))]])


if __name__ == "__main__":
    main()

"""A collector of traces on loopback, which reads what it gets with OpenTelemetry's own messages."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True)
class SeenSpan:
    """A span as it arrived; ids in hexadecimal digits, `parent` empty at the root."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: frozenset[str]
    """The traces that it links to."""
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """What arrived so far."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    @property
    def spans(self) -> list[SeenSpan]:
        """Every span that arrived."""
        return [span for body in list(self.bodies) for span in _spans_in(body)]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector for as long as it is needed."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.paths.add(self.path)
            collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the library's name)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans_in(body: bytes) -> Iterator[SeenSpan]:
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = str(_values(of_resource.resource.attributes)["service.name"])
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield SeenSpan(
                    service=service.removeprefix("mistudio-explain."),
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    links=frozenset(link.trace_id.hex() for link in span.links),
                    attributes=_values(span.attributes),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                )


def _values(attributes: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        held = pair.value
        return [each.string_value for each in held.array_value.values] if held.HasField("array_value") else getattr(held, held.WhichOneof("value"))

    return {pair.key: value(pair) for pair in attributes}

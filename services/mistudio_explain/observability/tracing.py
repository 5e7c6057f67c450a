"""Traces: the way of a feature through the services as OpenTelemetry spans; where none are asked for, nothing is made and nothing imported.

The context travels in the Kafka header `traceparent` (W3C Trace Context, version 00). Spans hold ids, counts and the names of models and endpoints,
never a text, a prompt, an answer or an error's message. Nothing global of OpenTelemetry is set: fastapi and clients of LLM servers trace by themselves
what they find there, and some would send the context on to a cloud.
"""

import atexit
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mistudio_explain.errors import BadSettings
from mistudio_explain.settings import TracingSettings

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, SpanContext, Tracer

TRACEPARENT = "traceparent"
_FORMAT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED_AND_RANDOM = 0x03  # the flags that the second level of the specification knows
_SCOPE = "mistudio_explain"
_EXPORT_S = 2.0  # for each of the four batches that the queue holds: a collector that is away must not hold up an exit for longer than the grace period
_LONGEST_VALUE = 256  # names of models come from servers
MOST_LINKS = 128  # as many as OpenTelemetry keeps by default

Headers = Iterable[tuple[str, bytes | None]]
Kind = Literal["internal", "client", "producer", "consumer"]
Attributes = Mapping[str, str | bool | int | float | Sequence[str] | None]
"""By name; those that are None are left out."""


@dataclass(frozen=True, slots=True)
class _Current:
    """The span that work belongs to now, and the service that does it."""

    span: "Span"
    service: str


_current: ContextVar[_Current | None] = ContextVar("span", default=None)
_tracing: "_Tracing | None" = None


class _Tracing:
    """The tracers of a process: one for each service in it, so that a process with all of them looks as a process for each does."""

    def __init__(self, processor: "SpanProcessor", sample_ratio: float, version: str) -> None:
        from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased

        from mistudio_explain.observability.sampling import ShareOfFeatures

        self._processors = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]
        self._processors.add_span_processor(processor)
        self._version = version
        self._sampler = ParentBased(ShareOfFeatures(sample_ratio))
        self._tracers: dict[str, Tracer] = {}

    def of(self, service: str) -> "Tracer":
        if service not in self._tracers:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import SpanLimits, TracerProvider

            named = {"service.name": f"mistudio-explain.{service}", "service.version": self._version, "service.instance.id": socket.gethostname()}
            provider = TracerProvider(
                sampler=self._sampler,
                resource=Resource.create(named),
                shutdown_on_exit=False,
                active_span_processor=self._processors,
                span_limits=SpanLimits(max_attribute_length=_LONGEST_VALUE, max_links=MOST_LINKS),
            )
            self._tracers[service] = provider.get_tracer(_SCOPE, self._version)
        return self._tracers[service]


def configure(settings: TracingSettings, version: str) -> None:
    """Send spans of this version of the product to the collector of the settings, until the process ends; do nothing where they name none.

    Raises BadSettings when the packages of the extra `otel` are not installed. A collector that is away costs the spans and holds nothing up.
    """
    if settings.endpoint is None:
        return
    try:
        import requests
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise BadSettings(
            f"tracing.endpoint is set, but the packages that send traces are not installed ({error.name} is missing): "
            "install mistudio-explain with the extra `otel`, or leave tracing.endpoint out"
        ) from error
    session = requests.Session()
    session.trust_env = False  # a proxy of the environment is no place that the settings name
    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{settings.endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_S, session=session))
    send_to(processor, sample_ratio=settings.sample_ratio, version=version)
    atexit.register(processor.shutdown)


def send_to(processor: "SpanProcessor | None", *, sample_ratio: float = 1.0, version: str = "") -> None:
    """Give spans of this process to a processor; None: make no more."""
    global _tracing
    _tracing = None if processor is None else _Tracing(processor, sample_ratio, version)


def is_on() -> bool:
    """Whether spans are made."""
    return _tracing is not None


def headers() -> tuple[tuple[str, bytes], ...]:
    """What a record bears so that who reads it goes on with the current trace; nothing where there is none."""
    context = here()
    if context is None or not context.is_valid:
        return ()
    return ((TRACEPARENT, f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()),)


def context_in(found: Headers) -> "SpanContext | None":
    """The trace that a record's headers name. None where they name none, more than one, or anything that is not as it should be, and while tracing is off."""
    if _tracing is None:
        return None
    values = [value for name, value in found if name == TRACEPARENT]
    match = _FORMAT.fullmatch(values[0] or b"") if len(values) == 1 else None
    if match is None:
        return None
    from opentelemetry.trace import SpanContext, TraceFlags

    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags & _SAMPLED_AND_RANDOM))


def here() -> "SpanContext | None":
    """The current span, for others to link to."""
    current = _current.get()
    return None if current is None else current.span.get_span_context()


def kept(contexts: Iterable["SpanContext | None"]) -> "list[SpanContext]":
    """Those of some spans that are kept, one for each trace, as many as a span may link to."""
    return list({context.trace_id: context for context in contexts if context is not None and context.trace_flags.sampled}.values())[-MOST_LINKS:]


def link_to(contexts: Iterable["SpanContext | None"]) -> None:
    """Add links to the current span: to those of other traces."""
    current = _current.get()
    if current is not None:
        own = current.span.get_span_context().trace_id
        for context in kept(contexts):
            if context.trace_id != own:
                current.span.add_link(context)


@contextmanager
def work(record: "ConsumerRecord", *, service: str, ids: Mapping[str, str]) -> Iterator[None]:
    """A span for what a service does with one record, in the trace that the record belongs to; `ids` says what the record is about."""
    if _tracing is None:
        yield
        return
    attributes: Attributes = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": service,
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
        **_own(ids),
    }
    with _entered(_tracing, f"{service} {record.topic}", service, "consumer", parent=context_in(record.headers), attributes=attributes):
        yield


@contextmanager
def batch(records: Sequence["ConsumerRecord"], *, service: str) -> Iterator[None]:
    """A span for what a service does with many records at once: a trace of its own, with links to those of the records; none where none of them is kept."""
    links = kept(context_in(record.headers) for record in records)
    if _tracing is None or not links:
        yield
        return
    attributes: Attributes = {"messaging.system": "kafka", "messaging.operation.type": "process", "messaging.batch.message_count": len(records)}
    with _entered(_tracing, f"{service} batch", service, "consumer", links=links, attributes=attributes):
        yield


@contextmanager
def begun(name: str, *, service: str, kind: Kind = "producer", links: Iterable["SpanContext | None"] = (), ids: Mapping[str, str]) -> Iterator[None]:
    """A span that begins a trace, with links to others: those given, and the current one."""
    if _tracing is None:
        yield
        return
    with _entered(_tracing, name, service, kind, links=kept((*links, here())), attributes=_own(ids)):
        yield


@contextmanager
def span(name: str, *, kind: Kind = "internal", attributes: Attributes) -> Iterator[None]:
    """A span below the current one; nothing outside of any."""
    current = _current.get()
    if _tracing is None or current is None:
        yield
        return
    with _entered(_tracing, name, current.service, kind, parent=current.span.get_span_context(), attributes=attributes):
        yield


@contextmanager
def continued(found: Headers, *, service: str) -> Iterator[None]:
    """Go on with the trace of a record without a span of one's own."""
    context = context_in(found)
    if context is None:
        yield
        return
    from opentelemetry.trace import NonRecordingSpan

    token = _current.set(_Current(NonRecordingSpan(context), service))
    try:
        yield
    finally:
        _current.reset(token)


def note(attributes: Attributes) -> None:
    """Add to the current span."""
    if (current := _current.get()) is not None:
        current.span.set_attributes({name: value for name, value in attributes.items() if value is not None})


def failed(error: BaseException) -> None:
    """Mark the current span as failed, by the error's class alone: messages may quote texts."""
    if (current := _current.get()) is not None:
        from opentelemetry.trace import StatusCode

        current.span.set_attribute("error.type", type(error).__name__)
        current.span.set_status(StatusCode.ERROR)


@contextmanager
def _entered(
    tracing: _Tracing,
    name: str,
    service: str,
    kind: Kind,
    *,
    parent: "SpanContext | None" = None,
    links: Sequence["SpanContext"] = (),
    attributes: Attributes,
) -> Iterator[None]:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, set_span_in_context

    context = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
    known = {key: value for key, value in attributes.items() if value is not None}
    made = tracing.of(service).start_span(name[:_LONGEST_VALUE], context, SpanKind[kind.upper()], known, [Link(each) for each in links])
    token = _current.set(_Current(made, service))
    try:
        yield
    except BaseException as error:
        failed(error)
        raise
    finally:
        _current.reset(token)
        made.end()


def _own(ids: Mapping[str, str]) -> dict[str, str]:
    return {f"{_SCOPE}.{name}": value for name, value in ids.items()}

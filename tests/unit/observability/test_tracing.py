"""Traces: what is continued and what is ignored, what a span says, and that without settings there are none."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from aiokafka import ConsumerRecord
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pydantic import ValidationError

from golden_events import EXAMPLES
from mistudio_explain.errors import BadSettings
from mistudio_explain.kafka.app import working_on
from mistudio_explain.kafka.records import Received, outgoing
from mistudio_explain.observability import tracing
from mistudio_explain.observability.logs import configure
from mistudio_explain.settings import TracingSettings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
LONGEST_EXIT_S = 20.0  # the default of limits.grace_s
IDS = {"job": "explain_1", "feature": "7"}
DRAFT = EXAMPLES["ExplanationDrafted"]


@dataclass(frozen=True)
class Record:
    """As much of a ConsumerRecord as a span tells of it."""

    headers: tuple[tuple[str, Any], ...] = ()
    topic: str = "mistudio.explain.drafts"
    partition: int = 3
    offset: int = 41
    value: bytes = b""
    key: bytes | None = field(default=None)


def record(*values: Any) -> ConsumerRecord:
    return Record(tuple(("traceparent", value) for value in values))  # type: ignore[return-value]


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.send_to(SimpleSpanProcessor(exporter))
    yield exporter
    tracing.send_to(None)


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def test_work_on_a_record_goes_on_with_its_trace_and_what_is_made_in_it_names_it(exporter: InMemorySpanExporter) -> None:
    with tracing.work(record(PARENT), service="validation", ids=IDS):
        ((name, value),) = tracing.headers()
    span = only(exporter)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert (name, value) == ("traceparent", f"00-{TRACE}-{span.context.span_id:016x}-01".encode())
    assert span.resource.attributes["service.name"] == "mistudio-explain.validation"
    assert span.name == "validation mistudio.explain.drafts"
    assert span.attributes is not None
    assert span.attributes["mistudio_explain.job"] == "explain_1"
    assert span.attributes["mistudio_explain.feature"] == "7"
    assert span.attributes["messaging.kafka.offset"] == 41
    assert tracing.headers() == ()


HOSTILE = {
    "no value": None,
    "empty": b"",
    "not UTF-8": b"\xff\xfe" * 27 + b"\xff",
    "too long": PARENT + b"-" + b"a" * 100_000,
    "cut": PARENT[:-1],
    "capital letters": PARENT.upper(),
    "no trace": b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
    "no span": f"00-{TRACE}-{'0' * 16}-01".encode(),
    "a version of the future": b"01" + PARENT[2:],
    "the forbidden version": b"ff" + PARENT[2:],
    "a line break": PARENT + b"\n",
    "other digits": "00-٠bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01".encode(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_header_that_names_no_trace_is_ignored_and_a_trace_begun(kind: str, exporter: InMemorySpanExporter) -> None:
    assert tracing.context_in(record(HOSTILE[kind]).headers) is None
    with tracing.work(record(HOSTILE[kind]), service="validation", ids=IDS):
        pass
    span = only(exporter)
    assert span.parent is None
    assert span.context.is_valid


def test_two_headers_name_no_trace(exporter: InMemorySpanExporter) -> None:
    assert tracing.context_in(record(PARENT, PARENT).headers) is None


def test_a_trace_that_was_begun_elsewhere_says_itself_whether_it_is_kept(exporter: InMemorySpanExporter) -> None:
    with tracing.work(record(PARENT[:-1] + b"0"), service="validation", ids=IDS):
        assert tracing.headers()[0][1].endswith(b"-00")
    assert exporter.get_finished_spans() == ()


def test_a_share_of_no_features_says_so_to_whoever_goes_on_and_keeps_orders_and_reports() -> None:
    exporter = InMemorySpanExporter()
    tracing.send_to(SimpleSpanProcessor(exporter), sample_ratio=0.0)
    try:
        with tracing.begun("publish job", service="intake", ids={"job": "explain_1"}), tracing.begun("publish", service="intake", ids=IDS):
            header = tracing.headers()[0][1]
            with tracing.span("chat m", kind="client", attributes={}):
                pass
        with tracing.batch([record(header)], service="aggregator"):
            pass
        with tracing.work(record(header), service="context", ids=IDS):
            pass
        with tracing.begun("report", service="aggregator", links=[tracing.context_in(record(header).headers)], ids={"job": "explain_1"}):
            pass
    finally:
        tracing.send_to(None)
    order, report = exporter.get_finished_spans()
    assert (order.name, report.name) == ("publish job", "report")
    assert report.links == ()


def test_an_error_leaves_its_class_and_not_its_message(exporter: InMemorySpanExporter) -> None:
    def break_off() -> None:
        with tracing.begun("publish", service="intake", ids=IDS), tracing.span("chat m", kind="client", attributes={}):
            raise ValueError("MARK a text")

    with pytest.raises(ValueError, match="MARK"):
        break_off()
    chat, publish = exporter.get_finished_spans()
    for span in (chat, publish):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        assert span.attributes["error.type"] == "ValueError"
        assert "MARK" not in span.to_json()
    assert chat.parent is not None
    assert chat.parent.span_id == publish.context.span_id


def test_a_batch_is_a_trace_of_its_own_with_a_link_for_each_trace_of_its_records(exporter: InMemorySpanExporter) -> None:
    traces = [f"{number:032x}" for number in range(1, 300)]
    named = [record(f"00-{trace}-00f067aa0ba902b7-01".encode()) for trace in traces]
    with tracing.batch([record(PARENT), record(), record(b"nonsense"), *named, *named], service="aggregator"):
        pass
    span = only(exporter)
    assert span.parent is None
    assert [f"{link.context.trace_id:032x}" for link in span.links] == traces[-tracing.MOST_LINKS :]


def test_a_batch_of_records_without_traces_is_none(exporter: InMemorySpanExporter) -> None:
    with tracing.batch([record(), record(b"nonsense")], service="aggregator"):
        pass
    assert exporter.get_finished_spans() == ()


def test_a_trace_that_is_begun_within_another_links_to_it(exporter: InMemorySpanExporter) -> None:
    with tracing.begun("publish job", service="intake", ids={"job": "explain_1"}), tracing.begun("publish", service="intake", ids=IDS):
        pass
    feature, job = exporter.get_finished_spans()
    assert feature.context.trace_id != job.context.trace_id
    assert [link.context.span_id for link in feature.links] == [job.context.span_id]


def test_what_a_server_names_itself_is_cut(exporter: InMemorySpanExporter) -> None:
    with tracing.begun("publish", service="intake", ids={"job": "x" * 10_000}), tracing.span("chat " + "m" * 10_000, attributes={"none": None}):
        pass
    assert all(len(span.to_json()) < 2_000 for span in exporter.get_finished_spans())


def test_the_bytes_of_an_event_are_the_same_in_a_trace_and_outside(exporter: InMemorySpanExporter) -> None:
    outside = outgoing(DRAFT)
    with tracing.begun("publish", service="intake", ids=IDS):
        inside = outgoing(DRAFT)
    assert (inside.topic, inside.key, inside.value) == (outside.topic, outside.key, outside.value)
    assert [name for name, _ in inside.headers[len(outside.headers) :]] == ["traceparent"]
    assert inside.headers[: len(outside.headers)] == outside.headers


def test_while_tracing_is_off_no_record_names_a_trace() -> None:
    with tracing.begun("publish", service="intake", ids=IDS), tracing.work(record(PARENT), service="context", ids=IDS), tracing.span("chat", attributes={}):
        tracing.note({"a": 1})
        tracing.failed(ValueError())
        assert tracing.headers() == ()
        assert "traceparent" not in dict(outgoing(DRAFT).headers)
    assert tracing.context_in(record(PARENT).headers) is None


def test_without_settings_nothing_of_the_sdk_is_imported() -> None:
    program = """
import sys
from mistudio_explain.cli.start import prepare
import mistudio_explain.cli.serve, mistudio_explain.generation.service, mistudio_explain.context.service, mistudio_explain.validation.service
prepare(config=None, profile=None)
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_endpoint_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(BadSettings, match="extra `otel`"):
        tracing.configure(TracingSettings(endpoint="http://127.0.0.1:4318"), "1")
    assert not tracing.is_on()


def test_a_collector_that_is_away_costs_its_spans_is_said_and_holds_up_no_exit() -> None:
    program = """
import sys
from mistudio_explain.observability import tracing
from mistudio_explain.settings import TracingSettings
tracing.configure(TracingSettings(endpoint="http://127.0.0.1:9"), "1")
for number in range(5000):
    with tracing.begun("publish", service="intake", ids={}):
        pass
print("done", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        ended = time.monotonic()
        _, said = process.communicate(timeout=60)
    assert time.monotonic() - ended < LONGEST_EXIT_S
    assert process.returncode == 0
    assert "Failed to export spans" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("wrong", [{"endpoint": "127.0.0.1:4318"}, {"endpoint": "http://user:secret@collector"}, {"sample_ratio": 1.5}, {"headers": {}}])
def test_settings_that_name_no_collector_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TracingSettings.model_validate(wrong)


def test_lines_in_the_work_on_an_event_name_its_job_and_feature_and_those_about_a_server_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", as_json=True)
    log = structlog.get_logger("a")
    with working_on(Received(DRAFT, record()), service="validation"):
        log.info("answers.away")
        log.info("llm.away", endpoint="gpu0")
    log.info("serving")
    away, server, after = capsys.readouterr().err.splitlines()
    assert f'"job": "{DRAFT.subject.explain_job_id}"' in away
    assert f'"feature": "{DRAFT.subject.feature_key}"' in away
    assert '"job"' not in server + after

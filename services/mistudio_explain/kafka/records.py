"""Events on their way in and out: a record's event, coordinates and envelope headers."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiokafka import ConsumerRecord

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import (
    DeadLetter,
    EscalationCandidate,
    ExplanationDrafted,
    ExplanationRequested,
    FeatureOutcome,
    FeatureReviewed,
    Subject,
    TokenChunk,
)
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.identity import background_key, outcome_key
from mistudio_explain.events.job import Admission, Coordinates, JobBackground, JobEvent, JobReport, PartitionPaused
from mistudio_explain.events.model import Record
from mistudio_explain.observability import tracing

E = TypeVar("E", bound=Record)
R = TypeVar("R", bound=Record)

HEADER_EVENT = "mse-event"
HEADER_JOB = "mse-job"
HEADER_FEATURE = "mse-feature-key"
HEADER_REVISION = "mse-revision"
HEADER_SOURCE = "mse-source"
HEADER_REQUEST = "mse-request"
HEADER_ATTEMPT = "mse-attempt"
"""How often the record was redelivered; absent means never."""
HEADER_NOT_BEFORE = "mse-not-before"
"""When a record of a retry topic is to be redelivered, milliseconds since 1970 UTC."""
HEADER_ORIGIN = "mse-origin"
"""Where a redelivered record first stood, topic/partition/offset; its dead letter is keyed by it."""


@dataclass(frozen=True, slots=True)
class Received(Generic[E]):
    """An event, and the record that it was read from."""

    event: E
    record: ConsumerRecord
    job_revision: int = 0
    """Of a feature: the revision of its job that it was sent for; a retry raises the outcome's revision and not this one."""

    @property
    def source(self) -> Coordinates:
        """Where the original feature stands: what the envelope says (a replay, a retry), else this record."""
        return coordinates_in(self.record, HEADER_SOURCE) or coordinates_of(self.record)

    @property
    def written_ms(self) -> int | None:
        """When the record was written, milliseconds since 1970 UTC, as Kafka dates it; None where it does not."""
        return self.record.timestamp if self.record.timestamp >= 0 else None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to publish; without a value it is a tombstone. A key in bytes, or none, is one that someone else chose."""

    topic: str
    key: str | bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None
    """When it was first written, for a record that is written again; absent: now."""


def coordinates_of(record: ConsumerRecord) -> Coordinates:
    """Where a record stands."""
    return Coordinates(topic=record.topic, partition=record.partition, offset=record.offset)


def coordinates_in(record: ConsumerRecord, header: str) -> Coordinates | None:
    """The topic/partition/offset that a header holds, None without the header; raises MalformedEvent for anything else."""
    raw = header_of(record, header)
    if raw is None:
        return None
    try:
        topic, partition, offset = raw.decode().rsplit("/", 2)
        return Coordinates(topic=topic, partition=int(partition), offset=int(offset))
    except ValueError as error:
        raise MalformedEvent(f"header {header} is {raw[:100]!r}, not topic/partition/offset") from error


def header_of(record: ConsumerRecord, header: str) -> bytes | None:
    """A header's value, None without it."""
    return next((value for name, value in record.headers if name == header), None)


def number_in(record: ConsumerRecord, header: str) -> int | None:
    """The whole number, 0 or greater, that a header holds, None without the header; raises MalformedEvent for anything else."""
    raw = header_of(record, header)
    if raw is None:
        return None
    if not raw.isdigit():
        raise MalformedEvent(f"header {header} is {raw[:100]!r}, not a whole number")
    return int(raw)


def received(model: type[R], record: ConsumerRecord) -> Received[R]:
    """Read a record as the event it should be; raises MalformedEvent.

    Revision and attempt of the envelope win over the body's, so that a retry copies bodies untouched.
    """
    event: Any = decode(model, record.value)
    revision, attempt = number_in(record, HEADER_REVISION), number_in(record, HEADER_ATTEMPT)
    if isinstance(event, ExplanationRequested) and attempt is not None and attempt != event.attempt:
        event = event.model_copy(update={"attempt": attempt})
    if isinstance(event, ExplanationRequested | ExplanationDrafted) and revision is not None and revision != event.subject.revision:
        event = event.model_copy(update={"subject": event.subject.retried_as(revision)})
    return Received(event, record)


def received_feature(record: ConsumerRecord) -> Received[FeatureFound]:
    """Read a feature; request block and revision of the envelope win over the body's, so that replays and retries copy bodies untouched."""
    feature = decode(FeatureFound, record.value)
    raw = header_of(record, HEADER_REQUEST)
    if raw is not None:
        feature = feature.model_copy(update={"request": decode(JobRequest, raw)})
    asked, revision = feature.effective_request, number_in(record, HEADER_REVISION)
    if revision is not None and revision != asked.revision:
        feature = feature.model_copy(update={"request": asked.model_copy(update={"revision": revision})})
    return Received(feature, record, asked.revision)


def outgoing(event: Record, *, topic: str | None = None) -> Outgoing:
    """Address an event: its topic (where its kind has but one), its key, its envelope, which names the trace that it is made in.

    Raises MalformedEvent when a text cannot be encoded.
    """
    kind = type(event).__name__
    default_topic, key, subject = _address(event)
    return Outgoing(topic or default_topic, key, encode(event), ((HEADER_EVENT, kind.encode()), *_subject_headers(subject), *tracing.headers()))


def ids_of(event: Record) -> dict[str, str]:
    """The job and the feature that an event is about, for logs and traces; what it is not about is absent."""
    match event:
        case FeatureFound():
            return {"job": event.effective_request.explain_job_id, "feature": event.feature_key}
        case ExplanationRequested() | ExplanationDrafted() | FeatureOutcome():
            return {"job": event.subject.explain_job_id, "feature": event.subject.feature_key}
        case EscalationCandidate():
            return ids_of(event.outcome)
        case DeadLetter():
            named = {"job": event.explain_job_id, "feature": event.feature_key}
            return {name: value for name, value in named.items() if value is not None}
        case JobEvent() | JobReport():
            return {"job": event.explain_job_id}
        case _:
            return {}


def _subject_headers(subject: Subject | None) -> tuple[tuple[str, bytes], ...]:
    if subject is None:
        return ()
    return (
        (HEADER_JOB, subject.explain_job_id.encode()),
        (HEADER_FEATURE, subject.feature_key.encode()),
        (HEADER_REVISION, str(subject.revision).encode()),
    )


def _address(event: Record) -> tuple[str, str, Subject | None]:
    """Topic, key, and the subject that the envelope names."""
    match event:
        case FeatureFound():
            return topics.FEATURES, event.target_model, None
        case JobEvent():
            return topics.JOBS, event.key, None
        case Admission():
            return topics.ADMISSIONS, outcome_key(event.explain_job_id, event.feature_key), None
        case JobBackground():
            return topics.BACKGROUNDS, background_key(event.tenant, event.find_job_id), None
        case ExplanationRequested():
            return topics.SHARED, event.event_id, event.subject
        case ExplanationDrafted():
            return topics.DRAFTS, _subject_key(event.subject), event.subject
        case FeatureOutcome():
            return topics.EXPLANATIONS, _subject_key(event.subject), event.subject
        case EscalationCandidate():
            return topics.ESCALATIONS, _subject_key(event.outcome.subject), event.outcome.subject
        case FeatureReviewed():
            return topics.REVIEWS, outcome_key(event.explain_job_id, event.feature_key), None
        case TokenChunk():
            return topics.TOKENS, event.event_id, None
        case JobReport():
            return topics.REPORTS, event.explain_job_id, None
        case DeadLetter():
            return topics.DEAD_LETTERS, f"{event.source.topic}/{event.source.partition}/{event.source.offset}", None
        case PartitionPaused():
            return topics.PAUSES, event.key, None
        case _:
            raise TypeError(f"{type(event).__name__} does not travel on a topic of its own")


def _subject_key(subject: Subject) -> str:
    return outcome_key(subject.explain_job_id, subject.feature_key)

"""Events on their way in and out: a record's event, coordinates and envelope headers."""

from dataclasses import dataclass
from typing import Generic, TypeVar

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
from mistudio_explain.events.job import Admission, Coordinates, JobBackground, JobEvent, JobReport
from mistudio_explain.events.model import Record

E = TypeVar("E", bound=Record)
R = TypeVar("R", bound=Record)

HEADER_EVENT = "mse-event"
HEADER_JOB = "mse-job"
HEADER_FEATURE = "mse-feature-key"
HEADER_REVISION = "mse-revision"
HEADER_SOURCE = "mse-source"
HEADER_REQUEST = "mse-request"


@dataclass(frozen=True, slots=True)
class Received(Generic[E]):
    """An event, and the record that it was read from."""

    event: E
    record: ConsumerRecord

    @property
    def source(self) -> Coordinates:
        """Where the original feature stands: what the envelope says (a replay, a retry), else this record."""
        raw = dict(self.record.headers).get(HEADER_SOURCE)
        if raw is None:
            return coordinates_of(self.record)
        try:
            topic, partition, offset = raw.decode().rsplit("/", 2)
            return Coordinates(topic=topic, partition=int(partition), offset=int(offset))
        except ValueError as error:
            raise MalformedEvent(f"header {HEADER_SOURCE} is {raw[:100]!r}, not topic/partition/offset") from error


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to publish; without a value it is a tombstone."""

    topic: str
    key: str
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def coordinates_of(record: ConsumerRecord) -> Coordinates:
    """Where a record stands."""
    return Coordinates(topic=record.topic, partition=record.partition, offset=record.offset)


def received(model: type[R], record: ConsumerRecord) -> Received[R]:
    """Read a record as the event it should be; raises MalformedEvent."""
    return Received(decode(model, record.value), record)


def received_feature(record: ConsumerRecord) -> Received[FeatureFound]:
    """Read a feature; a request block in the envelope wins over the body's, so that a replay copies bodies untouched."""
    feature = decode(FeatureFound, record.value)
    raw = dict(record.headers).get(HEADER_REQUEST)
    return Received(feature if raw is None else feature.model_copy(update={"request": decode(JobRequest, raw)}), record)


def outgoing(event: Record, *, topic: str | None = None) -> Outgoing:
    """Address an event: its topic (where its kind has but one), its key, its envelope.

    Raises MalformedEvent when a text cannot be encoded.
    """
    kind = type(event).__name__
    default_topic, key, subject = _address(event)
    return Outgoing(topic or default_topic, key, encode(event), ((HEADER_EVENT, kind.encode()), *_subject_headers(subject)))


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
        case _:
            raise TypeError(f"{type(event).__name__} does not travel on a topic of its own")


def _subject_key(subject: Subject) -> str:
    return outcome_key(subject.explain_job_id, subject.feature_key)

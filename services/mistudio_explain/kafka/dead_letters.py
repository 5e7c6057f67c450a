"""What is written when a record is given up: the dead letter, and the feature's `failed` outcome where it can be named."""

from aiokafka import ConsumerRecord

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import decode, event_name
from mistudio_explain.events.explanation import DeadLetter, ExplanationDrafted, ExplanationRequested, FeatureOutcome, OutcomeKind, Subject
from mistudio_explain.events.topics import ADMISSIONS, DEAD_LETTERS, DRAFTS, ESCALATIONS, EXPLANATIONS
from mistudio_explain.kafka.records import HEADER_FEATURE, HEADER_JOB, HEADER_REVISION, Outgoing, coordinates_of, outgoing, received_feature

_ENVELOPE_BYTES = 64 << 10  # what a dead letter needs beside the raw value
_MESSAGE_LENGTH = 2000
_KEYED_BY_FEATURE = frozenset({ADMISSIONS, DRAFTS, ESCALATIONS, EXPLANATIONS})


def give_up(record: ConsumerRecord, error: Exception, *, service: str, attempts: int, now_ms: int, limit_bytes: int) -> list[Outgoing]:
    """The records that a given-up record leaves behind; both are to be confirmed before its offset is committed.

    A value that does not fit into `limit_bytes` is cut and marked; its coordinates tell where the whole stands.
    """
    subject = subject_of(record)
    room = max(0, limit_bytes - _ENVELOPE_BYTES)
    reason = f"{type(error).__name__}: {error}"[:_MESSAGE_LENGTH]
    letter = DeadLetter(
        source=coordinates_of(record),
        service=service,
        raw=None if record.value is None else record.value[:room],
        raw_key=record.key,
        headers={name: value or b"" for name, value in record.headers},
        truncated=len(record.value or b"") > room,
        error=type(error).__name__,
        message=str(error).encode("utf-8", "replace").decode()[:_MESSAGE_LENGTH],
        attempts=attempts,
        explain_job_id=subject.explain_job_id if subject else None,
        feature_key=subject.feature_key if subject else None,
        at_ms=now_ms,
    )
    letters = [outgoing(letter, topic=DEAD_LETTERS)]
    if subject is not None:
        letters.append(outgoing(FeatureOutcome(outcome=OutcomeKind.FAILED, reason=reason.encode("utf-8", "replace").decode(), subject=subject)))
    return letters


def subject_of(record: ConsumerRecord) -> Subject | None:
    """Name the feature that a record is about: from its event, else from its envelope, else from its key."""
    try:
        return _from_event(record)
    except (MalformedEvent, ValueError):
        return _from_envelope(record) or _from_key(record)


def _from_event(record: ConsumerRecord) -> Subject:
    match event_name(record.value or b""):
        case "ExplanationRequested":
            return decode(ExplanationRequested, record.value).subject
        case "ExplanationDrafted":
            return decode(ExplanationDrafted, record.value).subject
        case _:
            return Subject.of(received_feature(record).event, coordinates_of(record))


def _from_envelope(record: ConsumerRecord) -> Subject | None:
    headers = dict(record.headers)
    try:
        return Subject(
            explain_job_id=headers[HEADER_JOB].decode(),
            feature_key=headers[HEADER_FEATURE].decode(),
            revision=int(headers.get(HEADER_REVISION, b"0")),
            source=coordinates_of(record),
        )
    except (KeyError, ValueError, AttributeError):
        return None


def _from_key(record: ConsumerRecord) -> Subject | None:
    if record.topic not in _KEYED_BY_FEATURE:
        return None
    job, separator, feature = (record.key or b"").decode("utf-8", "replace").partition("|")
    try:
        return Subject(explain_job_id=job, feature_key=feature, source=coordinates_of(record)) if separator else None
    except ValueError:
        return None

"""What is written when a record fails: the letter that carries it to a retry topic or to the dead letters, and the `failed` outcome."""

from dataclasses import replace

from aiokafka import ConsumerRecord

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import event_name
from mistudio_explain.events.explanation import (
    DeadLetter,
    EscalationCandidate,
    ExplanationDrafted,
    ExplanationRequested,
    FeatureOutcome,
    Header,
    OutcomeKind,
    Subject,
)
from mistudio_explain.events.job import Coordinates
from mistudio_explain.events.model import Record
from mistudio_explain.events.topics import ADMISSIONS, DRAFTS, ESCALATIONS, EXPLANATIONS
from mistudio_explain.kafka.records import (
    HEADER_ATTEMPT,
    HEADER_FEATURE,
    HEADER_JOB,
    HEADER_NOT_BEFORE,
    HEADER_ORIGIN,
    HEADER_REVISION,
    Outgoing,
    coordinates_in,
    coordinates_of,
    number_in,
    outgoing,
    received,
    received_feature,
)

_ENVELOPE_BYTES = 64 << 10  # what a dead letter needs beside the raw value
_MESSAGE_LENGTH = 2000
_KEYED_BY_FEATURE = frozenset({ADMISSIONS, DRAFTS, ESCALATIONS, EXPLANATIONS})


def give_up(record: ConsumerRecord, error: Exception, *, service: str, now_ms: int, limit_bytes: int, escalates: bool = False) -> list[Record]:
    """What a given-up record leaves behind; all of it is to be confirmed before its offset is committed.

    A value that does not fit into `limit_bytes` is cut and marked; its coordinates tell where the whole stands. Where it
    `escalates`, a request of a first pass is a candidate of the second. A second pass that fails lets the first one's
    draft count: it is sent to validation again, with a flag that says so.
    """
    subject = subject_of(record)
    left: list[Record] = [_letter(record, error, subject, service=service, now_ms=now_ms, limit_bytes=limit_bytes)]
    if subject is None:
        return left
    request = _request_in(record)
    if request is not None and (draft := _first_draft(request, error)) is not None:
        return [*left, draft]
    reason = f"{type(error).__name__}: {error}"[:_MESSAGE_LENGTH].encode("utf-8", "replace").decode()
    outcome = FeatureOutcome(outcome=OutcomeKind.FAILED, reason=reason, subject=subject, pass_number=request.pass_number if request else 1)
    left.append(outcome)
    if escalates and request is not None and request.pass_number == 1:
        left.append(EscalationCandidate(outcome=outcome, request=request, why=f"it failed: {reason}"[:_MESSAGE_LENGTH]))
    return left


def _request_in(record: ConsumerRecord) -> ExplanationRequested | None:
    try:
        return received(ExplanationRequested, record).event if event_name(record.value or b"") == "ExplanationRequested" else None
    except MalformedEvent:
        return None


def _first_draft(request: ExplanationRequested, error: Exception) -> ExplanationDrafted | None:
    """The draft of the first pass, marked with what became of the second; None when there is none."""
    first = request.first_pass
    if request.pass_number != 2 or first is None:
        return None
    return ExplanationDrafted(
        subject=request.subject,
        evidence=request.evidence,
        answer=first.answer,
        generation=first.generation,
        prompt=first.prompt,
        complexity=request.complexity,
        pass_number=2,
        flags=[*first.flags, "second_pass", f"second_pass_failed:{type(error).__name__}"],
        caveats=request.caveats,
    )


def try_later(record: ConsumerRecord, error: Exception, *, topic: str, service: str, not_before_ms: int, now_ms: int, limit_bytes: int) -> Outgoing | None:
    """The record that waits in a retry topic until `not_before_ms`; None when it does not fit there whole."""
    letter = _letter(record, error, subject_of(record), service=service, now_ms=now_ms, limit_bytes=limit_bytes)
    if letter.truncated:
        return None
    made = outgoing(letter, topic=topic)
    envelope = ((HEADER_ATTEMPT, str(attempt_of(record) + 1).encode()), (HEADER_NOT_BEFORE, str(not_before_ms).encode()))
    return replace(made, headers=(*made.headers, *envelope))


def attempt_of(record: ConsumerRecord) -> int:
    """How often a record was redelivered."""
    try:
        return number_in(record, HEADER_ATTEMPT) or 0
    except MalformedEvent:
        return 0


def _letter(record: ConsumerRecord, error: Exception, subject: Subject | None, *, service: str, now_ms: int, limit_bytes: int) -> DeadLetter:
    room = max(0, limit_bytes - _ENVELOPE_BYTES)
    tries: int = getattr(error, "attempts", 1)
    headers: dict[str, bytes] = {}
    further: list[Header] = []
    for name, value in record.headers:
        if name in headers:
            further.append(Header(name=name, value=value or b""))
        else:
            headers[name] = value or b""
    return DeadLetter(
        source=_origin_of(record),
        service=service,
        raw=None if record.value is None else record.value[:room],
        raw_key=record.key,
        headers=headers,
        further_headers=further,
        truncated=len(record.value or b"") > room,
        error=type(error).__name__,
        message=str(error).encode("utf-8", "replace").decode()[:_MESSAGE_LENGTH],
        attempts=tries * (attempt_of(record) + 1),  # each delivery has the same number of inline tries
        explain_job_id=subject.explain_job_id if subject else None,
        feature_key=subject.feature_key if subject else None,
        at_ms=now_ms,
    )


def _origin_of(record: ConsumerRecord) -> Coordinates:
    """Where a record first stood, so that however often it is redelivered it has one dead letter."""
    try:
        return coordinates_in(record, HEADER_ORIGIN) or coordinates_of(record)
    except MalformedEvent:
        return coordinates_of(record)


def subject_of(record: ConsumerRecord) -> Subject | None:
    """Name the feature that a record is about: from its event, else from its envelope, else from its key."""
    try:
        return _from_event(record)
    except (MalformedEvent, ValueError):
        return _from_envelope(record) or _from_key(record)


def _from_event(record: ConsumerRecord) -> Subject:
    match event_name(record.value or b""):
        case "ExplanationRequested":
            return received(ExplanationRequested, record).event.subject
        case "ExplanationDrafted":
            return received(ExplanationDrafted, record).event.subject
        case _:
            feature = received_feature(record)
            return Subject.of(feature.event, feature.source, feature.job_revision, feature.written_ms)


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

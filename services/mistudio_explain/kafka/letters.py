"""Dead letters and what becomes of them: the record that a letter holds, as it is produced again."""

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, event_name
from mistudio_explain.events.explanation import DeadLetter, EscalationCandidate, ExplanationDrafted, ExplanationRequested, FeatureOutcome
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.kafka.records import HEADER_ATTEMPT, HEADER_NOT_BEFORE, HEADER_ORIGIN, HEADER_REQUEST, HEADER_REVISION, HEADER_SOURCE, Outgoing
from mistudio_explain.observability import tracing

_OF_FEATURES = frozenset({topics.FEATURES, topics.REQUESTS, topics.REPLAYS})
_NOT_OURS = frozenset({topics.FEATURES, topics.REQUESTS})  # topics that others write: what they said once stays said once


def redelivered(letter: DeadLetter, *, attempt: int, revision: int | None) -> Outgoing:
    """The record of a letter as it goes to its service again: key and value untouched, headers as they were but for the envelope's news.

    It goes to the topic where it stood, a public input to explain.replays, and goes on with the trace at hand, else with its own.
    `attempt` says how often it was redelivered before this, `revision` None keeps the revision that it has. `mse-origin` names
    where it first stood, so that a next letter about it takes this one's place; a feature's `mse-source` stays what it was.
    """
    first = f"{letter.source.topic}/{letter.source.partition}/{letter.source.offset}".encode()
    news = {HEADER_ATTEMPT: str(attempt).encode(), HEADER_ORIGIN: first, **dict(tracing.headers())}
    if revision is not None:
        news[HEADER_REVISION] = str(revision).encode()
    if letter.source.topic in _OF_FEATURES and HEADER_SOURCE not in letter.headers:
        news[HEADER_SOURCE] = first
    kept = [(name, value) for name, value in letter.all_headers if name != HEADER_NOT_BEFORE and name not in news]
    topic = topics.REPLAYS if letter.source.topic in _NOT_OURS else letter.source.topic
    return Outgoing(topic, letter.raw_key, letter.raw, (*kept, *news.items()))


def revision_of(letter: DeadLetter) -> int:
    """The revision of a letter's record: its envelope's, else its body's, else 0."""
    header = letter.headers.get(HEADER_REVISION, b"")
    if header.isdigit():
        return int(header)
    try:
        return _revision_in_body(letter)
    except (MalformedEvent, ValueError):
        return 0


def _revision_in_body(letter: DeadLetter) -> int:
    value = letter.raw or b""
    match event_name(value):
        case "FeatureFound" if HEADER_REQUEST in letter.headers:
            return decode(JobRequest, letter.headers[HEADER_REQUEST]).revision
        case "FeatureFound":
            return decode(FeatureFound, value).effective_request.revision
        case "ExplanationRequested":
            return decode(ExplanationRequested, value).subject.revision
        case "ExplanationDrafted":
            return decode(ExplanationDrafted, value).subject.revision
        case "FeatureOutcome":
            return decode(FeatureOutcome, value).subject.revision
        case "EscalationCandidate":
            return decode(EscalationCandidate, value).outcome.subject.revision
        case _:
            return 0

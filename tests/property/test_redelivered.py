"""A letter's record goes to its service again as it was, with an envelope that says what is new."""

from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.events import topics
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import DeadLetter, Header
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.job import Coordinates
from mistudio_explain.kafka.letters import redelivered, revision_of
from mistudio_explain.kafka.records import Outgoing, received_feature

_TOPICS = st.sampled_from([topics.FEATURES, topics.REQUESTS, topics.REPLAYS, topics.SHARED, topics.DRAFTS, topics.EXPLANATIONS, "mistudio.explain.prompts.m"])
_ENVELOPE = ["mse-event", "mse-job", "mse-revision", "mse-source", "mse-request", "mse-attempt", "mse-origin", "mse-not-before"]
_HEADERS = st.dictionaries(st.sampled_from(_ENVELOPE) | st.text(max_size=8), st.binary(max_size=12), max_size=8)


@st.composite
def letters(draw: st.DrawFn) -> DeadLetter:
    return DeadLetter(
        source=Coordinates(topic=draw(_TOPICS), partition=draw(st.integers(0, 9)), offset=draw(st.integers(0, 2**40))),
        service="context",
        raw=draw(st.none() | st.binary(max_size=40)),
        raw_key=draw(st.none() | st.binary(max_size=12)),
        headers=(headers := draw(_HEADERS)),
        further_headers=draw(st.lists(st.builds(Header, name=st.sampled_from(sorted(headers)), value=st.binary(max_size=12)), max_size=3)) if headers else [],
        error="MalformedEvent",
        message="why",
        attempts=1,
        at_ms=5,
    )


def as_read(sent: Outgoing, *, offset: int = 11) -> ConsumerRecord:
    key = sent.key.encode() if isinstance(sent.key, str) else sent.key
    return ConsumerRecord(sent.topic, 0, offset, 1000, 0, key, sent.value, 0, 0, 0, sent.headers)


def heads(sent: Outgoing) -> dict[str, bytes]:
    """The headers as services read them: the first of a name counts."""
    return dict(reversed(sent.headers))


@given(letter=letters(), attempt=st.integers(0, 3), revision=st.none() | st.integers(0, 2**40))
def test_key_value_and_foreign_headers_are_untouched(letter: DeadLetter, attempt: int, revision: int | None) -> None:
    sent = redelivered(letter, attempt=attempt, revision=revision)
    assert (sent.key, sent.value) == (letter.raw_key, letter.raw)
    changed = {"mse-attempt", "mse-origin", "mse-not-before", "mse-source"} | ({"mse-revision"} if revision is not None else set())
    names = [name for name, _ in sent.headers]
    assert all(names.count(name) == 1 for name in {"mse-attempt", "mse-origin"} | ({"mse-revision"} if revision is not None else set()))
    assert [(k, v) for k, v in sent.headers if k not in changed] == [(k, v) for k, v in letter.all_headers if k not in changed]


@given(letter=letters(), attempt=st.integers(0, 3), revision=st.none() | st.integers(0, 2**40))
def test_the_envelope_says_what_is_new(letter: DeadLetter, attempt: int, revision: int | None) -> None:
    headers = heads(redelivered(letter, attempt=attempt, revision=revision))
    where = f"{letter.source.topic}/{letter.source.partition}/{letter.source.offset}".encode()
    assert headers["mse-attempt"] == str(attempt).encode()
    assert headers["mse-origin"] == where
    assert "mse-not-before" not in headers
    assert headers.get("mse-revision") == (letter.headers.get("mse-revision") if revision is None else str(revision).encode())


@given(letter=letters())
def test_no_public_input_is_written_to_and_a_feature_keeps_its_first_source(letter: DeadLetter) -> None:
    sent = redelivered(letter, attempt=0, revision=None)
    assert sent.topic == (topics.REPLAYS if letter.source.topic in (topics.FEATURES, topics.REQUESTS) else letter.source.topic)
    if sent.topic == topics.REPLAYS:
        where = f"{letter.source.topic}/{letter.source.partition}/{letter.source.offset}".encode()
        assert heads(sent)["mse-source"] == letter.headers.get("mse-source", where)
    else:
        assert heads(sent).get("mse-source") == letter.headers.get("mse-source")


@given(letter=letters())
def test_a_revision_is_a_whole_number_whatever_the_letter_holds(letter: DeadLetter) -> None:
    assert revision_of(letter) >= 0


@given(
    body=st.none() | st.integers(0, 9),
    block=st.none() | st.integers(0, 9),
    header=st.none() | st.integers(0, 9),
    topic=st.sampled_from([topics.FEATURES, topics.REQUESTS, topics.REPLAYS]),
)
def test_a_retried_feature_is_one_revision_on_and_of_the_same_source(body: int | None, block: int | None, header: int | None, topic: str) -> None:
    request = None if body is None else JobRequest(explain_job_id="explain_1", revision=body)
    feature = FeatureFound(target_model="m", find_job_id="find_1", feature_id="5", request=request)
    headers = [("mse-request", encode(JobRequest(explain_job_id="explain_9", revision=block)))] if block is not None else []
    headers += [("mse-revision", str(header).encode())] if header is not None else []
    first = ConsumerRecord(topic, 2, 7, 1000, 0, b"m", encode(feature), 0, 0, 0, tuple(headers))
    letter = DeadLetter(
        source=Coordinates(topic=topic, partition=2, offset=7),
        service="context",
        raw=first.value,
        raw_key=first.key,
        headers=dict(headers),
        error="MalformedEvent",
        message="why",
        attempts=3,
        at_ms=5,
    )
    before = received_feature(first)

    again = received_feature(as_read(redelivered(letter, attempt=0, revision=revision_of(letter) + 1)))
    assert again.event.effective_request.revision == before.event.effective_request.revision + 1
    assert again.event.effective_request.explain_job_id == before.event.effective_request.explain_job_id
    assert again.source == before.source == Coordinates(topic=topic, partition=2, offset=7)

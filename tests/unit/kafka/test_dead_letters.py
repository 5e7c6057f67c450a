"""What a given-up record leaves behind."""

from aiokafka import ConsumerRecord

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import DeadLetter, FeatureOutcome, OutcomeKind
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.kafka.dead_letters import attempt_of, give_up, try_later
from mistudio_explain.kafka.letters import redelivered
from mistudio_explain.kafka.records import outgoing, received_feature


class ThirdTime(MalformedEvent):
    attempts = 3


def record(topic: str, value: bytes | None, key: bytes | None = None, headers: tuple[tuple[str, bytes], ...] = ()) -> ConsumerRecord:
    return ConsumerRecord(topic, 2, 7, 1000, 0, key, value, 0, 0, 0, headers)


def left_behind(given_up: ConsumerRecord, limit_bytes: int = 1 << 20) -> tuple[DeadLetter, FeatureOutcome | None]:
    letters = [outgoing(each) for each in give_up(given_up, ThirdTime("why"), service="context", now_ms=5, limit_bytes=limit_bytes)]
    assert letters[0].topic == topics.DEAD_LETTERS
    assert letters[0].key == f"{given_up.topic}/2/7"
    outcome = decode(FeatureOutcome, letters[1].value) if len(letters) > 1 else None
    return decode(DeadLetter, letters[0].value), outcome


def test_a_letter_holds_the_raw_record_and_the_reason() -> None:
    letter, outcome = left_behind(record(topics.FEATURES, b"\xff\x00", b"key", (("x", b"\xfe"),)))
    assert (letter.raw, letter.raw_key, letter.headers, letter.truncated) == (b"\xff\x00", b"key", {"x": b"\xfe"}, False)
    assert (letter.error, letter.message, letter.attempts, letter.service) == ("ThirdTime", "why", 3, "context")
    assert outcome is None


def test_a_value_that_does_not_fit_is_cut_and_marked() -> None:
    letter, _ = left_behind(record(topics.FEATURES, b"x" * 200_000), limit_bytes=100_000)
    assert letter.truncated
    assert letter.raw is not None
    assert 0 < len(letter.raw) < 100_000
    tiny, _ = left_behind(record(topics.FEATURES, b"x" * 100), limit_bytes=10)
    assert (tiny.raw, tiny.truncated) == (b"", True)


def test_a_feature_that_can_be_read_fails_in_its_job() -> None:
    feature = FeatureFound(target_model="m", find_job_id="find_1", feature_id="5")
    _, outcome = left_behind(record(topics.FEATURES, encode(feature)))
    assert outcome is not None
    assert (outcome.outcome, outcome.reason) == (OutcomeKind.FAILED, "ThirdTime: why")
    assert (outcome.subject.explain_job_id, outcome.subject.feature_key) == ("explain_1", "5")


def test_a_broken_body_is_named_by_its_envelope_or_by_a_key_that_names_a_feature() -> None:
    _, by_envelope = left_behind(record(topics.FEATURES, b"?", None, (("mse-job", b"explain_2"), ("mse-feature-key", b"9"))))
    assert by_envelope is not None
    assert by_envelope.subject.explain_job_id == "explain_2"
    _, by_key = left_behind(record(topics.DRAFTS, b"?", b"explain_3|7"))
    assert by_key is not None
    assert by_key.subject.feature_key == "7"


def test_keys_of_other_topics_never_make_a_phantom_feature() -> None:
    for topic, key in ((topics.JOBS, b"explain_1|sealed"), (topics.FEATURES, b"a|b"), (topics.BACKGROUNDS, b"default|find_1")):
        assert left_behind(record(topic, b"?", key))[1] is None


def redelivery_of(waiting: ConsumerRecord) -> ConsumerRecord:
    """A record's next delivery, at a place of its own."""
    later = try_later(waiting, ThirdTime("why"), topic=topics.RETRY_SHORT, service="context", not_before_ms=99, now_ms=5, limit_bytes=1 << 20)
    assert later is not None
    letter = record(topics.RETRY_SHORT, later.value, None, later.headers)
    again = redelivered(decode(DeadLetter, later.value), attempt=attempt_of(letter), revision=None)
    return ConsumerRecord(again.topic, 1, 3, 2000, 0, again.key, again.value, 0, 0, 0, again.headers)


def test_however_often_a_record_is_redelivered_it_stays_the_same_and_its_letter_keeps_the_first_place() -> None:
    feature = FeatureFound(target_model="m", find_job_id="find_1", feature_id="5")
    first = record(topics.FEATURES, encode(feature), b"m", (("x", b"1"),))
    third = redelivery_of(redelivery_of(first))
    assert (third.topic, third.key, third.value, attempt_of(third)) == (topics.REPLAYS, b"m", first.value, 2)
    assert ("x", b"1") in third.headers
    source = received_feature(third).source
    assert (source.topic, source.partition, source.offset) == (topics.FEATURES, 2, 7)
    letter = give_up(third, ThirdTime("why"), service="context", now_ms=5, limit_bytes=1 << 20)[0]
    assert isinstance(letter, DeadLetter)
    assert (letter.source.topic, letter.source.partition, letter.source.offset) == (topics.FEATURES, 2, 7)
    assert letter.attempts == 9


def test_headers_of_one_name_are_kept_in_their_order_however_often_the_record_is_redelivered() -> None:
    headers = (("x", b"1"), ("trace", b"a"), ("x", b"2"), ("trace", b"b"), ("trace", b"a"))
    letter, _ = left_behind(record(topics.DRAFTS, b"?", b"k", headers))
    assert (letter.headers, letter.all_headers[2:]) == ({"x": b"1", "trace": b"a"}, list(headers[2:]))
    again = redelivery_of(redelivery_of(record(topics.DRAFTS, b"?", b"k", headers)))
    for name in ("x", "trace"):
        assert [value for each, value in again.headers if each == name] == [value for each, value in headers if each == name]


def test_a_record_that_does_not_fit_into_a_retry_topic_whole_does_not_wait_there() -> None:
    large = record(topics.FEATURES, b"x" * 200_000)
    assert try_later(large, ThirdTime("why"), topic=topics.RETRY_SHORT, service="c", not_before_ms=0, now_ms=0, limit_bytes=100_000) is None


def test_a_feature_that_fails_in_a_service_was_published_when_its_record_was_written() -> None:
    _, outcome = left_behind(record(topics.FEATURES, encode(FeatureFound(target_model="m", find_job_id="find_1", feature_id="5"))))
    assert outcome is not None
    assert outcome.subject.published_ms == 1000

"""What becomes of a failed record, decision by decision."""

import asyncio
from collections.abc import Iterable

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from mistudio_explain.errors import EvidenceError, ExplainError, MalformedEvent
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.explanation import DeadLetter
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import PartitionPaused
from mistudio_explain.kafka.faults import Faults, is_repeatable
from mistudio_explain.kafka.records import HEADER_ATTEMPT, HEADER_NOT_BEFORE, Outgoing
from mistudio_explain.settings import RetrySettings

FIRST = TopicPartition(topics.FEATURES, 0)


class Once(ExplainError):
    """A failure that a repetition may help."""


class Desk:
    """Faults with a clock in hand, and what they published."""

    def __init__(self, *, pauses: bool = True, **settings: float) -> None:
        self.now = 100.0
        self.sent: list[Outgoing] = []
        self.refuses: str | None = None
        self.faults = Faults(
            RetrySettings.model_validate(settings),
            limit_bytes=1 << 20,
            publish=self._publish,
            now_ms=lambda: int(1000 * self.now),
            pauses=pauses,
            monotonic=lambda: self.now,
        )

    async def _publish(self, records: Iterable[Outgoing]) -> None:
        kept = list(records)
        if self.refuses in [record.topic for record in kept]:
            raise asyncio.CancelledError  # the partition was lost to another while this waited for the broker
        self.sent += kept

    async def fail(self, error: Exception, *, attempt: bytes | None = None, partition: int = 0) -> list[str]:
        """Let a record fail; returns the topics written to."""
        self.sent.clear()
        headers = () if attempt is None else ((HEADER_ATTEMPT, attempt),)
        value = encode(FeatureFound(target_model="m", find_job_id="find_1", feature_id="5"))
        await self.faults.failed(ConsumerRecord(topics.FEATURES, partition, 7, 1000, 0, b"m", value, 0, 0, 0, headers), error, service="context")
        return [record.topic for record in self.sent]


@pytest.mark.parametrize(
    ("attempt", "goes_to"),
    [(None, [topics.RETRY_SHORT]), (b"1", [topics.RETRY_LONG]), (b"2", [topics.DEAD_LETTERS, topics.EXPLANATIONS]), (b"nonsense", [topics.RETRY_SHORT])],
)
async def test_a_record_waits_twice_and_is_then_given_up(attempt: bytes | None, goes_to: list[str]) -> None:
    assert await Desk().fail(Once("why"), attempt=attempt) == goes_to


async def test_the_wait_is_written_beside_the_letter() -> None:
    desk = Desk(short_s=30)
    await desk.fail(Once("why"))
    headers = dict(desk.sent[0].headers)
    assert (headers[HEADER_ATTEMPT], headers[HEADER_NOT_BEFORE]) == (b"1", b"130000")
    assert decode(DeadLetter, desk.sent[0].value).error == "Once"


@pytest.mark.parametrize("error", [MalformedEvent("bad"), EvidenceError("no texts")])
async def test_what_no_repetition_helps_is_given_up_at_once(error: ExplainError) -> None:
    assert await Desk().fail(error) == [topics.DEAD_LETTERS, topics.EXPLANATIONS]


def test_an_error_that_nobody_foresaw_may_help_itself() -> None:
    assert is_repeatable(ZeroDivisionError())
    assert is_repeatable(Once())
    assert not is_repeatable(MalformedEvent())


async def test_a_rate_above_the_limit_pauses_that_partition_and_no_other() -> None:
    desk = Desk(dead_letters=3, window_s=60)
    for _ in range(3):
        assert topics.PAUSES not in await desk.fail(MalformedEvent("bad"))
        desk.now += 1
    assert not desk.faults.is_paused("context", FIRST)
    assert (await desk.fail(MalformedEvent("bad")))[-1] == topics.PAUSES
    pause = decode(PartitionPaused, desk.sent[-1].value)
    assert (pause.service, pause.topic, pause.partition, pause.letters) == ("context", topics.FEATURES, 0, 4)
    assert desk.faults.is_paused("context", FIRST)
    assert not desk.faults.is_paused("context", TopicPartition(topics.FEATURES, 1))
    assert not desk.faults.is_paused("validation", FIRST)
    assert desk.faults.paused(["context"]) == [pause]
    assert desk.faults.paused(["validation"]) == []


async def test_letters_spread_over_time_pause_nothing() -> None:
    desk = Desk(dead_letters=3, window_s=60)
    for _ in range(20):
        assert topics.PAUSES not in await desk.fail(MalformedEvent("bad"))
        desk.now += 25


async def test_where_nobody_could_resume_nothing_is_paused() -> None:
    desk = Desk(pauses=False, dead_letters=1)
    for _ in range(5):
        assert topics.PAUSES not in await desk.fail(MalformedEvent("bad"))


async def test_a_topic_that_a_service_reads_whole_is_not_said_to_be_paused_as_it_is_read_on() -> None:
    desk = Desk(dead_letters=1)
    desk.faults.read_whole("context", [FIRST.topic])
    for _ in range(5):
        assert topics.PAUSES not in await desk.fail(MalformedEvent("bad"))
    assert desk.faults.paused(["context"]) == []


async def test_a_pause_that_could_not_be_published_is_not_taken_for_one_and_comes_with_the_next_letter() -> None:
    desk = Desk(dead_letters=1)
    await desk.fail(MalformedEvent("bad"))
    desk.refuses = topics.PAUSES
    with pytest.raises(asyncio.CancelledError):
        await desk.fail(MalformedEvent("bad"))
    assert not desk.faults.is_paused("context", FIRST)
    desk.refuses = None
    assert topics.PAUSES in await desk.fail(MalformedEvent("bad"))
    assert desk.faults.is_paused("context", FIRST)


async def test_a_tombstone_lets_the_partition_go_on_and_counting_begins_anew() -> None:
    desk = Desk(dead_letters=2)
    for _ in range(3):
        await desk.fail(MalformedEvent("bad"))
    pause = desk.sent[-1]
    assert isinstance(pause.key, str)
    key = pause.key.encode()
    other = Desk()
    await other.faults.follow([ConsumerRecord(topics.PAUSES, 0, 0, 0, 0, key, pause.value, 0, 0, 0, ())])
    assert other.faults.is_paused("context", FIRST)  # another replica, or the same after a restart
    for each in (desk, other):
        await each.faults.follow([ConsumerRecord(topics.PAUSES, 0, 1, 0, 0, key, None, 0, 0, 0, ())])
        assert not each.faults.is_paused("context", FIRST)
    assert topics.PAUSES not in await desk.fail(MalformedEvent("bad"))

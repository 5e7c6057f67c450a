"""What becomes of a record that fails by its own fault: another try later, or a dead letter; and when a partition is paused.

One mechanism for every service. A handler has made its inline tries before it raises; then the record waits in
explain.retry.30s, then in explain.retry.5m, then it is given up. A record that no repetition can help is given up at
once. Each of these is confirmed by the broker before the record counts as finished. An outage never gets here: services
hold what they have.
"""

import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from mistudio_explain.errors import ExplainError, MalformedEvent, told
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import PartitionPaused
from mistudio_explain.events.topics import RETRY_LONG, RETRY_SHORT
from mistudio_explain.kafka.dead_letters import attempt_of, give_up, subject_of, try_later
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.observability.metrics import DEAD_LETTERS, PAUSED, RETRIES
from mistudio_explain.observability.outcomes import count
from mistudio_explain.settings import RetrySettings

log = structlog.get_logger(__name__)

Publish = Callable[[Iterable[Outgoing]], Awaitable[None]]
_Source = tuple[str, str, int]
"""Service, topic, partition."""


class Faults:
    """The faults of one process's records.

    `now_ms` is the wall clock, `monotonic` the one that windows are measured with. Where `pauses` is false (the embedded
    broker, whose run nobody could resume) a rate above the limit pauses nothing. Where it `escalates`, what a model failed
    to explain is a candidate of the second pass.
    """

    def __init__(
        self,
        settings: RetrySettings,
        *,
        limit_bytes: int,
        publish: Publish,
        now_ms: Callable[[], int],
        pauses: bool,
        escalates: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._limit_bytes = limit_bytes
        self._publish = publish
        self._now_ms = now_ms
        self._pauses = pauses
        self._escalates = escalates
        self._monotonic = monotonic
        self._whole: set[tuple[str, str]] = set()
        self._letters: dict[_Source, deque[float]] = defaultdict(deque)
        self._paused: dict[_Source, PartitionPaused] = {}

    def read_whole(self, service: str, topics: Iterable[str]) -> None:
        """Note that a service reads topics whole, without a group: those it reads on whatever is in them, and pausing them would be a word only."""
        self._whole |= {(service, topic) for topic in topics}

    async def failed(self, record: ConsumerRecord, error: Exception, *, service: str) -> None:
        """Leave a failed record where it is safe: in a retry topic, or as a dead letter with its feature's `failed` outcome."""
        attempt = attempt_of(record)
        delays = ((RETRY_SHORT, self._settings.short_s), (RETRY_LONG, self._settings.long_s))
        if is_repeatable(error) and attempt < len(delays):
            topic, delay_s = delays[attempt]
            _say("record.tried_later", record, error, service=service, topic_of_retry=topic)
            RETRIES.labels(service=service, error=type(error).__name__).inc()
            now = self._now_ms()
            later = try_later(record, error, topic=topic, service=service, not_before_ms=now + int(1000 * delay_s), now_ms=now, limit_bytes=self._limit_bytes)
            if later is not None:
                await self._publish([later])
                return
        _say("record.given_up", record, error, service=service)
        DEAD_LETTERS.labels(service=service, error=type(error).__name__).inc()
        now = self._now_ms()
        left = give_up(record, error, service=service, now_ms=now, limit_bytes=self._limit_bytes, escalates=self._escalates)
        await self._publish(map(outgoing, left))
        for event in left:
            if isinstance(event, FeatureOutcome):
                count(event, now)
        await self._pause_when_too_many(record, error, service)

    async def follow(self, records: Sequence[ConsumerRecord]) -> None:
        """Take note of paused partitions, and of those that a person let go on."""
        for record in records:
            key = (record.key or b"").decode("utf-8", "replace")
            try:
                paused = None if record.value is None else decode(PartitionPaused, record.value)
            except MalformedEvent as error:
                log.error("pause.unreadable", key=key, error=str(error))
                continue
            if paused is not None:
                self._note(paused)
            else:
                self._forget(key)

    def is_paused(self, service: str, tp: TopicPartition) -> bool:
        """Whether a service must not read a partition on."""
        return bool(self._paused) and (service, tp.topic, tp.partition) in self._paused

    def paused(self, services: Iterable[str]) -> list[PartitionPaused]:
        """The paused partitions of some services."""
        asked = set(services)
        return [pause for pause in self._paused.values() if pause.service in asked]

    async def _pause_when_too_many(self, record: ConsumerRecord, error: Exception, service: str) -> None:
        """A flood of dead letters is one fault, of a bad release up- or downstream: the partition waits for a person instead of being drained.

        What of the batch at hand is still to be handled is not called back, so a batch more may be given up.
        """
        if not self._pauses or (service, record.topic) in self._whole:
            return
        source = (service, record.topic, record.partition)
        now, letters = self._monotonic(), self._letters[source]
        letters.append(now)
        while letters[0] < now - self._settings.window_s:
            letters.popleft()
        if len(letters) <= self._settings.dead_letters or source in self._paused:
            return
        pause = PartitionPaused(
            service=service,
            topic=record.topic,
            partition=record.partition,
            letters=len(letters),
            window_s=self._settings.window_s,
            error=f"{type(error).__name__}: {error}"[:500].encode("utf-8", "replace").decode(),
            at_ms=self._now_ms(),
        )
        await self._publish([outgoing(pause)])  # first, as noting it may cut off whoever does this: what does not stand in the topic nobody can resume
        self._note(pause)

    def _note(self, pause: PartitionPaused) -> None:
        source = (pause.service, pause.topic, pause.partition)
        if source in self._paused:
            return
        self._paused[source] = pause
        PAUSED.labels(service=pause.service, topic=pause.topic).set(sum(key[:2] == (pause.service, pause.topic) for key in self._paused))
        log.error(
            "partition.paused", service=pause.service, topic=pause.topic, partition=pause.partition, letters=pause.letters, last=pause.error.partition(":")[0]
        )

    def _forget(self, key: str) -> None:
        for source, pause in list(self._paused.items()):
            if pause.key == key:
                del self._paused[source]
                self._letters.pop(source, None)
                PAUSED.labels(service=pause.service, topic=pause.topic).dec()
                log.warning("partition.resumed", service=pause.service, topic=pause.topic, partition=pause.partition)


def is_repeatable(error: Exception) -> bool:
    """Whether handling the same record again later may succeed; of an error that nobody foresaw that is not known."""
    return not isinstance(error, ExplainError) or error.repeatable


def _say(event: str, record: ConsumerRecord, error: Exception, **more: object) -> None:
    subject = subject_of(record)
    if subject is not None:
        more |= {"job": subject.explain_job_id, "feature": subject.feature_key}
    log.error(
        event,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        error=type(error).__name__,
        why=told(error) if isinstance(error, ExplainError) else None,
        exc_info=None if isinstance(error, ExplainError) else error,
        **more,
    )

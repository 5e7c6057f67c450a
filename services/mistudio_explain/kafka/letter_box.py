"""The dead letters as they stand in explain.dlq: reading them, and taking them back."""

from collections.abc import AsyncGenerator, Collection, Iterable
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, TopicPartition

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import DeadLetter
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import Outgoing
from mistudio_explain.kafka.snapshot import standing


@dataclass(frozen=True, slots=True)
class Kept:
    """A letter in explain.dlq, without its record's bytes, which may be megabytes."""

    key: bytes
    place: tuple[int, int]
    """Partition and offset in explain.dlq."""
    size: int
    """Bytes of the record that it holds, as far as they were kept."""
    letter: DeadLetter | None
    """The letter without `raw`; None when it cannot be read."""
    unreadable: str = ""
    """Why it cannot be read."""
    at_ms: int = 0
    """When the broker took it, milliseconds since 1970 UTC."""

    @property
    def name(self) -> str:
        """The key as people write it: topic/partition/offset."""
        return self.key.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant: those that meet every condition that is given."""

    keys: frozenset[str] = frozenset()
    job: str | None = None
    feature: str | None = None
    topic: str | None = None
    """A source topic, or the last part of its name."""
    service: str | None = None
    error: str | None = None
    """An error's class, or words of its message, in any case."""
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether no condition is given."""
        return self == Wanted()

    def meets(self, kept: Kept) -> bool:
        """Whether a letter is meant; one that cannot be read is so by its key and its time only."""
        letter = kept.letter
        if self.keys and kept.name not in self.keys:
            return False
        at_ms = letter.at_ms if letter else kept.at_ms
        if (self.since_ms is not None and at_ms < self.since_ms) or (self.until_ms is not None and at_ms >= self.until_ms):
            return False
        if letter is None:
            return self == Wanted(keys=self.keys, since_ms=self.since_ms, until_ms=self.until_ms)
        return (
            self.job in (None, letter.explain_job_id)
            and self.feature in (None, letter.feature_key)
            and self.service in (None, letter.service)
            and (self.topic is None or letter.source.topic == self.topic or letter.source.topic.endswith(f".{self.topic}"))
            and (self.error is None or self.error.casefold() in f"{letter.error}: {letter.message}".casefold())
        )


@dataclass(frozen=True, slots=True)
class Letters:
    """The letters that stand, oldest first, and the end of the topic that they were read from."""

    kept: tuple[Kept, ...]
    end: dict[TopicPartition, int]


async def read_letters(clients: KafkaClients) -> Letters:
    """Read the whole topic; of several letters with one key the last one stands, unless it was taken back."""
    found: dict[bytes, Kept] = {}
    async with standing(clients, topics.DEAD_LETTERS) as snapshot:
        async for record in snapshot:
            key = record.key or b""
            found.pop(key, None)
            if record.value is not None:
                found[key] = _kept(key, record.value, (record.partition, record.offset), record.timestamp)
        return Letters(tuple(sorted(found.values(), key=lambda kept: kept.letter.at_ms if kept.letter else kept.at_ms)), snapshot.end)


def _kept(key: bytes, value: bytes, place: tuple[int, int], at_ms: int) -> Kept:
    try:
        letter = decode(DeadLetter, value)
    except MalformedEvent as error:
        return Kept(key, place, len(value), None, str(error), at_ms)
    return Kept(key, place, len(letter.raw or b""), letter.model_copy(update={"raw": None}), at_ms=at_ms)


async def whole_letters(clients: KafkaClients, wanted: Collection[Kept]) -> AsyncGenerator[tuple[Kept, DeadLetter]]:
    """The same letters with their bytes, in the order of the topic; those that were taken back meanwhile are left out."""
    places = {kept.place: kept for kept in wanted if kept.letter is not None}
    if not places:
        return
    first = {TopicPartition(topics.DEAD_LETTERS, p): min(offset for q, offset in places if q == p) for p, _ in places}
    async with standing(clients, topics.DEAD_LETTERS, begin=first) as snapshot:
        async for record in snapshot:
            kept = places.pop((record.partition, record.offset), None)
            if kept is not None and record.value is not None:
                yield kept, decode(DeadLetter, record.value)
            if not places:
                return


async def take_back(producer: AIOKafkaProducer, keys: Iterable[bytes]) -> None:
    """Write the tombstones of letters."""
    await publish(producer, [Outgoing(topics.DEAD_LETTERS, key, None) for key in keys])

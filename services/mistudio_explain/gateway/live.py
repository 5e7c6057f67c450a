"""Follows the topics for all clients of this process, by one reader, and finds what a client missed."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from mistudio_explain.events.topics import EXPLANATIONS, REPORTS, TOKENS
from mistudio_explain.gateway.feed import Entry, Feed, Subject, topics_of
from mistudio_explain.gateway.position import Position
from mistudio_explain.kafka.app import StreamApp, say_unreadable
from mistudio_explain.kafka.snapshot import standing
from mistudio_explain.kafka.topic_ids import topic_ids

log = structlog.get_logger(__name__)

SERVICE = "gateway"
HEARTBEAT_S = 15.0
"""Proxies commonly close a connection on which nothing came for 60 s."""
MOST_MISSED = 50_000
"""Records that are looked through for one client that comes back: about what the topics get in a quarter of an hour at 50 a second."""
_PACE_S = 0.04  # of 50 events a second two then reach each of 200 clients in one write, and nobody sees the difference
_FETCH_WAIT_MS = 25  # with Kafka's default of 500, half of the events were 240 ms late
_UNHEARD_FETCH_WAIT_MS = 500  # while nobody listens, 40 fetches a second are CPU alone (benchmarks/idle.py)
_LOOKING_BACK = 2  # at once: each fetches as fast as it can
_BATCH = 100
_ORDER = {TOKENS: 0, EXPLANATIONS: 1, REPORTS: 2}  # an outcome ends the pieces before it, and a report counts outcomes that are fetched with it


@dataclass(frozen=True, slots=True)
class Heard:
    """What came next, each with the position that it leads to, and the position then. Nothing new is a sign of life."""

    entries: Sequence[tuple[Entry, Position]]
    position: Position


@dataclass(frozen=True, slots=True)
class Over:
    """Why nothing more comes to a client; `is_lost` says that it must read everything anew, as what it missed cannot be given."""

    why: str
    is_lost: bool = False


class Live:
    """The one reader of a process, from the ends of the topics on."""

    def __init__(self, app: StreamApp, *, heartbeat_s: float = HEARTBEAT_S, most_missed: int = MOST_MISSED) -> None:
        self.feed = Feed()
        self._app = app
        self._heartbeat_s = heartbeat_s
        self._most_missed = most_missed
        self._tokens: dict[int, int] = {}
        self._embedded_log = secrets.token_hex(4)  # the embedded broker has no ids, and lives no longer than this process
        self._looking_back = asyncio.Semaphore(_LOOKING_BACK)

        @app.whole(*_ORDER, service=SERVICE, positions=self._positions, unreadable=say_unreadable, fetch_wait_ms=self._fetch_wait_ms)
        async def follow(records: Sequence[ConsumerRecord]) -> None:
            for record in sorted(records, key=lambda record: _ORDER[record.topic]):
                if record.topic == TOKENS:
                    self._tokens[record.partition] = record.offset + 1
                self.feed.take(record.topic, record.partition, record.offset, record.key or b"", record.value)
            self.feed.flush()
            if len(records) < app.settings.limits.batch_records:
                await asyncio.sleep(_PACE_S)

    def _fetch_wait_ms(self) -> int:
        return _FETCH_WAIT_MS if self.feed.clients else _UNHEARD_FETCH_WAIT_MS

    def away_because(self) -> str | None:
        """Why nothing can be heard now; None when everything can."""
        return self._app.unready_because()

    async def begun(self, within_s: float) -> Position | None:
        """Where the topics are read from now on; None when that is not known within the time, as while Kafka is away."""
        try:
            async with asyncio.timeout(within_s):
                await self.feed.has_begun.wait()
        except TimeoutError:
            return None
        return self.feed.position

    async def since(self, seen: Position, subjects: Collection[Subject]) -> AsyncGenerator[Heard | Over]:
        """What comes of some subjects from a position on, each event once; nothing after an Over. The reader must have begun."""
        topics = topics_of(subjects)
        with self.feed.listening(subjects) as listener:
            now = self.feed.position
            assert now is not None, "nothing was read yet"
            if (why := self._out_of_reach(seen, now, topics)) is not None:
                yield Over(why, is_lost=True)
                return
            entries = self.feed.since(seen, subjects)
            if entries is None:
                try:
                    async with aclosing(self._between(seen, now, subjects)) as missed:
                        async for heard in missed:
                            yield heard
                except (KafkaError, OSError) as error:
                    log.warning("stream.not_looked_back", error=repr(error))
                    yield Over("Kafka does not answer, so that what was missed cannot be read: connect again with the id of the last event")
                    return
                seen, entries = seen.joined(now), []
            while True:
                told = []
                for entry in entries:
                    if entry.topic not in topics or entry.offset >= seen.next_of(entry.topic, entry.partition):
                        seen = entry.after if entry.after.has_seen(seen, topics) else seen.joined(entry.after)
                        told.append((entry, seen))
                yield Heard(told, seen)
                entries = await listener.take(self._heartbeat_s)
                if listener.ended is not None:
                    yield Over(listener.ended)
                    return
                if not entries and self.feed.position is not None:  # everything up to there was handed over
                    seen = seen.joined(self.feed.position)

    def _out_of_reach(self, seen: Position, now: Position, topics: Sequence[str]) -> str | None:
        if seen.log != now.log:
            return "the topics were made anew since the last event: read everything anew"
        if (count := now.beyond(seen, topics)) > self._most_missed:
            return f"{count} records were written since the last event, more than {self._most_missed}: read everything anew"
        return None

    async def _between(self, seen: Position, until: Position, subjects: Collection[Subject]) -> AsyncGenerator[Heard]:
        """What the topics have between two positions."""
        topics, wanted = topics_of(subjects), set(subjects)
        begin = {TopicPartition(topic, partition): seen.next_of(topic, partition) for topic in topics for partition in range(len(until.offsets(topic)))}
        told: list[tuple[Entry, Position]] = []
        async with self._looking_back, standing(self._app.clients, *topics, begin=begin) as snapshot:
            async for record in snapshot:
                if record.offset >= until.next_of(record.topic, record.partition):
                    continue
                seen = seen.after(record.topic, record.partition, record.offset)
                entry = Entry(0, record.topic, record.partition, record.offset, record.key or b"", record.value, seen)
                if entry.is_of(wanted):
                    told.append((entry, seen))
                if len(told) == _BATCH:
                    yield Heard(told, seen)
                    told = []
        yield Heard(told, seen)

    async def _positions(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Where to read on: at the ends, or where this reader stands when it is attached again."""
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        name, now = await self._log(), self.feed.position
        if now is not None and now.log == name and all(now.next_of(tp.topic, tp.partition) <= end for tp, end in ends.items() if tp.topic != TOKENS):
            return {tp: min(self._tokens.get(tp.partition, end), end) if tp.topic == TOKENS else now.next_of(*tp) for tp, end in ends.items()}
        if now is not None:
            self.feed.end("the topics are not what they were: connect again and read everything anew")
        offsets = {topic: [end for _, end in sorted((tp.partition, end) for tp, end in ends.items() if tp.topic == topic)] for topic in (REPORTS, EXPLANATIONS)}
        self._tokens = {}
        self.feed.begin(Position.of(name, offsets))
        return ends

    async def _log(self) -> str:
        """A name of the topics as they are: others when they are deleted and made again, or on another cluster."""
        if self._app.clients.is_embedded:
            return self._embedded_log
        ids = await topic_ids(self._app.admin._client, (REPORTS, EXPLANATIONS))  # noqa: SLF001  (the admin client has no call for it)
        return hashlib.sha256("|".join(f"{ids[topic].cluster}/{ids[topic].topic}" for topic in (REPORTS, EXPLANATIONS)).encode()).hexdigest()[:8]

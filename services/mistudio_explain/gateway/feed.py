"""Hands what one reader reads to every client of this process: nothing is kept for a client but references.

Pure, without Kafka: the reader gives records to `take`, and calls `flush` after each batch.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from mistudio_explain.events.topics import EXPLANATIONS, REPORTS
from mistudio_explain.gateway import sse
from mistudio_explain.gateway.position import Position
from mistudio_explain.gateway.told import Told, told

KEPT_ENTRIES = 5_000
KEPT_BYTES = 32 << 20
"""What is kept for clients that come back: of records with all that is made of them."""
_OBJECTS, _TIMES = 3_000, 4  # bytes: what surrounds a record and the names in its JSON; the record and its values in the JSON


class Subject(NamedTuple):
    """What a client wants to hear of: the records of a topic, of all jobs or one; of pieces, those of one request."""

    topic: str
    name: str | None


@dataclass(eq=False)
class Entry:
    """A record that was read; what it tells is made when the first client asks, and once for all."""

    number: int
    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    after: Position
    """The reader's position once it had read this."""

    @cached_property
    def told(self) -> Told | None:
        """What it tells; None when it cannot be read."""
        return told(self.topic, self.key, self.value)

    @cached_property
    def identified(self) -> bytes:
        """The line that names `after` as its id."""
        return sse.identified(self.after)

    @cached_property
    def name(self) -> str:
        """The job, or the request of a piece."""
        return self.key.partition(b"|")[0].decode("utf-8", "replace")

    def is_of(self, subjects: Collection[Subject]) -> bool:
        """Whether it is of one of some subjects."""
        return Subject(self.topic, self.name) in subjects or Subject(self.topic, None) in subjects

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        return _OBJECTS + _TIMES * (len(self.key) + len(self.value or b""))


@dataclass(eq=False)
class Listener:
    """One client: what has come for it and was not taken yet."""

    pending: deque[Entry] = field(default_factory=deque)
    ended: str | None = None
    """Why nothing more will come; None while something may."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, within_s: float) -> list[Entry]:
        """What has come, at once or as soon as something comes; nothing after `within_s` seconds, or when it has ended."""
        if not self.pending and self.ended is None:
            try:
                async with asyncio.timeout(within_s):
                    await self._news.wait()
            except TimeoutError:
                return []
        self._news.clear()
        taken, self.pending = list(self.pending), deque()
        return taken

    def wake(self) -> None:
        """Let whoever waits take what has come."""
        self._news.set()

    def end(self, why: str) -> None:
        """Let nothing more come."""
        self.ended = why
        self.pending.clear()
        self._news.set()


class Feed:
    """What was read last, and who listens."""

    def __init__(self, *, kept_entries: int = KEPT_ENTRIES, kept_bytes: int = KEPT_BYTES) -> None:
        self.position: Position | None = None
        """Up to where the topics were read; None before the first reading began."""
        self.has_begun = asyncio.Event()
        self.clients = 0
        """How many listen."""
        self._most_entries = kept_entries
        self._most_bytes = kept_bytes
        self._kept: deque[Entry] = deque()
        self._kept_bytes = 0
        self._kept_from: Position | None = None
        self._number = 0
        self._forgotten = 0
        """The number of the last entry that is not kept any more."""
        self._listeners: dict[Subject, set[Listener]] = {}
        self._touched: set[Listener] = set()

    def begin(self, position: Position) -> None:
        """Begin at a position; nothing is kept of what came before."""
        self._kept.clear()
        self._kept_bytes = 0
        self._forgotten = self._number
        self.position = self._kept_from = position
        self.has_begun.set()

    def take(self, topic: str, partition: int, offset: int, key: bytes, value: bytes | None) -> None:
        """Take a record that was read, and put it before those who want it."""
        assert self.position is not None, "begin comes first"
        self._number += 1
        if topic in (EXPLANATIONS, REPORTS):
            self.position = self.position.after(topic, partition, offset)
        entry = Entry(self._number, topic, partition, offset, key, value, self.position)
        if topic in (EXPLANATIONS, REPORTS):
            self._keep(entry)
        for subject in (Subject(topic, entry.name), Subject(topic, None)):
            for listener in self._listeners.get(subject, ()):
                if len(listener.pending) >= self._most_entries or (listener.pending and listener.pending[0].number <= self._forgotten):
                    listener.end("this client reads more slowly than events come: connect again with the id of the last event")
                elif listener.ended is None:
                    listener.pending.append(entry)
                    self._touched.add(listener)

    def flush(self) -> None:
        """Wake those for whom something has come."""
        for listener in self._touched:
            listener.wake()
        self._touched.clear()

    @contextmanager
    def listening(self, subjects: Collection[Subject]) -> Iterator[Listener]:
        """A listener to some subjects: everything that is taken from now on comes to it, until it is left."""
        listener = Listener()
        for subject in subjects:
            self._listeners.setdefault(subject, set()).add(listener)
        self.clients += 1
        try:
            yield listener
        finally:
            self.clients -= 1
            for subject in subjects:
                there = self._listeners[subject]
                there.discard(listener)
                if not there:
                    del self._listeners[subject]
            self._touched.discard(listener)

    def since(self, position: Position, subjects: Collection[Subject]) -> list[Entry] | None:
        """What came of some subjects since a position; None when that is longer ago than is kept."""
        topics = topics_of(subjects)
        if self._kept_from is None or not position.has_seen(self._kept_from, topics):
            return None
        wanted = set(subjects)
        return [entry for entry in self._kept if entry.offset >= position.next_of(entry.topic, entry.partition) and entry.is_of(wanted)]

    def end(self, why: str) -> None:
        """Let everybody go."""
        for listener in {each for listeners in self._listeners.values() for each in listeners}:
            listener.end(why)

    def _keep(self, entry: Entry) -> None:
        self._kept.append(entry)
        self._kept_bytes += entry.size
        while len(self._kept) > self._most_entries or (self._kept_bytes > self._most_bytes and len(self._kept) > 1):
            gone = self._kept.popleft()
            self._kept_bytes -= gone.size
            self._forgotten = gone.number
            assert self._kept_from is not None
            self._kept_from = self._kept_from.after(gone.topic, gone.partition, gone.offset)


def topics_of(subjects: Collection[Subject]) -> Sequence[str]:
    """The topics that a position counts in, of those that subjects are of."""
    return [topic for topic in (REPORTS, EXPLANATIONS) if any(subject.topic == topic for subject in subjects)]

"""Sends the records of dead letters to their services again, and takes the letters back."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from mistudio_explain.errors import ExplainError, MalformedEvent
from mistudio_explain.events import topics
from mistudio_explain.events.explanation import DeadLetter
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.letter_box import Kept, Letters, take_back, whole_letters
from mistudio_explain.kafka.letters import redelivered, revision_of
from mistudio_explain.kafka.orders import KnownJob
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import HEADER_EVENT, Outgoing
from mistudio_explain.kafka.snapshot import standing
from mistudio_explain.kafka.topics import lane_spec
from mistudio_explain.settings import Settings

_BATCH = 200
_BATCH_BYTES = 16 << 20
_SOURCE_WAIT_MS = 5_000
_ENVELOPE = ((HEADER_EVENT, DeadLetter.__name__.encode()),)


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of one letter: where its record went, or why it stays."""

    key: str
    topic: str | None = None
    revision: int | None = None
    refused: str | None = None


Said = Callable[[Retried], None]


class Retry:
    """Sends letters' records to their services again.

    Each record is confirmed before its letter is taken back: a kill in between leaves a letter whose record was sent,
    and sending it once more changes nothing.
    """

    def __init__(self, settings: Settings, clients: KafkaClients, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient, jobs: dict[str, KnownJob]) -> None:
        self._settings = settings
        self._clients = clients
        self._producer = producer
        self._admin = admin
        self._jobs = jobs
        self._topics: set[str] = set()
        self._seen: dict[TopicPartition, int] = {}

    async def send(self, letters: Letters, wanted: Sequence[Kept], said: Said) -> None:
        """Retry letters and say of each what became of it, as it happens."""
        self._topics, self._seen = set(await self._admin.list_topics()), letters.end
        for kept in wanted:
            if kept.letter is None:
                said(Retried(kept.name, refused=f"the letter itself cannot be read: {kept.unreadable}"))
        left = {kept.key for kept in wanted if kept.letter is not None}
        batch: list[tuple[Kept, DeadLetter]] = []
        size = 0
        async with aclosing(whole_letters(self._clients, wanted)) as whole:
            async for kept, letter in whole:
                left.discard(kept.key)
                batch.append((kept, letter))
                size += kept.size
                if len(batch) >= _BATCH or size >= _BATCH_BYTES:
                    await self._send(batch, said)
                    batch, size = [], 0
        if batch:
            await self._send(batch, said)
        for key in left:
            said(Retried(key.decode("utf-8", "backslashreplace"), refused="it was retried or dropped meanwhile"))

    async def _send(self, batch: Sequence[tuple[Kept, DeadLetter]], said: Said) -> None:
        results = await asyncio.gather(*(self._again(letter, kept.name) for kept, letter in batch))
        sent = {kept.key for (kept, _), result in zip(batch, results, strict=True) if result.refused is None}
        gone = sent - await self._back(sent)
        await take_back(self._producer, gone)
        await self._restore(gone)
        for result in results:
            said(result)

    async def _again(self, letter: DeadLetter, key: str) -> Retried:
        try:
            if letter.raw is None:
                raise MalformedEvent("the record has no value: there is nothing to send again; drop the letter")
            whole = await self._untruncated(letter)
            job = self._open_job(whole)
            revision = max(revision_of(whole) + 1, job.reopened_as if job else 0)
            record = redelivered(whole, attempt=0, revision=revision)
            await self._ensure(record.topic)
            await publish(self._producer, [record])
        except ExplainError as error:
            return Retried(key, refused=str(error))
        return Retried(key, record.topic, revision)

    def _open_job(self, letter: DeadLetter) -> KnownJob | None:
        job = self._jobs.get(letter.explain_job_id or "")
        if job is not None and (closed := job.closed) is not None:
            raise ExplainError(f"job {job.explain_job_id} {closed}; publish it again with --reopen, or drop the letter")
        return job

    async def _ensure(self, topic: str) -> None:
        """A record for a topic that is not there would wait for ever; a lane that was removed is made again."""
        if topic not in self._topics:
            if not topic.startswith(topics.PROMPTS_PREFIX):
                raise ExplainError(f"topic {topic} does not exist; make it with `mistudio-explain topics create`, or drop the letter")
            await create_topics(self._admin, [lane_spec(topic, self._settings)], self._settings.kafka.replication)
            self._topics.add(topic)
        await self._producer.client.add_topic(topic)

    async def _untruncated(self, letter: DeadLetter) -> DeadLetter:
        """The letter with the whole record, read where it first stood. Raises ExplainError when it does not stand there any more."""
        if not letter.truncated:
            return letter
        source = letter.source
        where = f"{source.topic}/{source.partition}/{source.offset}"
        gone = f"the letter holds only the first {len(letter.raw or b'')} bytes of its record, and"
        if source.topic not in self._topics:
            raise ExplainError(f"{gone} topic {source.topic} does not exist any more; drop the letter")
        tp = TopicPartition(source.topic, source.partition)
        async with self._clients.consumer(**self._clients.fetching) as consumer:
            consumer.assign([tp])
            begin, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
            if not begin <= source.offset < end:
                raise ExplainError(f"{gone} {where} is not there any more (the partition has {begin} to {end - 1}); drop the letter")
            consumer.seek(tp, source.offset)
            records = (await consumer.getmany(tp, timeout_ms=_SOURCE_WAIT_MS, max_records=1)).get(tp, [])
        if not records or records[0].offset != source.offset or not (records[0].value or b"").startswith(letter.raw or b""):
            raise ExplainError(f"{gone} what stands at {where} is another record; drop the letter")
        return letter.model_copy(update={"raw": records[0].value, "truncated": False})

    async def _back(self, keys: Collection[bytes]) -> set[bytes]:
        """Which of these letters stand anew, because their records failed again already: there is nothing to take back."""
        back: set[bytes] = set()
        async with standing(self._clients, topics.DEAD_LETTERS, begin=self._seen) as snapshot:
            async for record in snapshot:
                if record.key in keys:
                    (back.discard if record.value is None else back.add)(record.key)
        self._seen = snapshot.end
        return back

    async def _restore(self, keys: Collection[bytes]) -> None:
        """Write again the letters that came back in the moment in which their first letters were taken back: that took back the new ones too."""
        lost: dict[bytes, bytes] = {}
        since: dict[bytes, bytes] = {}
        async with standing(self._clients, topics.DEAD_LETTERS, begin=self._seen) as snapshot:
            async for record in snapshot:
                if record.key not in keys:
                    continue
                if record.value is not None:
                    since[record.key] = record.value
                    lost.pop(record.key, None)
                elif record.key in since:
                    lost[record.key] = since.pop(record.key)
        self._seen = snapshot.end
        await publish(self._producer, [Outgoing(topics.DEAD_LETTERS, key, value, _ENVELOPE) for key, value in lost.items()])

"""What waits in the topics: before that is nothing, nobody may say that a job's features will not come any more."""

import asyncio
import time

from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.lag import LagReader
from mistudio_explain.store.job_store import JobStore

_FRESH_S = 2.0


class Backlog:
    """Reads how much is unfinished in all groups, and unread by the aggregator; at most every 2 s."""

    def __init__(self, app: StreamApp) -> None:
        self._app = app
        self._read_at = -_FRESH_S
        self._records = 0
        self._unread = 0

    async def read(self, store: JobStore, topics: tuple[str, ...]) -> int | None:
        """Records that wait; None on the embedded broker, which keeps no groups.

        Raises Unreachable when an access rule is missing, KafkaError or TimeoutError when Kafka does not answer.
        """
        if self._app.clients.is_embedded:
            return None
        if time.monotonic() - self._read_at >= _FRESH_S:
            read = await asyncio.to_thread(_positions, store, topics)  # before the ends: what is written in between waits, as far as is known
            reading = await LagReader(self._app.admin, escalates=self._app.settings.escalation.enabled).offsets()
            waiting = sum(partition.unfinished for group in reading.groups for partition in group.partitions)
            self._unread = sum(
                max(0, each.end - max(each.begin or 0, read.get((each.topic, each.partition), 0)))
                for each in reading.topics
                if each.topic in topics and each.end is not None
            )
            unknown = int(not reading.is_complete)  # what stands in a partition that cannot be read may wait too
            self._records, self._read_at = waiting + self._unread + unknown, time.monotonic()
        return self._records

    async def is_read(self, store: JobStore, topics: tuple[str, ...]) -> bool:
        """Whether the aggregator has read what stands in its topics."""
        await self.read(store, topics)
        return self._unread == 0


def _positions(store: JobStore, topics: tuple[str, ...]) -> dict[tuple[str, int], int]:
    return {(topic, part): offset for topic in topics for part, offset in store.positions(topic).items()}

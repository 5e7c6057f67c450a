"""Follows the topic of backgrounds: the best background of each find job that was read so far."""

import zlib
from collections.abc import Sequence
from functools import lru_cache

import structlog
from aiokafka import ConsumerRecord

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import decode
from mistudio_explain.events.identity import background_key
from mistudio_explain.events.job import JobBackground
from mistudio_explain.events.topics import BACKGROUNDS
from mistudio_explain.kafka.app import StreamApp

log = structlog.get_logger(__name__)


_UNPACKED = 64
"""Backgrounds that are held ready, those used last. The others are held packed: about 20 KB of 64 features with 5 texts."""


class Backgrounds:
    """The backgrounds that stand in the topic; frozen wins over open, then the greater count."""

    def __init__(self, app: StreamApp, service: str) -> None:
        self._best: dict[str, tuple[int, bytes]] = {}
        """Version and packed bytes, by key."""
        self._unpacked = lru_cache(maxsize=_UNPACKED)(_unpack)

        @app.whole(BACKGROUNDS, service=service)
        async def follow(records: Sequence[ConsumerRecord]) -> None:
            for record in records:
                self._remember(record)

        self._reader = follow

    async def complete(self) -> None:
        """Wait until everything was read that stood in the topic at the start."""
        await self._reader.caught_up.wait()

    def of(self, tenant: str, find_job_id: str) -> JobBackground | None:
        """The background of a find job, if there is one."""
        kept = self._best.get(background_key(tenant, find_job_id))
        return None if kept is None else self._unpacked(kept[1])

    def _remember(self, record: ConsumerRecord) -> None:
        key = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            self._best.pop(key, None)
            return
        try:
            background = decode(JobBackground, record.value)
        except MalformedEvent as error:
            log.error("background.unreadable", key=key, offset=record.offset, error=str(error))  # whoever needs it scores without it and says so
            return
        known = self._best.get(key)
        if known is None or background.version >= known[0]:
            self._best[key] = background.version, zlib.compress(record.value, level=1)


def _unpack(packed: bytes) -> JobBackground:
    return decode(JobBackground, zlib.decompress(packed))

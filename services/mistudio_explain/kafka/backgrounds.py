"""Follows the topic of backgrounds: the best background of each find job that was read so far."""

from collections.abc import Sequence

import structlog
from aiokafka import ConsumerRecord

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import decode
from mistudio_explain.events.identity import background_key
from mistudio_explain.events.job import JobBackground
from mistudio_explain.events.topics import BACKGROUNDS
from mistudio_explain.kafka.app import StreamApp

log = structlog.get_logger(__name__)


class Backgrounds:
    """The backgrounds that stand in the topic; frozen wins over open, then the greater count."""

    def __init__(self, app: StreamApp, service: str) -> None:
        self._best: dict[str, JobBackground] = {}

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
        return self._best.get(background_key(tenant, find_job_id))

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
        if known is None or background.version >= known.version:
            self._best[key] = background

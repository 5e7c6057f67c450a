"""Which lanes have so many waiting prompts that they get no new ones for now, so that retention can never eat a waiting prompt."""

import asyncio
from collections import Counter
from functools import lru_cache

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from mistudio_explain.errors import ExplainError, told
from mistudio_explain.events.identity import lane_name
from mistudio_explain.events.topics import PROMPTS_PREFIX, SHARED
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.lag import GENERATION, LagReader

log = structlog.get_logger(__name__)

_EVERY_S = 5.0
"""A lane may get over its limit by what context makes in this time, some hundred prompts a second."""


class LaneBacklogs:
    """The lanes above `limits.max_lane_backlog`, read again every few seconds; none on the embedded broker, which has no groups."""

    def __init__(self, app: StreamApp) -> None:
        self._app = app
        self._full: frozenset[str] = frozenset()
        if not app.clients.is_embedded:
            app.task("lane backlogs", self._refresh)

    def wait_s(self, record: ConsumerRecord) -> float:
        """How long a feature must wait for its target model's lane, seconds; its key names the model.

        What is behind it in its partition waits with it, also of other models: a group has one offset a partition.
        """
        if not self._full or record.key is None:
            return 0.0
        own = _own_lane(record.key)
        lane = own if own in self._app.known_lanes else SHARED
        return _EVERY_S if lane in self._full else 0.0

    async def _refresh(self) -> None:
        reader = LagReader(self._app.admin)
        while True:
            try:
                reading = await reader.offsets()
                if not reading.is_complete:  # a lane with a partition that cannot be read would look emptier than it is
                    await asyncio.sleep(_EVERY_S)
                    continue
                waiting: Counter[str] = Counter()
                for part in next(group.partitions for group in reading.groups if group.service == GENERATION):
                    waiting[part.topic] += part.unfinished
                full = frozenset(topic for topic, count in waiting.items() if count > self._app.settings.limits.max_lane_backlog)
                for topic in full - self._full:
                    log.warning("lane.full", topic=topic, waiting=waiting[topic], what="its features wait in find.features until generation has caught up")
                self._full = full
            except (ExplainError, KafkaError, OSError) as error:  # the last reading stands; a timeout is an OSError
                log.warning("lane.backlog_unread", error=told(error))
            await asyncio.sleep(_EVERY_S)


@lru_cache(maxsize=1024)
def _own_lane(key: bytes) -> str:
    return PROMPTS_PREFIX + lane_name(key.decode("utf-8", "replace"))

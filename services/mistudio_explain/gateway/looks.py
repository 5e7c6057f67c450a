"""Looks at what is outside, taken when somebody asks and shared by all who ask at about the same time: the lag of every stage, the LLM endpoints."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from mistudio_explain.gateway.problems import AGAIN, Problem
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.lag import LagReader
from mistudio_explain.llm.overview import document as fleet_document
from mistudio_explain.llm.overview import overview
from mistudio_explain.observability.lag_figures import Readings
from mistudio_explain.observability.lag_figures import document as lag_document
from mistudio_explain.settings import Settings

log = structlog.get_logger(__name__)

_FRESH_S = 2.0
"""A look that is no older is shown to whoever asks meanwhile: many open pages cost no more than one."""
_RATE_OVER_S = 30.0


class Looked:
    """A look at something outside, taken when somebody asks and shared by all who ask within `_FRESH_S` seconds."""

    def __init__(self, look: Callable[[], Awaitable[dict[str, Any]]], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._turn = asyncio.Lock()
        self._seen: dict[str, Any] = {}
        self._at = float("-inf")

    async def now(self) -> dict[str, Any]:
        """What was seen last, looked at anew when that is too long ago. Raises what the look raises."""
        async with self._turn:
            if self._clock() - self._at > _FRESH_S:
                self._seen = await self._look()
                self._at = self._clock()
            return self._seen


def look_at_lag(app: StreamApp) -> Looked:
    """A look at the lag of all groups, with rates over the last half minute in which somebody looked."""
    readings = Readings(_RATE_OVER_S)
    readers: dict[int, LagReader] = {}  # one for each admin client: it keeps what it learned of lanes

    async def look() -> dict[str, Any]:
        if app.clients.is_embedded:
            return {"unavailable": "the embedded broker keeps no consumer groups, so there is no lag to show", "lag": []}
        if not app.has_started:
            raise _kafka_away(app.unready_because() or "still starting")
        reader = readers.setdefault(id(app.admin), LagReader(app.admin, escalates=app.settings.escalation.enabled))
        try:
            reading = await reader.read()
        except (KafkaError, OSError) as error:  # a timeout is an OSError
            raise _kafka_away(str(error) or type(error).__name__) from error
        return lag_document(reading, readings.add(reading))

    return Looked(look)


def _kafka_away(why: str) -> Problem:
    log.warning("lag.unknown", why=why)
    return Problem(503, "kafka-away", "Kafka does not answer, so nobody can tell what is still to do", headers=AGAIN)


def look_at_fleet(settings: Settings) -> Looked:
    """A look at every LLM endpoint of the settings."""

    async def look() -> dict[str, Any]:
        found, unknown = await overview(settings)
        return {"endpoints": [fleet_document(each) for each in found], "uses_unknown_because": unknown}

    return Looked(look)

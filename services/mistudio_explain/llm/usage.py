"""Says what the models of a process's endpoints are used for, and which are loaded, so that people can see it from elsewhere."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from mistudio_explain.errors import ExplainError
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.llm.failures import CallFailure
from mistudio_explain.llm.provider import HoldsModels

log = structlog.get_logger(__name__)

NOTE_EVERY_S = 5.0
"""What a worker that is killed had counted since the last time is missing."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a model at an endpoint was used for since that was last said."""

    endpoint: str
    model: str
    calls: int
    """Calls that it answered."""
    is_loaded: bool
    """Whether it is loaded now; False too where the server does not tell."""


class Usage(Protocol):
    """Where use is noted."""

    async def note(self, uses: Sequence[Use]) -> None:
        """Note what is new. Raises an ExplainError; nothing is noted then."""
        ...


class UseNotes:
    """Notes the use of some endpoints, as they come and go."""

    def __init__(self, endpoints: Endpoints, usage: Usage) -> None:
        self._endpoints = endpoints
        self._usage = usage

    async def keep(self) -> None:
        """Note again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(NOTE_EVERY_S)
            await self.note()

    async def note(self) -> None:
        """Note what is new; what cannot be noted now is noted with the next."""
        answered = Counter(self._endpoints.answered)
        endpoints = self._endpoints.all
        loaded = set[tuple[str, str]]().union(*await asyncio.gather(*(_loaded(endpoint) for endpoint in endpoints)))
        standing = {(endpoint.name, model.name) for endpoint in endpoints for model in endpoint.models}
        uses = [Use(*key, answered[key], key in loaded) for key in sorted(standing | answered.keys())]
        if not uses:
            return
        self._endpoints.answered -= answered  # before: a note that is cut off is written all the same
        try:
            await self._usage.note(uses)
        except ExplainError as error:
            self._endpoints.answered += answered
            log.warning("llm.use_not_noted", error=str(error))


async def _loaded(endpoint: Endpoint) -> set[tuple[str, str]]:
    """The models that it has loaded; a server that is away, or of a kind that does not tell, has none here."""
    if endpoint.down is not None or not isinstance(endpoint.provider, HoldsModels):
        return set()
    try:
        return {(endpoint.name, model) for model in await endpoint.provider.loaded()}
    except CallFailure:
        return set()

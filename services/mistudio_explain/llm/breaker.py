"""The breakers of endpoints: open ones are probed until their server answers, then half open until it has answered a call."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from mistudio_explain.events.explanation import Message
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.failures import CallFailure, RateLimited
from mistudio_explain.llm.gauges import show
from mistudio_explain.llm.provider import Call

log = structlog.get_logger(__name__)

FIRST_PROBE_S = 0.5
LONGEST_PROBE_S = 30.0
LONGEST_RETRY_AFTER_S = 600.0  # a server that asks for more is asked again all the same
_SMALLEST = (Message(role="user", content="Say yes."),)
_SMALLEST_TOKENS = 8

Sleep = Callable[[float], Awaitable[None]]


class Breakers:
    """Probes the endpoints that are out of use; `on_end` is called whenever a probe has ended, one way or another."""

    def __init__(self, rng: random.Random, sleep: Sleep, on_end: Callable[[], None]) -> None:
        self._rng = rng
        self._sleep = sleep
        self._on_end = on_end
        self._probes: dict[str, asyncio.Task[None]] = {}

    def open(self, endpoint: Endpoint, failure: CallFailure) -> None:
        """Probe an endpoint that was taken out of use, unless it is being probed."""
        show(endpoint)
        if endpoint.name not in self._probes:
            _say_away(endpoint)
            endpoint.failures_in_a_row += 1
            self._probes[endpoint.name] = asyncio.create_task(self._probe(endpoint, failure), name=f"probe {endpoint.name}")

    async def stop(self, name: str) -> None:
        """Probe an endpoint no longer."""
        if (probe := self._probes.get(name)) is not None:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)
            self._probes.pop(name, None)  # one that was cancelled before it began could not forget itself

    async def stop_all(self) -> None:
        """Probe nobody any more."""
        await asyncio.gather(*map(self.stop, list(self._probes)))

    async def _probe(self, endpoint: Endpoint, failure: CallFailure) -> None:
        try:
            while True:
                await self._sleep(self._pause(endpoint, failure))
                try:
                    await endpoint.refresh()
                except CallFailure as again:
                    failure = again
                    endpoint.down = f"{failure.kind}: {failure}"
                    endpoint.failures_in_a_row += 1
                    _say_away(endpoint)
                else:
                    endpoint.down, endpoint.on_trial = None, True
                    show(endpoint)
                    log.info("llm.serves", endpoint=endpoint.name, models=[model.name for model in endpoint.models])
                    return
        finally:
            self._probes.pop(endpoint.name, None)
            self._on_end()

    def _pause(self, endpoint: Endpoint, failure: CallFailure) -> float:
        """Seconds until the next probe: the server's own word, else doubling, with jitter so that replicas do not probe together."""
        if isinstance(failure, RateLimited) and failure.retry_after_s is not None:
            return min(failure.retry_after_s, LONGEST_RETRY_AFTER_S)
        longest: float = min(LONGEST_PROBE_S, FIRST_PROBE_S * 2.0 ** min(endpoint.failures_in_a_row - 1, 16))
        return longest * self._rng.uniform(0.5, 1.0)


async def fault_of(endpoint: Endpoint, call: Call) -> CallFailure | None:
    """What is wrong with an endpoint that should answer the smallest call to the same model; None when it does."""
    try:
        await endpoint.refresh()
        if endpoint.is_cloud:
            return None  # what it charges for a call is not reserved for a probe
        await endpoint.complete(replace(call, messages=_SMALLEST, max_tokens=_SMALLEST_TOKENS, form="sentence", on_text=None, numbers=None, features=1))
    except CallFailure as failure:
        return failure
    return None


def _say_away(endpoint: Endpoint) -> None:
    kind = (endpoint.down or "").partition(":")[0]  # what it said may quote what it was sent; `models` shows that
    log.warning("llm.away", endpoint=endpoint.name, url=endpoint.url, error=kind, what="no call is sent to it until it answers; records are held")

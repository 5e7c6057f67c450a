"""The dispatch: which endpoint takes a call, and what happens while none can.

An outage is not a fault of a record: a call waits, without limit and without counting a try, until an endpoint that
could serve it is back. Waiting can be cancelled.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Self

from mistudio_explain.llm.breaker import Breakers, Sleep, fault_of
from mistudio_explain.llm.dispatch import Dispatch, Ticket
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.failures import Blame, CallFailure, ModelUnknown
from mistudio_explain.llm.gauges import count_answer, count_start, hide, show
from mistudio_explain.llm.opening import LOCAL_OLLAMA, opened, opened_though_away
from mistudio_explain.llm.placement import Choice as Choice
from mistudio_explain.llm.placement import options
from mistudio_explain.llm.provider import Call, Completion
from mistudio_explain.llm.traced import traced
from mistudio_explain.settings import LlmSettings

MAX_WAIT_S = 120.0
PARKED_PER_SLOT = 16
"""So many calls for each slot may wait for a switch of models besides those that keep the slots busy: as many are answered between two switches."""
LONG_REST_S = 10.0
"""An endpoint that asks for a longer rest counts as away."""


class Endpoints:
    """All endpoints of a service."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        rng: random.Random,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        self.all = tuple(endpoints)
        self.answered: Counter[tuple[str, str]] = Counter()
        """Calls answered, by endpoint and model; whoever notes them takes them away."""
        self._clock = clock
        self._dispatch = Dispatch(max_wait_s)
        self._waiting: dict[Ticket, asyncio.Future[Choice]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._breakers = Breakers(rng, sleep, self._wake)
        self._leaving: list[Endpoint] = []

    @classmethod
    async def open(cls, settings: LlmSettings, *, rng: random.Random, local_ollama: str = LOCAL_OLLAMA) -> Self:
        """Open what the settings name, all of which must answer; see `opened` for the default and the errors."""
        return cls(await opened(settings, local_ollama=local_ollama), rng=rng, max_wait_s=settings.max_wait_s)

    @classmethod
    async def open_though_away(cls, settings: LlmSettings, *, rng: random.Random, local_ollama: str = LOCAL_OLLAMA) -> Self:
        """Open what the settings name; an endpoint that is away is out of use until a probe succeeds, as if it had gone away later."""
        opened_ones, outages = await opened_though_away(settings, local_ollama=local_ollama)
        self = cls(opened_ones, rng=rng, max_wait_s=settings.max_wait_s)
        for endpoint in opened_ones:
            if (failure := outages.get(endpoint.name)) is not None:
                self._take_down(endpoint, failure)
        return self

    @property
    def slots(self) -> int:
        """Calls that all endpoints together take at once."""
        return sum(endpoint.slots for endpoint in self.all)

    @property
    def places(self) -> float:
        """Calls that are worth having at hand for each slot: one for each slot, and those that wait for a switch of models.

        With fewer, calls of a model that is not loaded would take all places, and none be left for the one that is.
        """
        return self.slots + min(self._dispatch.parked(self.all), PARKED_PER_SLOT * self.slots)

    @property
    def held(self) -> int:
        """Calls that wait for an outage to end."""
        return self._dispatch.held(self.all)

    @property
    def is_demonstration(self) -> bool:
        """Whether the demonstration model is the only one there is; people must be told."""
        return bool(self.all) and all(endpoint.kind == "demonstration" for endpoint in self.all)

    @property
    def outages(self) -> dict[str, str]:
        """Endpoints that are not healthy, and why."""
        now = self._clock()
        return {endpoint.name: why for endpoint in self.all if (why := endpoint.down or _rest(endpoint, now)) is not None}

    def unready_because(self) -> str | None:
        """Why no call can be sent to anyone now; None while an endpoint is healthy."""
        if len(self.outages) < len(self.all):
            return None
        if not self.all:
            return "no LLM endpoint is known"
        return "no LLM endpoint serves: " + "; ".join(
            f"{endpoint.name} ({endpoint.url or endpoint.kind}), {self.outages[endpoint.name]}" for endpoint in self.all
        )

    def preferred(self, route: Sequence[str], *, cloud: bool = False) -> Choice | None:
        """What a route comes to when slots and health do not matter: where a kept answer would be found."""
        allowed = [endpoint for endpoint in self.all if cloud or not endpoint.is_cloud]
        found = options(route, allowed, allowed)
        return found[0] if found else None

    @asynccontextmanager
    async def slot(self, route: Sequence[str], *, is_urgent: bool = False, cloud: bool = False) -> AsyncGenerator[Choice, None]:
        """Hold a slot of an endpoint that can serve the route; waits for one.

        The first model of the route that a healthy endpoint has is taken. When only unhealthy endpoints have one, the
        call is held; when nobody has one, the first model of a healthy endpoint stands in. An urgent call goes before
        all others. Endpoints in a cloud exist only for calls with `cloud`, and stand in for nobody. See `dispatch` for who
        goes where and when.
        """
        ticket = Ticket(tuple(route), is_urgent, self._clock(), cloud)
        start = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        self._dispatch.add(ticket)
        self._look()
        try:
            choice = await start
        except asyncio.CancelledError:
            if ticket.start is None:
                del self._waiting[ticket]
                self._dispatch.remove(ticket)
                self._look()  # an endpoint may have been kept for it
            else:
                self._end(ticket, ticket.start)
            raise
        try:
            yield choice
        finally:
            self._end(ticket, choice)

    async def complete(self, choice: Choice, call: Call) -> Completion:
        """Send a call to the chosen endpoint. Raises a CallFailure; `blames_endpoint` says whose fault it is."""
        endpoint, model = choice.endpoint, choice.model.name
        completion = await traced(choice, call)
        is_news = not (endpoint.residency.is_loaded(model) and endpoint.is_measured(model))
        endpoint.answered(model, choice.since, self._clock(), completion)
        if is_news:
            with suppress(CallFailure):
                await endpoint.look_at_memory(answered=model)
            if (insufficient := endpoint.holds_none) is not None:
                self._take_down(endpoint, insufficient)
        self._wake()
        self.answered[choice.endpoint.name, choice.model.name] += 1
        count_answer(choice, completion)
        return completion

    async def blames_endpoint(self, choice: Choice, call: Call, failure: CallFailure) -> bool:
        """Whether a failure is the endpoint's, which then gets fewer calls, or none until a probe succeeds.

        Where the failure does not tell, the endpoint gets the smallest call to the same model: one that cannot answer
        that either is to blame.
        """
        endpoint = choice.endpoint
        if failure.blame is Blame.RECORD:
            self._serves(endpoint)
            return False
        if endpoint.takes_less(failure, choice.since, self._clock()):
            return True
        if failure.blame is Blame.PROBE_DECIDES:
            fault = await fault_of(endpoint, call)
            if fault is None:
                self._serves(endpoint)
                return False
            failure = fault
        if isinstance(failure, ModelUnknown):
            endpoint.refused.add(choice.model.name)
            others = [model.name for model in endpoint.models if model.name not in endpoint.refused]
            failure = ModelUnknown(f"{failure}; the endpoint has {', '.join(others) or 'no other model'}")
        self._take_down(endpoint, failure)
        return True

    def join(self, endpoint: Endpoint) -> None:
        """Use one more endpoint; calls that wait may take it at once. Raises ValueError when its name is in use."""
        if any(other.name == endpoint.name for other in self.all):
            raise ValueError(f"an endpoint {endpoint.name!r} is in use already; it has to leave first")
        self.all = (*self.all, endpoint)
        self._wake()

    async def leave(self, name: str) -> None:
        """Send an endpoint no further call and let those that wait for it look again, at once.

        Returns when the calls that it still had are over and its provider is closed. Raises KeyError when there is none
        of that name.
        """
        gone = next((endpoint for endpoint in self.all if endpoint.name == name), None)
        if gone is None:
            raise KeyError(name)
        self.all = tuple(endpoint for endpoint in self.all if endpoint is not gone)
        self._leaving.append(gone)
        hide(name)
        await self._breakers.stop(name)
        self._wake()
        while gone.in_flight:
            await self._changed.wait()
        self._leaving.remove(gone)
        await gone.provider.close()

    async def close(self) -> None:
        """Stop probing and close every provider."""
        await self._breakers.stop_all()
        if self._alarm is not None:
            self._alarm.cancel()
        await asyncio.gather(*(endpoint.provider.close() for endpoint in (*self.all, *self._leaving)))

    def _look(self) -> None:
        """Start the calls that can start now, and look again when more may."""
        now = self._clock()
        for ticket in self._dispatch.starts(self.all, now):
            assert ticket.start is not None
            count_start(ticket, ticket.start, now)
            show(ticket.start.endpoint)
            start = self._waiting.pop(ticket)
            if not start.done():  # else it was cancelled a moment ago, and gives its slot back when it runs
                start.set_result(ticket.start)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if (at := self._dispatch.look_again_at) is not None:
            self._alarm = asyncio.get_running_loop().call_later(at - now, self._look)

    def _end(self, ticket: Ticket, choice: Choice) -> None:
        choice.endpoint.end(ticket, choice.model.name, self._clock())
        if choice.endpoint in self.all:
            show(choice.endpoint)
        self._wake()

    def _serves(self, endpoint: Endpoint) -> None:
        """Close the breaker of an endpoint that has answered, if only to refuse."""
        endpoint.on_trial = False
        endpoint.pace.accepted()
        self._wake()

    def _wake(self) -> None:
        """Let everyone who waits look again."""
        self._look()
        self._changed.set()
        self._changed = asyncio.Event()

    def _take_down(self, endpoint: Endpoint, failure: CallFailure) -> None:
        endpoint.down = f"{failure.kind}: {failure}"
        if endpoint in self.all:
            self._breakers.open(endpoint, failure)


def _rest(endpoint: Endpoint, now: float) -> str | None:
    """That an endpoint asked for a rest too long to be part of its pace; None when it did not."""
    rest_s = (endpoint.opens_at(now) or now) - now
    return f"rate limit: it takes no call for {rest_s:.0f} s" if rest_s > LONG_REST_S else None

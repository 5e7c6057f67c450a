"""One endpoint: a provider with its slots, its models, its memory and its health."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from mistudio_explain.events.explanation import Reach
from mistudio_explain.events.identity import means_model
from mistudio_explain.llm.capacity import InsufficientMemory, MeasuredNeed, MemoryNeed
from mistudio_explain.llm.concurrency import AdaptiveLimit
from mistudio_explain.llm.failures import CallFailure, ModelUnknown, Overloaded, RateLimited
from mistudio_explain.llm.pacing import Pace
from mistudio_explain.llm.provider import Call, Completion, HoldsModels, ModelListed, Provider
from mistudio_explain.llm.residency import Residency

MEASURE_AGAIN_S = 30.0
"""An endpoint that is passed over for being slow gets a call so often, to see whether it still is."""
BreakerState = Literal["closed", "half-open", "open"]
Token = object
"""Stands for one call in flight."""
_WEIGHT = 0.2  # of the newest answer in the mean time of a model's answers


@dataclass(slots=True, eq=False)
class Endpoint:
    """An LLM server as the dispatch sees it; the unit of placement."""

    name: str
    kind: str
    url: str
    slots: int
    provider: Provider
    wanted: tuple[str, ...] | None = None
    models: tuple[ModelListed, ...] = ()
    is_known: bool = True
    """Whether it has ever said which models it has; until then `models` are those wanted."""
    in_flight: int = 0
    down: str | None = None
    """Why no call is sent to it (its breaker is open); None while it is healthy."""
    on_trial: bool = False
    """Whether it answers again, and gets one call at a time until one has been answered (its breaker is half open)."""
    failures_in_a_row: int = 0
    refused: set[str] = field(default_factory=set)
    """Models that it lists but then does not know."""
    reach: Reach = "machine"
    """How far a prompt travels to it."""

    residency: Residency = field(default_factory=Residency)
    cache_tokens: int = 0
    """Tokens of context in all slots together, whose keys and values a model's memory holds."""
    limit: AdaptiveLimit | None = None
    """Finds how many slots are best; None where that is known."""
    pace: Pace = field(default_factory=Pace)
    _started: dict[Token, float] = field(default_factory=dict)
    """When each call in flight started, in that order."""
    _trial: Token | None = None
    _answer_s: dict[str, float] = field(default_factory=dict)
    """Mean time of an answer, by model, once it is loaded."""
    _measured_at: float = float("-inf")
    _needs: dict[str, MemoryNeed] = field(default_factory=dict)
    """What models will take, as their server describes them."""
    _seen: dict[str, MeasuredNeed] = field(default_factory=dict)
    """What models took when they were last seen loaded."""
    _own: set[str] = field(default_factory=set)
    """Models that were seen after an answer to us: loaded with the context that our calls ask for."""
    _unloading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.residency.memory_of = self.memory_of

    @property
    def breaker(self) -> BreakerState:
        """Closed: calls go to it. Open: none. Half open: one at a time, until one has been answered."""
        return "open" if self.down is not None else "half-open" if self.on_trial else "closed"

    @property
    def is_cloud(self) -> bool:
        """Whether it is somebody else's: only calls that were allowed to leave go there."""
        return self.reach == "cloud"

    @property
    def free(self) -> int:
        """Slots without a call."""
        return self.slots - self.in_flight

    @property
    def usable(self) -> list[ModelListed]:
        """Its models, without those that its memory does not hold."""
        return [model for model in self.models if self.residency.can_hold(model.name)]

    def is_free(self, now: float) -> bool:
        """Whether a call may start now."""
        return self.free > 0 and not (self.on_trial and self._trial is not None) and self.opens_at(now) is None

    def opens_at(self, now: float) -> float | None:
        """When the next call may start, where its pace forbids one now."""
        at = self.pace.free_at()
        return at if at > now else None

    def expected_s(self, model: str, now: float) -> float:
        """How long an answer is expected to take: as the last ones, or as long as the oldest call takes already. 0 when nothing is known."""
        oldest = next(iter(self._started.values()), now)
        return max(self._answer_s.get(model, 0.0), now - oldest if self.residency.is_loaded(model) else 0.0)

    def slot_every_s(self, model: str) -> float:
        """How often a slot falls free while it answers calls of a model, seconds; where it has not, as with the slowest of the others."""
        return self._answer_s.get(model, max(self._answer_s.values(), default=0.0)) / self.slots

    @property
    def due_for_measuring_at(self) -> float:
        """When an endpoint that is passed over for being slow gets a call all the same."""
        return self._measured_at + MEASURE_AGAIN_S

    def is_due_for_measuring(self, now: float) -> bool:
        """Whether it gets a call although it is slow: to see whether it still is."""
        return not self.in_flight and now >= self.due_for_measuring_at

    def start(self, token: Token, model: str, now: float, waiting: int) -> bool:
        """Give a slot to a call, `waiting` others of whose model wait; returns whether it makes the endpoint switch models."""
        self.in_flight += 1
        self._started[token] = now
        self.pace.sent(now)
        if self.on_trial:
            self._trial = token
        return self.residency.start(model, now, waiting)

    def answered(self, model: str, started_at: float, now: float, completion: Completion) -> None:
        """Note an answer: the endpoint is healthy, and so quick."""
        self.failures_in_a_row = 0
        self.on_trial = False
        self.pace.accepted()
        if self.residency.answered(model, started_at, now, completion.first_text_s):
            if self.limit is not None:
                self.limit.answered(now, completion.tokens_out or 1, self.in_flight)
                self.slots = self.limit.limit
            known = self._answer_s.get(model, completion.latency_s)
            self._answer_s[model] = known + _WEIGHT * (completion.latency_s - known)
        self._measured_at = now

    def takes_less(self, failure: CallFailure, started_at: float, now: float) -> bool:
        """Whether a refusal only means that calls come too fast, or are too many at once; it gets fewer from then on."""
        if isinstance(failure, Overloaded):
            if self.limit is None or self.in_flight <= 1 or failure.retry_after_s is not None:
                return False
            self.limit.overloaded(self.in_flight)
            self.slots = self.limit.limit
            return True
        if isinstance(failure, RateLimited):
            self.pace.refused(now, started_at, failure.retry_after_s)
            return True
        return False

    def end(self, token: Token, model: str, now: float) -> None:
        """Take the slot of a call back."""
        self.in_flight -= 1
        del self._started[token]
        if self._trial is token:
            self._trial = None
        self.residency.end(model, now)

    def memory_of(self, model: str) -> int | None:
        """Bytes that a model takes; None when nothing is known."""
        need = self.need_of(model)
        return None if need is None else need.total_bytes

    def need_of(self, model: str) -> MemoryNeed | MeasuredNeed | None:
        """What a model takes: as it was seen loaded for our calls; until then as its server describes it, by its file alone where it does not.

        A model that was seen loaded for somebody else's calls may have had less context: then the greater of both counts.
        """
        seen = self._seen.get(model)
        if seen is not None and model in self._own:
            return seen
        described = self._needs.get(model) or next((MemoryNeed(each.file_bytes) for each in self.models if each.name == model and each.file_bytes), None)
        if seen is None or (described is not None and described.total_bytes >= seen.total_bytes):
            return described
        return seen

    def is_measured(self, model: str) -> bool:
        """Whether a model was seen loaded for our own calls, or that does not matter."""
        return self.residency.memory is None or model in self._own

    def seen(self, loaded: Mapping[str, int], *, answered: str | None = None) -> None:
        """Note which models are loaded, and the bytes that each takes; `answered` is one that has just answered us."""
        if answered is not None:
            self._own.add(answered)
        self._seen |= {model: MeasuredNeed(size) for model, size in loaded.items() if size}
        self.residency.observed(loaded)

    def insufficient(self, model: str) -> InsufficientMemory | None:
        """Why a model cannot be loaded here even when all is unloaded that may be; None when it can."""
        need, memory = self.need_of(model), self.residency.memory
        if need is None or memory is None or self.residency.can_hold(model):
            return None
        kept = {other: size for other in sorted(self.residency.pinned - {model}) if (size := self.memory_of(other))}
        return InsufficientMemory(model, need, self.name, memory, kept, pinned=self.residency.pinned)

    @property
    def holds_none(self) -> InsufficientMemory | None:
        """That its memory holds none of its models, by the smallest of them; None when it holds one."""
        if not self.models or self.usable:
            return None
        return self.insufficient(min((model.name for model in self.models), key=lambda name: self.memory_of(name) or 0))

    async def complete(self, call: Call) -> Completion:
        """Send a call, when what had to go for its model is unloaded: by itself a server may keep both, past `memory_gb`. Raises a CallFailure."""
        if self.residency.leaving:
            async with self._unloading:
                await self._unload_leaving()
        return await self.provider.complete(call)

    async def _unload_leaving(self) -> None:
        for model in list(self.residency.leaving):
            if model in self.residency.leaving and isinstance(self.provider, HoldsModels):
                with suppress(ModelUnknown):  # it was removed meanwhile
                    await self.provider.unload(model)
            self.residency.leaving.pop(model, None)

    async def look_at_memory(self, *, answered: str | None = None) -> None:
        """Ask which models are loaded, where that matters and the server tells; `answered` is one that has just answered us. Raises a CallFailure."""
        if self.residency.memory is not None and isinstance(self.provider, HoldsModels):
            self.seen(await self.provider.loaded(), answered=answered)

    async def _ask_for_needs(self) -> None:
        """Ask what models will take, where that matters and the server tells; one that it cannot describe counts as its file."""
        provider = self.provider
        if self.residency.memory is None or not isinstance(provider, HoldsModels):
            return

        async def ask(model: ModelListed) -> None:
            with suppress(CallFailure):
                if (need := await provider.need(model, self.cache_tokens)) is not None:
                    self._needs[model.name] = need

        await asyncio.gather(*(ask(model) for model in self.models))

    def model_named(self, name: str) -> ModelListed | None:
        """The model that a route's entry means here, if its memory holds it."""
        return next((model for model in self.models if means_model(name, model.name) and self.residency.can_hold(model.name)), None)

    def may_have(self, name: str) -> bool:
        """Whether it has a model, or nobody knows yet."""
        return self.model_named(name) is not None or (not self.is_known and self.wanted is None)

    async def refresh(self) -> None:
        """Ask which models there are, and what they take. Raises a CallFailure.

        ModelUnknown when none of the wanted ones is left, InsufficientMemory when its memory holds none of them.
        """
        listed = await self.provider.models()
        self.is_known = True
        self.refused &= {model.name for model in listed}
        usable = [model for model in listed if model.name not in self.refused]
        if self.wanted is not None:
            usable = [model for name in self.wanted for model in usable if means_model(name, model.name)]
        self.models = tuple(usable)
        if not usable:
            raise ModelUnknown(f"it has none of the models wanted ({', '.join(self.wanted or ()) or 'any'}); it lists {_names(listed)}")
        await self._ask_for_needs()
        await self.look_at_memory()
        if (insufficient := self.holds_none) is not None:
            raise insufficient


def _names(models: list[ModelListed] | tuple[ModelListed, ...]) -> str:
    return ", ".join(model.name for model in models) or "no model"

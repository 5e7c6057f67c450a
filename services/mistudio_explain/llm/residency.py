"""Which models an endpoint holds, and when it changes them. Pure: what starts and ends, and the time, come in.

A switch unloads what has been used least recently until the next model fits; that takes up to half a minute, in which the
endpoint writes nothing. So it is made when nothing is left for the models that are loaded, or when a call has waited for
long enough; in between, a model stays until the calls that waited for it have had their turn.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

FIRST_SWITCH_S = 10.0  # what a switch is taken to last until one was measured
_WEIGHT = 0.5  # of the newest switch in their mean

MemoryOf = Callable[[str], int | None]


def _unknown(model: str) -> int | None:  # noqa: ARG001
    return None


@dataclass(slots=True)
class Residency:
    """The models in one endpoint's memory as its calls make them come and go.

    With `memory` None everything fits. A model of unknown size takes all that pinned models leave, so that what is held
    is never more than there is room for; the memory of a pinned model is kept free for it while it is not loaded. Sizes
    are learnt, so models that fitted may turn out not to: then calls start only where what is too much goes first.
    """

    memory: int | None = None
    """Bytes for models."""
    memory_of: MemoryOf = _unknown
    """Bytes that a model takes; None where nobody knows yet."""
    pinned: frozenset[str] = frozenset()
    """Models that are never unloaded for others, as long as they fit together."""
    resident: dict[str, None] = field(default_factory=dict)
    """Models that are loaded or being loaded, the least recently used first."""
    leaving: dict[str, None] = field(default_factory=dict)
    """Models that were switched away from, and that the server is to unload before it gets another call."""
    running: Counter[str] = field(default_factory=Counter)
    """Calls in flight, by model."""
    target: str | None = None
    """The model that is loaded next, as soon as those that have to go for it are idle; they get no more calls."""
    switch_s: float = FIRST_SWITCH_S
    """How long a switch lasts, mean of those measured."""
    switches: int = 0
    idle_since: float = float("-inf")
    """When the last call ended."""
    _loading: dict[str, float] = field(default_factory=dict)
    """When the first call of a model that was not loaded started, until it has been answered."""
    _loaded_at: dict[str, float] = field(default_factory=dict)
    _switched_at: float = float("-inf")
    _owed: int = 0
    """Calls that waited for the model when it was switched to, and have not started."""

    def can_hold(self, model: str) -> bool:
        """Whether a model fits when all that may be unloaded is."""
        return self.memory is None or self._size(model) <= self._room_beside_pinned(model)

    def is_served(self, model: str) -> bool:
        """Whether calls of a model may start without a switch and are not kept back for one."""
        if self.memory is None:
            return True
        if self.target is not None and (model not in self.resident or (model != self.target and model in self.evicted_for(self.target))):
            return False
        return not self.evicted_for(model) and self.can_hold(model)

    def is_loaded(self, model: str) -> bool:
        """Whether a model has answered since it was loaded, or nobody knows when that was."""
        return model not in self._loading

    def takes(self, model: str) -> bool:
        """Whether a call of a model may start now."""
        return self.is_served(model) or (model == self.target and self._is_idle(self.evicted_for(model)))

    def evicted_for(self, model: str) -> list[str]:
        """Models that have to go before a call of a model starts; none when they all fit together."""
        if self.memory is None:
            return []
        pinned = self._pinned()
        others = [other for other in self.resident if other != model]
        kept_free = sum(self._size(other) for other in pinned if other not in self.resident and other != model)
        room = self.memory - kept_free - sum(self._size(other) for other in others)
        gone = []
        for other in others:
            if room >= self._size(model):
                break
            if other not in pinned:
                gone.append(other)
                room += self._size(other)
        return gone

    def is_idle_for(self, model: str) -> bool:
        """Whether a switch to a model could begin now: nothing that has to go for it is in use, and no other switch is under way."""
        return self.target in {None, model} and self._is_idle(self.evicted_for(model))

    def stays_until(self, patience_s: float) -> float:
        """Until when those that waited for the last switch are to have their turn."""
        return self._switched_at + patience_s if self._owed > 0 else float("-inf")

    def start(self, model: str, now: float, waiting: int = 0) -> bool:
        """Note that a call starts, and `waiting` others of its model wait; returns whether it is a switch."""
        evicted = self.evicted_for(model)
        is_new = model not in self.resident
        for other in evicted:
            del self.resident[other]
            self.leaving[other] = None
        self.leaving.pop(model, None)
        if is_new:
            self._loading[model] = now
        if evicted:
            self.switches += 1
            self._switched_at, self._owed = now, waiting + 1
        if model == self.target:
            self.target = None
        self.resident.pop(model, None)
        self.resident[model] = None
        self.running[model] += 1
        self._owed -= 1
        return bool(evicted)

    def end(self, model: str, now: float) -> None:
        """Note that a call has ended, one way or another."""
        self.running[model] -= 1
        if not self.running[model]:
            del self.running[model]
        self.idle_since = now

    def answered(self, model: str, started_at: float, now: float, first_text_s: float | None) -> bool:
        """Note an answer; returns whether its model was loaded when the call started, so that its time is that of any call."""
        if (loading_since := self._loading.pop(model, None)) is not None:
            if first_text_s is not None:
                self.switch_s += _WEIGHT * (first_text_s - self.switch_s)
            self._loaded_at[model] = now if first_text_s is None else loading_since + first_text_s
        return started_at >= self._loaded_at.get(model, float("-inf"))

    def observed(self, loaded: Collection[str]) -> None:
        """Correct what is taken for loaded by what the server says; models with calls in flight are left as they are."""
        for model in [model for model in self.resident if model not in loaded and not self.running[model]]:
            del self.resident[model]
        fresh = [model for model in loaded if model not in self.resident and model not in self.leaving]
        self.resident = {**dict.fromkeys(fresh), **self.resident}

    def _is_idle(self, models: list[str]) -> bool:
        return not any(self.running[model] for model in models)

    def _size(self, model: str) -> int:
        known = self.memory_of(model)
        return known if known is not None else self._room_beside_pinned(model)

    def _room_beside_pinned(self, model: str) -> int:
        assert self.memory is not None
        return self.memory - sum(self.memory_of(other) or 0 for other in self._pinned() if other != model)

    def _pinned(self) -> frozenset[str]:
        assert self.memory is not None
        return self.pinned if sum(self.memory_of(model) or 0 for model in self.pinned) <= self.memory else frozenset()

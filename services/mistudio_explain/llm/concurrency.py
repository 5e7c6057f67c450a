"""How many calls an endpoint gets at once: raised while that raises its throughput. Pure: what happened comes in, the limit goes out.

A server's best number of calls is nowhere to be asked for: it is the slots of llama.cpp, the memory for keys and values of
vLLM, the quota of a cloud. So it is found as a person would: twice as many, as long as that gains something; then the numbers
between the best and its neighbours, fewer first. From then on a little more and a little less is tried now and then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

START = 2
GAIN = 1.1
"""Twice as many calls must do at least so much more; what gains less only makes each call slower."""
FINE_GAIN = 1.03
"""The same for smaller steps; fewer calls that do as much but for this are better: each is quicker."""
NEAR = 4
"""The search ends when its neighbours are no further away than a fourth of the limit."""
FEWEST = 8
_CUT = 0.7  # what is left of the limit after an overload


class _Step(Enum):
    DOUBLING = auto()
    FEWER = auto()
    MORE = auto()
    HOLDING = auto()
    A_LITTLE_MORE = auto()
    A_LITTLE_LESS = auto()


ROUNDS: Mapping[_Step, int] = {_Step.HOLDING: 30, _Step.A_LITTLE_MORE: 6, _Step.A_LITTLE_LESS: 6}
"""By how many times its number of answers a limit is judged, since answers differ in length; two where it is searched for."""


@dataclass(slots=True)
class AdaptiveLimit:
    """The calls that one endpoint gets at once, between 1 and `most`."""

    most: int
    limit: int = 0
    """The calls that it may have in flight now."""
    _step: _Step = _Step.DOUBLING
    _below: int = 0
    _best: int = 0
    _best_rate: float = 0.0
    """Work a second that was measured at the best limit so far; it lies between `_below` and `_above`, which are worse."""
    _above: int = 0
    _to_skip: int = 0
    _work: list[float] = field(default_factory=list)
    _since: float | None = None
    _forgiven: int = 0
    """Overloads that are not counted any more: of calls that were sent before the limit was cut."""

    def __post_init__(self) -> None:
        self.limit = self.limit or min(START, self.most)
        self._above = self.most + 1

    def answered(self, now: float, work: float, in_flight: int) -> None:
        """Note an answer: `now` in seconds, `work` the tokens that were generated (or 1 for each call), `in_flight` the calls with this one.

        Times in which there were fewer calls than the limit allows say nothing about it and are left out.
        """
        self._forgiven = max(0, self._forgiven - 1)
        if in_flight < self.limit:
            self._forget()
            return
        if self._to_skip:
            self._to_skip -= 1
            return
        if self._since is None:
            self._since = now
            return
        self._work.append(work)
        if len(self._work) >= max(FEWEST, ROUNDS.get(self._step, 2) * self.limit) and now > self._since:
            self._judge(sum(self._work) / (now - self._since))

    def overloaded(self, in_flight: int) -> None:
        """Note that the endpoint refused a call because it has too many, with `in_flight` calls there."""
        if self._forgiven:
            self._forgiven -= 1
            return
        self._forgiven = max(0, in_flight - 1)
        self._go(max(1, int(min(self.limit, in_flight) * _CUT)), _Step.HOLDING)

    def _judge(self, rate: float) -> None:
        match self._step:
            case _Step.DOUBLING if rate >= GAIN * self._best_rate:
                self._below = self._best
                self._take(rate)
                self._go(min(2 * self.limit, self.most), _Step.DOUBLING) if self.limit < self.most else self._search()
            case _Step.DOUBLING:
                self._above = self.limit
                self._search()
            case _Step.FEWER if rate * FINE_GAIN >= self._best_rate:
                self._above = self._best
                self._take(rate)
                self._search()
            case _Step.FEWER:
                self._below = self.limit
                self._search()
            case _Step.MORE if rate >= FINE_GAIN * self._best_rate:
                self._below = self._best
                self._take(rate)
                self._search()
            case _Step.MORE:
                self._above = self.limit
                self._search()
            case _Step.HOLDING:
                self._take(rate)
                more = min(self.most, self.limit + max(1, self.limit // NEAR))
                self._go(more, _Step.A_LITTLE_MORE) if more > self.limit else self._try_less()
            case _Step.A_LITTLE_MORE if rate >= FINE_GAIN * self._best_rate:
                self._below, self._above = self._best, self.most + 1
                self._take(rate)
                self._go(min(2 * self.limit, self.most), _Step.DOUBLING)
            case _Step.A_LITTLE_MORE:
                self._try_less()
            case _Step.A_LITTLE_LESS if rate * FINE_GAIN >= self._best_rate:
                self._go(self.limit, _Step.HOLDING)
            case _Step.A_LITTLE_LESS:
                self._go(self._best, _Step.HOLDING)

    def _search(self) -> None:
        """Try the middle of the wider of the two gaps that are left beside the best limit; hold it when both are narrow."""
        near = max(1, self._best // NEAR)
        under, over = self._best - self._below, self._above - self._best
        if under > near and under >= over / 2:  # in the same proportion, for limits double
            self._go(self._below + under // 2, _Step.FEWER)
        elif over > near:
            self._go(self._best + over // 2, _Step.MORE)
        elif under > near:
            self._go(self._below + under // 2, _Step.FEWER)
        else:
            self._go(self._best, _Step.HOLDING)

    def _try_less(self) -> None:
        less = self._best - max(1, self._best // NEAR)
        self._go(less, _Step.A_LITTLE_LESS) if less >= 1 else self._go(self._best, _Step.HOLDING)

    def _take(self, rate: float) -> None:
        self._best, self._best_rate = self.limit, rate

    def _go(self, limit: int, step: _Step) -> None:
        self._to_skip = self.limit  # answers to calls that were sent before
        self.limit, self._step = limit, step
        self._forget()

    def _forget(self) -> None:
        self._work.clear()
        self._since = None

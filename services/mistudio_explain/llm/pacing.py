"""How fast an endpoint with a rate limit may be called: learnt from its refusals. Pure: times come in, times go out.

Clouds allow so many calls a minute and refuse the others (HTTP 429). How many is not said before the first refusal, and it
changes with the account. Between two refusals exactly as many calls were accepted as the limit allowed, whatever its
reserve for bursts was: the first refusal found that reserve empty, and so did the second.
"""

from collections import deque
from dataclasses import dataclass, field

BELOW = 0.97
"""Share of what was accepted at which calls go on after a refusal."""
FIRST_BELOW = 0.9
"""The same after the first refusal: what was accepted before it came out of the reserve too."""
RISE = 0.01
RISE_CALLS = 50
RISE_S = 10.0
"""The pace rises after so many calls, and not before so many seconds, by 1%, then 2%, up to 10%, while nothing is refused and it
is what holds calls up: limits are raised, and an estimate may be low. So a limit that is known is tried once in about 150 calls."""
STEEPEST = 10
GUESS_RISE = 1.05
"""By so much the pace rises with every call until a refusal has told a rate: refusals before that came too early to tell one."""
LONGEST_WAIT_S = 600.0
"""A server that asks for more is asked again all the same."""
_RECENT = 20
"""The first refusal comes after a beginning that may have been slow: the rate that was too high is that of so many calls before it."""
_FEWEST = 5
"""So many accepted calls between refusals tell a rate; fewer only say that it is lower than thought."""
_SLOWER = 0.7
SLOWEST = 1 / 60
"""Calls a second at the least: an endpoint that refuses everything, as when a quota is used up, is asked once a minute."""
_FALLEN = 4  # a rate that sank by so many times without a call accepted tells of a time in which nothing was, not of a rate


@dataclass(slots=True)
class Pace:
    """When the next call may be sent to one endpoint; times are in seconds of any clock that does not jump."""

    rate: float | None = None
    """Calls a second; None while nothing was refused."""
    _free_at: float = 0.0
    _began: float | None = None
    """When counting began: at the first call, then at the refusal that the rate was last told by."""
    _sent_at: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    """When the last calls were sent, until a rate is known."""
    _accepted: int = 0
    _told: bool = False
    """Whether counting began at a refusal, with an empty reserve."""
    _proven: float = 0.0
    """The rate that held until the last rise, while calls waited for their moment and none was refused."""
    _fell_from: float | None = None
    """The rate before refusals between which no call was accepted."""
    _lowered_at: float = 0.0
    """Refusals of calls that were sent before this time are no news."""
    _raised_at: float = 0.0
    _raises: int = 0
    _sent: int = 0
    _held_up: int = 0

    def free_at(self) -> float:
        """The time from which the next call may be sent."""
        return self._free_at

    def sent(self, now: float) -> None:
        """Note that a call is sent."""
        if self._began is None:
            self._began = now
        if self.rate is None:
            self._sent_at.append(now)
            return
        was_held_up = now - self._free_at < 0.5 / self.rate  # else nobody waited for this moment
        self._sent += 1
        self._held_up += was_held_up
        self._free_at = max(now, self._free_at) + 1 / self.rate
        if not self._told:
            self.rate *= GUESS_RISE if was_held_up else 1.0
        elif self._sent >= RISE_CALLS and now - self._raised_at >= RISE_S:
            if self._held_up > self._sent / 2:
                self._proven = self.rate
                self._raises = min(self._raises + 1, STEEPEST)
                self.rate *= 1 + RISE * self._raises
            self._raised_at, self._sent, self._held_up = now, 0, 0

    def accepted(self) -> None:
        """Note that a call was answered, or refused for another reason than the rate."""
        self._accepted += 1
        if self.rate is not None and self._fell_from is not None and self.rate * _FALLEN < self._fell_from:
            self.rate = self._fell_from / 2
        self._fell_from = None

    def refused(self, now: float, sent_at: float, retry_after_s: float | None = None) -> None:
        """Note that a call which was sent at `sent_at` came too soon; `retry_after_s` is the server's own word."""
        self._free_at = max(self._free_at, now + min(retry_after_s or 0.0, LONGEST_WAIT_S))
        if sent_at < self._lowered_at:
            return
        elapsed = 0.0 if self._began is None else now - self._began
        if self._accepted < _FEWEST or not elapsed:
            self._fell_from = self._fell_from or self.rate
            self.rate = max(1, self._accepted) / max(1.0, elapsed) if self.rate is None else max(SLOWEST, self.rate * _SLOWER)
        elif self._told:  # what the rate was too low for is lost to the first figure, not to the second
            self.rate = BELOW * max(self._accepted / elapsed, self._proven)
        else:
            self.rate = FIRST_BELOW * (max(self._accepted / elapsed, self._lately(now)) if self.rate is None else self.rate)
        if self._accepted >= _FEWEST:
            self._accepted, self._began, self._told = 0, now, True
        self._proven = 0.0
        self._free_at = max(self._free_at, now + 1 / self.rate)
        self._lowered_at = self._raised_at = now
        self._raises = self._sent = self._held_up = 0

    def _lately(self, now: float) -> float:
        """Calls a second that were sent just before."""
        return len(self._sent_at) / (now - self._sent_at[0]) if len(self._sent_at) == _RECENT and now > self._sent_at[0] else 0.0

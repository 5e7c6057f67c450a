"""Which of the calls that wait starts next, and where. Pure: calls, endpoints and the time come in, starts go out.

Calls wait in one queue for each route; so a call is bound to an endpoint only when it starts. Urgent calls go first, then
those that came first, each at the endpoint that is expected to answer it soonest. What an endpoint can start without
unloading a model goes before what it cannot. It switches when nothing is left to start without, or when a call has waited
for half of the longest wait, or when the queue behind it has grown so long that its last would wait too long: then the
models that have to go get no more calls, and the new one is loaded when theirs have ended. The other half of the longest
wait is for these, the switch, and the calls of the same model that came before. An urgent call makes it switch at once.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.placement import Choice, options

LINGER_S = 0.05
"""An endpoint that has nothing left for its models waits so long before it switches: whoever got the last answer may ask again."""
SLOW = 4.0
"""A free endpoint is passed over when waiting for a busy one promises the answer so many times sooner; a smaller difference
is no reason to leave it idle."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A call that waits."""

    route: tuple[str, ...]
    is_urgent: bool
    since: float
    cloud: bool = False
    """Whether it may go to an endpoint in a cloud."""
    start: Choice | None = None
    """What it came to; None while it waits."""
    why: str | None = None
    """Why its endpoint switched models for it; None when it did not."""


_Queue = tuple[bool, bool, tuple[str, ...]]
"""What the calls of one queue have in common: urgent, may go to a cloud, route."""


@dataclass(slots=True)
class _Head:
    """The first of a queue, where it may go, and how many wait with it."""

    ticket: Ticket
    options: list[Choice]
    waiting: int
    last_since: float
    """Since when the last of the queue waits."""

    def is_served(self) -> bool:
        """Whether an endpoint serves it without a switch, now or when a slot falls free."""
        return any(choice.endpoint.residency.is_served(choice.model.name) for choice in self.options)


@dataclass(slots=True)
class Dispatch:
    """The calls that wait for any endpoint. `max_wait_s`: no call waits longer for a switch of models, where the load allows it."""

    max_wait_s: float
    look_again_at: float | None = None
    """When a call may start though nothing happened until then."""
    _queues: dict[_Queue, deque[Ticket]] = field(default_factory=dict)
    _whys: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why an endpoint is about to switch to a model."""

    def add(self, ticket: Ticket) -> None:
        """Let a call wait."""
        self._queues.setdefault((ticket.is_urgent, ticket.cloud, ticket.route), deque()).append(ticket)

    def remove(self, ticket: Ticket) -> None:
        """Forget a call that waits no more."""
        key = (ticket.is_urgent, ticket.cloud, ticket.route)
        self._queues[key].remove(ticket)
        if not self._queues[key]:
            del self._queues[key]

    @property
    def waiting(self) -> int:
        """Calls that wait."""
        return sum(map(len, self._queues.values()))

    def held(self, endpoints: Sequence[Endpoint]) -> int:
        """Calls that no endpoint can serve now: they wait for an outage to end."""
        return sum(head.waiting for head in self._heads(endpoints) if not head.options)

    def parked(self, endpoints: Sequence[Endpoint]) -> int:
        """Calls that wait for a switch of models."""
        return sum(head.waiting for head in self._heads(endpoints) if head.options and not head.is_served())

    def starts(self, endpoints: Sequence[Endpoint], now: float) -> list[Ticket]:
        """Start all that can start now; each ticket knows where."""
        started: list[Ticket] = []
        self.look_again_at = None
        while (ticket := self._started(endpoints, now)) is not None:
            started.append(ticket)
        return started

    def _started(self, endpoints: Sequence[Endpoint], now: float) -> Ticket | None:
        heads = [head for head in self._heads(endpoints) if head.options]
        self._call_off_switches(endpoints, heads)
        for head in heads:
            self._order_switch(head, now)
        for head in heads:
            if (choice := self._place(head, now)) is not None:
                return self._start(head, choice, now)
        for head in heads:
            if (choice := self._idle_place(head, now)) is not None:
                return self._start(head, choice, now)
        return None

    def _heads(self, endpoints: Sequence[Endpoint]) -> list[_Head]:
        usable = [endpoint for endpoint in endpoints if endpoint.down is None]
        queues = sorted(self._queues.values(), key=lambda queue: (not queue[0].is_urgent, queue[0].since))
        return [_head(queue, endpoints, usable) for queue in queues]

    def _call_off_switches(self, endpoints: Sequence[Endpoint], heads: Sequence[_Head]) -> None:
        """Have no endpoint go on waiting to switch to a model that nobody waits for any more: cancelled, or started elsewhere."""
        wanted = {(choice.endpoint.name, choice.model.name) for head in heads for choice in head.options}
        for endpoint in endpoints:
            target = endpoint.residency.target
            if target is not None and (endpoint.name, target) not in wanted:
                endpoint.residency.target = None
                self._whys.pop((endpoint.name, target), None)

    def _order_switch(self, head: _Head, now: float) -> None:
        """Have an endpoint switch for a call that is urgent or has waited for long enough."""
        is_served = head.is_served()
        if head.ticket.is_urgent and is_served:
            return  # it takes the next slot that falls free
        due_at = head.ticket.since + self.max_wait_s if is_served else self._due_at(head)
        if now < due_at:
            self._look_at(due_at, now)
            return
        if any(choice.endpoint.residency.target == choice.model.name for choice in head.options):
            return
        unserved = [choice for choice in head.options if not choice.endpoint.residency.is_served(choice.model.name)]
        free = [choice for choice in unserved if choice.endpoint.residency.target is None]
        if not free:
            return
        stays = 0.0 if head.ticket.is_urgent else self.max_wait_s / 2
        chosen = min(free, key=lambda choice: (max(now, choice.endpoint.residency.stays_until(stays)), choice.endpoint.in_flight))
        if (until := chosen.endpoint.residency.stays_until(stays)) > now:
            self._look_at(until, now)
            return
        chosen.endpoint.residency.target = chosen.model.name
        self._whys[chosen.endpoint.name, chosen.model.name] = "urgent" if head.ticket.is_urgent else "waited"

    def _due_at(self, head: _Head) -> float:
        """When a switch has to begin so that neither the first of a queue nor the last waits for too long."""
        if head.ticket.is_urgent:
            return head.ticket.since
        needed_s = min(2 * choice.endpoint.residency.switch_s + head.waiting * choice.endpoint.slot_every_s(choice.model.name) for choice in head.options)
        return min(head.ticket.since + self.max_wait_s / 2, max(head.ticket.since, head.last_since + self.max_wait_s - needed_s))

    def _place(self, head: _Head, now: float) -> Choice | None:
        """Where a call starts without a switch, or with one that was ordered."""
        taking = [choice for choice in head.options if choice.endpoint.residency.takes(choice.model.name)]
        free = [choice for choice in taking if choice.endpoint.is_free(now)]
        for choice in taking:
            self._look_at(choice.endpoint.opens_at(now), now)
        if not free:
            return None
        best = min(free, key=lambda choice: (choice.endpoint.expected_s(choice.model.name, now), -choice.endpoint.free / choice.endpoint.slots))
        expected = best.endpoint.expected_s(best.model.name, now)
        busy = [choice.endpoint for choice in taking if choice not in free]
        elsewhere = min((endpoint.expected_s(best.model.name, now) * (1 + 1 / endpoint.slots) for endpoint in busy if not endpoint.on_trial), default=None)
        if elsewhere and expected > SLOW * elsewhere and not best.endpoint.is_due_for_measuring(now):
            self._look_at(best.endpoint.due_for_measuring_at, now)
            return None
        return best

    def _idle_place(self, head: _Head, now: float) -> Choice | None:
        """Where a call makes an endpoint switch that has nothing else left to do."""
        is_served = head.is_served()
        for choice in head.options:
            endpoint, residency = choice.endpoint, choice.endpoint.residency
            if not endpoint.is_free(now) or residency.is_served(choice.model.name) or not residency.is_idle_for(choice.model.name):
                continue
            ready_at = max(residency.idle_since + LINGER_S, head.ticket.since + (residency.switch_s if is_served else 0.0))
            if now >= ready_at:
                return choice
            self._look_at(ready_at, now)
        return None

    def _start(self, head: _Head, choice: Choice, now: float) -> Ticket:
        ticket, endpoint = head.ticket, choice.endpoint
        self.remove(ticket)
        why = self._whys.pop((endpoint.name, choice.model.name), None)
        if endpoint.start(ticket, choice.model.name, now, waiting=head.waiting - 1):
            ticket.why = why or "drained"
        ticket.start = replace(choice, since=now)
        return ticket

    def _look_at(self, moment: float | None, now: float) -> None:
        if moment is not None and moment > now:
            self.look_again_at = moment if self.look_again_at is None else min(moment, self.look_again_at)


def _head(queue: deque[Ticket], endpoints: Sequence[Endpoint], usable: Sequence[Endpoint]) -> _Head:
    first = queue[0]
    if not first.cloud:
        endpoints, usable = _near(endpoints), _near(usable)
    return _Head(first, options(first.route, usable, endpoints), len(queue), queue[-1].since)


def _near(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    return [endpoint for endpoint in endpoints if not endpoint.is_cloud]

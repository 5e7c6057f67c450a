"""Any calls at any endpoints: none is lost, none waits for ever, and no endpoint gets more than its slots and its memory hold."""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.llm.dispatch import LINGER_S, Dispatch, Ticket
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.provider import Completion, ModelListed, Provider
from mistudio_explain.llm.residency import Residency

SIZES = {"a": 5, "b": 5, "c": 3, "d": 8}
NOBODY = cast("Provider", None)


def endpoint(name: str, models: Iterable[str] = SIZES, *, slots: int = 2, memory: int | None = 8, pinned: Iterable[str] = ()) -> Endpoint:
    made = Endpoint(name, "ollama", "", slots, NOBODY, residency=Residency(memory, pinned=frozenset(pinned)))
    made.models = tuple(ModelListed(model, file_bytes=SIZES[model]) for model in models)
    return made


@dataclass
class World:
    """Endpoints that load for `load_s` and answer within `answer_s`, in a time of their own."""

    endpoints: list[Endpoint]
    load_s: float
    answer_s: Callable[[Endpoint], float]
    dispatch: Dispatch
    now: float = 0.0
    waits: list[tuple[Ticket, float]] = field(default_factory=list)
    ready_at: dict[tuple[str, str], float] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)

    def run(self, arrivals: list[tuple[float, str, bool]]) -> None:
        happens: list[tuple[float, int, Callable[[], None]]] = []
        count = 0

        def at(moment: float, what: Callable[[], None]) -> None:
            nonlocal count
            count += 1
            heapq.heappush(happens, (moment, count, what))

        for moment, model, is_urgent in arrivals:
            at(moment, lambda moment=moment, model=model, is_urgent=is_urgent: self.dispatch.add(Ticket((model,), is_urgent, moment)))
        for _ in range(100_000):
            if not happens:
                break
            self.now, _, what = heapq.heappop(happens)
            what()
            for ticket in self.dispatch.starts(self.endpoints, self.now):
                at(*self.started(ticket))
            if self.dispatch.look_again_at is not None:
                assert self.dispatch.look_again_at > self.now
                at(self.dispatch.look_again_at, lambda: None)
        assert self.dispatch.waiting == 0

    def started(self, ticket: Ticket) -> tuple[float, Callable[[], None]]:
        choice, began = ticket.start, self.now
        assert choice is not None
        place, model = choice.endpoint, choice.model.name
        self.waits.append((ticket, began - ticket.since))
        self.most[place.name] = max(self.most.get(place.name, 0), place.in_flight)
        assert model in ticket.route
        assert set(place.residency.running) <= set(place.residency.resident)
        if place.residency.memory is not None:
            assert sum(place.memory_of(loaded) or 0 for loaded in place.residency.resident) <= place.residency.memory
        if not place.residency.is_loaded(model) and place.residency.running[model] == 1:
            self.ready_at[place.name, model] = began + self.load_s
        answer_s = self.answer_s(place)
        ends = max(began, self.ready_at.get((place.name, model), 0.0)) + answer_s

        def end() -> None:
            place.answered(model, began, self.now, Completion("", "stop", 1, 1, ends - began, ends - began - answer_s))
            place.end(ticket, model, self.now)

        return ends, end


ARRIVALS = st.lists(st.tuples(st.floats(0, 200), st.sampled_from("abcd"), st.booleans()), max_size=60)
ENDPOINTS = st.lists(
    st.tuples(st.sets(st.sampled_from("abcd"), min_size=1), st.integers(1, 4), st.sampled_from([8, 10, None]), st.sampled_from([(), ("c",)])), max_size=3
)


@given(arrivals=ARRIVALS, places=ENDPOINTS, load_s=st.floats(0, 30), answer_s=st.floats(0.1, 10), max_wait_s=st.floats(1, 100))
def test_every_call_is_served_within_slots_and_memory(
    arrivals: list[tuple[float, str, bool]],
    places: list[tuple[set[str], int, int | None, tuple[str, ...]]],
    load_s: float,
    answer_s: float,
    max_wait_s: float,
) -> None:
    endpoints = [endpoint("all", memory=8)]
    endpoints += [endpoint(str(i), models, slots=slots, memory=memory, pinned=pinned) for i, (models, slots, memory, pinned) in enumerate(places)]
    world = World(endpoints, load_s, lambda _: answer_s, Dispatch(max_wait_s))
    world.run(arrivals)
    assert len(world.waits) == len(arrivals)
    assert all(world.most.get(place.name, 0) <= place.slots for place in endpoints)
    assert not any(place.in_flight or place.residency.running for place in endpoints)


@given(
    order=st.lists(st.sampled_from("ab"), min_size=1, max_size=300),
    slots=st.integers(1, 4),
    load_s=st.floats(1, 10),
)
def test_no_call_waits_longer_than_the_bound_while_the_load_allows_it(order: list[str], slots: int, load_s: float) -> None:
    pace_s = 1.0 / slots / 0.5  # half of what the endpoint could answer
    world = World([endpoint("x", "ab", slots=slots)], load_s, lambda _: 1.0, Dispatch(60.0))
    world.run([(i * pace_s, model, False) for i, model in enumerate(order)])
    assert max(wait for _, wait in world.waits) <= 60.0


def test_a_loaded_models_queue_is_answered_before_a_switch() -> None:
    place = endpoint("x", "ab", slots=4)
    world = World([place], 10.0, lambda _: 1.2, Dispatch(120.0))
    world.run([(0.0, "ab"[i % 2], False) for i in range(200)])
    assert place.residency.switches == 1


def test_an_urgent_call_switches_at_once_but_waits_for_no_running_one_to_be_cut() -> None:
    place = endpoint("x", "ab", slots=1)
    world = World([place], 10.0, lambda _: 2.0, Dispatch(1000.0))
    world.run([(0.0, "a", False)] * 5 + [(10.5, "b", True)])
    (urgent,) = [wait for ticket, wait in world.waits if ticket.is_urgent]
    assert urgent == 12.0 - 10.5
    assert place.residency.switches == 2


def test_an_urgent_call_goes_before_all_that_wait() -> None:
    world = World([endpoint("x", "a", slots=1)], 0.0, lambda _: 1.0, Dispatch(1000.0))
    world.run([(0.0, "a", False)] * 10 + [(2.5, "a", True)])
    assert [wait for ticket, wait in world.waits if ticket.is_urgent] == [0.5]


def test_a_pinned_model_is_never_unloaded() -> None:
    place = endpoint("x", "abcd", slots=1, memory=8, pinned="c")
    world = World([place], 1.0, lambda _: 1.0, Dispatch(10.0))
    world.run([(0.0, "c", False), *((1.0 + 5 * i, "ab"[i % 2], False) for i in range(8))])
    assert set(place.residency.resident) == {"b", "c"}
    assert place.residency.switches == 7
    assert [model.name for model in place.usable] == ["a", "b", "c"]  # d never fits beside it


def test_a_model_that_always_has_calls_makes_room_for_one_that_waited() -> None:
    world = World([endpoint("x", "ab", slots=2)], 1.0, lambda _: 2.0, Dispatch(20.0))
    world.run([*((i * 0.9, "a", False) for i in range(100)), (10.0, "b", False)])
    (wait,) = [wait for ticket, wait in world.waits if ticket.route == ("b",)]
    assert wait <= 10.0 + 2.0  # half of the bound, and the calls that were running


def test_more_load_than_can_be_answered_makes_no_storm_of_switches() -> None:
    place = endpoint("x", "ab", slots=1)
    world = World([place], 5.0, lambda _: 1.0, Dispatch(40.0))
    world.run([(i * 0.5, "ab"[i % 2], False) for i in range(400)])
    assert place.residency.switches <= world.now / 20 + 1  # a model stays for half of the longest wait


def test_a_switch_to_a_long_queue_begins_early_for_its_last() -> None:
    world = World([endpoint("x", "ab", slots=1)], 5.0, lambda _: 1.0, Dispatch(60.0))
    world.run([*((i * 0.9, "a", False) for i in range(60)), *((20.0, "b", False) for _ in range(40))])
    assert min(wait for ticket, wait in world.waits if ticket.route == ("b",)) <= 10.0  # one alone would wait for 30 s


def test_two_endpoints_share_two_models_instead_of_switching() -> None:
    places = [endpoint("x", "ab", slots=2), endpoint("y", "ab", slots=2)]
    world = World(places, 10.0, lambda _: 1.0, Dispatch(60.0))
    world.run([(i * 0.5, "ab"[i % 2], False) for i in range(200)])
    assert sum(place.residency.switches for place in places) == 0


def test_an_endpoint_that_became_ten_times_slower_does_not_hold_calls_up() -> None:
    places = [endpoint("slow", "a", slots=2), endpoint("fast", "a", slots=2)]
    world = World(places, 0.0, lambda place: 10.0 if place.name == "slow" else 1.0, Dispatch(60.0))
    world.run([(3.5 * i, "a", False) for i in range(40) for _ in range(6)])  # more at once than the fast one has slots
    slow = [ticket for ticket, _ in world.waits if ticket.start is not None and ticket.start.endpoint.name == "slow"]
    assert 2 <= len(slow) <= 8  # at first, and now and then to see whether it still is
    assert sorted(wait for _, wait in world.waits)[-10] < 5.0


def test_an_endpoint_half_as_fast_is_used_all_the_same() -> None:
    places = [endpoint("slow", "a", slots=2), endpoint("fast", "a", slots=2)]
    world = World(places, 0.0, lambda place: 2.0 if place.name == "slow" else 1.0, Dispatch(60.0))
    world.run([(0.0, "a", False)] * 300)
    assert world.now <= 100 * 1.1


def test_nothing_left_to_do_makes_it_switch_after_a_moment() -> None:
    world = World([endpoint("x", "ab", slots=1)], 0.0, lambda _: 1.0, Dispatch(60.0))
    world.run([(0.0, "a", False), (0.5, "b", False)])
    assert [wait for _, wait in world.waits] == [0.0, 0.5 + LINGER_S]


def waiting(dispatch: Dispatch, model: str, since: float) -> Ticket:
    ticket = Ticket((model,), False, since)
    dispatch.add(ticket)
    return ticket


def test_a_switch_is_called_off_when_the_call_that_it_was_for_is_cancelled() -> None:
    place, dispatch = endpoint("x", "ab", slots=1), Dispatch(10.0)
    running = waiting(dispatch, "a", 0.0)
    assert dispatch.starts([place], 0.0) == [running]
    behind, other = waiting(dispatch, "a", 0.1), waiting(dispatch, "b", 0.1)
    assert dispatch.starts([place], 9.0) == []
    assert place.residency.target == "b"
    dispatch.remove(other)
    place.end(running, "a", 9.5)
    assert dispatch.starts([place], 9.5) == [behind]


def test_a_switch_is_called_off_when_the_call_that_it_was_for_starts_elsewhere() -> None:
    place, elsewhere, dispatch = endpoint("x", "ab", slots=1), endpoint("y", "b", slots=1), Dispatch(10.0)
    running = waiting(dispatch, "a", 0.0)
    assert dispatch.starts([place], 0.0) == [running]
    other = waiting(dispatch, "b", 0.1)
    assert dispatch.starts([place], 9.0) == []
    assert dispatch.starts([place, elsewhere], 9.1) == [other]
    place.end(running, "a", 9.5)
    again = waiting(dispatch, "a", 9.5)
    assert dispatch.starts([place, elsewhere], 9.5) == [again]

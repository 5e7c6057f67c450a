"""Any calls, and models that take less or more than their servers say: no endpoint is ever made to hold more than it can."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.llm.dispatch import Dispatch, Ticket
from mistudio_explain.llm.provider import ModelListed
from property.test_dispatch import ARRIVALS, SIZES, World, endpoint

MEMORY = 10
OFF = st.fixed_dictionaries({model: st.integers(0, 2) for model in SIZES})


@dataclass
class Servers(World):
    """Servers that load whatever they are asked for, and unload nothing of themselves, as one with more memory than it may use."""

    takes: Mapping[str, int] = field(default_factory=dict)
    held: dict[str, dict[str, int]] = field(default_factory=dict)
    most_held: int = 0

    def started(self, ticket: Ticket) -> tuple[float, Callable[[], None]]:
        assert ticket.start is not None
        place, model = ticket.start.endpoint, ticket.start.model.name
        held = self.held.setdefault(place.name, {})
        for gone in place.residency.leaving:
            assert not place.residency.running[gone]
            del held[gone]
        place.residency.leaving.clear()
        held[model] = self.takes[model]
        assert sum(place.memory_of(each) or 0 for each in held) <= MEMORY
        self.most_held = max(self.most_held, sum(held.values()))
        ends, ended = super().started(ticket)

        def end() -> None:
            ended()
            place.seen(held, answered=model)

        return ends, end


def servers(said: Mapping[str, int | None], takes: Mapping[str, int], slots: int, pinned: tuple[str, ...] = (), answer_s: float = 1.0) -> Servers:
    places = [endpoint(name, slots=slots, memory=MEMORY, pinned=pinned) for name in "xy"]
    for place in places:
        place.models = tuple(ModelListed(model, file_bytes=size) for model, size in said.items())
    return Servers(places, 5.0, lambda _: answer_s, Dispatch(60.0), takes=takes)


@given(
    arrivals=ARRIVALS,
    too_much=OFF,
    untold=st.sets(st.sampled_from("abd")),
    slots=st.integers(1, 4),
    pinned=st.sampled_from([(), ("c",)]),
    answer_s=st.floats(0.1, 10),
)
def test_models_that_take_what_was_said_or_less_never_exceed_the_memory(
    arrivals: list[tuple[float, str, bool]], too_much: dict[str, int], untold: set[str], slots: int, pinned: tuple[str, ...], answer_s: float
) -> None:
    if pinned:
        arrivals = [arrival for arrival in arrivals if arrival[1] != "d"]  # which does not fit beside it
    said = {model: None if model in untold else size for model, size in SIZES.items()}
    takes = {model: size - too_much[model] for model, size in SIZES.items()}
    world = servers(said, takes, slots, pinned, answer_s)
    world.run(arrivals)
    assert len(world.waits) == len(arrivals)
    assert world.most_held <= MEMORY


@given(arrivals=ARRIVALS, too_little=OFF, slots=st.integers(1, 4), answer_s=st.floats(0.1, 10))
def test_a_model_that_takes_more_than_was_said_exceeds_the_memory_no_longer_once_it_has_been_seen(
    arrivals: list[tuple[float, str, bool]], too_little: dict[str, int], slots: int, answer_s: float
) -> None:
    takes = {model: size + too_little[model] for model, size in SIZES.items()}
    world = servers(SIZES, takes, slots, answer_s=answer_s)
    world.run(arrivals)
    assert len(world.waits) == len(arrivals)


def test_two_models_that_turn_out_not_to_fit_together_take_turns() -> None:
    world = servers({"a": 5, "b": 5}, {"a": 6, "b": 5}, slots=2)
    world.endpoints = world.endpoints[:1]
    world.run([*((float(i), "ab"[i % 2], False) for i in range(20)), (300.0, "a", False), (301.0, "b", False), (400.0, "a", False)])
    (place,) = world.endpoints
    assert world.most_held == 11  # before anybody knew
    assert sum(world.held["x"].values()) <= MEMORY
    assert place.residency.switches >= 3


def test_pinned_models_that_turn_out_not_to_fit_together_are_switched_as_others_are() -> None:
    world = servers({"a": 5, "b": 5}, {"a": 6, "b": 5}, slots=1, pinned=("a", "b"))
    world.endpoints = world.endpoints[:1]
    world.run([(100.0 * i, "ab"[i % 2], False) for i in range(6)])
    assert len(world.waits) == 6
    assert sum(world.held["x"].values()) <= MEMORY

"""Fairness between lanes."""

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.kafka.lanes import FairQueue


@given(waiting=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 20), min_size=1), in_flight=st.integers(1, 8), per_lane=st.integers(1, 8))
def test_bounds_hold_and_everything_is_served_in_the_order_of_its_lane(waiting: dict[str, int], in_flight: int, per_lane: int) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(in_flight=in_flight, per_lane=per_lane)
    for lane, count in waiting.items():
        for i in range(count):
            queue.offer(lane, (lane, i), 10)
    assert queue.queued_bytes == 10 * sum(waiting.values())
    busy: list[str] = []
    served: dict[str, list[int]] = {lane: [] for lane in waiting}
    while queue.queued or busy:
        while (turn := queue.next()) is not None:
            lane, (name, i) = turn
            assert lane == name
            served[lane].append(i)
            busy.append(lane)
        assert len(busy) == queue.busy <= in_flight
        assert all(busy.count(lane) <= per_lane for lane in waiting)
        queue.done(busy.pop(0))
    assert served == {lane: list(range(count)) for lane, count in waiting.items()}
    assert queue.queued_bytes == 0


def test_a_short_lane_does_not_wait_behind_a_long_one() -> None:
    queue: FairQueue[str] = FairQueue(in_flight=2, per_lane=2)
    for i in range(1000):
        queue.offer("long", f"long {i}", 1)
    assert [queue.next(), queue.next(), queue.next()] == [("long", "long 0"), ("long", "long 1"), None]
    for i in range(3):
        queue.offer("short", f"short {i}", 1)
    order = []
    for _ in range(6):
        queue.done("long" if not order else order[-1])
        turn = queue.next()
        assert turn is not None
        order.append(turn[0])
    assert order[:6].count("short") == 3


def test_records_of_a_lost_partition_are_forgotten() -> None:
    queue: FairQueue[int] = FairQueue(in_flight=1, per_lane=1)
    for i in range(4):
        queue.offer("lane", i, 5)
    queue.discard(lambda record: record % 2 == 0)
    assert queue.queued == 2
    assert queue.queued_bytes == 10
    assert queue.next() == ("lane", 1)


def test_the_express_lane_has_places_of_its_own_and_no_more_while_others_have_work() -> None:
    queue: FairQueue[int] = FairQueue(in_flight=4, per_lane=3, express="express", express_in_flight=2)
    for i in range(10):
        queue.offer("long", i, 1)
    assert [turn[0] for turn in iter(queue.next, None)] == ["long"] * 3
    for i in range(10):
        queue.offer("express", i, 1)
    assert [turn[0] for turn in iter(queue.next, None)] == ["express"] * 2
    queue.offer("other", 0, 1)
    assert [turn[0] for turn in iter(queue.next, None)] == ["other"]
    queue.done("express")
    assert [turn[0] for turn in iter(queue.next, None)] == ["express"]


def test_the_express_lane_takes_all_places_when_nobody_else_has_work() -> None:
    queue: FairQueue[int] = FairQueue(in_flight=5, per_lane=4, express="express", express_in_flight=1)
    for i in range(10):
        queue.offer("express", i, 1)
    assert len(list(iter(queue.next, None))) == 4
    queue.offer("long", 0, 1)
    assert queue.next() == ("long", 0)
    queue.done("express")
    assert queue.next() is None


@given(
    arrivals=st.lists(st.tuples(st.sampled_from(["express", "a", "b"]), st.booleans()), min_size=1, max_size=60),
    in_flight=st.integers(1, 6),
    express=st.integers(1, 3),
)
def test_express_never_has_more_than_its_places_beside_others_and_never_waits_while_it_has_one(
    arrivals: list[tuple[str, bool]], in_flight: int, express: int
) -> None:
    queue: FairQueue[int] = FairQueue(in_flight=in_flight, per_lane=in_flight, express="express", express_in_flight=express)
    busy: list[str] = []
    for number, (lane, finishes) in enumerate(arrivals):
        queue.offer(lane, number, 1)
        while (turn := queue.next()) is not None:
            beside = len(busy) - busy.count("express")
            if turn[0] == "express" and beside:
                assert busy.count("express") < express
            busy.append(turn[0])
        assert sum(each != "express" for each in busy) <= in_flight
        if finishes and busy:
            queue.done(busy.pop(0))
    while busy or queue.queued:
        while (turn := queue.next()) is not None:
            busy.append(turn[0])
        assert busy
        queue.done(busy.pop(0))

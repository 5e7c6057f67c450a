"""Fairness between lanes, and between the partitions of a lane."""

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.kafka.lanes import FairQueue


@given(waiting=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 20), min_size=1), in_flight=st.integers(1, 8))
def test_bounds_hold_and_everything_is_served_in_the_order_of_its_lane(waiting: dict[str, int], in_flight: int) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(in_flight=in_flight)
    for lane, count in waiting.items():
        for i in range(count):
            queue.offer(lane, 0, (lane, i), 10)
    assert queue.queued_bytes == 10 * sum(waiting.values())
    busy: list[str] = []
    served: dict[str, list[int]] = {lane: [] for lane in waiting}
    while queue.queued or busy:
        while (turn := queue.next()) is not None:
            lane, (name, i) = turn
            assert lane == name
            served[lane].append(i)
            busy.append(lane)
        assert len(busy) == queue.busy
        assert len(busy) - len(set(busy)) < in_flight  # each lane's first may come on top
        assert all(busy.count(lane) <= in_flight for lane in waiting)
        queue.done(busy.pop(0))
    assert served == {lane: list(range(count)) for lane, count in waiting.items()}
    assert queue.queued_bytes == 0


@given(
    arrivals=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3)), min_size=1, max_size=80),
    in_flight=st.integers(1, 6),
    holding=st.sets(st.sampled_from("abcde")),
)
def test_lanes_that_never_finish_keep_no_other_out_however_many_they_are(arrivals: list[tuple[str, int]], in_flight: int, holding: set[str]) -> None:
    queue: FairQueue[int] = FairQueue(in_flight=in_flight)
    wanted = 0
    served = 0
    held = dict.fromkeys(holding, 0)
    for number, (lane, partition) in enumerate(arrivals):
        queue.offer(lane, partition, number, 1)
        wanted += lane not in holding
        while (turn := queue.next()) is not None:
            if turn[0] in holding:
                held[turn[0]] += 1
            else:
                served += 1
                queue.done(turn[0])
        assert served == wanted, "a lane waits although none of its records is in flight"
        assert all(held[lane] for lane, _ in arrivals[: number + 1] if lane in holding)


def test_a_short_lane_does_not_wait_behind_a_long_one() -> None:
    queue: FairQueue[str] = FairQueue(in_flight=2)
    for i in range(1000):
        queue.offer("long", i % 6, f"long {i}", 1)
    assert [queue.next(), queue.next(), queue.next()] == [("long", "long 0"), ("long", "long 1"), None]
    for i in range(3):
        queue.offer("short", 0, f"short {i}", 1)
    order = []
    for _ in range(6):
        queue.done("long" if not order else order[-1])
        turn = queue.next()
        assert turn is not None
        order.append(turn[0])
    assert order[:6].count("short") == 3


def test_records_of_a_lost_partition_are_forgotten() -> None:
    queue: FairQueue[int] = FairQueue(in_flight=1)
    for i in range(4):
        queue.offer("lane", i % 2, i, 5)
    queue.discard("lane", 0)
    assert queue.queued == 2
    assert queue.queued_bytes == 10
    assert queue.next() == ("lane", 1)
    queue.discard("lane", 1)
    queue.discard("lane", 1)  # nothing waits in it any more
    assert queue.queued == queue.queued_bytes == 0


def test_what_a_taken_over_partition_left_unfinished_waits_for_one_turn_of_each_other_partition() -> None:
    queue: FairQueue[str] = FairQueue(in_flight=1)
    for partition in range(3):
        for _ in range(1000):
            queue.offer("lane", partition, "own", 1)
    for partition in range(3, 6):
        queue.offer("lane", partition, "left by the dead one", 1)
    served = []
    for _ in range(6):
        turn = queue.next()
        assert turn is not None
        served.append(turn[1])
        queue.done("lane")
    assert served == ["own"] * 3 + ["left by the dead one"] * 3


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("offer"), st.sampled_from(["express", "a", "b"]), st.integers(0, 3)),
            st.tuples(st.just("discard"), st.sampled_from(["express", "a", "b"]), st.integers(0, 3)),
            st.tuples(st.just("finish"), st.just(""), st.just(0)),
        ),
        max_size=200,
    ),
    in_flight=st.integers(1, 4),
)
def test_no_partition_has_two_turns_of_its_lane_while_another_waits_and_each_gives_its_records_in_order(
    steps: list[tuple[str, str, int]], in_flight: int
) -> None:
    queue: FairQueue[tuple[str, int, int]] = FairQueue(in_flight=in_flight, express="express", express_in_flight=1)
    waiting: dict[tuple[str, int], list[int]] = {}  # in each partition, numbers of its records
    passed_over: dict[tuple[str, int], set[int]] = {}  # for each, the others of its lane that had a turn since it waits
    busy: list[str] = []
    for number, (what, lane, partition) in enumerate([*steps, *[("finish", "", 0)] * len(steps)]):
        if what == "offer":
            queue.offer(lane, partition, (lane, partition, number), 3)
            waiting.setdefault((lane, partition), []).append(number)
            passed_over.setdefault((lane, partition), set())
        elif what == "discard":
            queue.discard(lane, partition)
            waiting.pop((lane, partition), None)
            passed_over.pop((lane, partition), None)
        else:
            while (turn := queue.next()) is not None:
                lane, (_, partition, served) = turn
                busy.append(lane)
                assert served == waiting[lane, partition].pop(0)
                del passed_over[lane, partition]
                for (other_lane, other), seen in passed_over.items():
                    if other_lane == lane:
                        assert partition not in seen, f"{lane}/{other} waits while {lane}/{partition} has a second turn"
                        seen.add(partition)
                if waiting[lane, partition]:
                    passed_over[lane, partition] = set()
                else:
                    del waiting[lane, partition]
            if busy:
                queue.done(busy.pop(0))
        assert queue.queued == sum(map(len, waiting.values()))
        assert queue.queued_bytes == 3 * queue.queued
    assert not waiting


def test_the_express_lane_has_places_of_its_own_and_no_more_while_others_have_work() -> None:
    queue: FairQueue[int] = FairQueue(in_flight=3, express="express", express_in_flight=2)
    for i in range(10):
        queue.offer("long", 0, i, 1)
    assert [turn[0] for turn in iter(queue.next, None)] == ["long"] * 3
    for i in range(10):
        queue.offer("express", 0, i, 1)
    assert [turn[0] for turn in iter(queue.next, None)] == ["express"] * 2
    queue.offer("other", 0, 0, 1)
    assert [turn[0] for turn in iter(queue.next, None)] == ["other"]
    queue.done("express")
    assert [turn[0] for turn in iter(queue.next, None)] == ["express"]


def test_the_express_lane_takes_all_places_when_nobody_else_has_work() -> None:
    queue: FairQueue[int] = FairQueue(in_flight=4, express="express", express_in_flight=1)
    for i in range(10):
        queue.offer("express", 0, i, 1)
    assert len(list(iter(queue.next, None))) == 4
    queue.offer("long", 0, 0, 1)
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
    queue: FairQueue[int] = FairQueue(in_flight=in_flight, express="express", express_in_flight=express)
    busy: list[str] = []
    for number, (lane, finishes) in enumerate(arrivals):
        queue.offer(lane, 0, number, 1)
        while (turn := queue.next()) is not None:
            beside = len(busy) - busy.count("express")
            if turn[0] == "express" and beside:
                assert busy.count("express") < express
            busy.append(turn[0])
        others = [each for each in busy if each != "express"]
        assert len(others) - len(set(others)) < in_flight
        if finishes and busy:
            queue.done(busy.pop(0))
    while busy or queue.queued:
        while (turn := queue.next()) is not None:
            busy.append(turn[0])
        assert busy
        queue.done(busy.pop(0))


@given(places=st.lists(st.integers(1, 8), min_size=1, max_size=30))
def test_places_that_change_while_records_are_in_flight_take_effect(places: list[int]) -> None:
    queue: FairQueue[int] = FairQueue(in_flight=1)
    for number in range(400):
        queue.offer("only", 0, number, 1)
    for now in places:
        queue.in_flight = now
        while queue.next() is not None:
            pass
        assert queue.busy >= now
        while queue.busy > now:
            queue.done("only")
            assert queue.busy == now or queue.next() is None
        queue.done("only")

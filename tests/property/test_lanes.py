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

"""The simulation keeps to arithmetic that can be done by hand, and to its seed."""

import pytest
from benchmarks.simulation.clock import Clock, Process, Shared
from benchmarks.simulation.pipeline import simulate
from benchmarks.simulation.world import Costs, Endpoint, World

FREE = Costs(context=0, generation=0, validation=0, aggregator=0, broker=0, confirm_s=0)


def fleet(count: int, call_s: float = 1.0, slots: int = 2) -> list[Endpoint]:
    return [Endpoint(slots, call_s, sigma=0.0)] * count


def prompts(partitions: int, each: int) -> tuple[int, ...]:
    return tuple(partition for _ in range(each) for partition in range(partitions))


def test_jobs_that_share_a_machine_end_when_their_shares_are_done() -> None:
    clock, ends = Clock(), []
    machine = Shared(clock, lambda jobs: min(jobs, 2))
    for amount in (1.0, 1.0, 2.0, 2.0):
        machine.work(amount, lambda: ends.append(clock.now))
    clock.run(lambda: len(ends) == 4, 100)
    assert ends == pytest.approx([2, 2, 3, 3])


def test_a_process_does_one_thing_after_the_other() -> None:
    clock, ends = Clock(), []
    process = Process(clock, None)
    for _ in range(3):
        process.work(1.5, lambda: ends.append(clock.now))
    clock.run(lambda: len(ends) == 3, 100)
    assert ends == pytest.approx([1.5, 3, 4.5])
    assert process.busy_s == pytest.approx(4.5)


def test_slots_that_never_wait_make_a_run_as_long_as_its_calls() -> None:
    assert simulate(World(40, fleet(1), FREE, has_intake=False)).seconds == pytest.approx(20)


@pytest.mark.parametrize(("workers", "seconds"), [(1, 60), (2, 30), (3, 20), (4, 20), (6, 10)])
def test_six_partitions_are_drained_as_fast_as_the_worker_with_most_of_them(workers: int, seconds: float) -> None:
    made = simulate(World(120, fleet(workers), FREE, lane_partitions=6, has_intake=False, places=prompts(6, 20)))
    assert made.seconds == pytest.approx(seconds)


def test_a_worker_without_a_partition_does_nothing() -> None:
    assert simulate(World(60, fleet(10), FREE, lane_partitions=6, has_intake=False, places=prompts(6, 10))).seconds == pytest.approx(5)


def test_the_slowest_endpoint_decides_when_prompts_are_placed_by_key_and_not_when_they_are_evened_out() -> None:
    unequal = [Endpoint(2, 1.0, sigma=0.0), Endpoint(2, 3.0, sigma=0.0)]
    world = World(8_000, unequal, Costs(0.05, 0, 0, 0, 0, 0), lane_partitions=2, max_lane_backlog=40, batch=4)
    by_key, evened = simulate(world), simulate(world.but(evens_out=True))
    assert by_key.rate == pytest.approx(2 * 2 / 3, rel=0.05)
    assert evened.rate > 1.3 * by_key.rate


def test_the_slowest_stage_decides_and_is_named() -> None:
    made = simulate(World(5_000, fleet(4, 0.1, 8), Costs(context=0.001, generation=0, validation=0.02, aggregator=0, broker=0)))
    assert made.rate == pytest.approx(50, rel=0.05)
    assert made.limits == "validation"


def test_replicas_of_context_help_only_as_far_as_features_stand_in_several_partitions() -> None:
    world = World(5_000, fleet(4, 0.01, 8), Costs(context=0.01, generation=0, validation=0, aggregator=0, broker=0), context=3)
    assert simulate(world).rate == pytest.approx(100, rel=0.05)
    assert simulate(world.but(source_partitions=3)).rate == pytest.approx(300, rel=0.05)


def test_a_worker_that_joins_takes_its_part_and_calls_of_moved_partitions_are_made_again() -> None:
    alone = simulate(World(400, fleet(1), FREE, has_intake=False, places=prompts(12, 34)))
    joined = simulate(World(400, fleet(2), FREE, has_intake=False, places=prompts(12, 34), joins=(0.0, 20.0)))
    assert joined.seconds < 0.7 * alone.seconds
    assert 0 < joined.repeated <= 3


def test_a_context_that_is_held_by_a_full_lane_goes_on_when_there_is_room() -> None:
    made = simulate(World(2_000, fleet(2, 0.1, 8), FREE, max_lane_backlog=300))
    assert made.is_done


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    world = World(500, [Endpoint(8, 0.8)] * 3, Costs(0.002, 0.003, 0.004, 0.0005, 0.0002))
    assert simulate(world) == simulate(world)
    assert simulate(world).seconds != simulate(world.but(seed=2)).seconds


def test_a_coarser_grain_gives_nearly_the_same_rate() -> None:
    world = World(60_000, [Endpoint(8, 0.8)] * 20, Costs(0.0002, 0.003, 0.0004, 0.0001, 0.00005), lane_partitions=20)
    assert simulate(world.but(grain=4)).rate == pytest.approx(simulate(world).rate, rel=0.05)

"""The adaptive limit finds the best number of calls of servers that behave as real ones do, in virtual time."""

import random
from collections.abc import Callable
from itertools import count

import pytest

from mistudio_explain.llm.concurrency import AdaptiveLimit

TOKENS = 60
Speed = Callable[[int], float]
"""Tokens a second of all calls together, by the calls in flight."""


def slots(number: int, each: float) -> Speed:
    """llama.cpp or Ollama: so many slots of one speed; further calls wait."""
    return lambda calls: each * min(calls, number)


def batching(peak: int, each: float) -> Speed:
    """vLLM: batches share the weights' way through memory up to a peak; beyond it keys and values are swapped out."""
    return lambda calls: each * min(calls, peak) ** 0.8 * (1.0 if calls <= peak else (peak / calls) ** 0.7)


def run(limit: Callable[[], AdaptiveLimit | int], speed: Speed, seconds: float, seed: int, measured_from: float = 0.0) -> float:
    """Tokens a second between `measured_from` and `seconds` with always enough calls waiting; each call is a share of the server's speed."""
    rng = random.Random(seed)
    adaptive = limit()
    now, done = 0.0, 0.0
    calls: list[tuple[float, float]] = []  # left and whole work of each
    while now < seconds:
        places = adaptive.limit if isinstance(adaptive, AdaptiveLimit) else adaptive
        while len(calls) < places:
            work = TOKENS * rng.lognormvariate(-0.08, 0.4)
            calls.append((work, work))
        served, soonest = len(calls), min(left for left, _ in calls)
        now += soonest * served / speed(served)
        ended = [work for left, work in calls if left - soonest <= 1e-9]
        calls = [(left - soonest, work) for left, work in calls if left - soonest > 1e-9]
        done += served * soonest if now >= measured_from else 0.0
        if isinstance(adaptive, AdaptiveLimit):
            for work in ended:
                adaptive.answered(now, work, served)
    return done / (seconds - measured_from)


@pytest.mark.parametrize(
    ("speed", "most"),
    [(slots(1, 60), 32), (slots(4, 60), 32), (slots(24, 30), 64), (batching(12, 60), 64), (batching(40, 60), 64)],
    ids=["one slot", "4 slots", "24 slots", "batching up to 12", "batching up to 40"],
)
def test_the_throughput_is_within_a_tenth_of_the_best_fixed_limit_after_a_minute(speed: Speed, most: int) -> None:
    best = max(run(lambda n=n: n, speed, 160, 1, 60) for n in range(1, most + 1))
    shares = [run(lambda: AdaptiveLimit(most), speed, 160, seed, 60) / best for seed in range(5)]
    assert min(shares) >= 0.9, shares


def test_one_slot_gets_no_queue_of_calls() -> None:
    adaptive = AdaptiveLimit(32)
    run(lambda: adaptive, slots(1, 60), 120, 3)
    assert adaptive.limit <= 2


def test_an_overload_lowers_the_limit_once_however_many_calls_it_refuses() -> None:
    adaptive = AdaptiveLimit(64, limit=20)
    for _ in range(20):
        adaptive.overloaded(20)
    assert adaptive.limit == 14
    for _ in range(14):
        adaptive.answered(1.0, 1, 14)
    adaptive.overloaded(14)
    assert adaptive.limit == 9


def test_the_limit_never_leaves_its_bounds() -> None:
    rng = random.Random(5)
    for most in (1, 2, 3, 17):
        adaptive = AdaptiveLimit(most)
        clock = count()
        for _ in range(5_000):
            if rng.random() < 0.02:
                adaptive.overloaded(adaptive.limit)
            else:
                adaptive.answered(next(clock) * rng.random(), rng.random(), rng.randint(1, adaptive.limit))
            assert 1 <= adaptive.limit <= most


def test_answers_of_idle_times_do_not_move_the_limit() -> None:
    adaptive = AdaptiveLimit(64)
    for second in range(1_000):
        adaptive.answered(float(second), 60, 1)
    assert adaptive.limit == 2


def test_a_server_that_grows_is_followed() -> None:
    adaptive = AdaptiveLimit(64)
    run(lambda: adaptive, slots(4, 60), 120, 1)
    before = adaptive.limit
    run(lambda: adaptive, slots(16, 60), 400, 2)
    assert before <= 8
    assert adaptive.limit >= 14

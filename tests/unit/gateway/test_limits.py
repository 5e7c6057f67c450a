"""How often somebody may ask."""

import pytest

from mistudio_explain.gateway import limits
from mistudio_explain.gateway.limits import Buckets


def test_a_burst_is_let_through_and_then_one_request_for_each_step_of_the_pace() -> None:
    buckets = Buckets(per_s=10, burst=5)
    assert [buckets.wait_s("a", 0.0) for _ in range(5)] == [0.0] * 5
    assert buckets.wait_s("a", 0.0) == pytest.approx(0.1)
    assert buckets.wait_s("a", 0.1) == 0.0
    assert buckets.wait_s("a", 0.1) == pytest.approx(0.1)


def test_who_is_refused_loses_nothing_by_asking() -> None:
    buckets = Buckets(per_s=1, burst=1)
    assert buckets.wait_s("a", 0.0) == 0.0
    for _ in range(100):
        assert buckets.wait_s("a", 0.5) == pytest.approx(0.5)
    assert buckets.wait_s("a", 1.0) == 0.0


def test_a_bucket_is_no_fuller_after_a_long_pause_than_it_is_deep() -> None:
    buckets = Buckets(per_s=10, burst=3)
    buckets.wait_s("a", 0.0)
    assert [buckets.wait_s("a", 1_000.0) == 0.0 for _ in range(4)] == [True, True, True, False]


def test_nobody_waits_for_another() -> None:
    buckets = Buckets(per_s=1, burst=1)
    assert buckets.wait_s("a", 0.0) == 0.0
    assert buckets.wait_s("b", 0.0) == 0.0


def test_names_by_the_thousand_take_no_more_memory_and_empty_buckets_are_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_REMEMBERED", 100)
    buckets = Buckets(per_s=1, burst=10)
    for _ in range(10):
        assert buckets.wait_s("greedy", 0.0) == 0.0
    for number in range(1_000):
        buckets.wait_s(f"made up {number}", 0.0)
    assert len(buckets._full_at) <= 100
    assert buckets.wait_s("greedy", 0.0) > 0

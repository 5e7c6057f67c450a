"""How long a job will take, and what it will cost."""

import pytest

from mistudio_explain.context.estimate import estimate


def test_calls_share_the_slots() -> None:
    assert estimate(100, 4, 2.0, None).seconds == 50.0


def test_fewer_features_than_slots_take_one_call_s_time() -> None:
    assert estimate(3, 8, 2.0, None).seconds == 2.0


def test_nothing_to_explain_takes_no_time_and_costs_nothing() -> None:
    nothing = estimate(0, 4, 2.0, None)
    assert (nothing.seconds, nothing.cost_usd) == (0.0, 0.0)


@pytest.mark.parametrize(("price", "cost"), [(None, None), (0.0, 0.0), (0.01, 1.0)])
def test_an_unknown_price_is_an_unknown_cost_and_never_zero(price: float | None, cost: float | None) -> None:
    assert estimate(100, 4, 2.0, price).cost_usd == cost


def test_an_estimate_says_what_it_rests_on() -> None:
    made = estimate(10, 2, 1.5, None)
    assert (made.calls, made.in_parallel, made.seconds_per_call) == (10, 2, 1.5)


@pytest.mark.parametrize(("features", "parallel", "seconds"), [(-1, 1, 1.0), (1, 0, 1.0), (1, 1, -0.5)])
def test_nonsense_is_refused(features: int, parallel: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="cannot estimate"):
        estimate(features, parallel, seconds, None)

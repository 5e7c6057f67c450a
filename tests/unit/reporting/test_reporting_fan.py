"""One pass over the outcomes for several files."""

from collections.abc import Iterable, Iterator

import pytest
from reporting_samples import explained

from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.reporting.fan import hand_out


def stream(count: int) -> Iterator[FeatureOutcome]:
    return (explained(str(number)) for number in range(count))


def keys(into: list[str], outcomes: Iterable[FeatureOutcome]) -> None:
    into.extend(outcome.subject.feature_key for outcome in outcomes)


@pytest.mark.parametrize("count", [0, 1, 8, 100])
def test_every_taker_gets_every_outcome_in_order(count: int) -> None:
    taken: list[list[str]] = [[], [], []]
    hand_out(stream(count), [lambda outcomes, into=each: keys(into, outcomes) for each in taken])  # type: ignore[misc]
    assert taken == [[str(number) for number in range(count)]] * 3


def test_a_taker_that_fails_ends_the_others_before_the_stream_does() -> None:
    seen: list[str] = []
    ended = []

    def failing(outcomes: Iterable[FeatureOutcome]) -> None:
        next(iter(outcomes))
        raise OSError("the disk is full")

    def other(outcomes: Iterable[FeatureOutcome]) -> None:
        keys(seen, outcomes)
        ended.append(True)

    with pytest.raises(OSError, match="the disk is full"):
        hand_out(stream(10_000), [other, failing])
    assert len(seen) < 1_000
    assert not ended


def test_what_the_outcomes_raise_is_raised_and_no_taker_takes_it_for_the_end() -> None:
    ended = []

    def broken() -> Iterator[FeatureOutcome]:
        yield from stream(20)
        raise OSError("the store is gone")

    def taker(outcomes: Iterable[FeatureOutcome]) -> None:
        for _ in outcomes:
            pass
        ended.append(True)

    with pytest.raises(OSError, match="the store is gone"):
        hand_out(broken(), [taker, taker])
    assert not ended


def test_a_taker_that_ends_early_keeps_nothing_from_the_others() -> None:
    taken: list[str] = []
    hand_out(stream(30), [lambda outcomes: keys(taken, outcomes), lambda _: None])
    assert len(taken) == 30

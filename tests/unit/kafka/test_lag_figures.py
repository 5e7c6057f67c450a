"""What the figures of lag say in single cases, and what is not said because nobody knows it."""

from dataclasses import replace

import pytest

from mistudio_explain.observability.lag_figures import GroupReading, LagFigures, LagReading, PartitionReading, figures

TOPIC = "mistudio.explain.prompts.m"


def part(**changes: object) -> PartitionReading:
    return replace(PartitionReading(TOPIC, 0, begin=0, end=10, committed=4), **changes)  # type: ignore[arg-type]


def row(*parts: PartitionReading, earlier: tuple[PartitionReading, ...] | None = None, models: dict[str, str] | None = None) -> LagFigures:
    def reading(at_s: float, held: tuple[PartitionReading, ...]) -> LagReading:
        return LagReading(at_s, {}, (), (GroupReading("generation", "g", 1, held),), models or {})

    (made,) = figures(reading(100.0, parts), None if earlier is None else reading(98.0, earlier))
    return made


def test_in_flight_is_absent_when_no_commit_says_it_and_never_nought_instead() -> None:
    assert row(part(in_flight=None)).in_flight is None
    assert row(part(in_flight=0)).in_flight == 0
    assert row(part(in_flight=2), part(partition=1, in_flight=None), part(partition=2, in_flight=3)).in_flight == 5


def test_the_age_is_that_of_the_oldest_partition_and_never_negative() -> None:
    assert row(part(oldest_ms=70_000), part(partition=1, oldest_ms=90_000)).oldest_age_s == pytest.approx(30)
    assert row(part(oldest_ms=170_000)).oldest_age_s == 0
    assert row(part(oldest_ms=None)).oldest_age_s is None
    assert row(part(committed=10, oldest_ms=70_000)).oldest_age_s is None


def test_no_drain_is_estimated_from_a_standstill() -> None:
    standing = row(part(), earlier=(part(),))
    assert (standing.rate, standing.drain_s) == (0, None)
    moving = row(part(committed=8), earlier=(part(committed=4),))
    assert (moving.rate, moving.drain_s) == (2, 1)


def test_a_partition_that_went_back_or_was_made_anew_gives_no_rate() -> None:
    assert row(part(committed=2), earlier=(part(committed=4),)).rate is None
    assert row(part(committed=None), earlier=(part(committed=4),)).rate is None
    assert row(part(end=5, committed=5), earlier=(part(),)).rate is None
    assert row(part(), earlier=(part(partition=3),)).rate is None


def test_the_first_commit_counts_from_the_start_of_the_log() -> None:
    assert row(part(begin=2, committed=6), earlier=(part(begin=2, committed=None),)).rate == 2


def test_expired_records_are_counted_apart_without_those_that_were_finished() -> None:
    behind = part(begin=8, committed=4, finished=frozenset({5, 9}))
    assert (behind.expired, behind.unfinished, behind.lag) == (3, 1, 6)
    assert row(behind).expired == 3


def test_a_commit_beyond_the_end_counts_the_whole_log() -> None:
    beyond = row(part(committed=99, begin=3))
    assert (beyond.lag, beyond.unfinished, beyond.beyond_end) == (7, 7, 1)


def test_a_lane_is_shown_with_its_target_model_when_that_is_known() -> None:
    assert row(part(), models={TOPIC: "org/M"}).target_model == "org/M"
    assert row(part()).target_model is None


def test_a_commit_that_steps_over_expired_records_counts_only_those_that_were_there() -> None:
    assert row(part(begin=8, committed=10), earlier=(part(begin=8, committed=4),)).rate == 1

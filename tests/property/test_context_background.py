"""The background depends on the log alone: on no batch, restart or repetition."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.context.background import empty, freeze, include
from mistudio_explain.events.codec import decode, encode
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.job import JobBackground
from unit.context.finding import found

EMPTY = empty("find_1", "default", "gpt2")
numbers = st.lists(st.integers(0, 90), max_size=150)
expectations = st.none() | st.integers(1, 100)


def log(keys: list[int], expected: int | None) -> list[FeatureFound]:
    request = JobRequest(explain_job_id="explain_1", expected=expected)
    return [found(f"text of {key}", feature_id=str(key), request=request) for key in keys]


def restarted(background: JobBackground) -> JobBackground:
    return decode(JobBackground, encode(background))


@given(keys=numbers, expected=expectations, cuts=st.lists(st.integers(0, 150), max_size=6))
def test_any_split_into_batches_with_restarts_between_gives_the_same_background(keys: list[int], expected: int | None, cuts: list[int]) -> None:
    whole = log(keys, expected)
    background = EMPTY
    bounds = [0, *sorted(cuts), len(whole)]
    for start, end in pairwise(bounds):
        background = restarted(include(background, whole[start:end]))
    assert background == include(EMPTY, whole)


@given(keys=numbers, expected=expectations, committed=st.integers(0, 150))
def test_a_log_delivered_again_from_any_earlier_place_changes_nothing(keys: list[int], expected: int | None, committed: int) -> None:
    whole = log(keys, expected)
    once = include(EMPTY, whole)
    assert include(once, whole[min(committed, len(whole)) :]) == once


@given(keys=numbers, expected=expectations, crash=st.integers(0, 150), back=st.integers(0, 150))
def test_a_crash_that_goes_back_in_the_log_ends_at_the_same_background(keys: list[int], expected: int | None, crash: int, back: int) -> None:
    whole = log(keys, expected)
    before = include(EMPTY, whole[:crash])
    assert include(before, whole[max(0, min(crash, len(whole)) - back) :]) == include(EMPTY, whole)


@given(keys=numbers, expected=expectations)
def test_it_counts_different_features_up_to_the_freeze_and_samples_at_most_64(keys: list[int], expected: int | None) -> None:
    background = include(EMPTY, log(keys, expected))
    different = len(set(keys))
    frozen = expected is not None and 0 < expected <= different
    assert background.distinct == (expected if frozen else different)
    assert background.frozen == frozen
    assert len(background.sample) == min(64, background.distinct)
    assert len(background.seen) == (0 if frozen else 8 * different)


@given(keys=numbers, sealed=st.integers(1, 100))
def test_a_seal_never_changes_the_sample(keys: list[int], sealed: int) -> None:
    background = include(EMPTY, log(keys, None))
    after = freeze(background, sealed)
    assert after.sample == background.sample
    assert after.frozen == (len(set(keys)) >= sealed)

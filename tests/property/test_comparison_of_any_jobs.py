"""Comparing jobs, whatever became of their features."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.reporting.comparison import ABSENT, FATES, SCORES, Explained, JobOutcomes, compare

scores = st.none() | st.floats(0, 1)
BACKGROUND = (21, 63)


@st.composite
def explained(draw: st.DrawFn, key: str) -> Explained:
    fate = draw(st.sampled_from([str(fate) for fate in FATES if fate != ABSENT]))
    is_explained = fate not in ("skipped", "failed")
    return Explained(
        feature_key=key,
        fate=fate,
        category=draw(st.sampled_from(["technical", "other"])),
        model=draw(st.sampled_from(["a", "b"])),
        prompt="plain@1",
        scores={score: draw(scores) if is_explained else None for score in SCORES},
        text=draw(st.sampled_from(["One.", "Other."])),
        latency_s=draw(st.none() | st.floats(0, 100)),
        cached=draw(st.booleans()),
        tokens_in=draw(st.integers(0, 100)),
        tokens_out=draw(st.integers(0, 100)),
        cost_usd=draw(st.none() | st.floats(0, 1)),
        background=BACKGROUND,
        validator_version=1,
    )


@st.composite
def jobs(draw: st.DrawFn, name: str) -> JobOutcomes:
    keys = draw(st.sets(st.sampled_from([str(n) for n in range(8)])))
    return JobOutcomes(name, "find_1", {key: draw(explained(key)) for key in sorted(keys)})


@given(jobs("a"), st.sampled_from([None, "model", "prompt", "category"]))
def test_a_job_does_not_differ_from_itself(job: JobOutcomes, by: object) -> None:
    found = compare(job, job, by=by)  # type: ignore[arg-type]
    assert found.most_changed == ()
    assert all(before == after for before, after in found.fates)
    for group in (found.everything, *found.groups):
        assert group.changed_verdicts == 0
        assert group.first == group.other
        assert all(shift.difference in (0, None) and shift.low in (0, None) and shift.high in (0, None) for shift in group.shifts.values())


@given(jobs("a"), jobs("b"))
def test_comparing_the_other_way_round_turns_every_sign(first: JobOutcomes, other: JobOutcomes) -> None:
    there, back = compare(first, other, limit=99), compare(other, first, limit=99)
    assert {(after, before): count for (before, after), count in there.fates.items()} == dict(back.fates)
    assert there.everything.first == back.everything.other
    assert {pair.first.feature_key for pair in there.most_changed} == {pair.first.feature_key for pair in back.most_changed}
    for score in SCORES:
        one, turned = there.everything.shifts[score], back.everything.shifts[score]
        assert (one.n, one.first, one.other) == (turned.n, turned.other, turned.first)
        if one.difference is not None:
            assert one.difference == pytest.approx(-turned.difference, abs=1e-12)  # type: ignore[operator]
        if one.low is not None and one.high is not None:
            assert one.low == pytest.approx(-turned.high, abs=1e-12)  # type: ignore[operator]
            assert one.low <= one.difference <= one.high  # type: ignore[operator]


@given(jobs("a"), jobs("b"), st.sampled_from(["model", "prompt", "category"]))
def test_groups_part_the_features_that_both_explained(first: JobOutcomes, other: JobOutcomes, by: object) -> None:
    found = compare(first, other, by=by)  # type: ignore[arg-type]
    assert sum(group.n for group in found.groups) == found.everything.n
    assert sum(group.changed_verdicts for group in found.groups) == found.everything.changed_verdicts
    assert sum(group.other.tokens_in for group in found.groups) == found.everything.other.tokens_in


@given(jobs("a"), jobs("b"))
def test_every_feature_of_either_job_has_one_fate_in_each(first: JobOutcomes, other: JobOutcomes) -> None:
    found = compare(first, other)
    assert sum(found.fates.values()) == found.features == len(first.outcomes.keys() | other.outcomes.keys())
    for fate in {after for _, after in found.fates} - {ABSENT}:
        assert sum(count for (_, after), count in found.fates.items() if after == fate) == sum(each.fate == fate for each in other.outcomes.values())


@given(jobs("a"), jobs("b"))
def test_a_mean_shift_is_the_difference_of_the_means(first: JobOutcomes, other: JobOutcomes) -> None:
    for shift in compare(first, other).everything.shifts.values():
        assert (shift.n == 0) == (shift.difference is None)
        if shift.n:
            assert shift.difference == pytest.approx(shift.other - shift.first, abs=1e-9)  # type: ignore[operator]

"""How far a job is, and what its report says."""

from dataclasses import replace

import pytest

from mistudio_explain.aggregation.stage import Counters, JobState, counters_of, report_of, rests_on_silence, status_of
from mistudio_explain.events.explanation import Accuracy, Answer, FeatureOutcome, Generation, OutcomeKind, Safety, Subject, Verification
from mistudio_explain.events.job import JobStatus

QUIET_MS = 1000
STATE = JobState(
    explain_job_id="explain_1", tenant="default", find_job_id="find_1", target_model="m", revision=0, expected=3, cancelled=False, admitted=3,
    counters=Counters(explained=1, skipped=1), first_ms=1000, last_ms=5000, heard_ms=5000,
)  # fmt: skip


def status(state: JobState, now_ms: int = 5500) -> JobStatus:
    return status_of(state, now_ms=now_ms, quiet_ms=QUIET_MS)[0]


def test_a_sealed_job_is_complete_when_every_expected_feature_has_an_outcome() -> None:
    assert status(STATE) is JobStatus.RUNNING
    assert status_of(replace(STATE, counters=Counters(explained=1, skipped=1, failed=1)), now_ms=5500, quiet_ms=QUIET_MS) == (JobStatus.COMPLETED, 3, "sealed")


def test_a_sealed_job_in_which_nothing_happens_any_more_is_incomplete() -> None:
    assert status(STATE, 6000) is JobStatus.INCOMPLETE


def test_a_sealed_job_of_which_nothing_but_the_seal_was_heard_is_incomplete_too() -> None:
    silent = replace(STATE, admitted=0, counters=Counters(), first_ms=None, last_ms=None)
    assert status(silent, 5500) is JobStatus.RUNNING
    assert status(silent, 6000) is JobStatus.INCOMPLETE


def test_an_unsealed_job_is_inferred_to_be_complete_after_a_quiet_time_in_which_nothing_is_owed() -> None:
    unsealed = replace(STATE, expected=None)
    assert status(unsealed, 9000) is JobStatus.RUNNING
    paid = replace(unsealed, counters=Counters(explained=3))
    assert status(paid, 5500) is JobStatus.RUNNING
    assert status_of(paid, now_ms=6000, quiet_ms=QUIET_MS) == (JobStatus.COMPLETED, 3, "inferred")


def test_silence_says_nothing_while_records_wait_in_any_topic() -> None:
    paid = replace(STATE, expected=None, counters=Counters(explained=3))
    for state in (STATE, paid):
        assert status_of(state, now_ms=9000, quiet_ms=QUIET_MS, backlog=1)[0] is JobStatus.RUNNING
        assert rests_on_silence(status_of(state, now_ms=9000, quiet_ms=QUIET_MS, backlog=0))
    assert not rests_on_silence(status_of(replace(STATE, counters=Counters(explained=3)), now_ms=5500, quiet_ms=QUIET_MS, backlog=1))


def test_an_unsealed_job_that_owes_a_feature_is_not_complete_though_the_counts_agree() -> None:
    paid = replace(STATE, expected=None, counters=Counters(explained=3))
    assert status_of(paid, now_ms=9000, quiet_ms=QUIET_MS, backlog=0, is_owed=True)[0] is JobStatus.RUNNING


def test_an_unsealed_job_whose_admissions_expired_is_complete_by_its_outcomes() -> None:
    old = replace(STATE, expected=None, admitted=0, counters=Counters(explained=3))
    assert status_of(old, now_ms=9000, quiet_ms=QUIET_MS, backlog=0) == (JobStatus.COMPLETED, 3, "inferred")


@pytest.mark.parametrize("unsent", [{"promised": 1000}, {"is_replaying": True}])
def test_a_job_that_was_not_sent_to_its_end_is_not_complete_however_quiet_it_is(unsent: dict[str, object]) -> None:
    state = replace(STATE, expected=None, counters=Counters(explained=3), **unsent)  # type: ignore[arg-type]
    assert status(state, 5500) is JobStatus.RUNNING
    standing = status_of(state, now_ms=9000, quiet_ms=QUIET_MS, backlog=0)
    assert standing == (JobStatus.INCOMPLETE, None, None)
    assert rests_on_silence(standing)
    assert status_of(state, now_ms=9000, quiet_ms=QUIET_MS, backlog=1)[0] is JobStatus.RUNNING
    report = report_of(state, status=standing[0], expected=None, expected_source=None, missing=[], as_of={}, now_ms=0)
    assert "has not said that the last was sent" in report.notes[-1]
    assert status(replace(state, expected=3)) is JobStatus.COMPLETED  # the seal counts what was really sent


def test_an_unsealed_job_that_has_what_its_request_promised_is_inferred_to_be_complete() -> None:
    state = replace(STATE, expected=None, counters=Counters(explained=3), promised=3)
    assert status_of(state, now_ms=9000, quiet_ms=QUIET_MS, backlog=0) == (JobStatus.COMPLETED, 3, "inferred")


def test_in_a_reopened_job_only_what_was_settled_since_or_explained_before_covers_the_expected_features() -> None:
    done = replace(STATE, counters=Counters(explained=1, skipped=2), control="reopen", settled=1)
    assert status(done) is JobStatus.RUNNING
    assert status(replace(done, settled=3)) is JobStatus.COMPLETED


def test_a_cancelled_job_is_cancelled_whatever_else() -> None:
    assert status(replace(STATE, cancelled=True), 9000) is JobStatus.CANCELLED


def test_means_are_over_what_was_computed_and_absent_where_nothing_was() -> None:
    subject = Subject(explain_job_id="explain_1", feature_key="1")
    made = Generation(model="m", endpoint="e", provider="ollama", latency_s=2.0, finish_reason="stop", tokens_in=10, tokens_out=5)
    scored = FeatureOutcome(
        outcome=OutcomeKind.EXPLAINED, subject=subject, answer=Answer(pattern="p"), quality_score=0.8, accuracy=Accuracy(p=0.6, n=3, basis="seen"),
        pattern_verification=Verification.CONFIRMED, safety=Safety(assessment="concerning"), business_relevance="high", generation=made, review_reason="look",
    )  # fmt: skip
    unscored = FeatureOutcome(outcome=OutcomeKind.EXPLAINED, subject=subject, answer=Answer(pattern="p"), generation=made.model_copy(update={"cached": True}))
    skipped = FeatureOutcome(outcome=OutcomeKind.SKIPPED, subject=subject, reason="poor")
    sums = Counters(*map(sum, zip(counters_of(scored), counters_of(unscored), counters_of(skipped), strict=True)))
    state = replace(STATE, counters=sums)
    report = report_of(state, status=JobStatus.COMPLETED, expected=3, expected_source="sealed", missing=[], as_of={}, now_ms=0)
    assert (report.explained, report.skipped, report.confirmed, report.flagged) == (2, 1, 1, 1)
    assert report.averages.quality == pytest.approx(0.8)
    assert report.averages.accuracy == pytest.approx(0.6)
    assert report.averages.confidence is None
    assert report.averages.latency_s == pytest.approx(2.0)
    assert (report.tokens_in, report.tokens_out) == (20, 10)
    assert report.insights.high_quality_explanations == 1
    assert report.insights.safety_concerns_identified == 1
    assert report.wall_s == pytest.approx(4.0)

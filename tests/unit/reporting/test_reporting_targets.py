"""The specification's targets, held against jobs."""

from typing import Any

import pytest
from reporting_samples import explained, failed, job_report, skipped

from mistudio_explain.events.explanation import Accuracy, FeatureOutcome, Generation, Verification
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import Averages, CostAnalysis, JobReport, JobStatus, SentToCloud
from mistudio_explain.reporting.survey import survey
from mistudio_explain.reporting.targets import Standing, Target, tally, targets

GENERATION = Generation(model="m", endpoint="e", provider="ollama", reach="machine", latency_s=4.0, tokens_in=10, tokens_out=5, finish_reason="stop")
GOOD = {"subject_changes": {"coherence_score": 0.4}, "generation": GENERATION}


def held(goal: str, outcomes: list[FeatureOutcome], report: JobReport | None = None) -> Target:
    (found,) = [target for target in targets(report or job_report(), survey(outcomes)) if target.goal.startswith(goal)]
    return found


def standing(goal: str, outcomes: list[FeatureOutcome], **report: Any) -> Standing:
    return held(goal, outcomes, job_report(**report)).standing


def test_every_target_of_an_empty_job_is_not_measurable_but_what_needs_no_features() -> None:
    report = job_report(expected=None, wall_s=None, status=JobStatus.RUNNING)
    met = {target.goal for target in targets(report, survey([])) if target.standing is not Standing.NOT_MEASURABLE}
    assert met == {"No cost of APIs, all local", "Several export formats"}


def test_a_target_that_cannot_be_measured_says_why() -> None:
    for target in targets(job_report(), survey([])):
        assert target.source


def test_the_tally_counts_each_target_once() -> None:
    found = targets(job_report(), survey([explained()]))
    assert sum(tally(found).values()) == len(found) == 29


@pytest.mark.parametrize(("wall_s", "expected"), [(890.0, Standing.MET), (910.0, Standing.MISSED)])
def test_68_features_are_held_against_15_minutes(wall_s: float, expected: Standing) -> None:
    outcomes = [explained(str(i), **GOOD) for i in range(67)] + [failed("67"), skipped("68")]
    found = held("68 features", outcomes, job_report(wall_s=wall_s))
    assert (found.standing, found.value) == (expected, f"{wall_s / 60:.1f} minutes for 68 at the job's pace")


def test_the_pace_of_fewer_features_is_told_and_decides_nothing() -> None:
    found = held("68 features", [explained("1", **GOOD)], job_report(wall_s=6.0))
    assert (found.standing, found.value) == (Standing.NOT_MEASURABLE, "6.8 minutes for 68 at the job's pace")


def test_answers_from_the_cache_are_no_pace_of_models() -> None:
    cached = GENERATION.model_copy(update={"cached": True})
    outcomes = [explained(str(i), generation=cached) for i in range(70)]
    assert standing("68 features", outcomes, wall_s=1.0) is Standing.NOT_MEASURABLE
    assert standing("Under 30 minutes", outcomes, wall_s=1.0) is Standing.NOT_MEASURABLE


def test_calls_at_once_are_their_time_over_the_jobs_and_a_shared_call_counts_once() -> None:
    alone = [explained(str(i), generation=GENERATION) for i in range(4)]
    shared = [explained(str(i), generation=GENERATION.model_copy(update={"features": 4})) for i in range(4)]
    assert standing("2 to 4", alone, wall_s=8.0) is Standing.MET
    found = held("2 to 4", shared, job_report(wall_s=8.0))
    assert (found.standing, found.value) == (Standing.NOT_MEASURABLE, "0.50 calls at once, on average")


@pytest.mark.parametrize(("latency_s", "expected"), [(4.9, Standing.MET), (5.0, Standing.MISSED), (None, Standing.NOT_MEASURABLE)])
def test_the_mean_time_of_a_call_is_held_against_5_seconds(latency_s: float | None, expected: Standing) -> None:
    assert standing("Under 5 s", [explained()], averages=Averages(latency_s=latency_s)) is expected


def test_the_validation_score_is_the_share_confirmed_and_never_a_rescaled_number() -> None:
    outcomes = [explained(str(i)) for i in range(17)] + [explained(str(17 + i), pattern_verification=Verification.PARTIAL) for i in range(3)]
    found = held("Validation score", outcomes)
    assert (found.standing, found.value) == (Standing.MISSED, "85% confirmed (17 of 20)")
    assert standing("Validation score", outcomes[:18]) is Standing.MET


def test_a_high_mean_accuracy_is_no_share_of_right_explanations() -> None:
    high = Accuracy(p=0.95, n=3, basis="all")
    outcomes = [explained(str(i), accuracy=high, pattern_verification=Verification.PARTIAL if i else Verification.CONFIRMED) for i in range(4)]
    found = held("Average accuracy", outcomes)
    assert (found.standing, found.value) == (Standing.MISSED, "25% confirmed; mean accuracy 0.95")


def test_success_and_coverage_ask_for_quality_features_alone() -> None:
    outcomes = [explained("1", **GOOD), failed("2"), skipped("3")]
    assert standing("Over 98%", outcomes) is Standing.MET
    assert standing("All quality", outcomes) is Standing.MET
    lost = failed("4").model_copy(update={"subject": failed("4").subject.model_copy(update={"coherence_score": 0.9})})
    assert standing("Over 98%", [*outcomes, lost]) is Standing.MISSED
    assert standing("All quality", [*outcomes, lost]) is Standing.MISSED
    assert standing("Over 98%", [failed("2")]) is Standing.NOT_MEASURABLE


def test_a_substitute_model_misses_the_choice_by_complexity() -> None:
    other = explained("2", generation=GENERATION)
    assert standing("Models chosen", [explained("1")]) is Standing.NOT_MEASURABLE
    assert standing("Models chosen", [explained("1"), other]) is Standing.MET
    assert standing("Models chosen", [explained("1", flags=["substitute:mistral:7b"]), other]) is Standing.MISSED


def test_what_is_not_known_to_be_local_is_not_called_local() -> None:
    assert standing("No cost", [explained(generation=GENERATION)]) is Standing.MET
    assert standing("No cost", [explained(generation=GENERATION.model_copy(update={"reach": None}))]) is Standing.NOT_MEASURABLE
    assert standing("No cost", [explained(generation=GENERATION.model_copy(update={"reach": "cloud"}))]) is Standing.MISSED
    sent = SentToCloud(endpoint="c", url="", model="m", features=1, calls=1, usd=0.0)
    assert standing("No cost", [explained(generation=GENERATION)], sent_to_cloud=[sent]) is Standing.MISSED
    assert standing("No cost", [explained(generation=GENERATION)], judge_cost_usd=0.01) is Standing.MISSED


def test_power_that_was_set_and_not_measured_decides_nothing() -> None:
    measured = CostAnalysis(watts=350.0, watts_source="GPUs")
    assert standing("GPUs draw", [explained()], cost_analysis=measured) is Standing.MET
    assert standing("GPUs draw", [explained()], cost_analysis=measured.model_copy(update={"watts": 670.0})) is Standing.MISSED
    assert standing("GPUs draw", [explained()], cost_analysis=measured.model_copy(update={"watts_source": "settings"})) is Standing.NOT_MEASURABLE


def test_the_payback_says_why_it_is_not_known() -> None:
    known = CostAnalysis(payback_months=2.5)
    unknown = CostAnalysis(unavailable={"payback_months": "cost.hardware_usd is not set"})
    assert standing("Hardware paid", [explained()], cost_analysis=known) is Standing.MET
    assert held("Hardware paid", [explained()], job_report(cost_analysis=unknown)).source == "cost.hardware_usd is not set"


def test_features_without_an_outcome_miss_the_flow_and_the_handling_of_errors() -> None:
    whole = {"expected": 2, "status": JobStatus.COMPLETED}
    assert standing("Data flows", [explained("1"), failed("2")], **whole) is Standing.MET
    assert standing("Errors degrade", [explained("1"), failed("2")], **whole) is Standing.MET
    lost = {"expected": 3, "missing": ["3"], "status": JobStatus.INCOMPLETE}
    assert standing("Data flows", [explained("1"), failed("2")], **lost) is Standing.MISSED
    assert standing("Errors degrade", [explained("1"), failed("2")], **lost) is Standing.MISSED


def test_a_record_without_the_numbers_that_score_reads_is_not_ready_for_it() -> None:
    evidence = explained().evidence
    assert evidence is not None
    without = explained("2", evidence=evidence.model_copy(update={"seen": [Activation(text="a")], "held_out": []}))
    assert standing("Ready for", [explained("1")]) is Standing.MET
    assert standing("Ready for", [explained("1"), without]) is Standing.MISSED


def test_an_explanation_without_the_hash_of_its_prompt_is_not_transparent() -> None:
    assert standing("Transparent", [explained("1")]) is Standing.MET
    for missing in ({"prompt_sha256": None}, {"generation": None}, {"evidence": None}, {"validator_version": 0}):
        assert standing("Transparent", [explained("1"), explained("2", **missing)]) is Standing.MISSED

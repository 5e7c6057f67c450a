"""What a replay is said to take."""

import pytest

from mistudio_explain.events.explanation import FeatureOutcome, Generation, OutcomeKind, Subject, Tier
from mistudio_explain.events.job import RequestPart
from mistudio_explain.replay.forecast import SECONDS_PER_CALL, Change, Forecast, forecast

ANSWERED = RequestPart(find_job_id="f")


def explained(
    key: str, *, latency_s: float = 2.0, model: str = "a", cached: bool = False, cost: float | None = None, provider: str = "ollama"
) -> FeatureOutcome:
    made = Generation(model=model, endpoint="e", provider=provider, latency_s=latency_s, finish_reason="stop", cached=cached, cost_usd=cost)
    subject = Subject(explain_job_id="j", feature_key=key)
    return FeatureOutcome(outcome=OutcomeKind.EXPLAINED, subject=subject, generation=made, prompt_template="plain@1")


def poor(key: str) -> FeatureOutcome:
    return FeatureOutcome(outcome=OutcomeKind.SKIPPED, reason="poor", subject=Subject(explain_job_id="j", feature_key=key, tier=Tier.POOR))


def of(outcomes: list[FeatureOutcome], asked: RequestPart, *, wall_s: float | None = None, slots: int | None = 2, kept: int = 1000) -> Forecast:
    keys = [outcome.subject.feature_key for outcome in outcomes]
    return forecast(keys, outcomes, Change(asked, ANSWERED), wall_s=wall_s, slots=slots, kept_answers=kept)


def asked(**changes: object) -> RequestPart:
    return ANSWERED.model_copy(update=changes)


def test_an_unchanged_replay_makes_no_call_and_costs_nothing() -> None:
    found = of([explained(str(n)) for n in range(10)], asked())
    assert (found.cached, found.estimate.calls, found.estimate.seconds, found.estimate.cost_usd) == (10, 0, 0.0, 0.0)


def test_naming_the_model_and_prompt_that_answered_before_changes_nothing() -> None:
    assert of([explained("1")], asked(route="a", prompt_version="plain@1")).cached == 1


@pytest.mark.parametrize("change", [{"route": "b"}, {"prompt_version": "other@1"}])
def test_another_model_or_prompt_asks_for_every_feature(change: dict[str, str]) -> None:
    found = of([explained(str(n)) for n in range(10)], asked(**change))
    assert (found.cached, found.estimate.calls) == (0, 10)


def test_the_measured_latency_counts_and_that_of_another_model_does_not() -> None:
    outcomes = [explained("1", latency_s=1.0, model="b"), explained("2", latency_s=3.0, model="b"), explained("3", latency_s=9.0)]
    found = of(outcomes, asked(route="b"))
    assert (found.measured, found.estimate.seconds_per_call) == (2, 2.0)
    assert of(outcomes, asked(route="c")).measured == 0
    assert of(outcomes, asked(route="c")).estimate.seconds_per_call == SECONDS_PER_CALL


def test_calls_at_once_come_from_the_settings_else_from_the_job_that_is_replayed() -> None:
    outcomes = [explained(str(n), latency_s=2.0) for n in range(10)]
    assert of(outcomes, asked(prompt_version="x@1"), slots=4).parallel_from == "settings"
    measured = of(outcomes, asked(prompt_version="x@1"), slots=None, wall_s=10.4)
    assert (measured.parallel_from, measured.estimate.in_parallel, measured.estimate.seconds) == ("measured", 2, 10.0)
    assert of(outcomes, asked(), slots=None).parallel_from == "guess"


def test_cost_is_the_measured_one_and_unknown_where_a_price_is() -> None:
    dear = [explained("1", cost=0.25, provider="openai"), explained("2", cost=0.75, provider="openai")]
    assert of(dear, asked(prompt_version="x@1")).estimate.cost_usd == 1.0
    assert of([*dear, explained("3", provider="openai")], asked(prompt_version="x@1")).estimate.cost_usd is None


def test_poor_features_stay_skipped_unless_they_are_asked_for() -> None:
    outcomes = [poor("1"), poor("2"), explained("3")]
    assert (of(outcomes, asked()).skipped, of(outcomes, asked()).estimate.calls) == (2, 0)
    assert (of(outcomes, asked(explain_poor=True)).skipped, of(outcomes, asked(explain_poor=True)).estimate.calls) == (0, 2)


def test_no_more_answers_are_taken_as_cached_than_the_store_keeps() -> None:
    assert of([explained(str(n)) for n in range(10)], asked(), kept=4).estimate.calls == 6

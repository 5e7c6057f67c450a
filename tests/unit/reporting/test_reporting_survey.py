import pytest
from reporting_samples import concerning, explained, failed, skipped

from mistudio_explain.events.explanation import FeatureOutcome, Generation, Safety, Verification
from mistudio_explain.reporting.actions import Action, suggested_action
from mistudio_explain.reporting.survey import RANKED, survey


def test_means_are_over_the_features_that_have_the_component() -> None:
    figures = survey([explained("1", quality_score=0.2), explained("2", quality_score=None), explained("3", quality_score=0.6), skipped("4")])
    assert figures.quality is not None
    assert (figures.quality.n, figures.quality.mean) == (2, pytest.approx(0.4))


def test_coherence_is_spread_over_all_features_also_skipped_ones() -> None:
    figures = survey([skipped("1"), failed("2"), explained("3", subject_changes={"coherence_score": 0.9})])
    assert figures.coherence is not None
    assert (figures.coherence.n, figures.coherence.least, figures.coherence.greatest) == (3, 0.1, 0.9)
    assert sum(figures.coherence.bins) == 3


def test_the_ends_of_the_scale_fall_into_the_outermost_bins() -> None:
    figures = survey([explained("1", quality_score=0.0), explained("2", quality_score=1.0)])
    assert figures.quality is not None
    assert (figures.quality.bins[0], figures.quality.bins[-1]) == (1, 1)


def test_the_strongest_and_the_weakest_are_ranked_by_quality_then_by_order() -> None:
    qualities = [0.5, 0.9, 0.1, 0.9, 0.3, 0.7, 0.2]
    figures = survey([explained(str(i), quality_score=q) for i, q in enumerate(qualities)])
    assert [r.feature_key for r in figures.strongest] == ["1", "3", "5", "0", "4"]
    assert [r.feature_key for r in figures.weakest] == ["2", "6", "4", "0", "5"]
    assert len(figures.strongest) == RANKED


def test_the_largest_category_comes_first() -> None:
    figures = survey(
        [explained("1"), explained("2", subject_changes={"category": "temporal"}), explained("3", subject_changes={"category": "temporal"}), skipped("4")]
    )
    assert [(c.category, c.explained, c.skipped) for c in figures.categories] == [("temporal", 2, 0), ("technical", 1, 1)]


def test_a_price_that_is_unknown_is_not_a_cost_of_nothing() -> None:
    unpriced = Generation(model="m", endpoint="e", provider="openai", latency_s=2.0, finish_reason="stop")
    (model,) = survey([explained(generation=unpriced)]).origin.models
    assert (model.cost_usd, model.tokens_in) == (None, None)


def test_a_cached_answer_counts_in_no_latency() -> None:
    cached = Generation(model="m", endpoint="e", provider="openai", latency_s=2.0, finish_reason="stop", cached=True)
    (model,) = survey(
        [explained("1", generation=cached), explained("2", generation=cached.model_copy(update={"cached": False, "latency_s": 4.0}))]
    ).origin.models
    assert (model.cached, model.latency_median_s) == (1, 4.0)


REVIEW = Safety(assessment="requires_review")


@pytest.mark.parametrize(
    ("outcome", "action"),
    [
        (concerning(), Action.ABLATE),
        (concerning(pattern_verification=Verification.PARTIAL), Action.INSPECT),
        (explained(safety=REVIEW), Action.INSPECT),
        (explained(review_reason="the verdict is close"), Action.INSPECT),
        (explained(pattern_verification=Verification.CONTRADICTED), Action.INSPECT),
        (explained(), Action.STEER),
        (explained(business_relevance="medium"), Action.STEER),
        (explained(business_relevance="low"), Action.IGNORE),
        (explained(business_relevance=None), Action.IGNORE),
        (explained(safety=None), Action.IGNORE),
        (explained(pattern_verification=Verification.PARTIAL, business_relevance="medium"), Action.IGNORE),
    ],
)
def test_the_suggested_action_follows_its_documented_rule(outcome: FeatureOutcome, action: Action) -> None:
    assert suggested_action(outcome) is action

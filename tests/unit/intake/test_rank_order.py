import tomllib
from pathlib import Path

import pytest
from find_job_files import feature, specified, write

import mistudio_explain
from mistudio_explain.events.explanation import Category, Tier
from mistudio_explain.intake.rank import BUSINESS_WEIGHTS, Distribution, tier_of
from mistudio_explain.intake.stage import read


@pytest.mark.parametrize(
    ("coherence", "tier"),
    [
        (1.0, Tier.EXCELLENT),
        (0.8000001, Tier.EXCELLENT),
        (0.8, Tier.GOOD),
        (0.6, Tier.GOOD),
        (0.5999999, Tier.FAIR),
        (0.4, Tier.FAIR),
        (0.3999999, Tier.POOR),
        (0.0, Tier.POOR),
        (None, Tier.UNKNOWN),
    ],
)
def test_tiers_begin_where_the_specification_says(coherence: float | None, tier: Tier) -> None:
    assert tier_of(coherence) is tier


def test_features_come_by_tier_then_coherence_with_unscored_ones_between_fair_and_poor(tmp_path: Path) -> None:
    scores = {"poor": 0.39, "unscored": None, "fair": 0.4, "good": 0.7, "better": 0.75, "excellent": 0.9}
    job = read(write(tmp_path, specified(*(feature(name, coherence_score=score) for name, score in scores.items()))))
    assert [each.feature_id for each in job.features()] == ["excellent", "better", "good", "fair", "unscored", "poor"]


def test_equally_coherent_features_come_by_business_weight_then_as_in_the_file(tmp_path: Path) -> None:
    categories = {"a": "temporal", "b": "linguistic", "c": "behavioral", "d": None, "e": "behavioral"}
    path = write(tmp_path, specified(*(feature(name, pattern_category=category) for name, category in categories.items())))
    assert "".join(each.feature_id for each in read(path).features()) == "ceabd"
    other_first = dict.fromkeys(Category, 0.0) | {Category.OTHER: 1.0}
    assert "".join(each.feature_id for each in read(path, weights=other_first).features()) == "bdace"


def test_the_business_weights_are_those_of_the_built_in_relevance_policy() -> None:
    policy = Path(mistudio_explain.__file__).parent / "validation" / "relevance.toml"
    assert tomllib.loads(policy.read_text())["category"] == BUSINESS_WEIGHTS


def test_the_distribution_counts_every_tier_and_interpolates_quartiles() -> None:
    distribution = Distribution.of([0.1, None, 0.2, 0.3, 0.9])
    assert dict(distribution.tiers) == {Tier.EXCELLENT: 1, Tier.GOOD: 0, Tier.FAIR: 0, Tier.UNKNOWN: 1, Tier.POOR: 3}
    assert distribution.quartiles == pytest.approx((0.1, 0.175, 0.25, 0.45, 0.9))
    assert [distribution.passing(threshold) for threshold in (0.0, 0.3, 0.91)] == [5, 3, 1]
    assert Distribution.of([None]).quartiles is None


def test_when_nothing_passes_the_message_has_the_distribution_and_the_flag() -> None:
    distribution = Distribution.of([0.1, 0.2, 0.3])
    assert distribution.passing(0.4) == 0
    message = distribution.nothing_passes(0.4)
    assert "none of the 3 features reaches the coherence threshold 0.40" in message
    assert "least 0.100, quartiles 0.150, 0.200, 0.250, greatest 0.300" in message
    assert "--explain-poor" in message

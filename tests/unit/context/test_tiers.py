"""The specification's tiers of coherence."""

import pytest

from mistudio_explain.context.tiers import coherence_caveats, tier_of
from mistudio_explain.events.explanation import Tier


@pytest.mark.parametrize(
    ("coherence", "tier"),
    [
        (None, Tier.UNKNOWN),
        (0.0, Tier.POOR),
        (0.3999, Tier.POOR),
        (0.4, Tier.FAIR),
        (0.5999, Tier.FAIR),
        (0.6, Tier.GOOD),
        (0.8, Tier.GOOD),
        (0.8001, Tier.EXCELLENT),
        (1.0, Tier.EXCELLENT),
    ],
)
def test_the_bounds_are_those_of_the_specification(coherence: float | None, tier: Tier) -> None:
    assert tier_of(coherence, 0.4) is tier


def test_a_moved_threshold_moves_the_bound_between_poor_and_the_rest_alone() -> None:
    assert tier_of(0.2, 0.1) is Tier.FAIR
    assert tier_of(0.7, 0.75) is Tier.POOR
    assert tier_of(0.78, 0.75) is Tier.GOOD


@pytest.mark.parametrize("tier", [Tier.FAIR, Tier.POOR, Tier.UNKNOWN])
def test_what_is_not_good_has_a_caveat(tier: Tier) -> None:
    assert coherence_caveats(None if tier is Tier.UNKNOWN else 0.3, tier)


@pytest.mark.parametrize("tier", [Tier.GOOD, Tier.EXCELLENT])
def test_what_is_good_has_none(tier: Tier) -> None:
    assert coherence_caveats(0.9, tier) == []

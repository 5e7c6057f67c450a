"""The specification's tiers of coherence, and what a reader must know of each."""

from mistudio_explain.events.explanation import Tier

EXCELLENT_ABOVE = 0.8  # specification §2.3
GOOD_FROM = 0.6
POOR_COHERENCE = "poor_coherence"


def tier_of(coherence: float | None, threshold: float) -> Tier:
    """The tier of a coherence score.

    excellent above 0.8, good from 0.6, fair from `threshold` (the specification's is 0.4), poor below it; unknown without a score.
    A threshold above 0.6 makes everything below it poor.
    """
    if coherence is None:
        return Tier.UNKNOWN
    if coherence < threshold:
        return Tier.POOR
    if coherence > EXCELLENT_ABOVE:
        return Tier.EXCELLENT
    return Tier.GOOD if coherence >= GOOD_FROM else Tier.FAIR


def coherence_caveats(coherence: float | None, tier: Tier) -> list[str]:
    """Sentences for people about what the coherence means for the explanation."""
    if tier is Tier.FAIR:
        return [f"The texts share few words (coherence {coherence:.2f}, fair): the explanation may fit only some of them."]
    if tier is Tier.POOR:
        return [f"The texts share hardly any words (coherence {coherence:.2f}, poor): the explanation may have found a pattern where there is none."]
    if tier is Tier.UNKNOWN:
        return ["The input has no coherence score, so nothing says beforehand whether the texts have a pattern in common."]
    return []


def tier_flags(tier: Tier) -> list[str]:
    """Short marks of a tier for filters."""
    return [POOR_COHERENCE] if tier is Tier.POOR else []

"""The verdict: whether the texts bear an explanation out."""

from mistudio_explain.events.explanation import Accuracy, Verification

# Of 448 real explanations 70%, 72% and 74% were confirmed with 0.30, 0.25 and 0.20, of false ones 7%, 8% and 9%: three or
# four held-out texts say little by themselves, so they may stay behind, but not speak against
HELD_OUT_FROM = 0.20
KEYWORDS_NAMED = 3  # 90% of real explanations name fewer of their feature's first 10 keywords
KEYWORDS_PARROTED = 7  # all but one name fewer


def verdict(accuracy: Accuracy, confirmed_from: float, contradicted_below: float) -> Verification:
    """Confirmed, contradicted, or partial.

    Confirmed needs `confirmed_from` on all texts and HELD_OUT_FROM on the held-out ones. An explanation that is made of
    the feature's keywords says nothing that counting words did not say: when it names KEYWORDS_NAMED of them, what is left
    without them must reach `confirmed_from` too; with KEYWORDS_PARROTED, or when nothing is left, it is never confirmed.

    Contradicted: the held-out texts (all, when none were held out) leave less than `contradicted_below`, and the pattern
    is not one that fits the tokens that the feature promotes: of such a feature texts alone cannot say that it is wrong.
    """
    decisive = accuracy.p if accuracy.held_out is None else accuracy.held_out
    if decisive < contradicted_below:
        return Verification.PARTIAL if accuracy.kind in ("output", "both") else Verification.CONTRADICTED
    if accuracy.p >= confirmed_from and decisive >= HELD_OUT_FROM and _says_more_than_keywords(accuracy, confirmed_from):
        return Verification.CONFIRMED
    return Verification.PARTIAL


def _says_more_than_keywords(accuracy: Accuracy, confirmed_from: float) -> bool:
    if accuracy.masked is None or accuracy.keywords_listed >= KEYWORDS_PARROTED:
        return False
    return accuracy.keywords_listed < KEYWORDS_NAMED or accuracy.masked >= confirmed_from

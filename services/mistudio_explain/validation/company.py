"""How an explanation fits the other features of its job: one of them better than its own, or most of them as well."""

from dataclasses import dataclass

import numpy as np

from mistudio_explain.validation.accuracy import FORMULAS, Z_HIGH, Z_LOW, Signals, sigmoid, standardised
from mistudio_explain.validation.contrast import Claim, Contrast
from mistudio_explain.validation.lexical import Floats

# With these, 13% of the true explanations that are not believable of their own feature, and 67% of false ones, are told to fit
# a sibling better; with 1 and 0.55, 20% and 92%
CLEARLY = 2.0  # logits between a sibling and the own feature
BELIEVABLE_FROM = 0.9  # of the sibling
GENERIC_SHARE = 0.25  # of the other features that an explanation fits at least as well as its own


@dataclass(frozen=True, slots=True)
class Company:
    """What the other features of the background say about a claim, by the words and meanings of their texts alone."""

    fits_better: str | None
    """Key of the feature that the claim fits best, when that is clearly better than its own."""
    as_well: float
    """Share of the other features that it fits at least as well as its own."""


def company(claim: Claim, own: Signals, contrast: Contrast, place: int | None) -> Company:
    """Compare the claim's fit to its own feature with its fit to each other one.

    A sibling counts as better from CLEARLY on, and when the claim is believable of it: its probability there is at
    least BELIEVABLE_FROM. All are judged by BM25 and static meaning, the signals that the background has of everyone.
    """
    bm25 = contrast.index.scores(claim.stems, [], place).others
    cosines = (contrast.centroids @ claim.vector).astype(np.float64)
    if place is not None:
        cosines = np.delete(cosines, place)
    formula = FORMULAS[0]

    def logit(z: dict[str, Floats]) -> Floats:
        total: Floats = np.sum([weight * np.clip(z[name], Z_LOW, Z_HIGH) for name, weight in formula.weights.items()], axis=0)
        return formula.intercept + total

    others = logit({"bm25_z": standardised(bm25, bm25, "bm25_z"), "static_z": standardised(cosines, cosines, "static_z")})
    here = float(logit({name: own.by_text[name].mean(keepdims=True) for name in formula.weights})[0])
    best = int(np.argmax(others))
    better = others[best] >= here + CLEARLY and sigmoid(float(others[best])) >= BELIEVABLE_FROM
    keys = [key for number, key in enumerate(contrast.keys) if number != place]
    return Company(keys[best] if better else None, float((others >= here).mean()))

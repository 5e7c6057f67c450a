"""Accuracy: the probability that an explanation belongs to this feature rather than to another of its find job."""

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np

from mistudio_explain.events.explanation import Accuracy
from mistudio_explain.validation.contrast import Claim, Contrast, Texts
from mistudio_explain.validation.lexical import Floats

# scripts/fit_accuracy.py, 2026-11-24, n = 454 explained features of 6 sources: p = sigmoid(INTERCEPT + LEXICAL z_bm25 + STATIC z_static)
INTERCEPT = -0.82
LEXICAL = 0.50
STATIC = 0.48
Z_LOW, Z_HIGH = -3.0, 6.0

# A background of n features gives a poor estimate of how a claim scatters; the estimate is drawn towards the median
# scatter over the same 454 claims as if PRIOR_FEATURES more features had shown it (the AUC does not feel 1 to 16).
PRIOR_FEATURES = 8.0
LEXICAL_PRIOR_SIGMA = 0.35
STATIC_PRIOR_SIGMA = 0.037

# 97.5% quantiles of Student's t for 1 to 30 degrees of freedom; beyond, the normal distribution's with a first-order correction
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, slots=True)
class Signals:
    """How far a claim stands out on a feature's texts against the background, in standard deviations, one number a text."""

    lexical: Floats
    static: Floats

    def between(self, start: int, end: int) -> "Signals":
        """The signals of the texts from number `start` to before `end`."""
        return Signals(self.lexical[start:end], self.static[start:end])

    @property
    def z_lexical(self) -> float:
        """Mean over the texts, clipped."""
        return _clipped_mean(self.lexical)

    @property
    def z_static(self) -> float:
        """Mean over the texts, clipped."""
        return _clipped_mean(self.static)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A probability, its 95% interval over the texts (None with fewer than two), and the signals it comes from."""

    p: float
    low: float | None
    high: float | None
    n: int
    z_lexical: float
    z_static: float


def signals(claim: Claim, texts: Texts, contrast: Contrast, place: int | None) -> Signals:
    """Standardise BM25 and cosine of a claim on each text against the background's features.

    `place` is the feature's own number in the background, or None; what the feature itself put into the background is
    left out. The mean over the texts is compared with means over each other feature's texts, so the number of texts
    does not move it. There must be at least one text and one other feature.
    """
    bm25 = contrast.index.scores(claim.stems, texts.stems, place)
    cosines = (contrast.centroids @ claim.vector).astype(np.float64)
    others = cosines if place is None else np.delete(cosines, place)
    own = (texts.vectors @ claim.vector).astype(np.float64)
    return Signals(
        lexical=_standardised(texts.mean_by_text(bm25.own), bm25.others, LEXICAL_PRIOR_SIGMA),
        static=_standardised(texts.mean_by_text(own), others, STATIC_PRIOR_SIGMA),
    )


def estimate(measured: Signals) -> Estimate:
    """Turn signals into a probability.

    The interval is Student's t over the texts' weighted signals round the clipped mean, through the sigmoid: it says how
    much the texts differ, not how far the formula may be off.
    """
    logit = INTERCEPT + LEXICAL * measured.z_lexical + STATIC * measured.z_static
    n = len(measured.lexical)
    low = high = None
    if n >= 2:
        per_text = LEXICAL * measured.lexical + STATIC * measured.static
        margin = student_t(n - 1) * float(per_text.std(ddof=1)) / sqrt(n)
        low, high = sigmoid(logit - margin), sigmoid(logit + margin)
    return Estimate(sigmoid(logit), low, high, n, measured.z_lexical, measured.z_static)


def accuracy_of(measured: Signals, masked: Signals | None, seen_texts: int) -> Accuracy:
    """The figures of an outcome: the first `seen_texts` texts were shown to the explainer, the rest held out.

    Held-out texts decide where there are some; both figures are kept. `masked` are the signals without keywords.
    """
    count = len(measured.lexical)
    seen = estimate(measured.between(0, seen_texts)) if seen_texts else None
    held_out = estimate(measured.between(seen_texts, count)) if seen_texts < count else None
    start, end = (seen_texts, count) if held_out else (0, seen_texts)
    decisive = estimate(measured.between(start, end))
    return Accuracy(
        p=decisive.p,
        low=decisive.low,
        high=decisive.high,
        n=decisive.n,
        basis="held_out" if held_out else "seen",
        seen=seen.p if seen else None,
        held_out=held_out.p if held_out else None,
        masked=estimate(masked.between(start, end)).p if masked else None,
        signals={"bm25_z": decisive.z_lexical, "static_z": decisive.z_static},
    )


def sigmoid(logit: float) -> float:
    """1 / (1 + e^-logit), safe for any finite number."""
    if logit >= 0:
        return 1 / (1 + exp(-min(logit, 700.0)))
    odds = exp(max(logit, -700.0))
    return odds / (1 + odds)


def _standardised(own: Floats, others: Floats, prior_sigma: float) -> Floats:
    n = len(others)
    variance = (n * float(others.var()) + PRIOR_FEATURES * prior_sigma**2) / (n + PRIOR_FEATURES)
    z: Floats = (own - others.mean()) / sqrt(variance)
    return z


def _clipped_mean(values: Floats) -> float:
    return min(max(float(values.mean()), Z_LOW), Z_HIGH)


def student_t(degrees: int) -> float:
    """The 97.5% quantile of Student's t, which makes a 95% interval."""
    return _T[degrees - 1] if degrees <= len(_T) else 1.96 + 2.46 / degrees

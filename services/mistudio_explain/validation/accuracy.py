"""Accuracy: the probability that an explanation belongs to this feature rather than to another of its find job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, sqrt
from typing import Literal

import numpy as np

from mistudio_explain.events.explanation import Accuracy
from mistudio_explain.validation.contrast import Claim, Contrast, Part, Texts, View, parts
from mistudio_explain.validation.lexical import Floats
from mistudio_explain.validation.static_embedding import Vectors

Z_LOW, Z_HIGH = -3.0, 6.0
FEWEST_KNOWN = 8  # fewer background features with active words, or promoted tokens, are no contrast


@dataclass(frozen=True, slots=True)
class Formula:
    """logit = n / (n + 1) * (intercept + sum of weight * signal), from n texts: the fewer there are, the nearer to even odds."""

    intercept: float
    weights: dict[str, float]


# `mistudio-explain evaluate examples/features` (evaluation/fit.py), 2026-11-25: 448 explained features of 6 sources, on
# all, the seen, the held-out, two and one of their texts. The formula for the signals that a feature has is taken.
FORMULAS = (
    Formula(-1.23, {"bm25_z": 0.73, "static_z": 0.75}),
    Formula(-1.29, {"bm25_z": 0.70, "static_z": 0.46, "active_z": 0.63}),
    Formula(-1.34, {"bm25_z": 0.74, "static_z": 0.59, "minilm_z": 0.34}),
    Formula(-1.39, {"bm25_z": 0.70, "static_z": 0.31, "minilm_z": 0.31, "active_z": 0.63}),
)
TEXTS_TRUSTED_HALF = 1.0  # the 1 of n / (n + 1); 0, 1, 2 and 4 were tried, and 1 or 2 fit all numbers of texts best

# Only one source has logits and explanations, so their weight cannot be fitted on others: that of active words is taken, which
# are compared in the same way.
LOGITS = 0.63
OUTPUT_FROM = 1.3  # logits_z that 10% of the explanations of other features reach

# A background of n features gives a poor estimate of how a claim scatters; the estimate is drawn towards the median
# scatter over the same 448 claims as if PRIOR_FEATURES more features had shown it (the AUC does not feel 1 to 64).
PRIOR_FEATURES = 8.0
PRIOR_SIGMA = {"bm25_z": 0.36, "static_z": 0.037, "minilm_z": 0.037, "active_z": 0.085, "logits_z": 0.079}

# 97.5% quantiles of Student's t for 1 to 30 degrees of freedom; beyond, the normal distribution's with a first-order correction
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, slots=True)
class Signals:
    """How far a claim stands out on a part of a feature's texts against the background, in standard deviations."""

    by_text: dict[str, Floats]
    """bm25_z and static_z: one number a text; minilm_z: one for each text that MiniLM read."""
    whole: dict[str, float]
    """active_z and logits_z, of the part as a whole."""

    @property
    def n(self) -> int:
        """Texts in the part."""
        return len(self.by_text["bm25_z"])

    @property
    def values(self) -> dict[str, float]:
        """Each signal as one number: means over the texts, clipped."""
        return {name: _clipped(float(values.mean())) for name, values in self.by_text.items()} | {name: _clipped(value) for name, value in self.whole.items()}


Measured = dict[str, Signals]
"""The signals of `all` texts, of the `seen` and of the `held_out` ones; a part without a text is absent."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A probability, its 95% interval over the texts (None with fewer than two), and the signals it comes from."""

    p: float
    low: float | None
    high: float | None
    n: int
    signals: dict[str, float]


def measure(claim: Claim, texts: Texts, contrast: Contrast, place: int | None) -> Measured:
    """Standardise the claim's fit to each text, and to active words and promoted tokens, against the background's features.

    `place` is the feature's own number in the background, or None; what the feature itself put into the background is
    left out. The mean over the texts is compared with means over each other feature's texts, so the number of texts
    does not move it. There must be at least one text and one other feature.
    """
    bm25 = contrast.index.scores(claim.stems, texts.stems, place)
    static = {
        "bm25_z": standardised(texts.mean_by_text(bm25.own), bm25.others, "bm25_z"),
        "static_z": standardised(texts.mean_by_text(_cosines(texts.vectors, claim.vector)), _others(contrast.centroids, claim.vector, place), "static_z"),
    }
    minilm: dict[int, float] = {}
    if claim.minilm is not None and contrast.minilm is not None and texts.minilm:
        own = np.array([float(row @ claim.minilm) for row in texts.minilm.values()])
        others = _others(contrast.minilm, claim.minilm, place)
        minilm = dict(zip(texts.minilm, standardised(own, others, "minilm_z").tolist(), strict=True))
    logits = _whole(claim.vector, {(0, texts.count): texts.promoted}, contrast.promoted, place, "logits_z").get((0, texts.count))
    active = _whole(claim.vector, texts.active, contrast.active, place, "active_z")
    measured: Measured = {}
    for name, (first, last) in parts(texts.seen, texts.count).items():
        by_text = {signal: values[first:last] for signal, values in static.items()}
        if read := [value for number, value in minilm.items() if first <= number < last]:
            by_text["minilm_z"] = np.array(read)
        whole = {signal: value for signal, value in (("active_z", active.get((first, last))), ("logits_z", logits)) if value is not None}
        measured[name] = Signals(by_text, whole)
    return measured


def estimate(measured: Signals, formulas: Sequence[Formula] = FORMULAS) -> Estimate:
    """Turn signals into a probability.

    The interval is Student's t over the texts' weighted signals round the clipped mean, through the sigmoid: it says how
    much the texts differ, not how far the formula may be off.
    """
    values = measured.values
    formula = _formula(values, formulas)
    n = measured.n
    trust = n / (n + TEXTS_TRUSTED_HALF)
    logit = logit_of(values, n, formulas)
    low = high = None
    if n >= 2:
        per_text = sum(formula.weights[name] * measured.by_text[name] for name in ("bm25_z", "static_z"))
        margin = trust * student_t(n - 1) * float(np.std(per_text, ddof=1)) / sqrt(n)
        low, high = sigmoid(logit - margin), sigmoid(logit + margin)
    return Estimate(sigmoid(logit), low, high, n, values)


def coverage(measured: Signals, formulas: Sequence[Formula] = FORMULAS) -> float:
    """The share of the texts that the claim can be expected to fit: the mean of sigmoid(formula of one text's signals).

    What detection, the field's measure, counts text by text. A text that has all of the claim's words counts as one text
    here, while in `p` it can outweigh some that have none. BM25 and static meaning alone, the signals that every text has.
    """
    formula = next(one for one in formulas if one.weights.keys() == {"bm25_z", "static_z"})
    logits = formula.intercept + sum(weight * np.clip(measured.by_text[name], Z_LOW, Z_HIGH) for name, weight in formula.weights.items())
    return float(np.mean([sigmoid(float(logit)) for logit in np.atleast_1d(logits)]))


def logit_of(signals: dict[str, float], n: int, formulas: Sequence[Formula] = FORMULAS) -> float:
    """The formula for the signals that are there, from n texts: this and the outcome's signals give its probabilities again."""
    formula = _formula(signals, formulas)
    inner = formula.intercept + sum(weight * signals[name] for name, weight in formula.weights.items())
    return n / (n + TEXTS_TRUSTED_HALF) * inner + LOGITS * signals.get("logits_z", 0.0)


def accuracy_of(measured: Measured, masked: Measured | None, keywords_listed: int = 0, formulas: Sequence[Formula] = FORMULAS) -> Accuracy:
    """The figures of an outcome.

    `p` rests on all texts: whose explanation it is, the texts that the explainer saw tell as well. Whether it holds
    beyond them only the held-out ones tell, so these are kept by themselves, for the verdict. `masked` are the signals
    without keywords; `formulas` are others than those in force for the bench alone.
    """
    estimates = {name: estimate(part, formulas) for name, part in measured.items()}
    decisive, seen, held_out = estimates["all"], estimates.get("seen"), estimates.get("held_out")
    without = estimate(masked["all"], formulas) if masked else None
    basis: Literal["all", "held_out", "seen"] = "all" if seen and held_out else "held_out" if held_out else "seen"
    named = {f"{part}.{name}": value for part in ("seen", "held_out") if part in estimates for name, value in estimates[part].signals.items()}
    named |= {f"masked.{name}": value for name, value in without.signals.items()} if without else {}
    return Accuracy(
        p=decisive.p,
        low=decisive.low,
        high=decisive.high,
        n=decisive.n,
        basis=basis,
        seen=seen.p if seen else None,
        held_out=held_out.p if held_out else None,
        masked=without.p if without else None,
        coverage=coverage(measured["all"], formulas),
        keywords_listed=keywords_listed,
        kind=_kind(decisive, formulas),
        signals=decisive.signals | named,
    )


def sigmoid(logit: float) -> float:
    """1 / (1 + e^-logit), safe for any finite number."""
    if logit >= 0:
        return 1 / (1 + exp(-min(logit, 700.0)))
    odds = exp(max(logit, -700.0))
    return odds / (1 + odds)


def student_t(degrees: int) -> float:
    """The 97.5% quantile of Student's t, which makes a 95% interval."""
    return _T[degrees - 1] if degrees <= len(_T) else 1.96 + 2.46 / degrees


def _formula(signals: dict[str, float], formulas: Sequence[Formula]) -> Formula:
    there = signals.keys() - {"logits_z"}
    return next(formula for formula in formulas if formula.weights.keys() == there)


def _kind(all_texts: Estimate, formulas: Sequence[Formula]) -> Literal["input", "output", "both", "unclear"] | None:
    """What the pattern fits; None when the source gives no logits."""
    if "logits_z" not in all_texts.signals:
        return None
    texts_alone = {name: value for name, value in all_texts.signals.items() if name != "logits_z"}
    fits_texts = logit_of(texts_alone, all_texts.n, formulas) >= 0
    fits_logits = all_texts.signals["logits_z"] >= OUTPUT_FROM
    if fits_texts and fits_logits:
        return "both"
    return "input" if fits_texts else "output" if fits_logits else "unclear"


def _whole(claim: Vectors, own: Mapping[Part, Vectors | None], view: View, place: int | None, name: str) -> dict[Part, float]:
    """The standardised signal of each part that has a direction; none when too few other features have one."""
    cosines = {part: float(direction @ claim) for part, direction in own.items() if direction is not None and direction.any()}
    if not cosines or len(rows := view.others(place)) < FEWEST_KNOWN:
        return {}
    values = standardised(np.array(list(cosines.values())), _cosines(rows, claim), name)
    return dict(zip(cosines, values.tolist(), strict=True))


def _others(rows: Vectors, claim: Vectors, place: int | None) -> Floats:
    cosines = _cosines(rows, claim)
    return cosines if place is None else np.delete(cosines, place)


def _cosines(rows: Vectors, claim: Vectors) -> Floats:
    return (rows @ claim).astype(np.float64)


def standardised(own: Floats, others: Floats, name: str) -> Floats:
    """How many standard deviations of the other features' values, drawn towards what is usual for the signal, a value lies above their mean."""
    n = len(others)
    variance = (n * float(others.var()) + PRIOR_FEATURES * PRIOR_SIGMA[name] ** 2) / (n + PRIOR_FEATURES)
    z: Floats = (own - others.mean()) / sqrt(variance)
    return z


def _clipped(value: float) -> float:
    return min(max(value, Z_LOW), Z_HIGH)

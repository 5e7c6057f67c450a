"""How far the validator agrees with people, and what its coefficients would be if people were the truth.

People say right, partly, wrong or unclear of an explanation; the validator says confirmed, partial, contradicted or
unverifiable. Agreement is over the pairs in which both take a side. Accuracy's `p` is compared with right and wrong
alone. All intervals are 95% percentile bootstraps over the reviewed features.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mistudio_explain.aggregation.stage import AGREES
from mistudio_explain.events.explanation import FeatureOutcome

Floats = NDArray[np.float64]

RESAMPLES = 1000
BINS = 10
FEWEST_A_BIN = 5  # with fewer reviews a bin's share says nothing, so there are fewer bins
FEWEST_A_SIDE = 10  # right ones and wrong ones each that a refit needs
FOLDS = 5
RIDGE = 1.0  # penalty on the squared coefficients, the intercept apart: separable reviews would send them to infinity


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a person and the validator said of one explanation."""

    feature_key: str
    verdict: str
    verification: str | None
    p: float | None
    confidence: float | None
    signals: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval, from `n` reviews; the interval is None where resampling cannot give one."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Said against seen: the expected calibration error over bins of equal mass, and each bin's mean probability, share and size."""

    error: Estimate
    bins: tuple[tuple[float, float, int], ...]


@dataclass(frozen=True, slots=True)
class ReviewFigures:
    """The validator against people; a figure that cannot be had is None, with the reason in `unavailable`."""

    n: int
    verdicts: Mapping[str, int]
    table: Mapping[str, Mapping[str, int]]
    """How many of each verdict of people (outer) got each verification (inner)."""
    agreement: Estimate | None
    auc: Estimate | None
    """The chance that an explanation called right has a greater accuracy than one called wrong."""
    accuracy: Calibration | None
    confidence: Calibration | None
    unavailable: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Refit:
    """Coefficients of p = sigmoid(intercept + sum of coefficient times signal), fitted to what people said; never in use until someone puts them there."""

    right: int
    wrong: int
    coefficients: Mapping[str, Estimate]
    intercept: Estimate
    """For even odds beforehand, as accuracy has it; among the reviewed features themselves it would be `intercept_as_reviewed`."""
    intercept_as_reviewed: float
    auc_now: float
    auc_refitted: float
    """Of the refitted p, each fold scored by coefficients that did not see it."""


def of_outcomes(outcomes: Iterable[FeatureOutcome]) -> list[Reviewed]:
    """The reviewed ones among a job's outcomes."""
    return [
        Reviewed(
            feature_key=outcome.subject.feature_key,
            verdict=outcome.review.verdict,
            verification=outcome.pattern_verification.value if outcome.pattern_verification else None,
            p=outcome.accuracy.p if outcome.accuracy else None,
            confidence=outcome.confidence,
            signals=outcome.accuracy.signals if outcome.accuracy else {},
        )
        for outcome in outcomes
        if outcome.review is not None
    ]


def of_records(records: Iterable[Mapping[str, Any]]) -> list[Reviewed]:
    """The reviewed ones among the records of feature_explanations.json, or among lines of `score` to which someone added a `review`.

    A review is a verdict, or an object with one. What is no number counts as absent.
    """
    found = []
    for number, record in enumerate(records, 1):
        review = record.get("review")
        verdict = review.get("verdict") if isinstance(review, Mapping) else review
        if not isinstance(verdict, str):
            continue
        accuracy = record.get("accuracy")
        measured: Mapping[str, Any] = accuracy if isinstance(accuracy, Mapping) else {}
        signals = measured.get("signals")
        numbers = {name: _number(value) for name, value in signals.items()} if isinstance(signals, Mapping) else {}
        verification = record.get("pattern_verification")
        found.append(
            Reviewed(
                feature_key=str(record.get("feature_key") or number),
                verdict=verdict,
                verification=verification if isinstance(verification, str) else None,
                p=_number(measured.get("p")),
                confidence=_number(record.get("explanation_confidence", record.get("confidence"))),
                signals={name: value for name, value in numbers.items() if value is not None},
            )
        )
    return found


def measure(reviewed: Sequence[Reviewed], *, seed: int = 0, resamples: int = RESAMPLES) -> ReviewFigures:
    """Compare the validator with people. The same reviews and seed give the same figures."""
    unavailable: dict[str, str] = {}
    table: dict[str, Counter[str]] = {}
    for each in reviewed:
        table.setdefault(each.verdict, Counter())[each.verification or "none"] += 1
    sided = [each for each in reviewed if each.verdict in AGREES and each.verification in AGREES.values()]
    agreeing = np.array([AGREES[each.verdict] == each.verification for each in sided], dtype=float)
    if not sided:
        unavailable["agreement"] = "no feature on which both people and the validator take a side"
    judged = [(each.p, each.verdict == "right") for each in reviewed if each.p is not None and each.verdict in ("right", "wrong")]
    p, is_right = np.array([value for value, _ in judged], dtype=float), np.array([right for _, right in judged], dtype=bool)
    both = bool(is_right.any()) and not bool(is_right.all())
    if not both:
        unavailable["auc"] = (
            f"there are {int(is_right.sum())} right and {int((~is_right).sum())} wrong explanations with an accuracy; one of each at least is needed"
        )
    if not judged:
        unavailable["accuracy"] = "no explanation that people call right or wrong has an accuracy"
    sure = [(each.confidence, AGREES[each.verdict] == each.verification) for each in sided if each.confidence is not None and each.verdict != "partly"]
    said, held = np.array([value for value, _ in sure], dtype=float), np.array([right for _, right in sure], dtype=bool)
    if not sure:
        unavailable["confidence"] = "no verdict with a confidence on an explanation that people call right or wrong"
    return ReviewFigures(
        n=len(reviewed),
        verdicts=dict(Counter(each.verdict for each in reviewed)),
        table={verdict: dict(got) for verdict, got in table.items()},
        agreement=_estimate(lambda rows: float(agreeing[rows].mean()), len(sided), seed, resamples) if sided else None,
        auc=_estimate(lambda rows: _auc(p[rows], is_right[rows]), len(judged), seed, resamples) if both else None,
        accuracy=_calibration(p, is_right, seed, resamples) if judged else None,
        confidence=_calibration(said, held, seed, resamples) if sure else None,
        unavailable=unavailable,
    )


def refit(reviewed: Sequence[Reviewed], *, seed: int = 0, resamples: int = RESAMPLES) -> Refit | str:
    """Fit the coefficients to the explanations that people call right or wrong; a sentence says why that is not possible.

    Ridge-penalised logistic regression on the signals that all of them have. The intercept is moved to even odds, which
    is what accuracy states: people review as many right ones as there are.
    """
    usable = [each for each in reviewed if each.verdict in ("right", "wrong") and each.p is not None and each.signals]
    names = sorted(set.intersection(*(set(each.signals) for each in usable))) if usable else []
    is_right = np.array([each.verdict == "right" for each in usable], dtype=bool)
    right, wrong = int(is_right.sum()), int((~is_right).sum())
    if min(right, wrong) < FEWEST_A_SIDE:
        return f"there are {right} right and {wrong} wrong explanations with signals; a refit needs {FEWEST_A_SIDE} of each"
    if not names:
        return "no signal is there for all of them"
    x = np.array([[each.signals[name] for name in names] for each in usable], dtype=float)
    fitted = _fit(x, is_right)
    resampled = np.array(
        [_fit(x[rows], is_right[rows]) for rows in _resamples(len(usable), seed, resamples) if is_right[rows].any() and not is_right[rows].all()]
    )
    even = float(np.log(right / wrong))
    low, high = np.quantile(resampled, (0.025, 0.975), axis=0)
    fold = np.array([hashlib.sha256(each.feature_key.encode()).digest()[0] % FOLDS for each in usable])
    scored = np.zeros(len(usable))
    for number in range(FOLDS):
        inside = fold == number
        if inside.any():
            scored[inside] = _linear(_fit(x[~inside], is_right[~inside]), x[inside])
    return Refit(
        right=right,
        wrong=wrong,
        coefficients={name: Estimate(float(fitted[at]), float(low[at]), float(high[at]), len(usable)) for at, name in enumerate(names, 1)},
        intercept=Estimate(float(fitted[0]) - even, float(low[0]) - even, float(high[0]) - even, len(usable)),
        intercept_as_reviewed=float(fitted[0]),
        auc_now=_auc(np.array([each.p for each in usable], dtype=float), is_right),
        auc_refitted=_auc(scored, is_right),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _fit(x: Floats, is_right: NDArray[np.bool_]) -> Floats:
    """Intercept and coefficients, by Newton's method, its steps halved while they do not help."""
    rows = np.hstack([np.ones((len(x), 1)), x])
    penalty = np.diag([1e-6, *([RIDGE] * x.shape[1])])
    at = np.zeros(rows.shape[1])
    for _ in range(100):
        p = _sigmoid(rows @ at)
        slope = rows.T @ (is_right - p) - penalty @ at
        step = np.linalg.solve(rows.T @ (rows * (p * (1 - p))[:, None]) + penalty, slope)
        while _loss(rows, is_right, penalty, at + step) > _loss(rows, is_right, penalty, at) + 1e-12 and np.abs(step).max() > 1e-9:
            step = step / 2
        at = at + step
        if np.abs(step).max() < 1e-9:
            break
    return at


def _loss(rows: Floats, is_right: NDArray[np.bool_], penalty: Floats, at: Floats) -> float:
    z = rows @ at
    return float(np.logaddexp(0, np.where(is_right, -z, z)).sum() + at @ penalty @ at / 2)


def _linear(fitted: Floats, x: Floats) -> Floats:
    value: Floats = fitted[0] + x @ fitted[1:]
    return value


def _sigmoid(z: Floats) -> Floats:
    value: Floats = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
    return value


def _auc(scores: Floats, is_right: NDArray[np.bool_]) -> float:
    """Ties count half."""
    right, wrong = scores[is_right], scores[~is_right]
    if not len(right) or not len(wrong):
        return float("nan")
    ordered = np.sort(wrong)
    return float((np.searchsorted(ordered, right, "left") + np.searchsorted(ordered, right, "right")).mean() / 2 / len(wrong))


def _calibration(said: Floats, is_so: NDArray[np.bool_], seed: int, resamples: int) -> Calibration:
    bins = max(1, min(BINS, len(said) // FEWEST_A_BIN))
    parts = [rows for rows in np.array_split(np.argsort(said, kind="stable"), bins) if len(rows)]
    shown = tuple((float(said[rows].mean()), float(is_so[rows].mean()), len(rows)) for rows in parts)
    return Calibration(_estimate(lambda rows: _calibration_error(said[rows], is_so[rows], bins), len(said), seed, resamples), shown)


def _calibration_error(said: Floats, is_so: NDArray[np.bool_], bins: int) -> float:
    parts = [rows for rows in np.array_split(np.argsort(said, kind="stable"), bins) if len(rows)]
    return float(sum(abs(said[rows].mean() - is_so[rows].mean()) * len(rows) for rows in parts) / len(said))


def _estimate(figure: Callable[[NDArray[np.int64]], float], n: int, seed: int, resamples: int) -> Estimate:
    """A figure of all rows, and its interval over resamples; those for which it is undefined are left out."""
    values = np.array([figure(rows) for rows in _resamples(n, seed, resamples)])
    values = values[~np.isnan(values)]
    low, high = (float(value) for value in np.quantile(values, (0.025, 0.975))) if len(values) and n > 1 else (None, None)
    return Estimate(figure(np.arange(n)), low, high, n)


def _resamples(n: int, seed: int, resamples: int) -> Iterable[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, n, n) for _ in range(resamples))

"""Fits the coefficients of accuracy and confidence, each source's from the other sources alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mistudio_explain.errors import BadInput
from mistudio_explain.evaluation.jobs import Job, Scored
from mistudio_explain.events.explanation import Verification
from mistudio_explain.validation.accuracy import FORMULAS, TEXTS_TRUSTED_HALF, Formula
from mistudio_explain.validation.confidence import reasons
from mistudio_explain.validation.lexical import Floats
from mistudio_explain.validation.verdict import Ruling

Pairs = Mapping[tuple[int, int], Scored]
_RIDGE = 0.01


@dataclass(frozen=True, slots=True)
class Scores:
    """A job with the scores of its pairs."""

    job: Job
    pairs: Pairs


def cross_validated(scores: Sequence[Scores], minilm: bool) -> dict[str, tuple[Formula, ...]]:
    """For each source the formulas that the other sources give, by name of the source."""
    return {one.job.source: formulas([other for other in scores if other is not one], minilm) for one in scores}


def formulas(scores: Sequence[Scores], minilm: bool) -> tuple[Formula, ...]:
    """A formula for each set of signals that there can be; those of MiniLM only where `minilm` says that the scores hold it."""
    return tuple(fitted(scores, list(one.weights)) for one in FORMULAS if minilm or "minilm_z" not in one.weights)


def fitted(scores: Sequence[Scores], names: Sequence[str]) -> Formula:
    """Logistic regression on matched and randomly shuffled pairs at even odds, on all, the seen, and the held-out texts.

    A source counts by the square root of its number of features: by the number, one source would decide; equally, 18
    features would count as much as 237. Sources without one of the signals do not count; raises BadInput when none has all.
    """
    x, y, weight = [], [], []
    for one in scores:
        for part in ("all", "seen", "held_out"):
            true = _rows((one.pairs[number, number] for number in range(len(one.job.subjects))), part, names)
            false = _rows((one.pairs[number, other] for number, row in enumerate(one.job.shuffled.tolist()) for other in row), part, names)
            if len(true) and len(false):
                share = np.sqrt(len(one.job.subjects))
                x += [true, false]
                y += [np.ones(len(true)), np.zeros(len(false))]
                weight += [np.full(len(true), share / len(true)), np.full(len(false), share / len(false))]
    if not weight:
        there = ", ".join(one.job.source for one in scores) or "none"
        raise BadInput(
            f"no feature of the sources to fit on ({there}) has all of {', '.join(names)}; a source is measured by others: give at least two with each"
        )
    scale = np.concatenate(weight)
    beta = logistic(np.concatenate(x), np.concatenate(y), 400 * scale / scale.sum())
    return Formula(float(beta[0]), {name: float(value) for name, value in zip(names, beta[1:], strict=True)})


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Confirmed and contradicted verdicts: what each one's reliability follows from, and whether it is right."""

    why: Floats
    right: Floats


def verdicts(one: Scores, ruling: Callable[[int, int], Ruling]) -> Verdicts:
    """The verdicts on every explanation on its own feature and on one other; `ruling` gives them, from the numbers of both."""
    why, right = [], []
    for number, row in enumerate(one.job.shuffled.tolist()):
        for feature in (number, row[0]):
            found = ruling(number, feature)
            if found.verification in (Verification.CONFIRMED, Verification.CONTRADICTED):
                why.append(reasons(found.accuracy, found.verification))
                right.append(float((found.verification is Verification.CONFIRMED) == (feature == number)))
    return Verdicts(np.array(why, dtype=np.float64).reshape(len(right), 2), np.array(right))


def fitted_confidence(tables: Sequence[Verdicts]) -> Floats:
    """Intercept and weights of confidence, from the verdicts of several sources."""
    why, right = np.concatenate([table.why for table in tables]), np.concatenate([table.right for table in tables])
    return logistic(np.column_stack([np.ones(len(why)), why]), right, np.ones(len(right)))


def confidences(table: Verdicts, beta: Floats) -> Floats:
    """What these weights make of verdicts."""
    values: Floats = 1 / (1 + np.exp(-(beta[0] + table.why @ beta[1:])))
    return values


def logistic(design: Floats, y: Floats, weight: Floats) -> Floats:
    """Weighted logistic regression with a small ridge, by Newton's method; `design` holds its own column for the intercept."""
    beta: Floats = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (weight * (y - p)) - _RIDGE * beta
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + _RIDGE * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            break
    return beta


def _rows(scored: Iterable[Scored], part: str, names: Sequence[str]) -> Floats:
    rows = []
    for one in scored:
        signals = one.measured.get(part)
        if signals is None or not set(names) <= signals.values.keys():
            continue
        values = signals.values
        trust = signals.n / (signals.n + TEXTS_TRUSTED_HALF)
        rows.append([trust, *(trust * values[name] for name in names)])
    return np.array(rows, dtype=np.float64).reshape(len(rows), 1 + len(names))

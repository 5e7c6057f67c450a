"""Whether scores tell a feature's explanation from others': ROC-AUC of matched against shuffled pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mistudio_explain.evaluation.fit import Scores
from mistudio_explain.evaluation.jobs import RANDOM
from mistudio_explain.validation.lexical import Floats

RESAMPLES = 400
MACRO_FROM = 41  # explained features that a source needs to count in the macro average

Score = Callable[[Scores, int, int], float | None]
"""A score of explanation i on feature j of a job; None when it cannot be computed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95% interval by bootstrap over the explanations."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Auc:
    """Against random and against hard negatives."""

    random: Interval
    hard: Interval


@dataclass(frozen=True, slots=True)
class Table:
    """One score's figures: by source, and the macro average over the larger sources."""

    by_source: Mapping[str, Auc]
    macro: Auc


def discrimination(scores: Sequence[Scores], score: Score, seed: int = 0) -> Table | None:
    """Matched pairs against RANDOM random and as many hard ones; None when the score cannot be computed.

    Resampling takes an explanation with its matched and its shuffled pairs, for these depend on one another.
    """
    values = {one.job.source: _values(one, score) for one in scores}
    known = {source: (true, random, hard) for source, triple in values.items() if triple is not None for true, random, hard in [triple]}
    if not known:
        return None
    drawn = np.random.default_rng(seed)
    samples = {source: _resampled(*triple, drawn) for source, triple in known.items()}
    whole = {source: (auc(true, random.ravel()), auc(true, hard.ravel())) for source, (true, random, hard) in known.items()}
    large = [source for source, (true, _, _) in known.items() if len(true) >= MACRO_FROM]
    by_source = {source: _auc(whole[source], samples[source]) for source in known}
    macro = _auc(
        (float(np.mean([whole[source][0] for source in large])), float(np.mean([whole[source][1] for source in large]))),
        np.mean([samples[source] for source in large], axis=0),
    )
    return Table(by_source, macro)


def auc(true: Floats, false: Floats) -> float:
    """Chance that a matched pair scores above a shuffled one, ties counting half."""
    _, place, count = np.unique(np.concatenate([true, false]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((ranks[: len(true)].sum() - len(true) * (len(true) + 1) / 2) / (len(true) * len(false)))


def rank_correlation(one: Sequence[float], other: Sequence[float], seed: int = 0) -> Interval:
    """Spearman's rho of two lists, with its bootstrap interval."""
    x, y = np.asarray(one), np.asarray(other)
    drawn = np.random.default_rng(seed)
    rhos = [_rho(x[rows], y[rows]) for rows in drawn.integers(0, len(x), (RESAMPLES, len(x)))]
    return Interval(_rho(x, y), float(np.quantile(rhos, 0.025)), float(np.quantile(rhos, 0.975)))


def _rho(x: Floats, y: Floats) -> float:
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Floats) -> Floats:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def _values(one: Scores, score: Score) -> tuple[Floats, Floats, Floats] | None:
    true = [score(one, number, number) for number in range(len(one.job.subjects))]
    random = [[score(one, number, other) for other in row[:RANDOM]] for number, row in enumerate(one.job.shuffled.tolist())]
    hard = [[score(one, number, other) for other in row] for number, row in enumerate(one.job.hard.tolist())]
    if any(value is None for row in (true, *random, *hard) for value in row):
        return None
    return np.array(true, dtype=np.float64), np.array(random, dtype=np.float64), np.array(hard, dtype=np.float64)


def _resampled(true: Floats, random: Floats, hard: Floats, drawn: np.random.Generator) -> Floats:
    rows = drawn.integers(0, len(true), (RESAMPLES, len(true)))
    return np.array([(auc(true[row], random[row].ravel()), auc(true[row], hard[row].ravel())) for row in rows])


def _auc(whole: tuple[float, float], samples: Floats) -> Auc:
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    return Auc(Interval(whole[0], float(low[0]), float(high[0])), Interval(whole[1], float(low[1]), float(high[1])))

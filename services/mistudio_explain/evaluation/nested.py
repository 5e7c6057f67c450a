"""What choosing costs: the form of accuracy's formula and the verdict's thresholds, chosen anew for each source by the five others.

    python -m mistudio_explain.evaluation.nested examples/features

The bench's coefficients have not seen the source that they are measured on, but signals, clipping, trust in few texts and
thresholds were settled with all sources in view. Here these are chosen inside the loop as well: a choice is judged by how
each of the remaining sources fares with coefficients from the others of them, and only then the source that was left out is
measured. Takes about two minutes of a core.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from mistudio_explain.evaluation.data import read_sets
from mistudio_explain.evaluation.discrimination import MACRO_FROM, auc
from mistudio_explain.evaluation.fit import Scores, cross_validated, logistic
from mistudio_explain.evaluation.jobs import RANDOM, Scored, job_of, score_pairs, unseen
from mistudio_explain.events.explanation import Accuracy, Verification
from mistudio_explain.settings import Settings
from mistudio_explain.validation.accuracy import LOGITS, TEXTS_TRUSTED_HALF, Z_HIGH, Z_LOW
from mistudio_explain.validation.lexical import Floats
from mistudio_explain.validation.offline import Scorer
from mistudio_explain.validation.support import rests_on_one_text
from mistudio_explain.validation.validator import Validator
from mistudio_explain.validation.verdict import rule, verdict

PARTS = ("all", "seen", "held_out")
ACTIVE = "active_z"
SIGNALS = ("bm25_z", "static_z", ACTIVE, "logits_z")

# Wrong verdicts that thresholds may give, as shares of a source's, the mean over sources by the root of their size: those that
# the thresholds in force give, so that all six sources together choose about these
FALSE_CONFIRMED, TRUE_CONTRADICTED = 0.09, 0.06
CONFIRMED_FROM = np.arange(0.30, 0.80, 0.01)
CONTRADICTED_BELOW = np.arange(0.40, 0.04, -0.01)


@dataclass(frozen=True, slots=True)
class Form:
    """A form that the formula could have."""

    signals: tuple[str, ...]
    """What it weighs; active words where a source has them."""
    low: float
    high: float
    """Where means over the texts are clipped."""
    half: float
    """Texts that are trusted half."""


IN_FORCE = Form(("bm25_z", "static_z", ACTIVE), Z_LOW, Z_HIGH, TEXTS_TRUSTED_HALF)
FORMS = tuple(
    Form(signals, low, high, half)
    for signals, (low, high), half in product(
        (IN_FORCE.signals, ("bm25_z", "static_z"), ("bm25_z", ACTIVE), ("static_z", ACTIVE)),
        ((Z_LOW, Z_HIGH), (-3.0, 4.0), (-2.0, 3.0), (-6.0, 12.0)),
        (TEXTS_TRUSTED_HALF, 0.0, 2.0, 4.0),
    )
)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Number of texts, and the mean of each of SIGNALS over them, a row for each pair; a signal that a pair has not is not a number."""

    n: Floats
    means: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A source's pairs, compared by identity: matched and shuffled ones by part of the texts, random and hard ones on all."""

    name: str
    size: int
    matched: Mapping[str, Pairs]
    shuffled: Mapping[str, Pairs]
    random: Pairs
    hard: Pairs

    @classmethod
    def of(cls, scores: Scores) -> "Source":
        """Take the means out of scored pairs."""
        job = scores.job
        own = [(number, number) for number in range(len(job.subjects))]
        others = [[(number, other) for other in row] for number, row in enumerate(job.shuffled.tolist())]

        def pairs(chosen: Sequence[tuple[int, int]], part: str) -> Pairs:
            measured = [found for pair in chosen if (found := scores.pairs[pair].measured.get(part)) is not None]
            means = [{name: float(values.mean()) for name, values in one.by_text.items()} | one.whole for one in measured]
            return Pairs(
                np.array([float(one.n) for one in measured]),
                np.array([[one.get(name, np.nan) for name in SIGNALS] for one in means]).reshape(len(measured), len(SIGNALS)),
            )

        return cls(
            job.source,
            len(own),
            {part: pairs(own, part) for part in PARTS},
            {part: pairs([pair for row in others for pair in row], part) for part in PARTS},
            pairs([pair for row in others for pair in row[:RANDOM]], "all"),
            pairs([(number, other) for number, row in enumerate(job.hard.tolist()) for other in row], "all"),
        )


Logits = Callable[[Pairs], Floats]


def fitted(sources: Sequence[Source], form: Form) -> Logits:
    """The logits that a form gives pairs, with coefficients from these sources: fitted as in fit.py."""
    plain = tuple(name for name in form.signals if name != ACTIVE)
    fits = {names: _beta(tuple(sources), names, (form.low, form.high, form.half)) for names in (plain, form.signals)}
    betas = [(names, beta) for names, beta in fits.items() if beta is not None]

    def logits(pairs: Pairs) -> Floats:
        found = np.zeros(len(pairs.n))
        for names, beta in betas:  # the richer formula last: it decides where a pair has its signals
            rows = _design(pairs, names, form.low, form.high, form.half)
            found = np.where(np.isnan(rows).any(axis=1), found, np.nan_to_num(rows) @ beta)
        return found + LOGITS * np.nan_to_num(np.clip(pairs.means[:, SIGNALS.index("logits_z")], Z_LOW, Z_HIGH))

    return logits


def chosen_form(sources: Sequence[Source]) -> Form:
    """The form with which these sources fare best, each with coefficients of the others: least log loss at even odds."""

    def loss(form: Form) -> float:
        return float(sum(np.sqrt(one.size) * _loss(fitted([other for other in sources if other is not one], form), one) for one in sources))

    return min(FORMS, key=loss)


@dataclass(frozen=True, slots=True)
class Weighed:
    """A pair's figures, and what the verdict asks beside them."""

    accuracy: Accuracy
    one_text: bool
    refused: bool

    def verdict(self, confirmed_from: float, contradicted_below: float) -> Verification:
        """The verdict by these thresholds."""
        if self.refused:
            return Verification.UNVERIFIABLE
        found = verdict(self.accuracy, confirmed_from, contradicted_below)
        return Verification.PARTIAL if found is Verification.CONFIRMED and self.one_text else found


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A source's matched pairs and random negatives, weighed."""

    true: Sequence[Weighed]
    false: Sequence[Weighed]

    @classmethod
    def of(cls, scores: Scores, validator: Validator) -> "Verdicts":
        """Weigh them by the validator's formulas."""

        def weigh(scored: Scored) -> Weighed:
            assessed = scored.assessed
            one_text = rests_on_one_text(assessed.measured["all"], assessed.shares, validator.formulas)
            return Weighed(rule(assessed, validator).accuracy, one_text, scored.refused)

        shuffled = [(number, other) for number, row in enumerate(scores.job.shuffled.tolist()) for other in row[:RANDOM]]
        return cls([weigh(scores.pairs[n, n]) for n in range(len(scores.job.subjects))], [weigh(scores.pairs[pair]) for pair in shuffled])

    def shares(self, confirmed_from: float, contradicted_below: float) -> tuple[float, float, float]:
        """True ones confirmed, true ones contradicted, false ones confirmed."""
        true = [one.verdict(confirmed_from, contradicted_below) for one in self.true]
        false = [one.verdict(confirmed_from, contradicted_below) for one in self.false]
        return (
            true.count(Verification.CONFIRMED) / len(true),
            true.count(Verification.CONTRADICTED) / len(true),
            false.count(Verification.CONFIRMED) / len(false),
        )


def chosen_thresholds(tables: Sequence[Verdicts]) -> tuple[float, float]:
    """The lowest threshold of `confirmed` and the highest of `contradicted` that keep wrong verdicts at the shares asked for."""
    weight = np.sqrt([len(one.true) for one in tables])

    def mean(place: int, confirmed_from: float, contradicted_below: float) -> float:
        return float(np.average([one.shares(confirmed_from, contradicted_below)[place] for one in tables], weights=weight))

    below = next((level for level in CONTRADICTED_BELOW if mean(1, 1.0, level) <= TRUE_CONTRADICTED), CONTRADICTED_BELOW[-1])
    confirmed = next((level for level in CONFIRMED_FROM if mean(2, level, below) <= FALSE_CONFIRMED), CONFIRMED_FROM[-1])
    return round(float(confirmed), 2), round(float(below), 2)


def forms_table(scores: Sequence[Scores]) -> list[str]:
    """AUC by the form that the others choose, beside that of the form in force."""
    sources = [Source.of(one) for one in scores]
    lines = ["| source | form that the five others choose | AUC with it, random / hard | in force |", "| --- | --- | --- | --- |"]
    large = []
    for one in sources:
        rest = [other for other in sources if other is not one]
        form = chosen_form(rest)
        found = [_aucs(fitted(rest, each), one) for each in (form, IN_FORCE)]
        large += [found] if one.size >= MACRO_FROM else []
        told = f"{', '.join(form.signals)}; {form.low:g} to {form.high:g}; n / (n + {form.half:g})"
        lines.append(f"| {one.name} | {told} | " + " | ".join(f"{random:.3f} / {hard:.3f}" for random, hard in found) + " |")
    macro = np.mean(large, axis=0)
    return [*lines, "| **macro, n > 40** | | " + " | ".join(f"{random:.3f} / {hard:.3f}" for random, hard in macro) + " |"]


def thresholds_table(scores: Sequence[Scores], validator: Validator) -> list[str]:
    """Verdicts by the thresholds that the others choose, beside those in force."""
    lines = [
        "| source | thresholds that the five others choose | true confirmed, true contradicted, false confirmed with them | in force |",
        "| --- | --- | --- | --- |",
    ]
    in_force = validator.confirmed_from, validator.contradicted_below
    everything = []
    for one in scores:
        rest = [other for other in scores if other is not one]
        inner = cross_validated(rest, minilm=False)
        thresholds = chosen_thresholds([Verdicts.of(other, unseen(validator, inner[other.job.source])) for other in rest])
        measured = Verdicts.of(one, unseen(validator, cross_validated(scores, minilm=False)[one.job.source]))
        found = [measured.shares(*each) for each in (thresholds, in_force)]
        everything.append([len(one.job.subjects), *found[0], *found[1]])
        lines.append(f"| {one.job.source} | {thresholds[0]:.2f}, {thresholds[1]:.2f} | " + " | ".join(map(_percents, found)) + " |")
    pooled = np.average(everything, axis=0, weights=[row[0] for row in everything])
    together = chosen_thresholds(
        [Verdicts.of(one, unseen(validator, given)) for one, given in zip(scores, cross_validated(scores, False).values(), strict=True)]
    )
    return [
        *lines,
        f"| **all features** | all six: {together[0]:.2f}, {together[1]:.2f} | {_percents(pooled[1:4].tolist())} | {_percents(pooled[4:].tolist())} |",
    ]


def _design(pairs: Pairs, names: Sequence[str], low: float, high: float, half: float) -> Floats:
    trust = (pairs.n / (pairs.n + half))[:, None]
    clipped = np.clip(pairs.means[:, [SIGNALS.index(name) for name in names]], low, high)
    return np.hstack([trust, trust * clipped])


@cache
def _beta(sources: tuple[Source, ...], names: tuple[str, ...], shape: tuple[float, float, float]) -> Floats | None:
    """Coefficients, None when no source has the signals; remembered, for each set of four sources and each set of signals is met more than once."""
    x, y, weight = [], [], []
    for one in sources:
        for part in PARTS:
            both = [_design(pairs[part], names, *shape) for pairs in (one.matched, one.shuffled)]
            both = [rows[~np.isnan(rows).any(axis=1)] for rows in both]
            if all(len(rows) for rows in both):
                x += both
                y += [np.ones(len(both[0])), np.zeros(len(both[1]))]
                weight += [np.full(len(rows), np.sqrt(one.size) / len(rows)) for rows in both]
    if not weight:
        return None
    scale = np.concatenate(weight)
    return logistic(np.concatenate(x), np.concatenate(y), 400 * scale / scale.sum())


def _loss(logits: Logits, one: Source) -> float:
    true, false = logits(one.matched["all"]), logits(one.shuffled["all"])
    return float(np.logaddexp(0, -true).mean() + np.logaddexp(0, false).mean())


def _aucs(logits: Logits, one: Source) -> tuple[float, float]:
    true = logits(one.matched["all"])
    return auc(true, logits(one.random)), auc(true, logits(one.hard))


def _percents(shares: Sequence[float]) -> str:
    return ", ".join(f"{share:.1%}" for share in shares)


def main() -> None:
    """Print both tables."""
    settings = Settings()
    validator = Validator.load(settings.quality)
    scorer = Scorer.of(validator, settings)
    jobs = [job for one in read_sets(Path(sys.argv[1])) if (job := job_of(one, scorer)) is not None]
    scores = [Scores(job, score_pairs(job, validator)) for job in jobs]
    sys.stdout.write("\n".join([*forms_table(scores), "", *thresholds_table(scores, validator), ""]))


if __name__ == "__main__":
    main()

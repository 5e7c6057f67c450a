"""The bench's results: everything is measured here once, and told as a table, as Markdown, as JSON and as a picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import orjson

from mistudio_explain.evaluation import attacks, latency, safety_set
from mistudio_explain.evaluation.calibration import Calibration, calibration, picture
from mistudio_explain.evaluation.data import JUDGMENTS
from mistudio_explain.evaluation.discrimination import Auc, Interval, Score, Table, discrimination, rank_correlation
from mistudio_explain.evaluation.fit import Scores, confidences, cross_validated, fitted_confidence, formulas, verdicts
from mistudio_explain.evaluation.jobs import RANDOM, keyword_overlap, minilm_cosine, unseen
from mistudio_explain.events.explanation import Verification
from mistudio_explain.validation.accuracy import Formula, Signals, estimate
from mistudio_explain.validation.lexical import Floats
from mistudio_explain.validation.validator import Validator
from mistudio_explain.validation.verdict import Ruling

JUDGED_SOURCE = "eleuther_gpt2_128k"
ENCODERS = {False: "static", True: "MiniLM"}
TOKENS = "active_z"


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of a source's verdicts."""

    confirmed: safety_set.Rate
    contradicted: safety_set.Rate
    false_confirmed: safety_set.Rate
    """Of explanations of RANDOM other features each."""
    false_contradicted: safety_set.Rate
    refused: int
    """True explanations that the gate turned away."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What one set of encoders is worth."""

    encoder: str
    auc: Mapping[str, Table]
    """By name of the score."""
    rho: Mapping[str, Mapping[str, Interval]]
    """Spearman's, of each figure with what a language model made of the same explanations: its `score`, and the tests that this is the mean of.

    Empty without JUDGED_SOURCE.
    """
    accuracy: Mapping[str, Calibration]
    """Matched and random at even odds: `pooled`, and by source."""
    accuracy_hard: Calibration
    """Matched and hard at even odds."""
    confidence: Calibration
    """Of confirmed and contradicted verdicts, by weights fitted without the source."""
    rates: Mapping[str, Rates]
    fitted: tuple[Formula, ...]
    """From all sources: what the constants in force should be."""
    fitted_confidence: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that one run measures."""

    benches: tuple[Bench, ...]
    attacks: tuple[attacks.AttackResult, ...]
    """With static embeddings; each source by formulas of the others."""
    safety: Mapping[str, safety_set.SafetyResult]
    """By set of bundles; empty when there is none."""
    latency: tuple[latency.Latency, ...]


def bench(scores: Sequence[Scores], validator: Validator) -> Bench:
    """Measure scored jobs as `validator`, which scored them, would; each source with coefficients that the other sources gave."""
    minilm = validator.minilm is not None
    by_source = cross_validated(scores, minilm)
    text_only = {source: tuple(_text_only(given)) for source, given in by_source.items()}
    validators = {source: unseen(validator, given) for source, given in by_source.items()}
    cached: dict[tuple[str, int, int], Ruling] = {}

    def ruling(one: Scores, claim: int, feature: int) -> Ruling:
        key = (one.job.source, claim, feature)
        if key not in cached:
            cached[key] = one.pairs[claim, feature].ruling(validators[one.job.source])
        return cached[key]

    def p(one: Scores, claim: int, feature: int) -> float:
        return ruling(one, claim, feature).accuracy.p

    def coverage(one: Scores, claim: int, feature: int) -> float | None:
        return ruling(one, claim, feature).accuracy.coverage

    tables = {
        "accuracy": discrimination(scores, p),
        "accuracy, held-out texts": discrimination(scores, lambda *pair: _held_out(ruling(*pair))),
        "coverage": discrimination(scores, coverage),
        "accuracy, texts alone": discrimination(
            scores, lambda one, claim, feature: estimate(_plain(one.pairs[claim, feature].measured["all"]), text_only[one.job.source]).p
        ),
        "keyword overlap": discrimination(scores, lambda one, claim, feature: keyword_overlap(one.job.subjects[claim].claim, one.job.subjects[feature])),
        "MiniLM cosine": discrimination(scores, lambda one, claim, feature: minilm_cosine(one.job.subjects[claim].claim, one.job.subjects[feature])),
    }
    values = {one.job.source: _matched_and_shuffled(one, p) for one in scores}
    said = {source: np.concatenate([true, random[:, 0]]) for source, (true, random, _) in values.items()}
    right = {source: _right(len(true)) for source, (true, _, _) in values.items()}
    hard = [np.concatenate([true, near[:, 0]]) for true, _, near in values.values()]
    given_verdicts = [verdicts(one, partial(ruling, one)) for one in scores]
    sure = [confidences(table, fitted_confidence([*given_verdicts[:at], *given_verdicts[at + 1 :]])) for at, table in enumerate(given_verdicts)]
    return Bench(
        encoder=ENCODERS[minilm],
        auc={name: table for name, table in tables.items() if table is not None},
        rho=_rho(scores, {"accuracy": p, "coverage": coverage}),
        accuracy={
            "pooled": calibration(np.concatenate(list(said.values())), np.concatenate(list(right.values()))),
            **{source: calibration(said[source], right[source]) for source in said},
        },
        accuracy_hard=calibration(np.concatenate(hard), np.concatenate(list(right.values()))),
        confidence=calibration(np.concatenate(sure), np.concatenate([table.right for table in given_verdicts])),
        rates={one.job.source: _rates(one, partial(ruling, one)) for one in scores},
        fitted=formulas(scores, minilm),
        fitted_confidence=tuple(map(float, fitted_confidence(given_verdicts))),
    )


def markdown(found: Evaluation) -> str:
    """The tables, as Markdown that reads well in a terminal too."""
    lines = [line for one in found.benches for line in _tables(one)]
    lines += ["## Attacks", "", "Static embeddings, coefficients fitted without the source; 95% intervals by bootstrap.", ""]
    lines += ["```", attacks.table(found.attacks), "```", ""]
    for name, safety in found.safety.items():
        lines += [f"## Safety, {name}", "", "Against the half of the real features that nothing was fitted on (examples/safety/README.md).", ""]
        lines += ["```", safety_set.table(safety), "```", ""]
    for one in found.latency:
        lines += ["## Latency", "", "```", latency.table(one), "```", ""]
    return "\n".join(lines)


def json_of(found: Evaluation) -> bytes:
    """Everything, for programs."""
    return orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)


def picture_of(one: Bench) -> str:
    """Reliability of accuracy and confidence as SVG."""
    return picture(
        {
            f"accuracy, random ({one.encoder})": one.accuracy["pooled"],
            f"accuracy, hard ({one.encoder})": one.accuracy_hard,
            f"confidence ({one.encoder})": one.confidence,
        }
    )


def _tables(one: Bench) -> list[str]:
    sources = list(one.rates)
    names = list(one.auc)
    lines = [
        f"## {one.encoder} embeddings",
        "",
        "ROC-AUC of matched against shuffled explanations, random / hard; 95% intervals by bootstrap; coefficients fitted without the source.",
        "",
        "| source | n | " + " | ".join(names) + " |",
        "| --- | --- |" + " --- |" * len(names),
    ]
    lines += [
        f"| {source} | {one.rates[source].confirmed.n} | " + " | ".join(_shown(one.auc[name].by_source.get(source)) for name in names) + " |"
        for source in sources
    ]
    lines.append("| **macro, n > 40** | | " + " | ".join(_shown(one.auc[name].macro) for name in names) + " |")
    if one.rho:
        lines += [
            "",
            f"Spearman's rho with a language model as judge on {JUDGED_SOURCE}; `score`, the source's own figure, is the mean of the tests beside it.",
            "",
        ]
        tests = list(next(iter(one.rho.values())))
        lines += ["| rho with | " + " | ".join(tests) + " |", "| --- |" + " --- |" * len(tests)]
        lines += [f"| {name} | " + " | ".join(_interval(rhos[test]) for test in tests) + " |" for name, rhos in one.rho.items()]
    lines += [
        "",
        "Verdicts of the whole way, the gate and its like included: share of true explanations, and of explanations of other features; how many true",
        "ones the gate turned away; expected calibration error at even odds with the 95% quantile of a perfectly calibrated score of the same size.",
        "",
        "| source | true confirmed | true contradicted | turned away | false confirmed | false contradicted | ECE | calibrated: at most |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for source in sources:
        rates, error = one.rates[source], one.accuracy[source]
        true, false = (rates.confirmed, rates.contradicted), (rates.false_confirmed, rates.false_contradicted)
        cells = [*map(_percent, true), str(rates.refused), *map(_percent, false), f"{error.ece:.3f}", f"{error.floor:.3f}"]
        lines.append(f"| {source} | " + " | ".join(cells) + " |")
    for name, error in (("accuracy, pooled", one.accuracy["pooled"]), ("accuracy, hard negatives", one.accuracy_hard), ("confidence", one.confidence)):
        lines.append(f"| **{name}** ({error.n}) | | | | | | {error.ece:.3f} | {error.floor:.3f} |")
    lines += ["", "Fitted on all sources (the constants in force are these, rounded):", ""]
    lines += [f"- {each.intercept:.2f} " + " ".join(f"{weight:+.2f} {name}" for name, weight in each.weights.items()) for each in one.fitted]
    lines += ["- confidence: " + ", ".join(f"{weight:.2f}" for weight in one.fitted_confidence), ""]
    return lines


def _shown(auc: Auc | None) -> str:
    if auc is None:
        return ""
    return " / ".join(map(_interval, (auc.random, auc.hard)))


def _interval(found: Interval) -> str:
    return f"{found.value:.3f} [{found.low:.2f}, {found.high:.2f}]"


def _percent(rate: safety_set.Rate) -> str:
    return f"{rate.value:.0%} [{rate.low:.0%}, {rate.high:.0%}]"


def _held_out(ruling: Ruling) -> float:
    return ruling.accuracy.p if ruling.accuracy.held_out is None else ruling.accuracy.held_out


def _plain(measured: Signals) -> Signals:
    return Signals(measured.by_text, {})


def _text_only(given: Sequence[Formula]) -> list[Formula]:
    return [formula for formula in given if TOKENS not in formula.weights]


def _right(n: int) -> Floats:
    return np.concatenate([np.ones(n), np.zeros(n)])


def _matched_and_shuffled(one: Scores, value: Callable[[Scores, int, int], float]) -> tuple[Floats, Floats, Floats]:
    count = range(len(one.job.subjects))
    true = np.array([value(one, number, number) for number in count])
    random = np.array([[value(one, number, other) for other in row[:RANDOM]] for number, row in enumerate(one.job.shuffled.tolist())])
    hard = np.array([[value(one, number, other) for other in row] for number, row in enumerate(one.job.hard.tolist())])
    return true, random, hard


def _rho(scores: Sequence[Scores], figures: Mapping[str, Score]) -> dict[str, dict[str, Interval]]:
    one = next((one for one in scores if one.job.source == JUDGED_SOURCE), None)
    if one is None:
        return {}
    tests = ("score", *JUDGMENTS)
    judged = {number: subject.known.judged for number, subject in enumerate(one.job.subjects) if subject.known.judged.keys() >= set(tests)}
    said = {name: {number: value for number in judged if (value := figure(one, number, number)) is not None} for name, figure in figures.items()}
    said |= {test: {number: by[test] for number, by in judged.items()} for test in JUDGMENTS}
    return {
        name: {test: rank_correlation(list(values.values()), [judged[number][test] for number in values]) for test in tests} for name, values in said.items()
    }


def _rates(one: Scores, ruling: Callable[[int, int], Ruling]) -> Rates:
    random = np.random.default_rng(0)
    true = [ruling(number, number).verification for number in range(len(one.job.subjects))]
    false = [ruling(number, other).verification for number, row in enumerate(one.job.shuffled.tolist()) for other in row[:RANDOM]]

    def share(found: Sequence[Verification], wanted: Verification) -> safety_set.Rate:
        return safety_set.share(np.array([float(each is wanted) for each in found]), random)

    return Rates(
        confirmed=share(true, Verification.CONFIRMED),
        contradicted=share(true, Verification.CONTRADICTED),
        false_confirmed=share(false, Verification.CONFIRMED),
        false_contradicted=share(false, Verification.CONTRADICTED),
        refused=true.count(Verification.UNVERIFIABLE),
    )

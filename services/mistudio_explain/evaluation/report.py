"""The bench's results: everything is measured here once, and told as a table, as Markdown, as JSON and as a picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import orjson

from mistudio_explain.evaluation.calibration import Calibration, calibration, picture
from mistudio_explain.evaluation.discrimination import Auc, Interval, Table, discrimination, rank_correlation
from mistudio_explain.evaluation.fit import Scores, confidences, cross_validated, fitted_confidence, formulas, verdicts
from mistudio_explain.evaluation.jobs import RANDOM, Scored, keyword_overlap, minilm_cosine
from mistudio_explain.events.explanation import Verification
from mistudio_explain.validation.accuracy import Formula, Signals, estimate
from mistudio_explain.validation.lexical import Floats
from mistudio_explain.validation.verdict import verdict

JUDGED_SOURCE = "eleuther_gpt2_128k"
ENCODERS = {False: "static", True: "MiniLM"}
TOKENS = "active_z"


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of a source's verdicts."""

    n: int
    confirmed: float
    contradicted: float
    false_confirmed: float
    false_contradicted: float
    """Of explanations of RANDOM other features each."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What one set of encoders is worth."""

    encoder: str
    auc: Mapping[str, Table]
    """By name of the score."""
    rho: Interval | None
    """Spearman's, of accuracy with a language model's score of the same explanations."""
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


def bench(scores: Sequence[Scores], minilm: bool, thresholds: tuple[float, float]) -> Bench:
    """Measure scored jobs; each source with coefficients that the other sources gave. `minilm`: whether they hold its signals."""
    by_source = cross_validated(scores, minilm)
    text_only = {source: tuple(_text_only(given)) for source, given in by_source.items()}
    cached: dict[tuple[int, int, int], tuple[float, float]] = {}

    def logits(one: Scores, claim: int, feature: int) -> tuple[float, float]:
        key = (id(one), claim, feature)
        if key not in cached:
            measured = one.pairs[claim, feature].measured
            given = by_source[one.job.source]
            cached[key] = (estimate(measured["all"], given).p, estimate(measured.get("held_out", measured["all"]), given).p)
        return cached[key]

    tables = {
        "accuracy": discrimination(scores, lambda one, claim, feature: logits(one, claim, feature)[0]),
        "accuracy, held-out texts": discrimination(scores, lambda one, claim, feature: logits(one, claim, feature)[1]),
        "accuracy, texts alone": discrimination(
            scores, lambda one, claim, feature: estimate(_plain(one.pairs[claim, feature].measured["all"]), text_only[one.job.source]).p
        ),
        "keyword overlap": discrimination(scores, lambda one, claim, feature: keyword_overlap(one.job.subjects[claim].claim, one.job.subjects[feature])),
        "MiniLM cosine": discrimination(scores, lambda one, claim, feature: minilm_cosine(one.job.subjects[claim].claim, one.job.subjects[feature])),
    }
    p = {one.job.source: _matched_and_shuffled(one, lambda one, claim, feature: logits(one, claim, feature)[0]) for one in scores}
    said = {source: np.concatenate([true, random[:, 0]]) for source, (true, random, _) in p.items()}
    right = {source: _right(len(true)) for source, (true, _, _) in p.items()}
    hard = [np.concatenate([true, near[:, 0]]) for true, _, near in p.values()]
    given_verdicts = [verdicts(one, by_source[one.job.source], thresholds) for one in scores]
    sure = [confidences(table, fitted_confidence([*given_verdicts[:at], *given_verdicts[at + 1 :]])) for at, table in enumerate(given_verdicts)]
    return Bench(
        encoder=ENCODERS[minilm],
        auc={name: table for name, table in tables.items() if table is not None},
        rho=_rho(scores, p),
        accuracy={
            "pooled": calibration(np.concatenate(list(said.values())), np.concatenate(list(right.values()))),
            **{source: calibration(said[source], right[source]) for source in said},
        },
        accuracy_hard=calibration(np.concatenate(hard), np.concatenate(list(right.values()))),
        confidence=calibration(np.concatenate(sure), np.concatenate([table.right for table in given_verdicts])),
        rates={one.job.source: _rates(one, by_source[one.job.source], thresholds) for one in scores},
        fitted=formulas(scores, minilm),
        fitted_confidence=tuple(map(float, fitted_confidence(given_verdicts))),
    )


def markdown(benches: Sequence[Bench]) -> str:
    """The tables, as Markdown that reads well in a terminal too."""
    return "\n".join(line for one in benches for line in _tables(one))


def json_of(benches: Sequence[Bench]) -> bytes:
    """Everything, for programs."""
    return orjson.dumps([asdict(one) for one in benches], option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)


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
    lines += [f"| {source} | {one.rates[source].n} | " + " | ".join(_shown(one.auc[name].by_source.get(source)) for name in names) + " |" for source in sources]
    lines.append("| **macro, n > 40** | | " + " | ".join(_shown(one.auc[name].macro) for name in names) + " |")
    if one.rho:
        lines += ["", f"Spearman's rho with a language model's detection score on {JUDGED_SOURCE}: {one.rho.value:.2f} [{one.rho.low:.2f}, {one.rho.high:.2f}]"]
    lines += [
        "",
        "Verdicts: share of true explanations, and of explanations of other features; expected calibration error at even odds with the",
        "95% quantile of a perfectly calibrated score of the same size.",
        "",
        "| source | true confirmed | true contradicted | false confirmed | false contradicted | ECE | calibrated: at most |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for source in sources:
        rates, error = one.rates[source], one.accuracy[source]
        shares = (rates.confirmed, rates.contradicted, rates.false_confirmed, rates.false_contradicted)
        lines.append(f"| {source} | " + " | ".join(f"{share:.0%}" for share in shares) + f" | {error.ece:.3f} | {error.floor:.3f} |")
    for name, error in (("accuracy, pooled", one.accuracy["pooled"]), ("accuracy, hard negatives", one.accuracy_hard), ("confidence", one.confidence)):
        lines.append(f"| **{name}** ({error.n}) | | | | | {error.ece:.3f} | {error.floor:.3f} |")
    lines += ["", "Fitted on all sources (the constants in force are these, rounded):", ""]
    lines += [f"- {each.intercept:.2f} " + " ".join(f"{weight:+.2f} {name}" for name, weight in each.weights.items()) for each in one.fitted]
    lines += ["- confidence: " + ", ".join(f"{weight:.2f}" for weight in one.fitted_confidence), ""]
    return lines


def _shown(auc: Auc | None) -> str:
    if auc is None:
        return ""
    return " / ".join(f"{each.value:.3f} [{each.low:.2f}, {each.high:.2f}]" for each in (auc.random, auc.hard))


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


def _rho(scores: Sequence[Scores], p: Mapping[str, tuple[Floats, Floats, Floats]]) -> Interval | None:
    for one in scores:
        if one.job.source == JUDGED_SOURCE:
            judged = [(float(said), subject.known.judged) for said, subject in zip(p[JUDGED_SOURCE][0], one.job.subjects, strict=True)]
            known = [(said, by) for said, by in judged if by is not None]
            return rank_correlation([said for said, _ in known], [by for _, by in known])
    return None


def _rates(one: Scores, given: Sequence[Formula], thresholds: tuple[float, float]) -> Rates:
    def of(scored: Scored) -> Verification:
        return verdict(scored.accuracy(given), *thresholds)

    true = [of(one.pairs[number, number]) for number in range(len(one.job.subjects))]
    false = [of(one.pairs[number, other]) for number, row in enumerate(one.job.shuffled.tolist()) for other in row[:RANDOM]]

    def share(found: Sequence[Verification], wanted: Verification) -> float:
        return found.count(wanted) / len(found)

    return Rates(
        n=len(true),
        confirmed=share(true, Verification.CONFIRMED),
        contradicted=share(true, Verification.CONTRADICTED),
        false_confirmed=share(false, Verification.CONFIRMED),
        false_contradicted=share(false, Verification.CONTRADICTED),
    )

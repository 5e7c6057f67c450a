"""What a report says besides its features, as titles, sentences, facts and tables: the text and the PDF report show it as it stands."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mistudio_explain.events.job import CostAnalysis, JobReport, JobStatus
from mistudio_explain.reporting.actions import RULES
from mistudio_explain.reporting.departure import departure
from mistudio_explain.reporting.named import Named
from mistudio_explain.reporting.origin import ModelFigures
from mistudio_explain.reporting.provenance import Fact, compliance, methods
from mistudio_explain.reporting.redundancy import Redundancy
from mistudio_explain.reporting.spread import Distribution
from mistudio_explain.reporting.survey import CategoryFigures, Ranked, Survey
from mistudio_explain.reporting.targets import Standing, tally, targets
from mistudio_explain.reporting.wording import counted, day_and_time, duration, share

_VERDICTS = (
    ("confirmed", "confirmed"), ("partial", "partial"), ("contradicted", "contradicted"), ("unverifiable", "unverifiable"), ("none", "without a verdict"),
)  # fmt: skip
_SAFETY = (("concerning", "concerning"), ("requires_review", "requires review"), ("safe", "safe"), ("none", "not assessed"))
_COSTS = (
    ("local_cost", "electricity"),
    ("openai_cost", "the same tokens at OpenAI"),
    ("anthropic_cost", "the same tokens at Anthropic"),
    ("savings_vs_openai", "saved against OpenAI"),
    ("savings_vs_anthropic", "saved against Anthropic"),
)

_NAME = 60
"""Characters of a flag or another name that is counted."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts. Columns in `numbers` hold numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Section:
    """A section: sentences, then facts by name, then tables."""

    title: str
    sentences: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()


def heading(report: JobReport) -> tuple[str, str]:
    """The report's title, and a line that says which job it is of."""
    title = f"What features of {report.target_model or 'a model that the job does not name'} detect"
    of = f" of {report.find_job_id}" if report.find_job_id is not None else ""
    return title, f"job {report.explain_job_id}{of} · {report.status} · {day_and_time(report.at_ms)}"


def warnings(report: JobReport, figures: Survey) -> tuple[str, ...]:
    """What must be read before anything else."""
    return tuple(_warnings(report, figures))


def before_features(report: JobReport, figures: Survey) -> tuple[Section, ...]:
    """What stands before the features."""
    return (_summary(report, figures),)


def after_features(report: JobReport, figures: Survey) -> tuple[Section, ...]:
    """What stands after them, but for the lists of single features."""
    return (
        _insights(figures),
        _targets(report, figures),
        _technical(report, figures),
        _detours(figures),
        Section("Methods and Versions", facts=_facts(methods(figures))),
        Section("Compliance Appendix", facts=_facts(compliance(report, figures))),
    )


def _warnings(report: JobReport, figures: Survey) -> Iterator[str]:
    if figures.origin.demonstration:
        yield "Explanations by a 135M demonstration model: to show the machinery, not to be trusted."
    if report.status is JobStatus.RUNNING:
        yield f"The job is still running. This is what there was at {day_and_time(report.at_ms)}."
    elif report.status is not JobStatus.COMPLETED:
        of = "" if report.expected is None else f" {figures.total:,} of {report.expected:,} features have an outcome."
        missing = f" Without one: {', '.join(report.missing)}." if report.missing else ""
        yield f"The job is {report.status}.{of}{missing}"
    yield from report.notes


def _summary(report: JobReport, figures: Survey) -> Section:
    concerning, to_review = figures.safety.get("concerning", 0), figures.safety.get("requires_review", 0)
    if figures.explained:
        confirmed = figures.verdicts.get("confirmed", 0)
        lead = (
            f"{figures.explained:,} of {figures.total:,} features explained; {confirmed:,} explanations are confirmed by the texts "
            f"({share(confirmed, figures.explained)} of those explained). "
            f"Safety: {concerning:,} concerning, {to_review:,} to be reviewed, {figures.safety.get('none', 0):,} not assessed."
        )
    elif figures.total:
        lead = f"Nothing was explained: {figures.skipped:,} features skipped, {figures.failed:,} failed."
    else:
        lead = "The job has no outcome yet."
    facts = [
        ("Verdicts", _shares(_VERDICTS, figures.verdicts, figures.explained)),
        ("Not explained", f"{figures.skipped:,} skipped, {figures.failed:,} failed"),
        ("Safety", _shares(_SAFETY, figures.safety, figures.explained)),
        ("Quality", _spread(figures.quality)),
        ("Accuracy", _spread(figures.accuracy)),
        ("Coherence of all features", _spread(figures.coherence)),
        ("Of high quality (0.80 and more)", f"{figures.insights.high_quality_explanations:,}"),
        ("Of high business relevance", f"{figures.insights.business_critical_features:,}"),
        ("A person should look", f"{figures.to_review:,}"),
        *([("Reviewed by people", f"{report.reviewed:,}, {report.agreed:,} agree with the verdict")] if report.reviewed else []),
        *([("Tested by a judge", f"{report.judged:,}, {report.judge_calls:,} calls")] if report.judged else []),
        ("Processing time", duration(report.wall_s) or "not known"),
        ("What left the machine", departure(report, figures)),
    ]
    return Section("Executive Summary", (lead,), tuple(facts))


def _insights(figures: Survey) -> Section:
    categories = Table(
        "Categories, largest first",
        ("category", "explained", "confirmed", "skipped", "failed", "mean quality", "mean accuracy", "high relevance"),
        tuple(map(_category_row, figures.categories)),
        frozenset(range(1, 8)),
    )
    actions = Table(
        "Suggested actions",
        ("action", "features", "when, first match first"),
        tuple((a, f"{figures.actions.get(a, 0):,}", why) for a, why in RULES),
        frozenset({1}),
    )
    rankings = [
        Table(title, ("feature", "explanation", "verdict", "quality", "suggested"), tuple(map(_ranking_row, ranking)), frozenset({3}))
        for title, ranking in (("Strongest explanations", figures.strongest), ("Weakest explanations", figures.weakest))
        if ranking
    ]
    return Section("Business Insights", tuple(_redundancy(figures.redundancy)) if figures.total else (), tables=(categories, actions, *rankings))


def _redundancy(redundancy: Redundancy) -> Iterator[str]:
    if redundancy.families:
        yield (
            f"{redundancy.in_families:,} features are explained by the same words as another, in {redundancy.families:,} families; the largest: "
            + "; ".join(f"{family.features[0].name} ({family.n:,}, such as {_named(family.features)})" for family in redundancy.largest)
        )
    density = redundancy.density
    if density.known:
        yield (
            f"Of {counted(density.known, 'feature')} whose source says how often they fire, {density.dead:,} fire on no token{_such_as(density.dead_features)} "
            f"and {density.dense:,} on more than 10% of tokens{_such_as(density.dense_features)}."
        )
    else:
        yield "The source does not say how often its features fire."


def _targets(report: JobReport, figures: Survey) -> Section:
    found = targets(report, figures)
    standing = tally(found)
    tables = tuple(
        Table(
            group,
            ("target", "standing", "here", "where that comes from"),
            tuple((each.goal, each.standing, each.value or "–", each.source) for each in found if each.group == group),
        )
        for group in dict.fromkeys(each.group for each in found)
    )
    said = ", ".join(f"{standing[each]:,} {each}" for each in Standing)
    return Section(
        "Targets of the Specification",
        (f"Sections 9.2 and 11 of the specification, held against this job: {said}. What one job cannot show is not guessed.",),
        tables=tables,
    )


def _technical(report: JobReport, figures: Survey) -> Section:
    models = Table(
        "Models",
        ("model", "endpoint", "explained", "from cache", "tokens in", "tokens out", "median latency"),
        tuple(map(_model_row, figures.origin.models)),
        frozenset(range(2, 7)),
    )
    facts = [
        (
            "Wall time",
            (duration(report.wall_s) or "not known") + (f"; estimated {duration(report.estimated_seconds)}" if report.estimated_seconds is not None else ""),
        ),
        ("Cost", _usd(report.cost_usd) + (f"; estimated {_usd(report.estimated_cost_usd)}" if report.estimated_cost_usd is not None else "")),
        *([("Own machine against clouds", _costs(report.cost_analysis))] if report.cost_analysis is not None else []),
        ("Tokens", f"{report.tokens_in:,} in, {report.tokens_out:,} out"),
        *([("Flags", _counted(figures.flags.items()))] if figures.flags else []),
        *([("Not computed", _counted(figures.unavailable.items()))] if figures.unavailable else []),
    ]
    return Section("Technical Details", facts=tuple(facts), tables=(models,) if figures.origin.models else ())


def _detours(figures: Survey) -> Section:
    reasons = Table(
        "Reasons (numbers as #)",
        ("reason", "outcome", "features", "such as"),
        tuple((each.reason, each.outcome, f"{each.n:,}", _named(each.features)) for each in figures.detours.reasons),
        frozenset({2}),
    )
    lead = f"{figures.skipped:,} skipped, {figures.failed:,} failed. These enter no mean." if reasons.rows else "No feature was skipped, and none failed."
    retried = f"Explained features that were answered at a second try or later: {figures.detours.retried:,}."
    return Section("Skipped, Failed and Sent Again", (lead, retried), tables=(reasons,) if reasons.rows else ())


def _facts(facts: Iterable[Fact]) -> tuple[tuple[str, str], ...]:
    return tuple((fact.name, _joined(fact.sentences)) for fact in facts)


def _joined(said: Iterable[str]) -> str:
    """Sentences one after another, and what is none between semicolons."""
    return "; ".join(said).replace(".; ", ". ")


def _named(features: Iterable[Named]) -> str:
    return ", ".join(feature.feature_key for feature in features)


def _such_as(features: Sequence[Named]) -> str:
    return f" (such as {_named(features)})" if features else ""


def _category_row(each: CategoryFigures) -> tuple[str, ...]:
    counts = (each.explained, each.confirmed, each.skipped, each.failed)
    return each.category, *(f"{n:,}" for n in counts), _score(each.quality), _score(each.accuracy), f"{each.high_relevance:,}"


def _model_row(each: ModelFigures) -> tuple[str, ...]:
    latency = "–" if each.latency_median_s is None else f"{each.latency_median_s:.2f} s"
    counts = (f"{each.explained:,}", f"{each.cached:,}", _count(each.tokens_in), _count(each.tokens_out))
    return each.model, f"{each.endpoint} ({each.provider})", *counts, latency


def _ranking_row(each: Ranked) -> tuple[str, ...]:
    return each.feature_key, each.name, each.verdict or "–", _score(each.quality), each.action


def _costs(costs: CostAnalysis) -> str:
    known = [f"{what} {_usd(value)}" for name, what in _COSTS if (value := getattr(costs, name)) is not None]
    prices = [
        f"{price.model}: {_usd(price.input)} and {_usd(price.output)} per million tokens in and out on {price.as_of}"
        for price in (costs.openai, costs.anthropic)
        if price is not None
    ]
    reasons = sorted({f"{name}: {why}" for name, why in costs.unavailable.items()})
    return "; ".join([*known, *prices, *(f"not known: {reason}" for reason in reasons)]) or "not known"


def _shares(names: Iterable[tuple[str, str]], counts: Mapping[str, int], whole: int) -> str:
    return ", ".join(f"{counts[key]:,} {name} ({share(counts[key], whole)})" for key, name in names if counts.get(key, 0)) or "none"


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name if len(name) <= _NAME else name[:_NAME] + '…'} ({n:,})" for name, n in counts) or "none"


def _spread(values: Distribution | None) -> str:
    if values is None:
        return "not computed for any"
    return f"mean {values.mean:.2f}, median {values.median:.2f}, from {values.least:.2f} to {values.greatest:.2f}, of {values.n:,}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _usd(value: float) -> str:
    sign, amount = ("–" if value < 0 else ""), abs(value)
    return f"{sign}${amount:,.4f}" if 0 < amount < 1 else f"{sign}${amount:,.2f}"

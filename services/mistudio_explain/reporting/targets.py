"""The specification's performance targets and success metrics (its sections 9.2 and 11), held against what a job shows."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mistudio_explain.events.explanation import OutcomeKind
from mistudio_explain.events.job import JobReport, JobStatus
from mistudio_explain.reporting.formats import Format
from mistudio_explain.reporting.survey import Survey
from mistudio_explain.reporting.wording import counted, duration, share

_ONE_JOB = "one job does not show it"


class Standing(StrEnum):
    """How a target stands."""

    MET = "met"
    MISSED = "missed"
    NOT_MEASURABLE = "not measurable here"


@dataclass(frozen=True, slots=True)
class Target:
    """One target; `value` is what the job shows, also where that decides nothing, and `source` where it comes from or why there is none."""

    group: str
    goal: str
    value: str | None
    standing: Standing
    source: str


@dataclass(frozen=True, slots=True)
class _Job:
    report: JobReport
    figures: Survey


Judged = tuple[str | None, Standing, str]
"""Value, standing and source of a target."""


def targets(report: JobReport, figures: Survey) -> tuple[Target, ...]:
    """Hold the job against every target of the two sections, in their order."""
    return tuple(Target(group, goal, *judge(_Job(report, figures))) for group, goal, judge in _TARGETS)


def tally(found: tuple[Target, ...]) -> dict[Standing, int]:
    """How many targets stand how."""
    return {standing: sum(target.standing is standing for target in found) for standing in Standing}


def _judged(is_met: bool) -> Standing:
    return Standing.MET if is_met else Standing.MISSED


def _unknown(why: str, value: str | None = None) -> Judged:
    return value, Standing.NOT_MEASURABLE, why


def _elsewhere(why: str) -> Callable[[_Job], Judged]:
    return lambda _: _unknown(why)


def _pace(features: int, minutes: float) -> Callable[[_Job], Judged]:
    def judge(job: _Job) -> Judged:
        done = job.figures.explained + job.figures.failed
        if job.report.wall_s is None or done == 0:
            return _unknown("the job has no time from its first feature to its last outcome")
        seconds = job.report.wall_s / done * features
        value = f"{duration(seconds)} for {features} at the job's pace"
        if job.figures.origin.cached:
            return _unknown(f"{job.figures.origin.cached:,} answers came from the cache, so this is not the models' pace", value)
        if done < features:
            return _unknown(f"the job has {done:,} such features; the pace is theirs, its start included", value)
        return value, _judged(seconds < 60 * minutes), f"{duration(job.report.wall_s)} for {done:,} explained and failed features, whatever their priority"

    return judge


def _concurrency(job: _Job) -> Judged:
    if not job.report.wall_s or not job.figures.origin.call_s:
        return _unknown("no call of a model was timed")
    at_once = job.figures.origin.call_s / job.report.wall_s
    value = f"{at_once:.2f} calls at once, on average"
    if at_once < 2:
        return _unknown("the time of the calls that count over the job's time includes starting and waiting: more were under way at once", value)
    return value, Standing.MET, "time of the calls that count over the job's time"


def _latency(job: _Job) -> Judged:
    seconds = job.report.averages.latency_s
    if seconds is None:
        return _unknown("no call of a model was timed")
    return f"{seconds:.2f} s", _judged(seconds < 5), "mean time of a call, cached answers left out"


def _confirmed(job: _Job) -> Judged:
    if not job.figures.explained:
        return _unknown("nothing was explained")
    confirmed = job.figures.verdicts.get("confirmed", 0)
    balanced = "; ".join(
        f"the judge's balanced accuracy in {kind} is {spread.median:.2f} in the median" for kind, spread in job.figures.agreement.balanced.items()
    )
    value = f"{share(confirmed, job.figures.explained)} confirmed ({confirmed:,} of {job.figures.explained:,})" + (f"; {balanced}" if balanced else "")
    return (
        value,
        _judged(confirmed > 0.85 * job.figures.explained),
        "share of the explanations that the features' texts confirm; no score is rescaled into a validation score",
    )


def _success(job: _Job) -> Judged:
    explained, failed = (job.figures.quality_features.get(kind, 0) for kind in (OutcomeKind.EXPLAINED, OutcomeKind.FAILED))
    tried = explained + failed
    if not tried:
        return _unknown("no feature with a coherence of at least 0.4 was tried")
    return (
        f"{share(explained, tried)} ({explained:,} of {tried:,})",
        _judged(explained > 0.98 * tried),
        "features with a coherence of at least 0.4, skipped ones left out",
    )


def _routing(job: _Job) -> Judged:
    if not job.figures.origin.models:
        return _unknown("no model answered")
    stood_in = sum(job.figures.origin.substitutes.values())
    value = f"{counted(len(job.figures.origin.models), 'model')}; a substitute answered for {counted(stood_in, 'feature')}"
    if stood_in:
        return value, Standing.MISSED, "flag `substitute`: routing wanted a model that no endpoint has or can hold"
    if len(job.figures.origin.models) == 1:
        return _unknown("one model answered everything, so no choice is seen", value)
    return value, Standing.MET, "no feature has the flag `substitute`: each went to the model that routing, or the job, asked for"


def _no_api_cost(job: _Job) -> Judged:
    paid = job.report.cost_usd + job.report.judge_cost_usd
    clouds = job.figures.origin.reaches.get("cloud", 0)
    value = f"${paid:,.4f}; {clouds:,} answers from clouds"
    if job.report.sent_to_cloud or clouds or paid:
        return value, Standing.MISSED, "the ledger, and the endpoints of the answers"
    if job.figures.origin.reaches.get("unknown", 0):
        return _unknown("where some of the endpoints are was not recorded", value)
    return value, Standing.MET, "the ledger, and the endpoints of the answers"


def _power(job: _Job) -> Judged:
    costs = job.report.cost_analysis
    if costs is None or costs.watts is None:
        return _unknown("no GPU tells its power")
    value = f"{costs.watts:,.0f} W"
    if costs.watts_source != "GPUs":
        return _unknown("the power was not measured: it comes from the settings", value)
    return value, _judged(costs.watts < 500), "what the GPUs' driver told at the end of the job"


def _payback(job: _Job) -> Judged:
    costs = job.report.cost_analysis
    if costs is None or costs.payback_months is None:
        return _unknown(costs.unavailable.get("payback_months", "it was not computed") if costs else "the costs were not analysed")
    return f"{costs.payback_months:.1f} months", _judged(costs.payback_months < 3), "cost analysis: the hardware's price over what a month's features save"


def _coverage(job: _Job) -> Judged:
    explained, known = job.figures.quality_features.get(OutcomeKind.EXPLAINED, 0), sum(job.figures.quality_features.values())
    if not known:
        return _unknown("no feature has a coherence of at least 0.4")
    value = f"{share(explained, known)} ({explained:,} of {known:,})"
    if job.report.status is not JobStatus.COMPLETED and explained == known:
        return _unknown(f"the job is {job.report.status}, so features may be missing", value)
    return value, _judged(explained == known), "features with a coherence of at least 0.4 that have an explanation"


def _whole_time(job: _Job) -> Judged:
    if job.report.wall_s is None:
        return _unknown("the job has no time from its first feature to its last outcome")
    if job.report.status is not JobStatus.COMPLETED:
        return _unknown(f"the job is {job.report.status}", duration(job.report.wall_s))
    if job.figures.origin.cached:
        return _unknown(f"{job.figures.origin.cached:,} answers came from the cache", duration(job.report.wall_s))
    return duration(job.report.wall_s), _judged(job.report.wall_s < 1800), f"first admission to last outcome of {counted(job.figures.total, 'feature')}"


def _accuracy(job: _Job) -> Judged:
    if job.figures.accuracy is None:
        return _unknown("no explanation has an accuracy")
    confirmed = job.figures.verdicts.get("confirmed", 0)
    value = f"{share(confirmed, job.figures.explained)} confirmed; mean accuracy {job.figures.accuracy.mean:.2f}"
    source = "share that the texts confirm; an accuracy is the probability that an explanation belongs to its feature, no share of right explanations"
    return value, _judged(confirmed > 0.8 * job.figures.explained), source


def _data_flow(job: _Job) -> Judged:
    if job.report.expected is None:
        return _unknown("how many features miStudioFind sent is not known", f"{job.figures.total:,} features with an outcome")
    value = f"{job.figures.total:,} of {job.report.expected:,} features have an outcome"
    return (
        value,
        _judged(job.figures.total >= job.report.expected and not job.report.missing),
        f"what was expected ({job.report.expected_source or 'source not known'}), and the outcomes",
    )


def _for_score(job: _Job) -> Judged:
    if not job.figures.explained:
        return _unknown("nothing was explained")
    value = f"{job.figures.ready_to_score:,} of {job.figures.explained:,} records have all that it reads"
    source = "explanation_results.json; it computes with coherence and greatest activation, and a record without one of them has null and a flag"
    return value, _judged(job.figures.ready_to_score == job.figures.explained), source


def _handled(job: _Job) -> Judged:
    lost = len(job.report.missing)
    value = f"{job.figures.failed:,} failed with a reason, {job.figures.detours.retried:,} answered at another try, {lost:,} without an outcome"
    if job.report.status is JobStatus.RUNNING:
        return _unknown("the job is running", value)
    return value, _judged(not lost), "outcomes, attempts, and the features that entered"


def _understood(job: _Job) -> Judged:
    reviewed = job.figures.agreement.reviewed
    if not reviewed:
        return _unknown("no person has reviewed an explanation; clarity is a set of rules that was not tested on people")
    return _unknown("the specification gives no bound", f"{share(job.figures.agreement.right, reviewed)} of {reviewed:,} reviewed ones are right")


def _safety(job: _Job) -> Judged:
    if not job.figures.explained:
        return _unknown("nothing was explained")
    assessed = job.figures.explained - job.figures.safety.get("none", 0)
    concerning, to_review = (job.figures.safety.get(name, 0) for name in ("concerning", "requires_review"))
    value = f"{assessed:,} of {job.figures.explained:,} assessed: {concerning:,} concerning, {to_review:,} to review"
    return value, _judged(assessed == job.figures.explained), "the safety assessment of texts and explanations, each with its evidence"


def _transparent(job: _Job) -> Judged:
    if not job.figures.explained:
        return _unknown("nothing was explained")
    traceable = job.figures.origin.traceable
    value = f"{traceable:,} of {job.figures.explained:,} can be traced"
    return value, _judged(traceable == job.figures.explained), "explanations with model, prompt's hash, validator's version and the texts they rest on"


def _cost_efficiency(job: _Job) -> Judged:
    if not job.figures.explained or not job.report.tokens_in + job.report.tokens_out:
        return _unknown("no server counted its tokens")
    each = (job.report.tokens_in + job.report.tokens_out) / job.figures.explained
    return _unknown("the specification gives no bound", f"{each:,.0f} tokens an explanation, {job.figures.origin.cached:,} answers from the cache")


def _formats(_: _Job) -> Judged:
    return ", ".join(each.upper() for each in Format), Standing.MET, "`mistudio-explain report JOB --format`; docs/reports.md has what each is for"


_SPEED, _QUALITY, _COST = "9.2 Processing speed", "9.2 Quality", "9.2 Cost"
_PERFORMANCE, _INTEGRATION = "11.1 Processing performance", "11.1 Integration"
_IMPACT, _OPERATION = "11.2 Interpretability", "11.2 Operation"
_BY_BENCH = "`python -m benchmarks` measures it"

_TARGETS: tuple[tuple[str, str, Callable[[_Job], Judged]], ...] = (
    (_SPEED, "68 features in under 15 minutes", _pace(68, 15)),
    (_SPEED, "10 high-priority features in under 2 minutes", _pace(10, 2)),
    (_SPEED, "2 to 4 explanations at once", _concurrency),
    (_SPEED, "Switch of models in under 30 s", _elsewhere("reports hold no switches; the metric mistudio_explain_model_switches and docs/fleet.md do")),
    (_SPEED, "Under 5 s for an explanation on average", _latency),
    (_QUALITY, "Validation score above 85%", _confirmed),
    (_QUALITY, "Over 98% of quality features succeed", _success),
    (_QUALITY, "GPUs used to over 80%", _elsewhere("reports hold no use of GPUs; the metric mistudio_explain_gpu_utilisation does")),
    (_QUALITY, "Models chosen by complexity", _routing),
    (_COST, "No cost of APIs, all local", _no_api_cost),
    (_COST, "GPUs draw under 500 W", _power),
    (_COST, "Hardware paid back in under 3 months", _payback),
    (_COST, "Cost grows with hardware alone", _elsewhere(_ONE_JOB)),
    (_PERFORMANCE, "All quality features covered", _coverage),
    (_PERFORMANCE, "Under 30 minutes for the whole analysis", _whole_time),
    (_PERFORMANCE, "Average accuracy above 80%", _accuracy),
    (_PERFORMANCE, "Available for over 99% of the time", _elsewhere(_ONE_JOB)),
    (_INTEGRATION, "Data flows from miStudioFind", _data_flow),
    (_INTEGRATION, "Ready for miStudioScore", _for_score),
    (_INTEGRATION, "Several export formats", _formats),
    (_INTEGRATION, "Errors degrade gracefully", _handled),
    (_IMPACT, "Clear descriptions for people", _understood),
    (_IMPACT, "Concerning patterns identified", _safety),
    (_IMPACT, "Insights for AI development", _elsewhere("nothing measures it")),
    (_IMPACT, "Transparent for regulators", _transparent),
    (_OPERATION, "No manual intervention", _elsewhere("reports do not hold who ordered what; the dead letters and the orders on explain.jobs do")),
    (_OPERATION, "Consistent over runs", _elsewhere(f"{_ONE_JOB}; `mistudio-explain compare JOB JOB` does")),
    (_OPERATION, "Time grows linearly with features", _elsewhere(f"{_ONE_JOB}; {_BY_BENCH}")),
    (_OPERATION, "LLM calls used sparingly", _cost_efficiency),
)

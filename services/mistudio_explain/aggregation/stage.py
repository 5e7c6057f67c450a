"""Aggregation: what each outcome adds to its job, and what a job's numbers say about its state.

Sums are kept in whole micro-units, so that they are exact and the same in whatever order outcomes arrive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mistudio_explain.events.explanation import Category, FeatureOutcome, OutcomeKind, Verification
from mistudio_explain.events.job import Averages, JobReport, JobStatus, SecondPass, SecondPassPart, SentToCloud, SummaryInsights

_MICRO = 1_000_000
HIGH_QUALITY = 0.8
_MOST_MISSING = 100
_MOST_UNREADABLE = 20


class Counters(NamedTuple):
    """Sums over the outcomes of a job; fields that end in `_micro` are in millionths of their unit."""

    explained: int = 0
    skipped: int = 0
    failed: int = 0
    flagged: int = 0
    confirmed: int = 0
    quality_micro: int = 0
    quality_n: int = 0
    accuracy_micro: int = 0
    accuracy_n: int = 0
    confidence_micro: int = 0
    confidence_n: int = 0
    latency_micro: int = 0
    latency_n: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_micro: int = 0
    high_quality: int = 0
    concerning: int = 0
    critical: int = 0
    technical: int = 0
    behavioral: int = 0
    partial: int = 0
    contradicted: int = 0
    judged: int = 0
    judge_calls: int = 0
    judge_tokens_in: int = 0
    judge_tokens_out: int = 0
    judge_cost_micro: int = 0


COUNTER_NAMES = Counters._fields


def counters_of(outcome: FeatureOutcome) -> Counters:
    """What one outcome adds to its job."""
    if outcome.outcome is not OutcomeKind.EXPLAINED:
        return Counters(skipped=int(outcome.outcome is OutcomeKind.SKIPPED), failed=int(outcome.outcome is OutcomeKind.FAILED))
    accuracy = None if outcome.accuracy is None else outcome.accuracy.p
    made, other = outcome.generation, outcome.other
    latency = None if made is None or made.cached else made.latency_s
    judge = outcome.judge
    return Counters(
        explained=1,
        flagged=int(outcome.review_reason is not None),
        confirmed=int(outcome.pattern_verification is Verification.CONFIRMED),
        quality_micro=_micro(outcome.quality_score),
        quality_n=_known(outcome.quality_score),
        accuracy_micro=_micro(accuracy),
        accuracy_n=_known(accuracy),
        confidence_micro=_micro(outcome.confidence),
        confidence_n=_known(outcome.confidence),
        latency_micro=_micro(latency),
        latency_n=_known(latency),
        tokens_in=((made and made.tokens_in) or 0) + ((other and other.tokens_in) or 0),
        tokens_out=((made and made.tokens_out) or 0) + ((other and other.tokens_out) or 0),
        cost_micro=_micro(made.cost_usd if made else None) + _micro(other.cost_usd if other else None),
        high_quality=int(outcome.quality_score is not None and outcome.quality_score >= HIGH_QUALITY),
        concerning=int(outcome.safety is not None and outcome.safety.assessment == "concerning"),
        critical=int(outcome.business_relevance == "high"),
        technical=int(outcome.subject.category is Category.TECHNICAL),
        behavioral=int(outcome.subject.category is Category.BEHAVIORAL),
        partial=int(outcome.pattern_verification is Verification.PARTIAL),
        contradicted=int(outcome.pattern_verification is Verification.CONTRADICTED),
        judged=int(judge is not None and judge.calls > 0),
        judge_calls=judge.calls if judge else 0,
        judge_tokens_in=judge.tokens_in if judge else 0,
        judge_tokens_out=judge.tokens_out if judge else 0,
        judge_cost_micro=_micro(judge.cost_usd if judge else None),
    )


AGREES = {"right": "confirmed", "partly": "partial", "wrong": "contradicted"}
"""The verification, by the name of its counter, that a person's verdict agrees with; `unclear` takes no side."""


def agrees(verdict: str, counted: Counters) -> bool:
    """Whether a person's verdict on an explained feature says what its verification does, given what that feature adds to its job."""
    return verdict in AGREES and getattr(counted, AGREES[verdict]) == 1


@dataclass(frozen=True, slots=True)
class JobState:
    """Everything that the store knows of a job; times in milliseconds since 1970 UTC."""

    explain_job_id: str
    tenant: str
    find_job_id: str | None
    target_model: str | None
    revision: int
    expected: int | None
    cancelled: bool
    admitted: int
    counters: Counters
    first_ms: int | None
    """When the first feature entered."""
    last_ms: int | None
    """When the last feature entered or got its outcome."""
    heard_ms: int | None
    """When anything was last heard of the job, its request and seal included."""
    estimated_seconds: float | None = None
    estimated_cost_usd: float | None = None
    control: str | None = None
    """The newest order: cancel, reopen, delete or deleted."""
    settled: int | None = None
    """In a reopened job, the outcomes that count: explained ones, and those made since; absent: all count."""
    promised: int | None = None
    """How many features its request says that it will have, at this revision; absent: it does not say."""
    is_replaying: bool = False
    """Whether a replay into it was ordered at this revision, and its seal has not come."""
    notes: tuple[str, ...] = ()
    """What these numbers cannot know, in sentences."""
    reviewed: int = 0
    """Explained features that a person has reviewed."""
    agreed: int = 0
    """Of these, those whose review agrees with the verification."""
    reopened_as: int = 0
    """The revision that it was reopened with, 0 when it never was."""
    is_first_pass_over: bool = False
    """Whether it was said, at this revision, that the first pass is over."""
    second_pass: SecondPassPart | None = None
    """What the second pass does; absent until that is decided."""
    second_settled: int = 0
    """Features with an outcome of the second pass."""

    @property
    def outcomes(self) -> int:
        """Features that have an outcome."""
        return self.counters.explained + self.counters.skipped + self.counters.failed


Standing = tuple[JobStatus, int | None, Literal["sealed", "inferred"] | None]
"""How far a job is, how many features it has, and who says so."""


def status_of(state: JobState, *, now_ms: int, quiet_ms: int, backlog: int | None = None, is_owed: bool = False, escalates: bool = False) -> Standing:
    """Say how far a job is, its second pass included where it `escalates`.

    A job whose first pass is over is complete once all that was sent out again has settled; when nothing happens for the
    quiet period and nothing waits in any topic, it is waited for no longer.
    """
    status, expected, source = first_pass_of(state, now_ms=now_ms, quiet_ms=quiet_ms, backlog=backlog, is_owed=is_owed)
    if escalates and status is JobStatus.COMPLETED and not _is_over(state, now_ms=now_ms, quiet_ms=quiet_ms, backlog=backlog):
        second = state.second_pass
        if second is None or state.second_settled < second.sent:
            return JobStatus.RUNNING, expected, source
    return status, expected, source


def _is_over(state: JobState, *, now_ms: int, quiet_ms: int, backlog: int | None) -> bool:
    return state.heard_ms is not None and now_ms - state.heard_ms >= quiet_ms and not backlog


def first_pass_of(state: JobState, *, now_ms: int, quiet_ms: int, backlog: int | None = None, is_owed: bool = False) -> Standing:
    """Say how far a job's first pass is, how many features it has, and who says so.

    A sealed job is complete when outcomes cover the expected features, and incomplete when nothing has happened for
    the quiet period and nothing waits in any topic; an unsealed one is taken as complete after such a period in which
    every admission got its outcome, unless its request promised more features or a replay into it was not sealed: whoever
    sends them has not finished, so it is incomplete then. `backlog` counts the records that wait in topics of any job;
    None where that cannot be known, and time alone decides. `is_owed` says that an admitted feature has no outcome.
    """
    is_over = _is_over(state, now_ms=now_ms, quiet_ms=quiet_ms, backlog=backlog)
    settled = state.outcomes if state.settled is None else state.settled
    if state.cancelled:
        return JobStatus.CANCELLED, state.expected, None if state.expected is None else "sealed"
    if state.expected is not None:
        if settled >= state.expected:
            return JobStatus.COMPLETED, state.expected, "sealed"
        return (JobStatus.INCOMPLETE if is_over else JobStatus.RUNNING), state.expected, "sealed"
    if state.is_replaying or (state.promised is not None and settled < state.promised):
        return (JobStatus.INCOMPLETE if is_over else JobStatus.RUNNING), None, None
    entered = max(state.admitted, state.outcomes)  # admissions expire, outcomes do not
    if is_over and settled >= entered > 0 and not is_owed:
        return JobStatus.COMPLETED, entered, "inferred"
    return JobStatus.RUNNING, None, None


def rests_on_silence(standing: Standing) -> bool:
    """Whether a job was judged by what did not come, which a backlog or a feature still owed refutes."""
    status, _, source = standing
    return status is JobStatus.INCOMPLETE or source == "inferred"


def report_of(
    state: JobState,
    *,
    status: JobStatus,
    expected: int | None,
    expected_source: Literal["sealed", "inferred"] | None,
    missing: list[str],
    as_of: dict[str, int],
    now_ms: int,
    unreadable: Sequence[str] = (),
    sent_to_cloud: Sequence[SentToCloud] = (),
    beyond_machine: Sequence[str] = (),
) -> JobReport:
    """Put a job's state into the numbers that people and miStudioScore read."""
    sums, second = state.counters, state.second_pass
    wall_s = None if state.first_ms is None or state.last_ms is None else (state.last_ms - state.first_ms) / 1000
    left = None if expected is None else expected - state.outcomes
    return JobReport(
        explain_job_id=state.explain_job_id,
        tenant=state.tenant,
        find_job_id=state.find_job_id,
        target_model=state.target_model,
        revision=state.revision,
        status=status,
        expected=expected,
        expected_source=expected_source,
        admitted=state.admitted,
        explained=sums.explained,
        skipped=sums.skipped,
        failed=sums.failed,
        flagged=sums.flagged,
        confirmed=sums.confirmed,
        partial=sums.partial,
        contradicted=sums.contradicted,
        reviewed=state.reviewed,
        agreed=state.agreed,
        judged=sums.judged,
        judge_calls=sums.judge_calls,
        judge_tokens_in=sums.judge_tokens_in,
        judge_tokens_out=sums.judge_tokens_out,
        judge_cost_usd=sums.judge_cost_micro / _MICRO,
        missing=missing[:_MOST_MISSING],
        unreadable=list(unreadable[:_MOST_UNREADABLE]),
        notes=[*state.notes, *_unsealed(state, status, expected), *_unsettled(state, status)],
        averages=Averages(
            quality=_mean(sums.quality_micro, sums.quality_n),
            accuracy=_mean(sums.accuracy_micro, sums.accuracy_n),
            confidence=_mean(sums.confidence_micro, sums.confidence_n),
            latency_s=_mean(sums.latency_micro, sums.latency_n),
        ),
        tokens_in=sums.tokens_in,
        tokens_out=sums.tokens_out,
        cost_usd=sums.cost_micro / _MICRO,
        second_pass=SecondPass(sent=second.sent, refused=second.refused, settled=min(state.second_settled, second.sent)) if second else None,
        sent_to_cloud=list(sent_to_cloud),
        beyond_machine=list(beyond_machine),
        wall_s=wall_s,
        eta_s=left * wall_s / state.outcomes if status is JobStatus.RUNNING and left and wall_s and state.outcomes else None,
        estimated_seconds=state.estimated_seconds,
        estimated_cost_usd=state.estimated_cost_usd,
        as_of=as_of,
        insights=SummaryInsights(
            high_quality_explanations=sums.high_quality,
            safety_concerns_identified=sums.concerning,
            business_critical_features=sums.critical,
            technical_pattern_count=sums.technical,
            behavioral_pattern_count=sums.behavioral,
        ),
        at_ms=now_ms,
    )


def _unsealed(state: JobState, status: JobStatus, expected: int | None) -> list[str]:
    if status is not JobStatus.INCOMPLETE or expected is not None:
        return []
    promised = "its features" if state.promised is None else f"{state.promised} features"
    return [f"Whoever sends {promised} has not said that the last was sent: publish the same input again, or see to the replayer."]


def _unsettled(state: JobState, status: JobStatus) -> list[str]:
    second = state.second_pass
    if status is not JobStatus.COMPLETED or second is None or state.second_settled >= second.sent:
        return []
    return [f"{second.sent - state.second_settled} of {second.sent} features of the second pass did not come back; they keep their first outcome."]


def _micro(value: float | None) -> int:
    return 0 if value is None else round(value * _MICRO)


def _known(value: float | None) -> int:
    return int(value is not None)


def _mean(micro: int, n: int) -> float | None:
    return micro / _MICRO / n if n else None

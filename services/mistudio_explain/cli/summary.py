"""What a person reads when a job is at an end: a table of explanations, the counts, where the report is."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from mistudio_explain.cli.show import plain, table
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind
from mistudio_explain.events.job import JobReport, JobStatus

_MOST_ROWS = 40


def summary(report: JobReport, outcomes: Sequence[FeatureOutcome], pages: Sequence[Path]) -> Group:
    """The table, the counts and the places of the files."""
    explained = [outcome for outcome in outcomes if outcome.outcome is OutcomeKind.EXPLAINED]
    ranked = sorted(explained, key=lambda o: (-(o.accuracy.p if o.accuracy else -1.0), o.subject.feature_key))
    rows = [_row(outcome) for outcome in ranked[:_MOST_ROWS]]
    parts: list[RenderableType] = []
    if rows:
        parts.append(table(None, ("feature", "verdict, accuracy", "quality", "explanation"), rows, wrap={"feature": 19, "explanation": None}))
    if len(ranked) > _MOST_ROWS:
        parts.append(Text(f"... and {len(ranked) - _MOST_ROWS} more in the report"))
    parts.append(Text(counts(report), style="bold"))
    if any(outcome.generation and outcome.generation.provider == "demonstration" for outcome in explained):
        warning = "These explanations come from a demonstration model of 135M parameters: they show the machinery and are not to be trusted."
        parts.append(Text(warning, style="yellow"))
    if rows:
        parts.append(Text("accuracy: the probability that the explanation belongs to this feature rather than to another of its find job"))
    parts.extend(Text(f"report: {page}") for page in pages)
    return Group(*parts)


def counts(report: JobReport) -> str:
    """The job in one line."""
    of = f" of {report.expected}" if report.expected is not None else ""
    wall = f" in {report.wall_s:.1f} s" if report.wall_s is not None else ""
    left = (report.expected or 0) - report.explained - report.skipped - report.failed
    missing = f", {left} without outcome" if report.status is JobStatus.INCOMPLETE else ""
    reviewed = f", {report.reviewed} reviewed by people, {report.agreed} of them in agreement" if report.reviewed else ""
    judged = f", {report.judged} judged in {report.judge_calls} calls" if report.judged else ""
    return (
        f"{report.explain_job_id} {report.status.value}: {report.explained} explained{of}, {report.confirmed} of them confirmed, "
        f"{report.flagged} for review, {report.skipped} skipped, {report.failed} failed{missing}{reviewed}{judged}{wall}"
    )


def _row(outcome: FeatureOutcome) -> tuple[str, ...]:
    verdict = outcome.pattern_verification.value if outcome.pattern_verification else "not verified"
    accuracy = f" {outcome.accuracy.p:.2f}" if outcome.accuracy else ""
    concern = f"[{outcome.safety.assessment}: {', '.join(outcome.safety.categories)}] " if outcome.safety and outcome.safety.assessment != "safe" else ""
    return (
        outcome.subject.feature_key,
        verdict + accuracy,
        f"{outcome.quality_score:.2f}" if outcome.quality_score is not None else "-",
        concern + plain(outcome.explanation or "") + _review(outcome),
    )


def _review(outcome: FeatureOutcome) -> str:
    review = outcome.review
    if review is None:
        return ""
    return f" [{plain(review.who)} says {review.verdict}{f': {plain(review.corrected)}' if review.corrected else ''}]"

"""What is known of a job from its topics and from the store together; the store is ahead of the reports by seconds."""

from dataclasses import replace

from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.events.job import JobEvent, JobPart, JobReport
from mistudio_explain.kafka.orders import KnownJob
from mistudio_explain.store.queries import JobQueries


def with_rows(known: KnownJob, rows: JobQueries, reports: JobReports, *, now_ms: int) -> KnownJob:
    """A job as its topics have it, with the numbers and parts of the rows where these are newer."""
    name = known.explain_job_id
    state = rows.state(name)
    if state is None:
        return known
    heard_ms = state.heard_ms or 0
    job = replace(known, heard_ms=max(known.heard_ms, heard_ms), parts=_newer(known.parts, rows.parts(name)))
    report = None if job.closed is not None else reports.numbers(name, now_ms=now_ms)
    return job if report is None else replace(job, report=_merged(report, known.report, heard_ms))


def _merged(ours: JobReport, written: JobReport | None, heard_ms: int) -> JobReport:
    """The report that the aggregator wrote where the job was not heard of since: it knows more than the rows tell, such as what waits in topics."""
    if written is None:
        return ours
    return written if written.at_ms >= heard_ms else ours.model_copy(update={"artefacts": written.artefacts})


def _newer(ours: dict[JobPart, JobEvent], theirs: dict[JobPart, JobEvent]) -> dict[JobPart, JobEvent]:
    return {
        part: max((event for event in (ours.get(part), theirs.get(part)) if event is not None), key=lambda event: (event.revision, event.at_ms))
        for part in JobPart
        if part in ours or part in theirs
    }

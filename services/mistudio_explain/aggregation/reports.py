"""Makes a job's report: its numbers from the store, and its files once the job is at an end."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from mistudio_explain.aggregation.stage import report_of, status_of
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import JobReport, JobStatus
from mistudio_explain.events.topics import EXPLANATIONS
from mistudio_explain.reporting.stage import report_directory, write_reports
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.jobs import Change, JobStore, read_outcomes

_MOST_MISSING = 100
_FEW = 1000
"""Outcomes that are kept while the files are written, about 150 KB each; those of a larger job are decoded anew for each file."""


class JobReports:
    """Reports on the jobs of a store, into a folder for each under `directory`."""

    def __init__(self, store: JobStore, *, store_settings: StoreSettings, directory: Path, quiet_ms: int) -> None:
        self._store = store
        self._store_settings = store_settings
        self._directory = directory
        self._quiet_ms = quiet_ms

    def numbers(self, job: str, *, now_ms: int, interrupted: bool = False) -> JobReport | None:
        """The job's numbers; `interrupted` says that nothing more will come, so that an open job is incomplete."""
        state = self._store.state(job)
        if state is None:
            return None
        status, expected, source = status_of(state, now_ms=now_ms, quiet_ms=self._quiet_ms)
        if interrupted and status is JobStatus.RUNNING:
            status = JobStatus.INCOMPLETE
        missing = [] if status is not JobStatus.INCOMPLETE else self._store.missing(job, _MOST_MISSING)
        as_of = {str(partition): offset for partition, offset in self._store.positions(EXPLANATIONS).items()}
        return report_of(state, status=status, expected=expected, expected_source=source, missing=missing, as_of=as_of, now_ms=now_ms)

    def add(self, outcomes: Iterable[FeatureOutcome], *, now_ms: int) -> None:
        """Take outcomes that somebody else read from the topic, when the aggregator will not come to them any more."""
        self._store.apply([Change(outcome, encode(outcome), "", now_ms) for outcome in outcomes], {})

    def with_files(self, report: JobReport) -> JobReport:
        """Write the job's files and name them in the report; slow, and safe to run in a thread of its own."""
        stored = partial(read_outcomes, self._store_settings, report.explain_job_id)
        few = list(stored()) if report.explained + report.skipped + report.failed <= _FEW else None
        outcomes: Callable[[], Iterable[FeatureOutcome]] = stored if few is None else lambda: few
        return report.model_copy(update={"artefacts": write_reports(report, outcomes, report_directory(self._directory, report.explain_job_id))})

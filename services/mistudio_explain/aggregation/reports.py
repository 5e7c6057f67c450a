"""Makes a job's report: its numbers from the store, and its files once the job is at an end."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path

from mistudio_explain.aggregation.stage import first_pass_of, report_of, rests_on_silence, status_of
from mistudio_explain.aggregation.surroundings import beyond_machine, circumstances
from mistudio_explain.events.codec import encode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.job import Artefact, FirstPassPart, JobEvent, JobReport, JobStatus
from mistudio_explain.events.topics import EXPLANATIONS
from mistudio_explain.reporting import archive
from mistudio_explain.reporting.cost import Used, analysed
from mistudio_explain.reporting.formats import CannotTypeset, Format
from mistudio_explain.reporting.shelf import Shelf, shelf_of
from mistudio_explain.reporting.stage import write_reports
from mistudio_explain.settings import Settings
from mistudio_explain.store.database import StoreLost
from mistudio_explain.store.jobs import Change, JobStore, read_outcomes
from mistudio_explain.store.ledger import Ledger

_MOST_MISSING = 100


class JobReports:
    """Reports on the jobs of a store, into a folder for each under `directory`; `store` gives the rows, None while they are another process's.

    The ledger beside the store is opened when it is first asked, and closed by `close`.
    """

    def __init__(
        self,
        store: Callable[[], JobStore | None],
        settings: Settings,
        *,
        directory: Path | None = None,
        measured_watts: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._open_store = store
        self._settings = settings
        self._reports = settings.reports if directory is None else settings.reports.model_copy(update={"directory": directory})
        self._quiet_ms = int(settings.limits.quiet_s * 1000)
        self._retain_days = settings.jobs.retain_days
        self._escalates = settings.escalation.enabled
        self._ledger = Ledger(settings.store)
        self._beyond = beyond_machine(settings)
        self._measured_watts = measured_watts

    def close(self) -> None:
        """Close the ledger; the next report opens it again."""
        self._ledger.close()

    def first_pass(self, job: str, *, now_ms: int, backlog: int | None = None) -> tuple[JobEvent, bool] | None:
        """The word that a job's first pass is over, and whether that rests on silence; None when it is not, or was said."""
        state = self._store.state(job)
        if state is None or state.is_first_pass_over:
            return None
        standing = first_pass_of(state, now_ms=now_ms, quiet_ms=self._quiet_ms, backlog=backlog)
        is_inferred = rests_on_silence(standing)
        if standing[0] is not JobStatus.COMPLETED or (is_inferred and self._store.missing(job, 1)):
            return None
        part = FirstPassPart(outcomes=state.outcomes)
        return JobEvent(explain_job_id=job, revision=state.reopened_as, tenant=state.tenant, at_ms=now_ms, first_pass=part), is_inferred

    def numbers(self, job: str, *, now_ms: int, interrupted: bool = False, backlog: int | None = None, unreadable: Sequence[str] = ()) -> JobReport | None:
        """The job's numbers; `interrupted` says that nothing more will come, so that an open job is incomplete.

        `backlog` is what waits in the topics (aggregation/stage.py), `unreadable` the dead letters that name no job.
        """
        store = self._store
        state = store.state(job)
        if state is None:
            return None
        standing = status_of(state, now_ms=now_ms, quiet_ms=self._quiet_ms, backlog=backlog, escalates=self._escalates)
        missing = store.missing(job, _MOST_MISSING) if interrupted or rests_on_silence(standing) else []
        status, expected, source = status_of(state, now_ms=now_ms, quiet_ms=self._quiet_ms, backlog=backlog, is_owed=bool(missing), escalates=self._escalates)
        if interrupted and status is JobStatus.RUNNING:
            status = JobStatus.INCOMPLETE
        if status is not JobStatus.INCOMPLETE:
            missing, unreadable = [], ()
        as_of = {str(partition): offset for partition, offset in store.positions(EXPLANATIONS).items()}
        sent = self._ledger.sent(job)
        report = report_of(
            state, status=status, expected=expected, expected_source=source, missing=missing, unreadable=unreadable, as_of=as_of, now_ms=now_ms,
            sent_to_cloud=sent, beyond_machine=self._beyond,
        )  # fmt: skip
        used = Used(features=report.explained, seconds=report.wall_s, tokens_in=report.tokens_in, tokens_out=report.tokens_out)
        return report.model_copy(update={"cost_analysis": analysed(used, circumstances(self._settings, self._measured_watts()))})

    def add(self, outcomes: Iterable[FeatureOutcome], *, now_ms: int) -> None:
        """Take outcomes that somebody else read from the topic, when the aggregator will not come to them any more."""
        self._store.apply([Change(outcome, encode(outcome), "", now_ms) for outcome in outcomes], {})

    def remove_files(self, order: JobEvent) -> None:
        """Remove the files of the job that is ordered to be deleted; the archive says that they were there, and that they are gone."""
        self._shelf.remove(order.explain_job_id)
        archive.add(self._shelf, archive.removed(order))

    def with_files(self, report: JobReport, formats: Sequence[Format] = (), *, begun: Callable[[str], None] = lambda _: None) -> JobReport:
        """Write the job's files and name them in the report; slow, and safe to run in a thread of its own.

        `formats` absent: those of the settings, and then a PDF that cannot be set is left out, which a note says: the
        job's end must not wait for it. `begun` is told each file's name. The files bear the time at which the
        job was last heard of, so that the same rows give the same bytes whenever they are written.
        """
        state = self._store.state(report.explain_job_id)
        heard_ms = state.heard_ms if state is not None else None
        dated = report if heard_ms is None else report.model_copy(update={"at_ms": heard_ms})
        outcomes = partial(read_outcomes, self._settings.store, report.explain_job_id)
        chosen = tuple(formats) or self._settings.reports.formats

        def written(some: Sequence[Format]) -> list[Artefact]:
            return self._shelf.write(report.explain_job_id, lambda folder: write_reports(dated, outcomes, folder, some, begun=begun))

        try:
            artefacts, notes = written(chosen), report.notes
        except CannotTypeset as error:
            if formats:
                raise
            artefacts, notes = written([each for each in chosen if each is not Format.PDF]), [*report.notes, str(error)]
        entry = archive.written(dated.model_copy(update={"artefacts": artefacts}), self._store.parts(report.explain_job_id), self._retain_days)
        archive.add(self._shelf, entry)
        return report.model_copy(update={"artefacts": artefacts, "notes": notes})

    @cached_property
    def _shelf(self) -> Shelf:
        return shelf_of(self._reports)

    @property
    def _store(self) -> JobStore:
        store = self._open_store()
        if store is None:
            raise StoreLost("the store is another aggregator's")
        return store

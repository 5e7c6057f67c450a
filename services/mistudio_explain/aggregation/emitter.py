"""Says what the store knows: reports of jobs that changed, winners that must be written again, and the end of jobs."""

import asyncio
import math
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import structlog
from aiokafka.errors import KafkaError

from mistudio_explain.aggregation.backlog import Backlog
from mistudio_explain.aggregation.reader import EVENTS, SERVICE, MirrorReader
from mistudio_explain.aggregation.removal import Removal
from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.errors import ExplainError, told
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.job import ControlPart, JobEvent, JobReport, JobStatus
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.letter_box import read_letters
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.observability import tracing
from mistudio_explain.store.database import StoreLost
from mistudio_explain.store.job_store import JobStore, Rewrite
from mistudio_explain.store.seat import Seat

log = structlog.get_logger(__name__)

_TICK_S = 0.1
"""How often ended jobs are looked for; jobs that still run are reported at most every `reports.interval_s`."""
_IDLE_S = 1.0
"""How often a job that runs, and of which nothing was heard, is looked at: it may be over."""
_SAME_LOG_S = 0.5
"""How old the knowledge may be, when something is said, that the topics are still those that were read."""
_LOOK_S = 3.0
"""How often the topics are compared, and the seat confirmed, when nothing is said."""
_BACKOFF_S = 1.0
"""How long nothing is said after Kafka, the store or the disk failed."""
_RETRY_S = 10.0
"""The same of one job, or after what nobody foresaw."""
_RETENTION_S = 10.0
_INDEXED_AT_ONCE = 1000
_MOST_UNINDEXED = 8000
"""Explanations that a search looks at one by one without being noticed; below `LOOKED_AT`."""
_DAY_MS = 24 * 3_600_000


class NotNow(ExplainError):
    """Nothing may be said at this moment; the next tick tries again."""


class Emitter:
    """Publishes for the one process that has the seat, and only while its store mirrors the topics."""

    def __init__(self, app: StreamApp, seat: Seat, reader: MirrorReader, reports: JobReports, removal: Removal) -> None:
        self._app = app
        self._seat = seat
        self._reader = reader
        self._reports = reports
        self._removal = removal
        self._backlog = Backlog(app)
        self._not_before: dict[tuple[str, str], float] = {}
        """When a job may be reported with the same status again, or looked at again."""
        self._failed: dict[str, float] = {}
        """Until when a job that could not be reported is left alone."""
        self._retention_due = 0.0
        self._speaking_of: JobStore | None = None
        self._over: set[tuple[str, int]] = set()
        """Jobs and revisions whose first pass was said to be over; the topic brings that back a little later."""

    async def keep_seat(self) -> None:
        """Confirm the seat for ever, whatever else takes its time, and look whether the topics are still the same."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                if self._seat.store is not None:
                    await asyncio.to_thread(self._seat.confirm)
                    await self._reader.is_same_log(within_s=0)
            except StoreLost as error:
                self._reader.lost(error)
            except (KafkaError, OSError, ExplainError) as error:
                log.warning("topics.not_compared", error=told(error))
            except Exception as error:  # without this task a seat that is lost would be noticed by nobody
                log.exception("topics.not_compared", error=told(error))

    async def keep_index(self) -> None:
        """Index the words of explanations for ever, while no new ones come, or when too many wait for it."""
        before = 0
        while True:
            await asyncio.sleep(_TICK_S)
            store = self._seat.store
            if store is None or self._seat.is_building or self._reader.out_of_reach is not None:
                continue
            try:
                waiting = await asyncio.to_thread(store.unindexed)
                if waiting and (waiting <= before or waiting > _MOST_UNINDEXED):
                    await asyncio.to_thread(store.index, _INDEXED_AT_ONCE)
                before = waiting
            except (OSError, ExplainError) as error:  # the other tasks see to a store that is lost
                log.warning("index.waits", why=told(error), again_in_s=_BACKOFF_S)
                await asyncio.sleep(_BACKOFF_S)
            except Exception as error:  # whatever it is, indexing must not end for good
                log.exception("index.waits", why=told(error), again_in_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)

    async def run(self) -> None:
        """Say what there is to say, for ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            store = self._seat.store
            if store is None or self._seat.is_building or self._reader.out_of_reach is not None:
                continue
            try:
                await self._turn(store)
            except StoreLost as error:
                if self._seat.store is store:  # else the store was replaced, and the new one says the rest
                    self._reader.lost(error)
            except NotNow as error:
                log.info("emitter.waits", why=str(error))
            except (KafkaError, OSError, ExplainError) as error:
                log.warning("emitter.waits", why=told(error), again_in_s=_BACKOFF_S)
                await asyncio.sleep(_BACKOFF_S)
            except Exception as error:  # whatever it is, reports must not end for good
                log.exception("emitter.waits", why=told(error), again_in_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)

    async def _turn(self, store: JobStore) -> None:
        self._speaking_of = store
        while rewrites := await asyncio.to_thread(store.outbox):
            await self._publish([_again(each) for each in rewrites])
            await asyncio.to_thread(store.sent, rewrites)
        if time.monotonic() >= self._retention_due:
            self._retention_due = time.monotonic() + _RETENTION_S
            await self._order_deletions(store)
        for job, dirty, last in await asyncio.to_thread(store.due):
            if time.monotonic() < self._failed.get(job, -math.inf) or (dirty == 0 and time.monotonic() < self._not_before.get((job, ""), -math.inf)):
                continue
            self._not_before[job, ""] = time.monotonic() + _IDLE_S
            try:
                await self._job(store, job, dirty, last)
            except (StoreLost, NotNow):
                raise
            except Exception as error:  # one job's disk or text must not silence the others
                foreseen = isinstance(error, OSError | ExplainError | KafkaError)
                log.error("report.failed", job=job, error=told(error), again_in_s=_RETRY_S, exc_info=None if foreseen else error)
                self._failed[job] = time.monotonic() + _RETRY_S

    async def _job(self, store: JobStore, job: str, dirty: int, last: str | None) -> None:
        if await asyncio.to_thread(self._removal.is_due, store, job):
            await self._removal.remove(store, job, self._publish)
            return
        if await asyncio.to_thread(self._removal.is_done, store, job):
            await asyncio.to_thread(store.reported, job, dirty, "deleted")
            return
        await self._end_first_pass(store, job)
        report = await self._numbers(store, job)
        if report is None or (dirty == 0 and report.status.value == last):
            return
        if time.monotonic() < self._not_before.get((job, report.status), -math.inf):
            return
        begun = time.monotonic()
        with self._traced(report):
            if report.status is not JobStatus.RUNNING:
                report = await asyncio.to_thread(self._reports.with_files, report)
            # the files of a large job take long to write, and meanwhile nothing is said of others: at most half of the time is theirs
            self._not_before[job, report.status] = time.monotonic() + max(self._app.settings.reports.interval_s, time.monotonic() - begun)
            await self._publish([outgoing(report)])
        await asyncio.to_thread(store.reported, job, dirty, report.status.value)

    def _traced(self, report: JobReport) -> AbstractContextManager[None]:
        """The report of a job's end is a trace of its own, with links to those of its features."""
        if report.status is JobStatus.RUNNING:
            return nullcontext()
        job = report.explain_job_id
        return tracing.begun("report", service=SERVICE, kind="internal", links=self._reader.traces.of(job), ids={"job": job, "status": report.status.value})

    async def _end_first_pass(self, store: JobStore, job: str) -> None:
        """Say that a job's first pass is over, so that its worst outcomes can be looked at."""
        if not self._app.settings.escalation.enabled:
            return
        over = await asyncio.to_thread(self._reports.first_pass, job, now_ms=self._app.now_ms(), backlog=0)
        if over is not None and over[1]:  # nobody has said how many features there are: nothing may wait anywhere
            backlog = await self._backlog.read(store, tuple(EVENTS))
            over = await asyncio.to_thread(self._reports.first_pass, job, now_ms=self._app.now_ms(), backlog=backlog)
        if over is not None and (job, over[0].revision) not in self._over:
            await self._publish([outgoing(over[0])])
            self._over.add((job, over[0].revision))

    async def _numbers(self, store: JobStore, job: str) -> JobReport | None:
        """A job's numbers; one that would be over for want of news is so only when nothing waits anywhere."""
        report = await asyncio.to_thread(self._reports.numbers, job, now_ms=self._app.now_ms(), backlog=0)
        if report is None or not (report.status is JobStatus.INCOMPLETE or report.expected_source == "inferred"):
            return report
        backlog = await self._backlog.read(store, tuple(EVENTS))
        unreadable: list[str] = []
        if report.status is JobStatus.INCOMPLETE and not backlog:
            unreadable = [kept.name for kept in (await read_letters(self._app.clients)).kept if kept.letter is None or kept.letter.explain_job_id is None]
        return await asyncio.to_thread(self._reports.numbers, job, now_ms=self._app.now_ms(), backlog=backlog, unreadable=unreadable)

    async def _order_deletions(self, store: JobStore) -> None:
        """Order the deletion of jobs that are too old, and take back the records of those that were deleted long ago."""
        kept, now_ms = self._app.settings.jobs, self._app.now_ms()
        silent = await asyncio.to_thread(store.silent_since, int(now_ms - kept.retain_days * _DAY_MS))
        if silent and not await self._backlog.is_read(store, tuple(EVENTS)):
            silent = []  # news of them may stand in the topics
        for job, revision, tenant in silent:
            control = ControlPart(action="delete", who="retention", why=f"nothing was heard of it for {kept.retain_days:g} days")
            await self._publish([outgoing(JobEvent(explain_job_id=job, revision=revision, tenant=tenant, at_ms=now_ms, control=control))])
        for job in await asyncio.to_thread(store.deleted_before, int(now_ms - kept.deleted_days * _DAY_MS)):
            await self._publish([Outgoing(topics.JOBS, f"{job}|control", None)])
            await asyncio.to_thread(store.drop, job)

    async def _publish(self, records: Iterable[Outgoing]) -> None:
        """Publish, if this process still has the seat and the topics are still those that the rows were read from."""
        is_same_log = await self._reader.is_same_log(_SAME_LOG_S)
        await asyncio.to_thread(self._seat.confirm)
        if not is_same_log or self._seat.is_building or self._seat.store is not self._speaking_of:
            raise NotNow("the topics are not what they were: the store is built anew first")
        await self._app.publish(records)


def _again(rewrite: Rewrite) -> Outgoing:
    """The record of a key as it was: bytes, envelope and timestamp."""
    if rewrite.body is None:
        return Outgoing(rewrite.topic, rewrite.key, None)
    return replace(outgoing(decode(EVENTS[rewrite.topic], rewrite.body)), value=rewrite.body, timestamp_ms=rewrite.at_ms)

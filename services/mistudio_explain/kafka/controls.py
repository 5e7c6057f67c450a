"""Follows what people ordered of jobs: which are cancelled or deleted, and what of them still runs."""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import structlog
from aiokafka import ConsumerRecord

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome, OutcomeKind, Subject
from mistudio_explain.events.job import JobEvent, JobPart
from mistudio_explain.events.topics import JOBS
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.records import Received, received

log = structlog.get_logger(__name__)

T = TypeVar("T")

_DELETED = frozenset({"delete", "deleted"})
_STOPPED = frozenset({"cancel", *_DELETED})


class JobControls:
    """The newest order about each job; an order is about all records of its revision and of earlier ones.

    That is the job's revision, which only a reopening raises, and not the outcome's: a dead letter's retry raises that
    one too, and would escape an order that was given while it was on its way.

    One for a process: the topic is read whole, to its end before a service takes its first record.
    """

    def __init__(self, app: StreamApp) -> None:
        self._orders: dict[str, tuple[str, int]] = {}
        self._running: dict[str, dict[asyncio.Task[Any], int]] = defaultdict(dict)
        """By job: what runs, and of which revision."""

        @app.whole(JOBS, service="controls")
        async def follow(records: Sequence[ConsumerRecord]) -> None:
            for record in records:
                self._note(record)

        self._reader = follow

    async def complete(self) -> None:
        """Wait until everything was read that stood in the topic at the start."""
        await self._reader.caught_up.wait()

    def is_stopped(self, job: str, revision: int) -> bool:
        """Whether a job's records of a revision are to be passed over: it was cancelled or deleted."""
        action, ordered = self._orders.get(job, ("", -1))
        return action in _STOPPED and revision <= ordered

    def is_deleted(self, job: str, revision: int) -> bool:
        """Whether nothing of a job may be written any more."""
        action, ordered = self._orders.get(job, ("", -1))
        return action in _DELETED and revision <= ordered

    async def unless_stopped(self, job: str, revision: int, work: Coroutine[Any, Any, T]) -> T | None:
        """Do some work of a job; None when the job is stopped before it is done, which cuts the work off at once."""
        if self.is_stopped(job, revision):
            work.close()
            return None
        task = asyncio.ensure_future(work)
        self._running[job][task] = revision
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled() and self.is_stopped(job, revision) and not _is_cancelled_itself():
                return None
            raise
        finally:
            self._running[job].pop(task)
            if not self._running[job]:
                del self._running[job]

    def _note(self, record: ConsumerRecord) -> None:
        job, _, part = (record.key or b"").decode("utf-8", "replace").rpartition("|")
        if part != JobPart.CONTROL:
            return
        if record.value is None:
            self._orders.pop(job, None)
            return
        try:
            event = decode(JobEvent, record.value)
        except MalformedEvent as error:
            log.error("control.unreadable", job=job, offset=record.offset, error=str(error))
            return
        if event.control is None or event.revision < self._orders.get(job, ("", -1))[1]:
            return
        self._orders[job] = (event.control.action, event.revision)
        if event.control.action in _STOPPED:
            for task, revision in self._running.get(job, {}).items():
                if revision <= event.revision:
                    task.cancel()


def _is_cancelled_itself() -> bool:
    this = asyncio.current_task()
    return this is not None and this.cancelling() > 0


def cancelled(subject: Subject, *, revision: int) -> FeatureOutcome:
    """The outcome of a feature whose job was cancelled before it was explained.

    It has the job's `revision`, also when it was a retry that was cut off: none of it counts as settled once the job is reopened.
    """
    reason = "cancelled: the job was cancelled before this feature was explained"
    return FeatureOutcome(outcome=OutcomeKind.SKIPPED, reason=reason, subject=subject.model_copy(update={"revision": revision}))


def job_part(record: ConsumerRecord) -> Received[JobEvent] | None:
    """The part of a job that a record tells of. Of one that cannot be read the aggregator writes the dead letter: other readers meet it at every start."""
    if record.value is None:
        return None
    try:
        return received(JobEvent, record)
    except MalformedEvent as error:
        log.error("job.unreadable", key=record.key, offset=record.offset, error=str(error))
        return None

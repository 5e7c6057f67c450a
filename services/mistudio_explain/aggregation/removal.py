"""Deletes a job: from the compacted topics, the dead letters, the store, the answers and the disk."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice

import structlog

from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.events import topics
from mistudio_explain.events.identity import background_key, outcome_key
from mistudio_explain.events.job import ControlPart, JobEvent, JobPart
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.letter_box import read_letters
from mistudio_explain.kafka.records import Outgoing, outgoing
from mistudio_explain.store.answers import StoredAnswers
from mistudio_explain.store.job_store import JobStore
from mistudio_explain.store.jobs import reading
from mistudio_explain.store.seat import Seat

log = structlog.get_logger(__name__)

_CHUNK = 1000

Publish = Callable[[Iterable[Outgoing]], Awaitable[None]]


class Removal:
    """Carries out orders to delete. The order stands until all is confirmed, so that a removal that was cut off is done again."""

    def __init__(self, app: StreamApp, seat: Seat, reports: JobReports) -> None:
        self._app = app
        self._seat = seat
        self._reports = reports

    def is_due(self, store: JobStore, job: str) -> bool:
        """Whether a job is ordered to be deleted, or was deleted and something of it came back."""
        action = _action(store, job)
        return action == "delete" or (action == "deleted" and store.has_rows(job))

    def is_done(self, store: JobStore, job: str) -> bool:
        """Whether a job is deleted."""
        return _action(store, job) == "deleted"

    async def remove(self, store: JobStore, job: str, publish: Publish) -> None:
        """Remove answers and write tombstones, then remove rows and files, then replace the order by the record that the job was deleted.

        The answers come first: they are found by the outcomes, which the aggregator takes back as it reads the tombstones.
        """
        state, parts = store.state(job), store.parts(job)
        if state is None or JobPart.CONTROL not in parts:
            return
        log.info("job.removed", job=job, outcomes=state.outcomes)
        await asyncio.to_thread(self._forget_answers, job)
        taken_back = [Outgoing(topics.REPORTS, job, None), *(Outgoing(topics.JOBS, event.key, None) for part, event in parts.items() if part != "control")]
        await publish([*taken_back, *await self._letters(job), *self._background(store, job, state.tenant, state.find_job_id)])
        with reading(self._seat.settings) as rows:
            features = rows.features(job)
            while keys := await asyncio.to_thread(_some, features, job):
                await publish(Outgoing(topic, key, None) for topic in (topics.EXPLANATIONS, topics.REVIEWS) for key in keys)
        control = parts[JobPart.CONTROL]
        await asyncio.to_thread(self._forget, store, control)
        deleted = JobEvent(
            explain_job_id=job, revision=control.revision, tenant=control.tenant, at_ms=self._app.now_ms(), control=ControlPart(action="deleted")
        )
        await publish([outgoing(deleted)])

    async def _letters(self, job: str) -> list[Outgoing]:
        letters = (await read_letters(self._app.clients)).kept
        return [Outgoing(topics.DEAD_LETTERS, kept.key, None) for kept in letters if kept.letter is not None and kept.letter.explain_job_id == job]

    def _background(self, store: JobStore, job: str, tenant: str, find_job: str | None) -> list[Outgoing]:
        if find_job is None or any(store_of.tenant == tenant for other in store.jobs_of(find_job) if other != job and (store_of := store.state(other))):
            return []
        return [Outgoing(topics.BACKGROUNDS, background_key(tenant, find_job), None)]

    def _forget_answers(self, job: str) -> None:
        with reading(self._seat.settings) as rows, StoredAnswers.opened(self._seat.settings) as answers:
            answers.forget(job, (outcome.prompt_sha256 for outcome in rows.outcomes(job) if outcome.prompt_sha256 is not None))

    def _forget(self, store: JobStore, order: JobEvent) -> None:
        self._reports.remove_files(order)
        self._seat.remove_old()
        store.forget(order.explain_job_id)


def _action(store: JobStore, job: str) -> str | None:
    control = store.parts(job).get(JobPart.CONTROL)
    return control.control.action if control is not None and control.control is not None else None


def _some(features: Iterator[str], job: str) -> list[str]:
    return [outcome_key(job, feature) for feature in islice(features, _CHUNK)]

"""What is known of jobs from their topics, and the orders about them that people write there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from aiokafka import AIOKafkaProducer, ConsumerRecord

from mistudio_explain.errors import BadInput, MalformedEvent, either
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.job import ControlPart, JobEvent, JobPart, JobReport, JobStatus
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.publisher import publish
from mistudio_explain.kafka.records import outgoing
from mistudio_explain.kafka.snapshot import standing

_SHOWN_JOBS = 20


@dataclass(slots=True)
class KnownJob:
    """A job as explain.jobs and explain.reports have it."""

    explain_job_id: str
    parts: dict[JobPart, JobEvent] = field(default_factory=dict)
    report: JobReport | None = None
    heard_ms: int = 0
    """When the newest of these records was written, milliseconds since 1970 UTC."""
    unreadable: list[str] = field(default_factory=list)
    """Records of the job that cannot be read, and why."""

    @property
    def revision(self) -> int:
        """The greatest revision that anything of the job was seen to have."""
        return max((*(part.revision for part in self.parts.values()), self.report.revision if self.report else 0), default=0)

    @property
    def tenant(self) -> str:
        """The organisation that the job belongs to."""
        part = self.parts.get(JobPart.REQUEST) or next(iter(self.parts.values()), None)
        return (part or self.report).tenant if part or self.report else "default"  # type: ignore[union-attr]

    @property
    def find_job_id(self) -> str | None:
        """The find job whose features it explains, as far as that is known."""
        request, replay = self.parts.get(JobPart.REQUEST), self.parts.get(JobPart.REPLAY)
        if request is not None and request.request is not None:
            return request.request.find_job_id
        if replay is not None and replay.replay is not None:
            return replay.replay.from_job
        return self.report.find_job_id if self.report else None

    @property
    def control(self) -> ControlPart | None:
        """The newest order about it."""
        part = self.parts.get(JobPart.CONTROL)
        return part.control if part else None

    @property
    def closed(self) -> str | None:
        """What keeps it from explaining anything more, as the end of a sentence: "was cancelled (why)"; None when it is open."""
        control = self.control
        if control is None or control.action == "reopen":
            return None
        said = {"cancel": "was cancelled", "delete": "is being deleted", "deleted": "was deleted"}[control.action]
        by = f" by {control.who}" if control.who else ""
        return f"{said}{by}{f' ({control.why})' if control.why else ''}"

    @property
    def status(self) -> str:
        """How far it is, in a word or two; what was ordered of it before what was reported."""
        ordered = self.control.action if self.control else None
        if ordered in ("cancel", "delete", "deleted"):
            return {"cancel": "cancelled", "delete": "being deleted", "deleted": "deleted"}[ordered]
        return self.report.status.value if self.report else "requested"

    @property
    def reopened_as(self) -> int:
        """The revision that it was reopened with, 0 when it never was."""
        part = self.parts.get(JobPart.CONTROL)
        return part.revision if part is not None and part.control is not None and part.control.action == "reopen" else 0


async def read_jobs(clients: KafkaClients) -> dict[str, KnownJob]:
    """Read both topics whole; jobs in the order in which they were last heard of, newest first."""
    jobs: dict[str, KnownJob] = {}
    async with standing(clients, topics.JOBS, topics.REPORTS) as snapshot:
        async for record in snapshot:
            note(jobs, record)
    known = (job for job in jobs.values() if job.parts or job.report or job.unreadable)
    return {job.explain_job_id: job for job in sorted(known, key=lambda job: -job.heard_ms)}


def note(jobs: dict[str, KnownJob], record: ConsumerRecord) -> None:
    """Take a record of either topic into what is known."""
    key = (record.key or b"").decode("utf-8", "backslashreplace")
    name, _, part = (key, "", "") if record.topic == topics.REPORTS else key.rpartition("|")
    job = jobs.setdefault(name, KnownJob(name))
    if record.value is None:
        if record.topic == topics.REPORTS:
            job.report = None
        else:
            job.parts = {kind: event for kind, event in job.parts.items() if kind.value != part}
        return
    job.heard_ms = max(job.heard_ms, record.timestamp)
    try:
        if record.topic == topics.REPORTS:
            job.report = decode(JobReport, record.value)
        else:
            event = decode(JobEvent, record.value)
            known = job.parts.get(event.part)
            if known is None or event.revision >= known.revision:
                job.parts[event.part] = event
    except MalformedEvent as error:
        job.unreadable.append(f"{record.topic}/{record.partition}/{record.offset}: {error}")


def known_job(jobs: Mapping[str, KnownJob], job: str) -> KnownJob:
    """A job by its id; raises BadInput, naming those that there are, when it is unknown."""
    if job not in jobs:
        names = list(jobs)[:_SHOWN_JOBS]
        more = f" and {len(jobs) - _SHOWN_JOBS} more" if len(jobs) > _SHOWN_JOBS else ""
        raise BadInput(f"there is no job {job!r}; there are {', '.join(names) or 'none'}{more}")
    return jobs[job]


def order(job: KnownJob, action: Literal["cancel", "delete", "reopen"], *, who: str | None, why: str | None, now_ms: int) -> JobEvent:
    """The control part that orders something of a job: of all that it has so far, or, to reopen it, of what comes from now on."""
    revision = job.revision + 1 if action == "reopen" else job.revision
    control = ControlPart(action=action, who=who, why=why)
    return JobEvent(explain_job_id=job.explain_job_id, revision=revision, tenant=job.tenant, at_ms=now_ms, control=control)


async def give_order(producer: AIOKafkaProducer, event: JobEvent) -> None:
    """Write an order and wait until it is confirmed."""
    await publish(producer, [outgoing(event)])


def is_finished(job: KnownJob) -> bool:
    """Whether every feature of a sealed job has its outcome, so that nothing is left to cancel."""
    return job.report is not None and job.report.status is JobStatus.COMPLETED and job.report.expected_source == "sealed"


def cancellation(job: KnownJob, *, who: str | None, why: str | None, now_ms: int) -> JobEvent | None:
    """The order that a job explains nothing more, None when it was given before; raises BadInput when there is nothing to cancel."""
    control = job.control.action if job.control else None
    if control == "cancel":
        return None
    if control in ("delete", "deleted"):
        raise BadInput(f"job {job.explain_job_id} {job.closed}: there is nothing to cancel")
    if is_finished(job):
        removal = either(f"`mistudio-explain job delete {job.explain_job_id}`", "DELETE")
        raise BadInput(f"job {job.explain_job_id} is completed: there is nothing to cancel; {removal} removes it")
    return order(job, "cancel", who=who, why=why, now_ms=now_ms)


def deletion(job: KnownJob, *, who: str | None, why: str | None, now_ms: int) -> JobEvent | None:
    """The order that a job is deleted, None when it was given before."""
    if job.control is not None and job.control.action in ("delete", "deleted"):
        return None
    return order(job, "delete", who=who, why=why, now_ms=now_ms)


def admission(jobs: Mapping[str, KnownJob], job: str, find_job_id: str, *, reopen: bool, now_ms: int) -> tuple[int, JobEvent | None]:
    """Say with which revision features may be sent to a job, and what must be written before them.

    A new job, and one that is open, takes them as they are: sent twice, they change nothing. One that was cancelled or
    deleted takes them with `reopen` only, under the next revision. Raises BadInput when it takes none, as one that is
    still being deleted does, or belongs to another find job.
    """
    known = jobs.get(job)
    if known is None:
        return 0, None
    if known.find_job_id not in (None, find_job_id):
        raise BadInput(f"job {job} belongs to find job {known.find_job_id}, not to {find_job_id}: the id is taken; give one of the two another id")
    if known.closed is None:
        return known.reopened_as, None
    if known.control is not None and known.control.action == "delete":  # an order to reopen would take the place of that to delete
        shown = either("`mistudio-explain job show`", "its status")
        raise BadInput(f"job {job} {known.closed}; nothing was published. It can be reopened once {shown} says that it was deleted")
    if not reopen:
        raise BadInput(f"job {job} {known.closed}; nothing was published. To explain it anew, {either('add --reopen', 'set reopen to true')}")
    reopened = order(known, "reopen", who=None, why="published again", now_ms=now_ms)
    return reopened.revision, reopened

"""The jobs as their topics have them, kept up to date while the gateway runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from aiokafka import ConsumerRecord

from mistudio_explain.events.job import JobEvent
from mistudio_explain.events.topics import JOBS, REPORTS
from mistudio_explain.kafka.app import StreamApp
from mistudio_explain.kafka.orders import KnownJob, note

_SERVICE = "gateway"


class KnownJobs:
    """What explain.jobs and explain.reports say of every job; its questions may be asked in any thread."""

    def __init__(self, stream: StreamApp) -> None:
        self._jobs: dict[str, KnownJob] = {}
        self.version = 0
        """Grows with everything that is read or ordered."""
        self._reader = stream.whole(JOBS, REPORTS, service=_SERVICE)(self._take)

    @property
    def is_complete(self) -> bool:
        """Whether everything was read that stood in the topics when the gateway started."""
        return self._reader.caught_up.is_set()

    def of(self, tenant: str) -> list[KnownJob]:
        """A tenant's jobs, last heard of first."""
        jobs = [job for job in list(self._jobs.values()) if job.tenant == tenant and (job.parts or job.report)]
        return sorted(jobs, key=lambda job: (-job.heard_ms, job.explain_job_id))

    def all(self) -> Mapping[str, KnownJob]:
        """All jobs by id, other tenants' too: whether an id is taken is told by all."""
        return self._jobs

    def get(self, job: str) -> KnownJob | None:
        """A job, None when nothing of it stands in the topics."""
        known = self._jobs.get(job)
        return known if known is not None and (known.parts or known.report) else None

    def ordered(self, event: JobEvent) -> None:
        """Know of an order that was just confirmed before it is read back, so that whoever gave it sees it done."""
        known = self._jobs.get(event.explain_job_id) or KnownJob(event.explain_job_id)
        newest = known.parts.get(event.part)
        if newest is None or event.revision >= newest.revision:
            heard_ms = max(known.heard_ms, event.at_ms)
            self._jobs[event.explain_job_id] = replace(known, parts=known.parts | {event.part: event}, heard_ms=heard_ms)
            self.version += 1

    async def _take(self, records: Sequence[ConsumerRecord]) -> None:
        changed: dict[str, KnownJob] = {}
        for record in records:
            for name in _names(record):
                if name not in changed and (known := self._jobs.get(name)) is not None:
                    changed[name] = replace(known, parts=dict(known.parts), unreadable=list(known.unreadable))  # readers in threads keep theirs
            note(changed, record)
        self._jobs |= changed
        self.version += 1


def _names(record: ConsumerRecord) -> Iterable[str]:
    key = (record.key or b"").decode("utf-8", "backslashreplace")
    return (key, key.rpartition("|")[0])

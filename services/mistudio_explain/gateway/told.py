"""What a record of a topic tells the clients of a stream."""

from dataclasses import dataclass
from hashlib import sha256

import orjson
import structlog

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.events.identity import may_name
from mistudio_explain.events.job import JobReport, JobStatus
from mistudio_explain.events.topics import REPORTS
from mistudio_explain.events.winner import rank
from mistudio_explain.gateway import sse

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a job is after an event about it as a whole."""

    status: str
    """As in its report; `deleted` when it was removed."""
    counted: tuple[int, ...] = ()
    """The explanations that its report counts: the next offset of each partition."""

    @property
    def is_end(self) -> bool:
        """Whether nothing more is to come."""
        return self.status != JobStatus.RUNNING


@dataclass(frozen=True, slots=True)
class Told:
    """An event for clients, without its id. It is kept for those who come back, so it holds bytes and no objects."""

    block: bytes
    tenant: str | None
    """Whose job it is of; None where the record does not say."""
    standing: Standing | None = None
    """Of an event about a whole job."""
    removed: str | None = None
    """The job, when it says that something of it was deleted; such a record names no tenant."""

    def concerns(self, tenant: str) -> bool:
        """Whether it is a tenant's: its job is, or, where the record does not say, it is a job that no other tenant can have made."""
        return self.tenant == tenant or (self.removed is not None and may_name(tenant, self.removed))


def told(topic: str, key: bytes, value: bytes | None) -> Told | None:
    """What a record tells; None for one that cannot be read, which is for its topic's service to give up."""
    if value is None:
        return _removed(key)
    try:
        return progress(decode(JobReport, value)) if topic == REPORTS else _explanation(decode(FeatureOutcome, value), value)
    except MalformedEvent as error:
        log.warning("stream.unreadable", topic=topic, error=type(error).__name__)
        return None


def progress(report: JobReport) -> Told:
    """How far a job is."""
    counted = by_partition({int(partition): offset for partition, offset in report.as_of.items()})
    return Told(sse.event("progress", orjson.dumps(report.model_dump(mode="json"))), report.tenant, Standing(report.status.value, counted))


def by_partition(offsets: dict[int, int]) -> tuple[int, ...]:
    """Next offsets in the order of their partitions; of one that is not named nothing was read."""
    return tuple(offsets.get(partition, 0) for partition in range(max(offsets, default=-1) + 1))


def _explanation(outcome: FeatureOutcome, value: bytes) -> Told:
    """An outcome without its texts; of several of one feature that with the greatest `rank` counts."""
    content = outcome.model_dump(mode="json", exclude={"evidence"}, exclude_none=True)
    return Told(sse.event("explanation", orjson.dumps(content | {"rank": rank(outcome, sha256(value).hexdigest())})), outcome.subject.tenant)


def _removed(key: bytes) -> Told:
    job, _, feature = key.decode("utf-8", "replace").partition("|")
    return Told(sse.event("removed", {"explain_job_id": job, "feature_key": feature or None}), None, None if feature else Standing("deleted"), job)

"""What a record of a topic tells the clients of a stream."""

from dataclasses import dataclass
from hashlib import sha256

import orjson
import structlog

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureOutcome, TokenChunk
from mistudio_explain.events.job import JobReport
from mistudio_explain.events.topics import REPORTS, TOKENS
from mistudio_explain.events.winner import rank

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """An event for clients: its name, its content as JSON, and what it was made of; nothing for what was removed."""

    name: str
    body: bytes
    source: JobReport | FeatureOutcome | TokenChunk | None
    is_of_job: bool = False
    """Whether it is about a job as a whole."""

    @property
    def tenant(self) -> str | None:
        """Whose job it is of; None where the record does not say."""
        match self.source:
            case JobReport():
                return self.source.tenant
            case FeatureOutcome():
                return self.source.subject.tenant
            case _:
                return None


def told(topic: str, key: bytes, value: bytes | None) -> Told | None:
    """What a record tells; None for one that cannot be read, which is for its topic's service to give up."""
    if value is None:
        return _removed(key)
    try:
        if topic == TOKENS:
            return Told("piece", b"", decode(TokenChunk, value))
        return progress(decode(JobReport, value)) if topic == REPORTS else _explanation(decode(FeatureOutcome, value), value)
    except MalformedEvent as error:
        log.warning("stream.unreadable", topic=topic, error=str(error))
        return None


def progress(report: JobReport) -> Told:
    """How far a job is."""
    return Told("progress", orjson.dumps(report.model_dump(mode="json")), report, is_of_job=True)


def _explanation(outcome: FeatureOutcome, value: bytes) -> Told:
    """An outcome without its texts; of several of one feature that with the greatest `rank` counts."""
    content = outcome.model_dump(mode="json", exclude={"evidence"}, exclude_none=True)
    return Told("explanation", orjson.dumps(content | {"rank": rank(outcome, sha256(value).hexdigest())}), outcome)


def _removed(key: bytes) -> Told:
    job, _, feature = key.decode("utf-8", "replace").partition("|")
    return Told("removed", orjson.dumps({"explain_job_id": job, "feature_key": feature or None}), None, is_of_job=not feature)

"""The archive index: what was ever written of jobs, and removed; an entry each, which nothing in this program changes or takes away.

Entries stand beside the jobs' folders, as `.archive/<job>/<moment>-<kind>-<hash>.json`; no job's folder begins with a
dot. They hold no text of any feature. The same files of the same job give the same entry, which is added once.
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import orjson
from pydantic import Field

from mistudio_explain import __version__
from mistudio_explain.events.job import Artefact, JobEvent, JobPart, JobReport
from mistudio_explain.events.model import Record
from mistudio_explain.reporting.shelf import Shelf, folder_of, reached

if TYPE_CHECKING:
    from obstore.store import ObjectStore

ARCHIVE = ".archive"
_DAY_MS = 24 * 3_600_000


class Lineage(Record):
    """Where a job comes from."""

    find_job_id: str | None = Field(default=None, description="The find job.")
    source_training_job: str | None = Field(default=None, description="The training job behind it.")
    target_model: str | None = Field(default=None, description="The target model.")
    replay_of: str | None = Field(default=None, description="The explain job whose features were explained again.")
    as_of: dict[str, int] = Field(default={}, description="Next offset of explain.explanations by partition: what the files have seen.")


class Entry(Record):
    """Files of a job that were written, or all that were removed."""

    kind: Literal["written", "removed"] = Field(description="written or removed.")
    explain_job_id: str = Field(description="The job.")
    tenant: str = Field(description="The organisation that the job belongs to.")
    revision: int = Field(description="The job's revision.")
    status: str = Field(description="How far the job was; deleted for one that was removed.")
    at_ms: int = Field(description="When the job was last heard of, or its removal was ordered, milliseconds since 1970 UTC.")
    keep_until_ms: int | None = Field(default=None, description="Until when the files are kept unless the job is heard of again; absent once they are removed.")
    lineage: Lineage = Field(default=Lineage(), description="Where the job comes from.")
    artefacts: list[Artefact] = Field(default=[], description="The files, with their hashes.")
    program: str = Field(default=__version__, description="Version of the program that wrote them.")


def written(report: JobReport, parts: dict[JobPart, JobEvent], retain_days: float) -> Entry:
    """The entry for the files that a report names."""
    request, replay = parts.get(JobPart.REQUEST), parts.get(JobPart.REPLAY)
    return Entry(
        kind="written",
        explain_job_id=report.explain_job_id,
        tenant=report.tenant,
        revision=report.revision,
        status=report.status,
        at_ms=report.at_ms,
        keep_until_ms=report.at_ms + int(retain_days * _DAY_MS),
        lineage=Lineage(
            find_job_id=report.find_job_id,
            source_training_job=request.request.source_training_job if request is not None and request.request is not None else None,
            target_model=report.target_model,
            replay_of=replay.replay.of if replay is not None and replay.replay is not None else None,
            as_of=report.as_of,
        ),
        artefacts=report.artefacts,
    )


def removed(order: JobEvent) -> Entry:
    """The entry for a job whose deletion was ordered."""
    return Entry(kind="removed", explain_job_id=order.explain_job_id, tenant=order.tenant, revision=order.revision, status="deleted", at_ms=order.at_ms)


def add(shelf: Shelf, entry: Entry) -> None:
    """Add an entry, unless it is there; raises Unreachable when the place fails."""
    import obstore
    from obstore.exceptions import AlreadyExistsError

    body = orjson.dumps(entry.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    name = f"{entry.at_ms:014d}-{entry.kind}-{hashlib.sha256(body).hexdigest()[:16]}.json"
    with reached(ARCHIVE):
        try:
            obstore.put(shelf.objects(), f"{ARCHIVE}/{folder_of(entry.explain_job_id)}/{name}", body, mode="create")
        except AlreadyExistsError:
            return


def entries(shelf: Shelf, job: str | None = None) -> list[Entry]:
    """The entries, of one job or of all, in the order in which they were added."""
    store = shelf.objects()
    with reached(ARCHIVE):
        return [entry for _, _, entry in sorted(_read(store, ARCHIVE if job is None else f"{ARCHIVE}/{folder_of(job)}"), key=lambda each: each[:2])]


def _read(store: "ObjectStore", prefix: str) -> Iterator[tuple[object, str, Entry]]:
    import obstore

    for some in obstore.list(store, prefix=prefix):
        for each in some:
            yield each["last_modified"], each["path"], Entry.model_validate_json(bytes(obstore.get(store, each["path"]).bytes()))

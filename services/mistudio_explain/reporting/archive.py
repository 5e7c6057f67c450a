"""The archive index: what was ever written of jobs, and removed; an entry each, which nothing in this program changes or takes away.

Entries stand beside the jobs' folders, as `.archive/<job>/<number>-<kind>-<hash>.json`; no job's folder begins with a
dot. They hold no text of any feature. The same files of the same job, written again, add none.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import orjson
from pydantic import Field

from mistudio_explain import __version__
from mistudio_explain.events.job import Artefact, JobEvent, JobPart, JobReport
from mistudio_explain.events.model import Record
from mistudio_explain.reporting.shelf import Shelf, folder_of, reached
from mistudio_explain.reporting.stage import volumes_of_before

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


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that is not as the archive says."""

    job: str
    name: str
    what: str


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
    """Add an entry, unless it is the job's last one; raises Unreachable when the place fails."""
    import obstore
    from obstore.exceptions import AlreadyExistsError

    body = orjson.dumps(entry.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    store, folder = shelf.objects(), f"{ARCHIVE}/{folder_of(entry.explain_job_id)}"
    end = f"-{entry.kind}-{hashlib.sha256(body).hexdigest()[:16]}.json"
    with reached(ARCHIVE):
        last = max((each["path"] for some in obstore.list(store, prefix=folder) for each in some), default="").rpartition("/")[2]
        if last.endswith(end):
            return
        with suppress(AlreadyExistsError):  # another process has just added the same
            obstore.put(store, f"{folder}/{int(last.partition('-')[0] or 0) + 1:06d}{end}", body, mode="create")


def entries(shelf: Shelf, job: str | None = None) -> list[Entry]:
    """The entries, of one job or of all, in the order in which they were added."""
    store = shelf.objects()
    with reached(ARCHIVE):
        return [entry for _, _, entry in sorted(_read(store, ARCHIVE if job is None else f"{ARCHIVE}/{folder_of(job)}"), key=lambda each: each[:2])]


def differences(shelf: Shelf, found: Iterable[Entry]) -> list[Difference]:
    """The files that are not as they were written last, by the given entries in their order; raises Unreachable when the place fails."""
    newest: dict[str, dict[str, str]] = {}
    for entry in found:
        files = newest.setdefault(entry.explain_job_id, {})
        gone = list(files) if entry.kind == "removed" else volumes_of_before(list(files), entry.artefacts)
        for name in gone:
            del files[name]
        files.update({artefact.uri.rpartition("/")[2]: artefact.sha256 for artefact in entry.artefacts})
    return [difference for job, files in newest.items() for difference in _differences_of(shelf, job, files)]


def _differences_of(shelf: Shelf, job: str, hashes: Mapping[str, str]) -> Iterator[Difference]:
    there = {file.name: file for file in shelf.files(job)}
    for name, sha256 in hashes.items():
        if name not in there:
            yield Difference(job, name, "is gone")
        elif shelf.hash(job, there[name]) != sha256:
            yield Difference(job, name, "is not what was written")


def _read(store: "ObjectStore", prefix: str) -> Iterator[tuple[object, str, Entry]]:
    import obstore

    for some in obstore.list(store, prefix=prefix):
        for each in some:
            yield each["last_modified"], each["path"], Entry.model_validate_json(bytes(obstore.get(store, each["path"]).bytes()))

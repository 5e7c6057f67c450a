"""Jobs: what is known of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.events.job import JobEvent, JobPart, JobReport
from mistudio_explain.gateway.access import Reader
from mistudio_explain.gateway.answers import read_answer
from mistudio_explain.gateway.names import JobId
from mistudio_explain.gateway.parts import Gateway, Here
from mistudio_explain.gateway.problems import no_such_job
from mistudio_explain.store.jobs import JobStore

router = APIRouter(tags=["jobs"])

_ORDERED = {"cancel": "cancelled", "delete": "being deleted", "deleted": "deleted"}


class JobLine(BaseModel):
    """A job in a list."""

    explain_job_id: str = Field(description="The job.")
    find_job_id: str | None = Field(description="The find job whose features it explains, as far as that is known.")
    target_model: str | None = Field(description="The model that the features belong to.")
    status: str = Field(description="running, completed, incomplete, cancelled, being deleted or deleted.")
    revision: int = Field(description="Greatest revision seen.")
    expected: int | None = Field(description="How many features it has; null while unknown.")
    admitted: int = Field(description="Features that entered.")
    explained: int = Field(description="Features explained.")
    skipped: int = Field(description="Features skipped.")
    failed: int = Field(description="Features failed.")
    flagged: int = Field(description="Explained features that ask for a review.")
    first_ms: int | None = Field(description="When its first feature entered, milliseconds since 1970 UTC.")
    heard_ms: int | None = Field(description="When it was last heard of, milliseconds since 1970 UTC.")


class JobList(BaseModel):
    """Jobs, last heard of first."""

    jobs: list[JobLine] = Field(description="The jobs.")


class Job(JobLine):
    """Everything that is known of a job."""

    report: JobReport = Field(description="Its numbers, as explain.reports has them.")
    parts: dict[JobPart, JobEvent] = Field(description="What was asked and ordered, as explain.jobs has it.")
    jobs_of_the_same_find_job: list[str] = Field(description="Other jobs that explain the same features.")


@router.get("/jobs", response_model=JobList)
def list_jobs(
    request: Request,
    gateway: Here,
    caller: Reader,
    find_job: Annotated[str | None, Query(max_length=200, description="Only jobs that explain this find job's features.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most jobs to list.")] = 50,
) -> Response:
    """List jobs, last heard of first."""
    with gateway.reading() as store:
        names = [] if store is None else store.jobs(limit, tenant=caller.tenant) if find_job is None else store.jobs_of(find_job, tenant=caller.tenant)
        lines = [line for name in names if store is not None and (line := _line(gateway, store, name, caller.tenant)) is not None]
    lines.sort(key=lambda line: -(line[0]["heard_ms"] or 0))
    return read_answer(request, {"jobs": [line for line, _ in lines[:limit]]})


@router.get("/jobs/{job}", response_model=Job)
def show_job(request: Request, gateway: Here, caller: Reader, job: JobId) -> Response:
    """Show everything that is known of a job."""
    with gateway.reading() as store:
        found = None if store is None else _line(gateway, store, job, caller.tenant)
        if store is None or found is None:
            raise no_such_job(job)
        line, report = found
        parts = {part.value: event.model_dump(mode="json", exclude_none=True) for part, event in store.parts(job).items()}
        siblings = [name for name in store.jobs_of(report.find_job_id, tenant=caller.tenant) if name != job] if report.find_job_id else []
    return read_answer(request, line | {"report": report.model_dump(mode="json", exclude={"at_ms"}), "parts": parts, "jobs_of_the_same_find_job": siblings})


def _line(gateway: Gateway, store: JobStore, job: str, tenant: str) -> tuple[dict[str, Any], JobReport] | None:
    """A job's line and report; None for one that is not there or is another tenant's."""
    state = store.state(job) if store.is_of(job, tenant) else None
    if state is None:
        return None
    report = JobReports(lambda: store, gateway.settings).numbers(job, now_ms=gateway.now_ms())
    if report is None:
        return None
    line = {
        "explain_job_id": job,
        "find_job_id": state.find_job_id,
        "target_model": state.target_model,
        "status": _ORDERED.get(state.control or "", report.status.value),
        "revision": report.revision,
        "expected": report.expected,
        "admitted": report.admitted,
        "explained": report.explained,
        "skipped": report.skipped,
        "failed": report.failed,
        "flagged": report.flagged,
        "first_ms": state.first_ms,
        "heard_ms": state.heard_ms,
    }
    return line, report

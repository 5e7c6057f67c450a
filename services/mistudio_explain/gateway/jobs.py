"""Jobs: what is known of them."""

from contextlib import closing
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from mistudio_explain.aggregation.known_jobs import with_rows
from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.events.job import JobEvent, JobPart, JobReport
from mistudio_explain.gateway.access import Caller, Reader
from mistudio_explain.gateway.answers import stored_answer
from mistudio_explain.gateway.names import JobId
from mistudio_explain.gateway.parts import Gateway, Here
from mistudio_explain.gateway.problems import no_such_job
from mistudio_explain.kafka.orders import KnownJob

router = APIRouter(tags=["jobs"])

_MOST_JOBS = 1_000_000


class JobLine(BaseModel):
    """A job in a list."""

    explain_job_id: str = Field(description="The job.")
    find_job_id: str | None = Field(description="The find job whose features it explains, as far as that is known.")
    target_model: str | None = Field(description="The model that the features belong to, as far as that is known.")
    status: str = Field(description="requested, running, completed, incomplete, cancelled, being deleted or deleted.")
    revision: int = Field(description="Greatest revision seen.")
    expected: int | None = Field(description="How many features it has; null while unknown.")
    explained: int | None = Field(description="Features explained; null while nothing was counted.")
    skipped: int | None = Field(description="Features skipped.")
    failed: int | None = Field(description="Features failed.")
    flagged: int | None = Field(description="Explained features that ask for a review.")
    eta_s: float | None = Field(description="Seconds until the last outcome at the current rate; null when it is over or cannot be told.")
    heard_ms: int = Field(description="When it was last heard of, milliseconds since 1970 UTC.")


class JobList(BaseModel):
    """Jobs, last heard of first."""

    jobs: list[JobLine] = Field(description="The jobs.")
    total: int = Field(description="How many there are, of which `limit` are listed.")


class Job(JobLine):
    """Everything that is known of a job."""

    report: JobReport | None = Field(description="Its numbers, as explain.reports has them; null while nothing was counted.")
    parts: dict[JobPart, JobEvent] = Field(description="What was asked and ordered, as explain.jobs has it; fields that are absent there are left out.")
    jobs_of_the_same_find_job: list[str] = Field(description="Other jobs that explain the same features.")
    unreadable_parts: list[str] = Field(description="Records of the job that cannot be read, and why.")


@router.get("/jobs", response_model=JobList)
async def list_jobs(
    request: Request,
    gateway: Here,
    caller: Reader,
    find_job: Annotated[str | None, Query(max_length=200, description="Only jobs that explain this find job's features.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most jobs to list.")] = 50,
) -> Response:
    """List jobs, last heard of first."""
    jobs = [job for job in await _known_jobs(gateway, caller) if find_job in (None, job.find_job_id)]
    return stored_answer(request, JobList(jobs=[_line(job) for job in jobs[:limit]], total=len(jobs)).model_dump())


@router.get("/jobs/{job}", response_model=Job)
async def show_job(request: Request, gateway: Here, caller: Reader, job: JobId) -> Response:
    """Show everything that is known of a job."""
    known = await known_job(gateway, caller, job)
    others = await _known_jobs(gateway, caller) if known.find_job_id else []
    siblings = sorted(other.explain_job_id for other in others if other.explain_job_id != job and other.find_job_id == known.find_job_id)
    content = _line(known).model_dump() | {
        "report": None if known.report is None else known.report.model_dump(mode="json"),
        "parts": {part.value: event.model_dump(mode="json", exclude_none=True) for part, event in known.parts.items()},
        "jobs_of_the_same_find_job": siblings,
        "unreadable_parts": known.unreadable,
    }
    return stored_answer(request, content)


async def known_job(gateway: Gateway, caller: Caller, name: str) -> KnownJob:
    """A job of the caller's tenant, from its topics and the store; raises Problem 404 for any other."""
    known = await run_in_threadpool(_stored, gateway, name, caller.tenant)
    if known is None:
        raise no_such_job(name)
    return known


def _line(job: KnownJob) -> JobLine:
    report = job.report
    asked = job.parts[JobPart.REQUEST].request if JobPart.REQUEST in job.parts else None
    return JobLine(
        explain_job_id=job.explain_job_id,
        find_job_id=job.find_job_id,
        target_model=(report.target_model if report else None) or (asked.target_model if asked else None),
        status=job.status,
        revision=job.revision,
        expected=(report.expected if report else None) or (asked.expected if asked else None),
        explained=report.explained if report else None,
        skipped=report.skipped if report else None,
        failed=report.failed if report else None,
        flagged=report.flagged if report else None,
        eta_s=report.eta_s if report else None,
        heard_ms=job.heard_ms,
    )


def _stored(gateway: Gateway, name: str, tenant: str) -> KnownJob | None:
    """A tenant's job as both have it; its report bears the time at which the job was last heard of, so that it changes with the job alone.

    Of another tenant's job no more is read than of one that is not there.
    """
    known = gateway.jobs.get(name)
    if known is not None and known.tenant != tenant:
        known = None
    with gateway.reading() as store:
        if store is not None and store.is_of(name, tenant):
            with closing(JobReports(lambda: store, gateway.settings)) as reports:
                known = with_rows(known or KnownJob(name), store, reports, now_ms=gateway.now_ms())
    if known is None or known.tenant != tenant or not (known.parts or known.report):
        return None
    if known.report is not None:
        known.report = known.report.model_copy(update={"at_ms": known.heard_ms})
    return known


async def _known_jobs(gateway: Gateway, caller: Caller) -> list[KnownJob]:
    """The tenant's jobs as their topics have them; as the store has them where these were not read yet."""
    if gateway.jobs.is_complete:
        return gateway.jobs.of(caller.tenant)
    return await run_in_threadpool(_stored_jobs, gateway, caller.tenant)


def _stored_jobs(gateway: Gateway, tenant: str) -> list[KnownJob]:
    with gateway.reading() as store:
        if store is None:
            return []
        names = store.jobs(_MOST_JOBS, tenant=tenant)
        with closing(JobReports(lambda: store, gateway.settings)) as reports:
            return [with_rows(gateway.jobs.get(name) or KnownJob(name), store, reports, now_ms=gateway.now_ms()) for name in names]

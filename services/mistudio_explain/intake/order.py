"""What is asked for with a find job: which explain job, how many features of it, and as which revision of that job."""

from aiokafka import AIOKafkaProducer

from mistudio_explain.errors import BadInput
from mistudio_explain.events.feature import JobRequest
from mistudio_explain.events.identity import DEFAULT_TENANT, default_explain_job_id
from mistudio_explain.intake.stage import FindJob
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.orders import admission, give_order, read_jobs
from mistudio_explain.settings import Settings


def to_explain(job: FindJob, settings: Settings) -> int:
    """How many of the job's features are explained; the others are skipped as poor."""
    return job.total if settings.quality.explain_poor else job.distribution.passing(settings.quality.threshold)


def check_something_is_explained(job: FindJob, settings: Settings) -> None:
    """Raise BadInput when no feature reaches the threshold and poor ones are to be skipped."""
    if to_explain(job, settings) == 0:
        raise BadInput(f"{job.path}: {job.distribution.nothing_passes(settings.quality.threshold)}")


def request_for(job: FindJob, settings: Settings, tenant: str = DEFAULT_TENANT) -> JobRequest:
    """The explain job that belongs to a tenant's find job."""
    return JobRequest(
        explain_job_id=default_explain_job_id(job.find_job_id, tenant),
        tenant=tenant,
        explain_poor=settings.quality.explain_poor,
        prompt_version=settings.context.template,
        candidates=settings.generation.candidates if "candidates" in settings.generation.model_fields_set else None,
        expected=job.total,
    )


async def admitted(clients: KafkaClients, producer: AIOKafkaProducer, job: FindJob, request: JobRequest, *, reopen: bool, now_ms: int) -> JobRequest:
    """The request as its job takes it now, which is reopened first where that is asked for; raises BadInput when it takes none."""
    revision, reopened = admission(await read_jobs(clients), request.explain_job_id, job.find_job_id, reopen=reopen, now_ms=now_ms)
    if reopened is not None:
        await give_order(producer, reopened)
    return request.model_copy(update={"revision": revision})

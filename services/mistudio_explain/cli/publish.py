"""`publish`: a find job's features to the configured Kafka."""

import asyncio
import time
from pathlib import Path

from mistudio_explain.cli.order import InputOrder, read_input
from mistudio_explain.cli.show import console, print_json
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadSettings
from mistudio_explain.events.feature import JobRequest
from mistudio_explain.intake.order import admitted, request_for
from mistudio_explain.intake.service import publish_job
from mistudio_explain.intake.stage import FindJob
from mistudio_explain.kafka.admin import create_topics
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import Settings


def publish_job_file(order: InputOrder, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Check the input, publish it, seal the job; ends with 1 when features were left out."""
    settings = prepare(config=config, profile=profile, flags=order.flags, quiet=True)
    if settings.kafka.bootstrap_servers is None:
        raise BadSettings("kafka.bootstrap_servers is not set: there is no Kafka to publish to; `mistudio-explain run` needs none")
    job = read_input(order, settings)
    request = request_for(job, settings)
    sent = asyncio.run(_publish(settings, job, request, reopen=order.reopen))
    if as_json:
        print_json({"explain_job_id": request.explain_job_id, "published": sent, "left_out": [str(problem) for problem in job.problems]})
    else:
        job_id = request.explain_job_id
        console().print(f"published {sent} features of {job.find_job_id} as {job_id} and sealed it; follow it with `mistudio-explain watch {job_id}`")
    return 1 if job.problems else 0


async def _publish(settings: Settings, job: FindJob, request: JobRequest, *, reopen: bool) -> int:
    clients = KafkaClients(settings.kafka, settings.limits)
    await clients.wait_until_reachable(settings.kafka.start_timeout_s)
    async with clients.admin() as admin:
        await create_topics(admin, topic_specs(settings), settings.kafka.replication)
    async with clients.producer({spec.name for spec in topic_specs(settings)}) as producer:
        now_ms = int(time.time() * 1000)
        taken = await admitted(clients, producer, job, request, reopen=reopen, now_ms=now_ms)
        return await publish_job(producer, job, taken, None, now_ms)

"""`watch`: follows a job until it is at an end."""

import asyncio
from pathlib import Path

from mistudio_explain.cli.progress import Progressing, show_until_end
from mistudio_explain.cli.serve import kafka_or_embedded
from mistudio_explain.cli.show import console
from mistudio_explain.cli.start import prepare
from mistudio_explain.cli.summary import summary
from mistudio_explain.errors import BadSettings
from mistudio_explain.events.job import JobReport, JobStatus
from mistudio_explain.kafka.follow import following
from mistudio_explain.kafka.orders import read_jobs
from mistudio_explain.settings import Settings


def watch_job(job: str, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the job's outcomes as they come; ends with 0 when it is complete and nothing failed, else 1."""
    settings = prepare(config=config, profile=profile, quiet=True)
    if settings.kafka.bootstrap_servers is None:
        raise BadSettings("kafka.bootstrap_servers is not set: there is no Kafka to watch")
    seen = Progressing(as_json)
    report = asyncio.run(_watch(settings, job, seen))
    if not as_json:
        console().print(summary(report, list(seen.outcomes.values()), pages_of(report)))
    return exit_code(report)


def exit_code(report: JobReport) -> int:
    """0 for a complete job without failures, 1 for anything less."""
    return 0 if report.status is JobStatus.COMPLETED and report.failed == 0 else 1


def pages_of(report: JobReport) -> list[Path]:
    """The readable report among the job's files."""
    return [Path(artefact.uri.removeprefix("file://")) for artefact in report.artefacts if artefact.uri.endswith(".html")]


async def _watch(settings: Settings, job: str, seen: Progressing) -> JobReport:
    async with kafka_or_embedded(settings) as (clients, _):
        known = (await read_jobs(clients)).get(job)
        async with following(clients, job, revision=known.reopened_as if known else 0) as events:
            return await show_until_end(events, seen)

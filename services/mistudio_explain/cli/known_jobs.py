"""What is known of jobs: from the configured Kafka, from the store, or from both; the store is ahead of the reports by seconds."""

import time
from contextlib import closing
from dataclasses import dataclass

from mistudio_explain.aggregation.known_jobs import with_rows
from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.cli.configured import reached
from mistudio_explain.errors import BadSettings
from mistudio_explain.kafka.orders import KnownJob, read_jobs
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import reading, store_exists


@dataclass(frozen=True, slots=True)
class Sources:
    """The jobs by id, last heard of first, and where they were found."""

    jobs: dict[str, KnownJob]
    read_from: str


async def find_jobs(settings: Settings) -> Sources:
    """Read the topics, where a Kafka is configured, and the store, where there is one; raises BadSettings when there is neither."""
    has_store = store_exists(settings.store)
    if settings.kafka.bootstrap_servers is None and not has_store:
        raise BadSettings(f"neither is kafka.bootstrap_servers set, nor is there a store at {settings.store.url}: no jobs are kept anywhere")
    jobs = {} if settings.kafka.bootstrap_servers is None else await read_jobs(await reached(settings))
    if has_store:
        _lay_over(jobs, settings)
    places = [*([settings.kafka.bootstrap_servers] if settings.kafka.bootstrap_servers else []), *([settings.store.url] if has_store else [])]
    return Sources(dict(sorted(jobs.items(), key=lambda item: -item[1].heard_ms)), " and ".join(places))


def _lay_over(jobs: dict[str, KnownJob], settings: Settings) -> None:
    """Take the numbers of the store for the jobs that it has."""
    with reading(settings.store) as store, closing(JobReports(lambda: store, settings)) as reports:
        for name in store.jobs(1_000_000):
            jobs[name] = with_rows(jobs.get(name) or KnownJob(name), store, reports, now_ms=int(time.time() * 1000))
